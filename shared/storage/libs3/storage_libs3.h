/*
 * Private to storage_libs3*.c and their tests: objects of an S3 store that still takes Signature
 * V2, over Debian's libs3 2.0. What that library can't do decides the shape of this driver:
 *
 * - It checks no certificate, knows no session token and cuts long secrets: such settings are
 *   refused when the store is opened, so that nobody believes in them.
 * - It has no deadlines but a low-speed one (1 KiB/s over 15 s): requests run in a request context
 *   whose loop is ours, and one that takes too long is ended with its context.
 * - It hands out an answer as it comes and can't wait for its reader: objects are read in pieces of
 *   LIBS3_PIECE bytes, each a request of its own with If-Match, so that nothing is held while a
 *   client reads.
 * - It takes a body that was cut for a whole one, and loses the status of most answers to a PUT:
 *   bytes are counted, and after each PUT the object is looked at (HEAD) and compared.
 * - It has no conditional PUT: a key is looked for before it is written. Two writers of one process
 *   take turns; those of two processes never choose the same key, which is 128 random bits.
 * - A listing that was cut looks like its end: a listing ends when two pages in a row are empty.
 *
 * Request contexts (each keeps its connection) are a bounded pool; one is borrowed for one request
 * with its repeats. Thread-safe: the mutexes guard what stands beside them, all else is immutable.
 */
#ifndef COFFER_STORAGE_STORAGE_LIBS3_H
#define COFFER_STORAGE_STORAGE_LIBS3_H

#include <libs3.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
#include "base/limits.h"
#include "base/pool.h"
#include "storage/storage_drivers.h"

#define LIBS3_PIECE (1024 * 1024)   /* read by one request, bytes */
#define LIBS3_GATHERED (256 * 1024) /* of a put in memory; what is longer goes to the spool */
#define LIBS3_CONNECTIONS 64        /* requests at once */
#define LIBS3_IDLE_CONNECTIONS 16   /* of them kept open */
#define LIBS3_SLOWEST (256 * 1024)  /* bytes a second that extend a request's deadline */
#define LIBS3_PAGE 1000             /* keys of a listing at a time */
#define LIBS3_KEY_SIZE (1024 + 1)   /* of any object in the bucket */
#define LIBS3_ACCESS_KEY_BYTES 79   /* what fits libs3's Authorization header */
#define LIBS3_SECRET_KEY_BYTES 64   /* what libs3 signs with; it ignores the rest */
#define LIBS3_MIME_BYTES 113        /* what fits libs3's Content-Type header */
#define LIBS3_HOST_BYTES S3_MAX_HOSTNAME_SIZE
#define LIBS3_NONCE_SIZE 33 /* 128 random bits in hexadecimal */
#define LIBS3_SHA256_SIZE 65

/* A key that a put of this process is publishing. */
struct libs3_claim {
    const char *key;
    struct libs3_claim *next;
};

struct storage_libs3 {
    const struct libs3_library *library;
    const struct clock *clock;
    char host[LIBS3_HOST_BYTES + 1]; /* with the port */
    char bucket[LIMIT_BUCKET_BYTES + 1];
    char access_key[LIBS3_ACCESS_KEY_BYTES + 1];
    char secret_key[LIBS3_SECRET_KEY_BYTES + 1];
    char region[CONFIG_TEXT_SIZE];
    char runtime_dir[CONFIG_TEXT_SIZE];
    int64_t max_file_size;
    int64_t connect_ns;
    int64_t stall_ns;
    int64_t deadline_ns;
    unsigned attempts;
    void (*retried)(void *context);
    void *context;
    S3BucketContext target; /* borrows the texts above */

    struct pool pool; /* of request contexts */

    pthread_mutex_t claim_mutex;
    pthread_cond_t claim_released;
    struct libs3_claim *claims;
};

enum libs3_given_up {
    LIBS3_RUNNING,
    LIBS3_NOT_CONNECTED, /* in S3_CONNECT_TIMEOUT_MS */
    LIBS3_STALLED,       /* for S3_STALL_SECONDS */
    LIBS3_TOO_LATE       /* past the deadline */
};

/* A request and what came of its last attempt. Filled from the top by the caller; the rest is
 * emptied before each attempt. */
struct libs3_request {
    struct storage_libs3 *libs3;
    const char *operation; /* for errors: static text */
    /* Calls the library's function with the context and this request as callback data. */
    void (*start)(struct libs3_request *request, S3RequestContext *context);
    void *detail;        /* for `start` and the callbacks: its own state */
    int64_t body;        /* bytes to send or to receive; 0: none */
    char *target;        /* of the bytes received, at most `body`; NULL: none are expected */
    unsigned attempts;   /* 0: S3_ATTEMPTS */
    int64_t deadline_ns; /* steady; 0: S3_DEADLINE_SECONDS from now */

    bool is_done;
    S3Status status;
    enum libs3_given_up given_up;
    bool may_repeat;     /* it failed, and may succeed when sent again */
    bool is_nonsense;    /* more than was asked for */
    bool is_failed_here; /* our side of a body failed, *err says how */
    int64_t sent;
    int64_t received;
    int64_t moved_ns; /* when anything was last seen to move, steady */
    int64_t length;   /* Content-Length, 0 when not told */
    int64_t modified_s;
    char tag[STORAGE_TAG_SIZE]; /* "" when there was none that fits */
    char sha256[LIBS3_SHA256_SIZE];
    char nonce[LIBS3_NONCE_SIZE];
    struct err *err;
};

/* Callbacks for `start`. */
extern const S3ResponseHandler libs3_response_handler;
S3Status libs3_receive(int len, const char *bytes, void *callback_data);

/* Runs the request, again while that may help and the deadline allows: repeating any of ours is
 * safe. ERR_NOT_FOUND, ERR_STORAGE_UNAVAILABLE, ERR_UPSTREAM_TIMEOUT, ERR_STORAGE, ERR_NO_MEMORY. */
enum err_code libs3_run(struct libs3_request *request, struct err *err) ERR_MUST_CHECK;
/* What a status of libs3 means, and whether asking again may help. */
enum err_code libs3_status_code(S3Status status, bool *ret_may_repeat);
/* Waits for the turn of attempt number `attempt` (2, 3, …), and tells of it; false when there are
 * no more, or its turn comes after the deadline. */
bool libs3_may_try(struct storage_libs3 *libs3, unsigned attempt, int64_t deadline_ns);

enum err_code libs3_pool_init(struct storage_libs3 *libs3, struct err *err) ERR_MUST_CHECK;
void libs3_pool_release(struct storage_libs3 *libs3);
void libs3_pool_usage(void *state, struct pool_usage *ret_usage);
/* Waits until no other put of this process publishes the key, and takes it. */
void libs3_claim_take(struct storage_libs3 *libs3, struct libs3_claim *claim);
void libs3_claim_release(struct storage_libs3 *libs3, const struct libs3_claim *claim);

enum err_code libs3_get_open(void *state, const struct storage_wanted *wanted, void **ret_get,
                             struct err *err) ERR_MUST_CHECK;
enum err_code libs3_get_read(void *state, void *target, size_t size, size_t *ret_len,
                             struct err *err) ERR_MUST_CHECK;
void libs3_get_close(void *state);

enum err_code libs3_put_begin(void *state, const char *key, int64_t size_hint, void **ret_put,
                              struct err *err) ERR_MUST_CHECK;
void libs3_put_set_type(void *state, const char *mime);
enum err_code libs3_put_write(void *state, const void *data, size_t len, struct err *err)
    ERR_MUST_CHECK;
enum err_code libs3_put_commit(void *state, const unsigned char sha256[32],
                               char ret_tag[STORAGE_TAG_SIZE], struct err *err) ERR_MUST_CHECK;
void libs3_put_close(void *state);
enum err_code libs3_put_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err)
    ERR_MUST_CHECK;

enum err_code libs3_list(void *state, storage_list_callback *callback, void *context,
                         struct err *err) ERR_MUST_CHECK;
/* libs3 reads a listing's UTC times as local ones: the seconds since 1970 that were meant. */
int64_t libs3_listed_time(int64_t seconds);

/* Copies a key of ours. ERR_INTERNAL when it is none. */
enum err_code libs3_copy_key(char target[LIMIT_KEY_BYTES + 1], const char *key, struct err *err)
    ERR_MUST_CHECK;
/* Asks for an object; what was answered is in *ret_seen. deadline_ns as in the request.
 * ERR_NOT_FOUND may also mean that there is no bucket. */
enum err_code libs3_head(struct storage_libs3 *libs3, const char *key, int64_t deadline_ns,
                         struct libs3_request *ret_seen, struct err *err) ERR_MUST_CHECK;
/* The same, but a missing bucket is ERR_STORAGE_UNAVAILABLE, and an answer without an
 * ETag ERR_STORAGE. */
enum err_code libs3_look(struct storage_libs3 *libs3, const char *key,
                         struct libs3_request *ret_seen, struct err *err) ERR_MUST_CHECK;
/* Compares what the store told of an object with what it must be. ERR_STORAGE. */
enum err_code libs3_check_wanted(const struct libs3_request *seen,
                                 const struct storage_wanted *wanted, struct err *err)
    ERR_MUST_CHECK;

enum err_code libs3_stat(void *state, const char *key, struct storage_stat *ret_stat,
                         struct err *err) ERR_MUST_CHECK;

/*
 * Debian's libs3 (libs3.so.2), loaded when a store is opened with it and not before: with what it
 * needs it is 9 MB of memory, which programs over another store don't pay. Only its header is
 * needed to build. Loaded and initialised once per process and kept; its functions may then be
 * called by any thread, but see libs3_compose_lock.
 */

#define LIBS3_FILE "libs3.so.2"

/* The functions that are used, with the names and types of libs3.h, and one of what it needs. */
struct libs3_library {
    __typeof__(&S3_initialize) initialize;
    __typeof__(&S3_get_status_name) get_status_name;
    __typeof__(&S3_validate_bucket_name) validate_bucket_name;
    __typeof__(&S3_create_request_context) create_request_context;
    __typeof__(&S3_destroy_request_context) destroy_request_context;
    __typeof__(&S3_runonce_request_context) runonce_request_context;
    __typeof__(&S3_get_request_context_fdsets) get_request_context_fdsets;
    __typeof__(&S3_get_request_context_timeout) get_request_context_timeout;
    __typeof__(&S3_test_bucket) test_bucket;
    __typeof__(&S3_create_bucket) create_bucket;
    __typeof__(&S3_list_bucket) list_bucket;
    __typeof__(&S3_put_object) put_object;
    __typeof__(&S3_get_object) get_object;
    __typeof__(&S3_head_object) head_object;
    __typeof__(&S3_delete_object) delete_object;
    /* libxml2's, which libs3 calls from any thread and never initialises. */
    void (*init_xml)(void);
};

/* The library, loaded by the first call. ERR_CONFIG when it is not installed; then the next call
 * tries again. */
enum err_code libs3_library_open(const struct libs3_library **ret_library, struct err *err)
    ERR_MUST_CHECK;

/* Fills *ret_library from `file`; what is loaded stays. For libs3_library_open and tests. */
enum err_code libs3_library_load(const char *file, struct libs3_library *ret_library,
                                 struct err *err) ERR_MUST_CHECK;

#endif
