/*
 * The S3 driver's own header, shared by its parts and its tests. It speaks the S3 REST API (AWS
 * "Amazon S3 API Reference") through net/http_client, signed by net/sigv4.
 *
 *   storage_s3.c       the driver's table, the bucket, objects, the mark, URLs for clients
 *   storage_s3_call.c  addresses, one signed call, what an answer means that is no success
 *   storage_s3_put.c   uploads: one PUT, or parts filling and parts on their way
 *   storage_s3_get.c   downloads
 *   storage_s3_list.c  listings, of objects and of unfinished uploads, and their XML
 *   part_memory.c      the memory that all uploads share
 *
 * The handle is shared by all threads; nothing in it changes but part_memory, which has its own
 * lock, and the bits of what the store refuses.
 */
#ifndef COFFER_STORAGE_STORAGE_S3_H
#define COFFER_STORAGE_STORAGE_S3_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
#include "base/str.h"
#include "net/http_client.h"
#include "net/sigv4.h"
#include "storage/storage.h"
#include "storage/storage_drivers.h"

#define S3_REPLY_BYTES (64 * 1024)           /* of an answer that is no listing */
#define S3_LISTING_BYTES (16 * 1024 * 1024)  /* of one page of a listing */
#define S3_NONCE_SIZE 33                     /* 32 hexadecimal digits and a NUL */
#define S3_SHA256_HEADER "x-amz-meta-sha256" /* what was uploaded, for other clients */
#define S3_CHECKSUM_HEADER "x-amz-checksum-sha256"
#define S3_NONCE_HEADER "x-amz-meta-upload" /* which upload wrote it: see storage_s3_put.c */

struct s3_endpoint {
    const char *scheme;                                   /* "http" or "https" */
    char host[CONFIG_TEXT_SIZE + LIMIT_BUCKET_BYTES + 2]; /* as in the Host header */
    bool bucket_in_path;
};

/* ERR_CONFIG when it is no "http(s)://host[:port]". */
enum err_code s3_endpoint_parse(struct s3_endpoint *ret_endpoint, const char *text,
                                const char *bucket, enum s3_addressing addressing, struct err *err)
    ERR_MUST_CHECK;
/* The path of the bucket (key NULL) or of an object in it, not encoded. */
void s3_path(const struct s3_endpoint *endpoint, const char *bucket, const char *key,
             struct buf *out);
/* The store's tag, with the quotes that some answers leave out. ERR_STORAGE when it can't be one. */
enum err_code s3_copy_tag(char target[STORAGE_TAG_SIZE], struct str tag, struct err *err)
    ERR_MUST_CHECK;

struct storage_s3 {
    const struct clock *clock; /* borrowed */
    struct http_client *client;
    struct part_memory *memory;
    struct s3_endpoint endpoint;        /* where we reach the store */
    struct s3_endpoint public_endpoint; /* where clients do */
    struct sigv4_credentials credentials;
    char bucket[LIMIT_BUCKET_BYTES + 1];
    char access_key[CONFIG_TEXT_SIZE];
    char secret_key[CONFIG_TEXT_SIZE];
    char session_token[CONFIG_TEXT_SIZE];
    char region[CONFIG_TEXT_SIZE];
    int64_t deadline_ms; /* of one call with its repeats */
    int64_t stall_ms;    /* without a byte */
    unsigned attempts;
    size_t part_size;    /* bytes */
    atomic_uint refused; /* S3_CHECKSUM, S3_CONDITION: see storage_s3_call.c */
    void (*retried)(void *context);
    void *context;
};

enum err_code s3_open(void **ret_state, const struct storage_options *options, struct err *err)
    ERR_MUST_CHECK;
void s3_close(void *state);

#define S3_CALL_QUERY 6
#define S3_CALL_HEADERS 8

struct s3_call {
    const char *operation; /* static text, for errors */
    const char *method;
    const char *key; /* NULL: the bucket itself */
    struct sigv4_pair query[S3_CALL_QUERY];
    size_t query_count;
    struct sigv4_pair headers[S3_CALL_HEADERS];
    size_t header_count;
    const char *checksum_header; /* "x-amz-checksum-…" */
    const char *checksum;        /* its value; NULL: none. Left out for stores that refuse it */
    bool keeps_existing;         /* ERR_EXISTS, 409 or 412 when the object is there */
    struct str body;
    const char *body_sha256; /* 64 hex digits; NULL: computed */
    int64_t deadline_ms;     /* 0: the handle's */
    unsigned attempts;       /* at most; 0: the handle's */
    size_t max_body;         /* of the answer, bytes; 0: S3_REPLY_BYTES */
};

/* Both borrow the value until the call has been made. */
void s3_call_query(struct s3_call *call, const char *name, const char *value);
void s3_call_header(struct s3_call *call, const char *name, const char *value);
/* Content-MD5 of the body, which some calls need; `target` holds it until the call was made. */
#define S3_MD5_SIZE 25
enum err_code s3_call_md5(struct s3_call *call, char target[S3_MD5_SIZE], struct err *err)
    ERR_MUST_CHECK;

/* Sends it and reads the whole answer. Any status is ERR_OK: s3_check judges it. ERR_EXISTS only with
 * keeps_existing. */
enum err_code s3_send(struct storage_s3 *s3, const struct s3_call *call, struct http_reply *reply,
                      struct err *err) ERR_MUST_CHECK;
/* s3_send and s3_check. */
enum err_code s3_run(struct storage_s3 *s3, const struct s3_call *call, struct http_reply *reply,
                     struct err *err) ERR_MUST_CHECK;
/* Sends it and waits for the head. Caller ends it with http_stream_close. */
enum err_code s3_stream(struct storage_s3 *s3, const struct s3_call *call, struct http_reply *reply,
                        struct http_stream **ret_stream, struct err *err) ERR_MUST_CHECK;

enum s3_optional { S3_CHECKSUM = 1, S3_CONDITION = 2 };

/* s3_send; *ret_carried tells which of the two the answered call had. */
enum err_code s3_send_checked(struct storage_s3 *s3, const struct s3_call *call,
                              unsigned *ret_carried, struct http_reply *reply, struct err *err)
    ERR_MUST_CHECK;

#define S3_CODE_BYTES 64

/* ERR_OK for 2xx without an error in the body; else what the answer means, with its status and the
 * store's own code. */
enum err_code s3_check(const struct s3_call *call, const struct http_reply *reply, struct err *err)
    ERR_MUST_CHECK;
/* The same for an answer that is known to be a failure, whatever its status says. */
enum err_code s3_failure(const struct s3_call *call, const struct http_reply *reply,
                         struct err *err) ERR_MUST_CHECK;
/* What the connection's failure means to storage; passes ERR_OK on. */
enum err_code s3_sent(const struct s3_call *call, enum err_code code, struct err *err)
    ERR_MUST_CHECK;
/* Was the answer this error of the store's? */
bool s3_is_error(const struct http_reply *reply, const char *code);

/* What the store tells of an object. */
struct s3_head {
    struct storage_stat stat;
    char nonce[S3_NONCE_SIZE]; /* "" when none of our uploads wrote it */
};

/* ERR_NOT_FOUND when there is none, ERR_STORAGE_UNAVAILABLE when there is no bucket either.
 * deadline_ms 0: the handle's. */
enum err_code s3_head_object(struct storage_s3 *s3, const char *key, int64_t deadline_ms,
                             struct s3_head *ret_head, struct err *err) ERR_MUST_CHECK;
/* Size, tag and time of an answer with an object's headers; `size` is from Content-Length, -1 where
 * there is none. */
enum err_code s3_read_head(const struct http_reply *reply, struct s3_head *ret_head,
                           struct err *err) ERR_MUST_CHECK;

struct s3_multipart {
    struct buf upload_id; /* empty: none was begun */
    struct buf parts;     /* of the document that completes it */
    int part_count;
};

/* One part; its outcome when it was sent, maybe on another thread. */
struct s3_part {
    int number;
    struct str body;
    enum err_code code;
    struct err err;
    char tag[STORAGE_TAG_SIZE];
    char checksum[45]; /* base64 of the SHA-256; "": the store did not get it */
};

/* Key, type and nonce of an object to be. */
struct s3_target {
    const char *key;
    const char *mime;
    const char *nonce;
};
enum err_code s3_multipart_abort(struct storage_s3 *s3, const char *key, const char *upload_id,
                                 struct err *err) ERR_MUST_CHECK;

#define S3_PAGE_KEYS "1000" /* of S3 */

/* After a call that began an upload, which came to `code` and `reply`: where the store may have begun
 * more than `ours` (empty: none is), those are aborted. What can't be is left to the purge. */
void s3_abort_doubles(struct storage_s3 *s3, const char *key, struct str ours, enum err_code code,
                      const struct http_reply *reply);

/* ---- the slots that other files fill ---- */

enum err_code s3_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err);
enum err_code s3_list(void *state, storage_list_callback *callback, void *context, struct err *err);

extern const struct storage_uploads s3_uploads;
extern const struct storage_downloads s3_downloads;
extern const struct storage_objects s3_objects;
extern const struct storage_presigning s3_presigning;

/*
 * A strict reader of the small XML documents that S3 answers with: elements, text, the five named
 * and the numeric references, UTF-8 with or without a byte order mark. No DOCTYPE, no CDATA; attributes and comments are passed over,
 * prefixes of names too. Everything is bounded: depth, names, the text of one element. Pure
 * functions, thread-safe.
 */

#define S3_XML_DEPTH 8
#define S3_XML_NAME_BYTES 64
#define S3_XML_TEXT_BYTES 8192 /* of one element, decoded */

/* Told at each element's end: its path ("ListBucketResult/Contents/Key") and, when it holds no
 * other elements, its text; both borrowed for the call. A code other than ERR_OK ends the reading
 * with that code. */
typedef enum err_code s3_xml_callback(void *context, struct str path, struct str text,
                                      struct err *err);

/* ERR_STORAGE for what is not well-formed or beyond a bound, ERR_NO_MEMORY. */
enum err_code s3_xml_read(struct str document, s3_xml_callback *callback, void *context,
                          struct err *err) ERR_MUST_CHECK;

/* Appends the text of the first element with that path. ERR_STORAGE when there is none. */
enum err_code s3_xml_value(struct str document, const char *path, struct buf *ret_text,
                           struct err *err) ERR_MUST_CHECK;

/* Whether the root element has that name. Only its tag is read, so this is cheap for any document. */
bool s3_xml_has_root(struct str document, const char *name);

/*
 * One page of a listing, read from the store's document: of objects (ListObjectsV2), or of uploads
 * that were begun and never ended (ListMultipartUploads). Keys that are none of ours are passed
 * over: they are somebody else's. Pure functions, thread-safe.
 */

#define S3_TOKEN_BYTES 4096 /* where the next page begins */
#define S3_UPLOAD_ID_BYTES 2048

/* What leads to the next page; "" on the last one. Used again for the next page. */
struct s3_page {
    struct buf token; /* of objects; of uploads: the key */
    struct buf upload_id;
};

void s3_page_init(struct s3_page *page);
void s3_page_release(struct s3_page *page);

/* Tells of each object of the page; nothing is told of a document that can't be read. ERR_STORAGE,
 * and what the callback returns. */
enum err_code s3_page_objects(struct s3_page *page, struct str document,
                              storage_list_callback *callback, void *context, struct err *err)
    ERR_MUST_CHECK;

/* Borrowed for the call. */
struct s3_upload {
    const char *key;
    const char *upload_id;
    int64_t begun_ms; /* since 1970 */
};
typedef enum err_code s3_upload_callback(void *context, const struct s3_upload *upload,
                                         struct err *err);
enum err_code s3_page_uploads(struct s3_page *page, struct str document,
                              s3_upload_callback *callback, void *context, struct err *err)
    ERR_MUST_CHECK;

/*
 * The memory that holds parts of uploads on their way to a store: all of them together never more
 * than a bound. Thread-safe; a buffer itself is used by one thread at a time.
 *
 * An upload waits for its first buffer, in the order of asking, and only tries for a second one: who
 * waits holds nothing, so nobody waits for ever. Only part_memory_grow waits while it holds a
 * buffer, and it has a deadline.
 *
 * Buffers are mapped and unmapped, so that memory given back leaves the process.
 */

struct part_memory;

struct part_buffer {
    unsigned char *data; /* NULL: none is held */
    size_t size;         /* bytes it may hold */
    size_t len;          /* bytes in it: the holder's */
};

/* `max` bytes at most. ERR_NO_MEMORY. Caller frees with part_memory_close, after all was given
 * back. */
enum err_code part_memory_open(struct part_memory **ret_memory, size_t max, struct err *err)
    ERR_MUST_CHECK;
/* NULL is allowed. */
void part_memory_close(struct part_memory *memory);

/* An empty buffer of `size` bytes (not 0), after waiting for it at most wait_ms.
 * ERR_STORAGE_UNAVAILABLE when it did not come free in that time, ERR_NO_MEMORY. The caller ends it
 * with part_memory_give. */
enum err_code part_memory_take(struct part_memory *memory, size_t size, int64_t wait_ms,
                               struct part_buffer *ret_buffer, struct err *err) ERR_MUST_CHECK;
/* The same without waiting; false when there is none or others wait. */
bool part_memory_try(struct part_memory *memory, size_t size, struct part_buffer *ret_buffer)
    __attribute__((warn_unused_result));
/* Makes a held buffer larger, what is in it stays; waits and fails like part_memory_take, and then
 * the buffer is as it was. */
enum err_code part_memory_grow(struct part_memory *memory, struct part_buffer *buffer, size_t size,
                               int64_t wait_ms, struct err *err) ERR_MUST_CHECK;
/* Does anybody wait? Then a second buffer is better given back. */
bool part_memory_is_wanted(struct part_memory *memory);
/* Gives the buffer back and empties it; nothing happens when none is held. */
void part_memory_give(struct part_memory *memory, struct part_buffer *buffer);

#endif
