/*
 * The storage contract: where the bytes of files live. Drivers: storage_fs, storage_s3,
 * storage_libs3. Nothing here knows the service's HTTP or metadata. A handle is made once per
 * process (after fork) and is thread-safe; a put or a get is used by one thread at a time.
 *
 * Keys are ours: [a-z0-9/._-], at most LIMIT_KEY_BYTES, no "..", no leading "/". Nothing a client
 * sent ever becomes part of one.
 *
 * A put: begin, say the type, write, commit (durable and visible now), commit the metadata, close.
 * Where the driver can, it claims its key until storage_put_close, so that storage_remove_orphan
 * never takes what is on its way; where it can't (no STORAGE_CAN_CLAIM) the sweep fences the key in
 * the metadata first.
 *
 * Errors of every call: ERR_STORAGE_UNAVAILABLE (the store is away or refuses us for now),
 * ERR_UPSTREAM_TIMEOUT (it is silent), ERR_STORAGE (it answered nonsense, or not what it should
 * hold), ERR_NO_MEMORY, ERR_INTERNAL; others are named.
 */
#ifndef COFFER_STORAGE_STORAGE_H
#define COFFER_STORAGE_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/limits.h"
#include "base/pool.h"
#include "base/str.h"

struct storage;
struct storage_put;
struct storage_get;

enum storage_operation {
    STORAGE_PUT,
    STORAGE_GET,
    STORAGE_REMOVE,
    STORAGE_STAT,
    STORAGE_LIST,
    STORAGE_PING,
    STORAGE_RETRY, /* an attempt that was repeated; its duration is 0 */
    STORAGE_OPERATION_COUNT
};

/* Capability bits of a driver. */
#define STORAGE_CAN_SENDFILE 1u /* sendfile_path works: the gateway sends the bytes */
#define STORAGE_CAN_CLAIM 2u    /* a put in progress is known to remove_orphan without a grace */
#define STORAGE_CAN_PRESIGN 4u  /* presign_get works */
#define STORAGE_WAITS 8u     /* a write may wait for a network: not for threads that others need */
#define STORAGE_MAY_LAG 32u  /* an object may be visible only some time after its commit */
#define STORAGE_HAS_TAGS 16u /* receipts and stats carry a tag, and get_open checks it */

/* The store's own tag of an object's content (S3's ETag with its quotes); "" where it has none. */
#define STORAGE_TAG_SIZE (LIMIT_TAG_BYTES + 1)

/* Name of the file beside the objects, or of the object, that holds the store's mark. It is no key. */
#define STORAGE_MARK "coffer-installation"
#define STORAGE_MARK_SIZE (LIMIT_MARK_BYTES + 1)

struct storage_stat {
    int64_t size;        /* bytes */
    int64_t modified_ms; /* since 1970 */
    char tag[STORAGE_TAG_SIZE];
};

/* What must be read, and what the object must be. */
struct storage_wanted {
    const char *key;
    int64_t size;    /* of the whole object, bytes; -1: any */
    const char *tag; /* as in the receipt; "" or NULL: any */
    int64_t offset;  /* of the first byte */
    int64_t length;  /* bytes; -1: to the end */
};

/* What a presigned download answers, for so long. */
struct storage_link {
    const char *key;
    const char *mime;
    const char *disposition; /* Content-Disposition */
    int64_t seconds;
};

/* What a presigned form takes. */
struct storage_form {
    const char *key;
    const char *mime;   /* "": any */
    const char *sha256; /* 64 hex digits that the store verifies; "": not known */
    int64_t min_size;   /* bytes */
    int64_t max_size;
    int64_t seconds;
};

/* Where a presigned form goes: its URL into `url`; `field` is told of each field, in order. */
struct storage_form_out {
    struct buf *url;
    void (*field)(void *context, const char *name, struct str value);
    void *context;
};

/* Who is told of each operation, for metrics: on the operation's thread, with its duration. */
struct storage_observer {
    void (*told)(void *context, unsigned driver, enum storage_operation operation,
                 enum err_code outcome, int64_t duration_ns);
    void *context;
};

/* Does anybody know an object? Asked while its key is claimed, where there are claims. */
struct orphan_question {
    enum err_code (*is_known)(void *context, const char *key, bool *ret_known, struct err *err);
    void *context;
};

/* One object found by storage_list; the key is borrowed for the call. A code other than ERR_OK ends
 * the listing with that code. */
typedef enum err_code storage_list_callback(void *context, const char *key,
                                            const struct storage_stat *stat, struct err *err);

/* What a driver opens with; all borrowed. */
struct storage_options {
    const struct config *config;
    const struct clock *clock;
    void (*retried)(void *context); /* an attempt is repeated; may be NULL */
    void *context;
};

struct storage_uploads {
    enum err_code (*begin)(void *state, const char *key, int64_t size_hint, void **ret_put,
                           struct err *err);
    void (*set_type)(void *put, const char *mime); /* may be NULL */
    enum err_code (*write)(void *put, const void *data, size_t len, struct err *err);
    enum err_code (*commit)(void *put, const unsigned char sha256[32],
                            char ret_tag[STORAGE_TAG_SIZE], struct err *err);
    void (*close)(void *put);
    enum err_code (*purge)(void *state, int64_t before_ms, int *ret_purged, struct err *err);
};

struct storage_downloads {
    enum err_code (*open)(void *state, const struct storage_wanted *wanted, void **ret_get,
                          struct err *err);
    enum err_code (*read)(void *get, void *target, size_t size, size_t *ret_len, struct err *err);
    void (*close)(void *get);
    enum err_code (*sendfile_path)(void *state, const char *key, int64_t expected_size,
                                   struct buf *ret_path, struct err *err); /* or NULL */
};

struct storage_objects {
    enum err_code (*stat)(void *state, const char *key, struct storage_stat *ret_stat,
                          struct err *err);
    enum err_code (*remove)(void *state, const char *key, struct err *err);
    enum err_code (*remove_orphan)(void *state, const char *key,
                                   const struct orphan_question *question, bool *ret_removed,
                                   struct err *err);
    enum err_code (*list)(void *state, storage_list_callback *callback, void *context,
                          struct err *err);
    enum err_code (*read_mark)(void *state, char ret_text[STORAGE_MARK_SIZE], struct err *err);
    enum err_code (*write_mark)(void *state, const char *text, bool replace, struct err *err);
};

/* NULL in a driver without STORAGE_CAN_PRESIGN. */
struct storage_presigning {
    enum err_code (*get)(void *state, const struct storage_link *link, struct buf *ret_url,
                         struct err *err);
};

struct storage_driver {
    const char *name;
    unsigned metric_index; /* value of the metrics label "driver" */
    unsigned capabilities;
    enum err_code (*init)(const struct config *config, const struct clock *clock, struct err *err);
    enum err_code (*open)(void **ret_state, const struct storage_options *options, struct err *err);
    void (*close)(void *state);
    enum err_code (*ping)(void *state, struct err *err);
    void (*connections)(void *state, struct pool_usage *ret_usage); /* NULL: there are none */
    const struct storage_uploads *uploads;
    const struct storage_downloads *downloads;
    const struct storage_objects *objects;
    const struct storage_presigning *presigning;
};

/* Opens the driver config->storage_driver. A store that is away is no failure here: it is found
 * again by each call, so the service comes back by itself. ERR_CONFIG for an unknown driver.
 * `observer` may be NULL; it is copied. Caller frees with storage_close. */
enum err_code storage_open(struct storage **ret_storage, const struct config *config,
                           const struct clock *clock, const struct storage_observer *observer,
                           struct err *err) ERR_MUST_CHECK;
void storage_close(struct storage *storage);
/* STORAGE_CAN_… bits */
unsigned storage_capabilities(const struct storage *storage);
/* Connections to the store; false when the driver has none. */
bool storage_connections(const struct storage *storage, struct pool_usage *ret_usage);

/* Makes the layout of an empty store (first start): a folder, or a bucket with its policy. ERR_EXISTS
 * when it is there already and whole, ERR_CONFIG when something else is in its place. Only
 * `coffer init` calls it. */
enum err_code storage_init(const struct config *config, const struct clock *clock, struct err *err)
    ERR_MUST_CHECK;

/* Begins an upload under `key`; size_hint in bytes or -1. ERR_DISK_FULL when it would leave less
 * than MIN_FREE_BYTES. Caller ends it with storage_put_close. */
enum err_code storage_put_begin(struct storage *storage, const char *key, int64_t size_hint,
                                struct storage_put **ret_put, struct err *err) ERR_MUST_CHECK;
/* The content's media type, for other clients of the store; copied. Before the first write. */
void storage_put_set_type(struct storage_put *put, const char *mime);
/* Appends; the data is borrowed for the call. ERR_DISK_FULL; after a failure only close is allowed.
 * May run on another thread than begin, never on two at once. */
enum err_code storage_put_write(struct storage_put *put, const void *data, size_t len,
                                struct err *err) ERR_MUST_CHECK;
/* Makes the object durable (DURABILITY=full) and visible under its key; `sha256` is of all that was
 * written, and the store's copy is verified against it or against checksums of its parts.
 * ERR_EXISTS when the key is taken. A failed sync is never retried: the upload failed and the bytes
 * go. When it is not known whether the store has the object, the driver finds out, or fails and
 * leaves it to the sweep. */
enum err_code storage_put_commit(struct storage_put *put, const unsigned char sha256[32],
                                 char ret_tag[STORAGE_TAG_SIZE], struct err *err) ERR_MUST_CHECK;
/* Releases the claim and frees the put; what was not committed is gone. NULL is allowed. */
void storage_put_close(struct storage_put *put);
/* Removes what unfinished uploads older than `before_ms` (wall time) left where only the store's own
 * bookkeeping shows it (multipart uploads); nothing on fs. */
enum err_code storage_purge_unfinished(struct storage *storage, int64_t before_ms, int *ret_purged,
                                       struct err *err) ERR_MUST_CHECK;

/* Opens an object for reading, after checking size and tag. ERR_NOT_FOUND; ERR_STORAGE for another
 * size or tag. Caller ends it with storage_get_close. */
enum err_code storage_get_open(struct storage *storage, const struct storage_wanted *wanted,
                               struct storage_get **ret_get, struct err *err) ERR_MUST_CHECK;
/* Up to `size` bytes; 0 at the end, never before all that were wanted have come. The content is not
 * verified here: who reads it whole compares the hash. */
enum err_code storage_get_read(struct storage_get *get, void *target, size_t size, size_t *ret_len,
                               struct err *err) ERR_MUST_CHECK;
void storage_get_close(struct storage_get *get);

/* The absolute path the gateway may send itself, after checking that the object is there with
 * `expected_size` bytes. Only with STORAGE_CAN_SENDFILE. ERR_NOT_FOUND, ERR_STORAGE (another
 * size). */
enum err_code storage_sendfile_path(struct storage *storage, const char *key, int64_t expected_size,
                                    struct buf *ret_path, struct err *err) ERR_MUST_CHECK;
/* A URL of the store at S3_PUBLIC_ENDPOINT. Only with STORAGE_CAN_PRESIGN; no request is made. */
enum err_code storage_presign_get(struct storage *storage, const struct storage_link *link,
                                  struct buf *ret_url, struct err *err) ERR_MUST_CHECK;

enum err_code storage_stat_object(struct storage *storage, const char *key,
                                  struct storage_stat *ret_stat, struct err *err) ERR_MUST_CHECK;
/* Removes; ERR_NOT_FOUND when it is not there, where the store tells (S3 doesn't). */
enum err_code storage_remove(struct storage *storage, const char *key, struct err *err)
    ERR_MUST_CHECK;
/* Removes an object that nobody knows: takes the key's claim (ERR_BUSY when a put holds it), asks
 * the question under it, removes when the answer is no. Without STORAGE_CAN_CLAIM the question must
 * itself keep the key from being recorded afterwards. */
enum err_code storage_remove_orphan(struct storage *storage, const char *key,
                                    const struct orphan_question *question, bool *ret_removed,
                                    struct err *err) ERR_MUST_CHECK;
/* Calls back for every object, in any order. */
enum err_code storage_list(struct storage *storage, storage_list_callback *callback, void *context,
                           struct err *err) ERR_MUST_CHECK;
/* The store's mark: a short text that says whose store it is (files_installation.h). No listing shows
 * it. ERR_NOT_FOUND when there is none, ERR_CONFIG when it is too long to be one. */
enum err_code storage_read_mark(struct storage *storage, char ret_text[STORAGE_MARK_SIZE],
                                struct err *err) ERR_MUST_CHECK;
/* Writes it, durable when it returns: the whole text or nothing of it is read. ERR_EXISTS when there
 * is one and it is not to be replaced; a repeated call may get that for its own first attempt. Stores
 * that know no conditional write may let the last of two writers win. */
enum err_code storage_write_mark(struct storage *storage, const char *text, bool replace,
                                 struct err *err) ERR_MUST_CHECK;
/* Can objects be written and read now? */
enum err_code storage_ping(struct storage *storage, struct err *err) ERR_MUST_CHECK;

#endif
