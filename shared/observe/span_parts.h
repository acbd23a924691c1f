/*
 * What the parts of spans share. Private to observe/span*.c and their tests.
 *
 * Threads: `filling` is filled by any thread and guarded by the mutex; `sending` and all that is
 * behind it belong to the sender's thread.
 */
#ifndef COFFER_OBSERVE_SPAN_PARTS_H
#define COFFER_OBSERVE_SPAN_PARTS_H

#include <pthread.h>

#include "observe/span.h"

#define SPAN_URL_SIZE (CONFIG_TEXT_SIZE + 16)
#define SPAN_SOON_BYTES (64 * 1024) /* in the buffer: sent without waiting for more */
#define SPAN_BATCH_BYTES (512 * 1024)

enum span_text {
    SPAN_METHOD,
    SPAN_PATH,
    SPAN_CLIENT,
    SPAN_AGENT,
    SPAN_REQUEST_ID,
    SPAN_TEXT_COUNT
};

/* One request in the buffer; its steps and texts follow. */
struct span_record {
    size_t size; /* with what follows; a multiple of 8 */
    char trace_id[33];
    unsigned char flags;
    bool has_remote_parent;
    bool is_failed;
    uint64_t span;
    uint64_t parent;  /* 0: none */
    int64_t start_ns; /* since 1970, as all here */
    int64_t end_ns;
    const char *route;
    const char *error;
    int status;
    int64_t received_bytes; /* negative: not known */
    int64_t sent_bytes;
    unsigned step_count;
    unsigned text_len[SPAN_TEXT_COUNT];
};

struct span_buffer {
    unsigned char *bytes; /* SPAN_QUEUE_BYTES */
    size_t len;
};

/* Attributes of everything that one program sends. */
struct span_resource {
    const char *program;
    const char *environment;
    char instance[48];
};

struct spans {
    struct spans_options options;
    struct sender_lane *lane;
    struct span_resource resource;
    char url[SPAN_URL_SIZE];
    pthread_mutex_t mutex;
    struct span_buffer filling;
    int64_t filling_since_ns; /* steady */
    /* the sender's thread: */
    struct span_buffer sending;
    size_t sent;  /* bytes of it that are done with */
    size_t batch; /* bytes of it that are on their way */
    int64_t batch_spans;
    unsigned failures; /* in a row */
    int64_t until_ns;  /* nothing is sent before */
};

#endif
