/*
 * The storage contract: where the bytes of files live. Drivers: storage_fs. Nothing here knows
 * HTTP or metadata. A handle is made once per process (after fork) and is thread-safe; a put is
 * used by one thread at a time.
 *
 * Keys are ours: [a-z0-9/._-], at most LIMIT_KEY_BYTES, no "..", no leading "/". Nothing a client
 * sent ever becomes part of one.
 *
 * A put that has begun claims its key until storage_put_close, so that storage_remove_orphan never
 * takes what is on its way: open the put, write, commit (durable and visible now), commit the
 * metadata, close.
 */
#ifndef COFFER_STORAGE_STORAGE_H
#define COFFER_STORAGE_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/errors.h"
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
    STORAGE_OPERATION_COUNT
};

/* Capability bits of a driver. */
#define STORAGE_CAN_SENDFILE 1u /* sendfile_path works */
#define STORAGE_CAN_CLAIM 2u    /* a put in progress is known to remove_orphan without a grace */

struct storage_stat {
    int64_t size;        /* bytes */
    int64_t modified_ms; /* since 1970 */
};

/* Who is told of each operation, for metrics: on the operation's thread, with its duration. */
struct storage_observer {
    void (*told)(void *context, unsigned driver, enum storage_operation operation,
                 enum err_code outcome, int64_t duration_ns);
    void *context;
};

/* Does anybody know an object? Asked while its key is claimed. */
struct orphan_question {
    enum err_code (*is_known)(void *context, const char *key, bool *ret_known, struct err *err);
    void *context;
};

/* One object found by storage_list; the key is borrowed for the call. A code other than ERR_OK ends
 * the listing with that code. */
typedef enum err_code storage_list_callback(void *context, const char *key,
                                            const struct storage_stat *stat, struct err *err);

struct storage_driver {
    const char *name;
    unsigned metric_index; /* value of the metrics label "driver" */
    unsigned capabilities;
    enum err_code (*init)(const struct config *config, struct err *err);
    enum err_code (*open)(void **ret_state, const struct config *config, const struct clock *clock,
                          struct err *err);
    void (*close)(void *state);
    enum err_code (*put_begin)(void *state, const char *key, int64_t size_hint, void **ret_put,
                               struct err *err);
    enum err_code (*put_write)(void *put, const void *data, size_t len, struct err *err);
    enum err_code (*put_commit)(void *put, struct err *err);
    void (*put_close)(void *put);
    enum err_code (*get_open)(void *state, const char *key, int64_t offset, void **ret_get,
                              struct err *err);
    enum err_code (*get_read)(void *get, void *target, size_t size, size_t *ret_len,
                              struct err *err);
    void (*get_close)(void *get);
    enum err_code (*sendfile_path)(void *state, const char *key, int64_t expected_size,
                                   struct buf *ret_path, struct err *err);
    enum err_code (*remove)(void *state, const char *key, struct err *err);
    enum err_code (*remove_orphan)(void *state, const char *key,
                                   const struct orphan_question *question, bool *ret_removed,
                                   struct err *err);
    enum err_code (*stat)(void *state, const char *key, struct storage_stat *ret_stat,
                          struct err *err);
    enum err_code (*list)(void *state, storage_list_callback *callback, void *context,
                          struct err *err);
    enum err_code (*ping)(void *state, struct err *err);
};

/* Opens the driver config->storage_driver. A store that is away is no failure here: it is found
 * again by each call, so the service comes back by itself. ERR_CONFIG for an unknown driver.
 * `observer` may be NULL; it is copied. Caller frees with storage_close. */
enum err_code storage_open(struct storage **ret_storage, const struct config *config,
                           const struct clock *clock, const struct storage_observer *observer,
                           struct err *err) ERR_MUST_CHECK;
void storage_close(struct storage *storage);
unsigned storage_capabilities(const struct storage *storage);
const char *storage_driver_name(const struct storage *storage);

/* Makes the layout of an empty store (first start). ERR_EXISTS when it is there already and whole,
 * ERR_CONFIG when something else is in its place. Only `coffer init` calls it. */
enum err_code storage_init(const struct config *config, struct err *err) ERR_MUST_CHECK;

/* Begins an upload under `key`; size_hint in bytes or -1. ERR_DISK_FULL when it would leave less
 * than MIN_FREE_BYTES, ERR_STORAGE_UNAVAILABLE when the store is away. Caller ends it with
 * storage_put_close. */
enum err_code storage_put_begin(struct storage *storage, const char *key, int64_t size_hint,
                                struct storage_put **ret_put, struct err *err) ERR_MUST_CHECK;
/* Appends. ERR_DISK_FULL, ERR_STORAGE_UNAVAILABLE; after a failure only close is allowed. May run
 * on another thread than begin, never on two at once. */
enum err_code storage_put_write(struct storage_put *put, const void *data, size_t len,
                                struct err *err) ERR_MUST_CHECK;
/* Makes the object durable (DURABILITY=full) and visible under its key; ERR_EXISTS when the key is
 * taken. A failed sync is never retried: the upload failed and the bytes go. */
enum err_code storage_put_commit(struct storage_put *put, struct err *err) ERR_MUST_CHECK;
/* Releases the claim and frees the put; what was not committed is gone. NULL is allowed. */
void storage_put_close(struct storage_put *put);

/* Opens an object for reading from `offset` bytes. ERR_NOT_FOUND, ERR_STORAGE_UNAVAILABLE.
 * Caller ends it with storage_get_close. */
enum err_code storage_get_open(struct storage *storage, const char *key, int64_t offset,
                               struct storage_get **ret_get, struct err *err) ERR_MUST_CHECK;
/* Up to `size` bytes; 0 at the end. */
enum err_code storage_get_read(struct storage_get *get, void *target, size_t size, size_t *ret_len,
                               struct err *err) ERR_MUST_CHECK;
void storage_get_close(struct storage_get *get);

/* The absolute path the gateway may send itself, after checking that the object is there with
 * `expected_size` bytes. ERR_NOT_FOUND, ERR_STORAGE (another size), ERR_STORAGE_UNAVAILABLE. */
enum err_code storage_sendfile_path(struct storage *storage, const char *key, int64_t expected_size,
                                    struct buf *ret_path, struct err *err) ERR_MUST_CHECK;
/* Removes; ERR_NOT_FOUND when it is not there. */
enum err_code storage_remove(struct storage *storage, const char *key, struct err *err)
    ERR_MUST_CHECK;
/* Removes an object that nobody knows: takes the key's claim (ERR_BUSY when a put holds it), asks
 * the question under it, removes when the answer is no. */
enum err_code storage_remove_orphan(struct storage *storage, const char *key,
                                    const struct orphan_question *question, bool *ret_removed,
                                    struct err *err) ERR_MUST_CHECK;
enum err_code storage_stat_object(struct storage *storage, const char *key,
                                  struct storage_stat *ret_stat, struct err *err) ERR_MUST_CHECK;
/* Calls back for every object, in any order. */
enum err_code storage_list(struct storage *storage, storage_list_callback *callback, void *context,
                           struct err *err) ERR_MUST_CHECK;
/* Can objects be written and read now? */
enum err_code storage_ping(struct storage *storage, struct err *err) ERR_MUST_CHECK;

#endif
