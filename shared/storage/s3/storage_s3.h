/*
 * The S3 driver's own header, shared by its parts and its tests. It speaks the S3 REST API (AWS
 * "Amazon S3 API Reference") through net/http_client, signed by net/sigv4.
 *
 *   storage_s3.c          the driver's table, opening, ping
 *   storage_s3_address.c  keys and endpoints: where an object is, what may be one
 *   storage_s3_call.c     one signed call
 *   storage_s3_refused.c  headers that not every store takes
 *   storage_s3_failure.c  what an answer means that is no success
 *   storage_s3_xml.c      the documents that the store answers with
 *   storage_s3_put.c      uploads: parts filling and parts on their way
 *   storage_s3_multipart.c  the calls of a multipart upload
 *   storage_s3_get.c      downloads
 *   storage_s3_objects.c  stat, copy, remove
 *   storage_s3_list.c     listings of objects
 *   storage_s3_mark.c     the mark that says whose store it is
 *   storage_s3_unfinished.c  uploads that were begun and never ended
 *   storage_s3_presign.c  URLs and forms for clients
 *   storage_s3_init.c     the bucket
 *
 * The handle is shared by all threads; nothing in it changes but part_memory, which has its own
 * lock, and the bits of what the store refuses.
 */
#ifndef COFFER_STORAGE_STORAGE_S3_H
#define COFFER_STORAGE_STORAGE_S3_H

#include <stdatomic.h>

#include "net/http_client.h"
#include "net/sigv4.h"
#include "storage/s3/part_memory.h"
#include "storage/storage_drivers.h"

#define S3_REPLY_BYTES (64 * 1024)           /* of an answer that is no listing */
#define S3_LISTING_BYTES (16 * 1024 * 1024)  /* of one page of a listing */
#define S3_COPY_BYTES (5LL << 30)            /* "CopyObject": larger ones need copies by parts */
#define S3_NONCE_SIZE 33                     /* 32 hexadecimal digits and a NUL */
#define S3_SHA256_HEADER "x-amz-meta-sha256" /* what was uploaded, for other clients */
#define S3_CHECKSUM_HEADER "x-amz-checksum-sha256"
#define S3_NONCE_HEADER "x-amz-meta-upload" /* which upload wrote it: see storage_s3_put.c */

/* ---- storage_s3_address.c ---- */

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

/* ---- storage_s3.c ---- */

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
    atomic_uint refused; /* S3_CHECKSUM, S3_CONDITION: see storage_s3_refused.c */
    void (*retried)(void *context);
    void *context;
};

enum err_code s3_open(void **ret_state, const struct storage_options *options, struct err *err)
    ERR_MUST_CHECK;
void s3_close(void *state);

/* ---- storage_s3_call.c ---- */

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

/* Sends it without checksum and condition, and reads the whole answer. Any status is ERR_OK. */
enum err_code s3_send_as_is(struct storage_s3 *s3, const struct s3_call *call,
                            struct http_reply *reply, struct err *err) ERR_MUST_CHECK;
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

/* ---- storage_s3_refused.c ---- */

enum s3_optional { S3_CHECKSUM = 1, S3_CONDITION = 2 };

/* s3_send; *ret_carried tells which of the two the answered call had. */
enum err_code s3_send_checked(struct storage_s3 *s3, const struct s3_call *call,
                              unsigned *ret_carried, struct http_reply *reply, struct err *err)
    ERR_MUST_CHECK;

/* ---- storage_s3_failure.c ---- */

#define S3_CODE_BYTES 64

/* ERR_OK for 2xx without an error in the body; else what the answer means, with its status and the
 * store's own code. */
enum err_code s3_check(const struct s3_call *call, const struct http_reply *reply, struct err *err)
    ERR_MUST_CHECK;
/* The same for an answer that is known to be a failure, whatever its status says. */
enum err_code s3_failure(const struct s3_call *call, const struct http_reply *reply,
                         struct err *err) ERR_MUST_CHECK;
/* Whether a 2xx answer holds an error that another attempt may overcome. */
bool s3_hides_failure(const struct http_reply *reply);
/* What the connection's failure means to storage; passes ERR_OK on. */
enum err_code s3_sent(const struct s3_call *call, enum err_code code, struct err *err)
    ERR_MUST_CHECK;
/* Was the answer this error of the store's? */
bool s3_is_error(const struct http_reply *reply, const char *code);

/* ---- storage_s3_objects.c ---- */

/* What the store tells of an object. */
struct s3_head {
    struct storage_stat stat;
    char nonce[S3_NONCE_SIZE]; /* "" when none of our uploads wrote it */
};

/* ERR_NOT_FOUND when there is none, ERR_STORAGE_UNAVAILABLE when there is no bucket either.
 * deadline_ms 0: the handle's. */
enum err_code s3_head_object(struct storage_s3 *s3, const char *key, int64_t deadline_ms,
                             struct s3_head *ret_head, struct err *err) ERR_MUST_CHECK;
enum err_code s3_head_bucket(struct storage_s3 *s3, const char *operation, struct err *err)
    ERR_MUST_CHECK;
enum err_code s3_remove(void *state, const char *key, struct err *err) ERR_MUST_CHECK;
/* Size, tag and time of an answer with an object's headers; `size` is from Content-Length, -1 where
 * there is none. */
enum err_code s3_read_head(const struct http_reply *reply, struct s3_head *ret_head,
                           struct err *err) ERR_MUST_CHECK;

/* ---- storage_s3_multipart.c ---- */

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

void s3_multipart_init(struct s3_multipart *multipart);
void s3_multipart_release(struct s3_multipart *multipart);
/* Key, type and nonce of an object to be. */
struct s3_target {
    const char *key;
    const char *mime;
    const char *nonce;
};
enum err_code s3_multipart_create(struct storage_s3 *s3, struct s3_multipart *multipart,
                                  const struct s3_target *target, struct err *err) ERR_MUST_CHECK;
/* Thread-safe as long as nobody changes `multipart`. */
void s3_multipart_send(struct storage_s3 *s3, const struct s3_multipart *multipart, const char *key,
                       struct s3_part *part);
/* Takes a part that was sent into the document; parts come in order. */
enum err_code s3_multipart_add(struct s3_multipart *multipart, const struct s3_part *part,
                               struct err *err) ERR_MUST_CHECK;
enum err_code s3_multipart_abort(struct storage_s3 *s3, const char *key, const char *upload_id,
                                 struct err *err) ERR_MUST_CHECK;

/* ---- storage_s3_list.c ---- */

#define S3_PAGE_KEYS "1000" /* of S3 */

/* s3_run for a page of a listing: what is not found is the bucket. */
enum err_code s3_run_listing(struct storage_s3 *s3, const struct s3_call *call,
                             struct http_reply *reply, struct err *err) ERR_MUST_CHECK;

/* ---- storage_s3_unfinished.c ---- */

/* After a call that began an upload, which came to `code` and `reply`: where the store may have begun
 * more than `ours` (empty: none is), those are aborted. What can't be is left to the purge. */
void s3_abort_doubles(struct storage_s3 *s3, const char *key, struct str ours, enum err_code code,
                      const struct http_reply *reply);

/* ---- the slots that other files fill ---- */

enum err_code s3_init(const struct config *config, const struct clock *clock, struct err *err);
enum err_code s3_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err);
enum err_code s3_list(void *state, storage_list_callback *callback, void *context, struct err *err);
enum err_code s3_read_mark(void *state, char ret_text[STORAGE_MARK_SIZE], struct err *err);
enum err_code s3_write_mark(void *state, const char *text, bool replace, struct err *err);

extern const struct storage_uploads s3_uploads;
extern const struct storage_downloads s3_downloads;
extern const struct storage_objects s3_objects;
extern const struct storage_presigning s3_presigning;

#endif
