/*
 * Where the bytes of an upload go: counted against the limit, hashed, and written to a put, in
 * constant memory. Small bodies take one small buffer and no other thread; from the second buffer
 * on, hashing and writing run on the work queue while the caller receives. A put that may wait for a
 * network (`put_waits`) is written by the caller while the queue hashes, so that no slow store
 * holds the queue's few threads. Used by one thread.
 */
#ifndef COFFER_FILES_UPLOAD_SINK_H
#define COFFER_FILES_UPLOAD_SINK_H

#include <stdbool.h>

#include "base/errors.h"
#include "base/source.h"
#include "base/work_queue.h"
#include "storage/storage.h"

struct upload_result;

struct upload_sink_options {
    struct storage_put *put; /* borrowed; NULL: hash only */
    bool put_waits;          /* its writes may wait */
    /* Told once how the file begins (head, head_len), before the put's first write; or NULL. */
    void (*begins)(void *context, const struct upload_result *result);
    void *context;
    struct work_queue *queue; /* borrowed; NULL: everything on the caller's thread */
    int64_t max_size;         /* bytes; one more is ERR_FILE_TOO_LARGE */
    int64_t size_hint;        /* bytes or -1: how large the first buffer should be */
    bool with_md5;
    bool with_utf8;
};

#define UPLOAD_HEAD_BYTES 4096

struct upload_result {
    int64_t size; /* bytes */
    unsigned char sha256[32];
    unsigned char md5[16];                 /* only with_md5 */
    bool is_utf8;                          /* only with_utf8: all of it is UTF-8 text */
    size_t head_len;                       /* bytes in head */
    unsigned char head[UPLOAD_HEAD_BYTES]; /* how the file begins */
};

/* ERR_FILE_TOO_LARGE with the limit in its details. */
enum err_code upload_too_large(int64_t max_size, struct err *err);
/* Reads `source` to its verified end. */
enum err_code upload_sink_run(const struct upload_sink_options *options, struct source *source,
                              struct upload_result *ret_result, struct err *err) ERR_MUST_CHECK;

#endif
