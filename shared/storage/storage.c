#include "storage/storage.h"

#include <stdlib.h>
#include <string.h>

#include "storage/storage_drivers.h"

static const struct storage_driver *const drivers[] = {
    &storage_fs_driver,
    &storage_s3_driver,
    &storage_libs3_driver,
};

struct storage {
    const struct storage_driver *driver;
    void *state;
    const struct clock *clock;
    struct storage_observer observer;
};

/* A put or a get is one operation to the observer, however many calls it takes: it is told of the
 * time spent in the driver, once, with the first failure or the end. */
struct storage_put {
    struct storage *storage;
    void *state;
    int64_t spent_ns;
    bool told;
};

struct storage_get {
    struct storage *storage;
    void *state;
    int64_t spent_ns;
    bool told;
};

static enum err_code find_driver(const char *name, const struct storage_driver **ret_driver,
                                 struct err *err)
{
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++) {
        if (strcmp(drivers[i]->name, name) == 0) {
            *ret_driver = drivers[i];
            return ERR_OK;
        }
    }
    return err_set(err, ERR_CONFIG, "storage_open", "STORAGE_DRIVER: there is no driver \"%s\".",
                   name);
}

static void tell(const struct storage *storage, enum storage_operation operation,
                 enum err_code outcome, int64_t duration_ns)
{
    if (storage->observer.told)
        storage->observer.told(storage->observer.context, storage->driver->metric_index, operation,
                               outcome, duration_ns);
}

static void tell_retry(void *context)
{
    tell(context, STORAGE_RETRY, ERR_OK, 0);
}

/* Tells of a call that is an operation by itself; passes its outcome on. */
static enum err_code told(const struct storage *storage, enum storage_operation operation,
                          int64_t start_ns, enum err_code outcome)
{
    tell(storage, operation, outcome, clock_steady_ns(storage->clock) - start_ns);
    return outcome;
}

enum err_code storage_open(struct storage **ret_storage, const struct config *config,
                           const struct clock *clock, const struct storage_observer *observer,
                           struct err *err)
{
    const struct storage_driver *driver = NULL;
    enum err_code code = find_driver(config->storage_driver, &driver, err);
    if (code != ERR_OK)
        return code;
    struct storage *storage = NULL;
    code = storage_open_driver(&storage, driver, config, clock, err);
    if (code != ERR_OK)
        return code;
    if (observer)
        storage->observer = *observer;
    *ret_storage = storage;
    return ERR_OK;
}

enum err_code storage_open_driver(struct storage **ret_storage, const struct storage_driver *driver,
                                  const struct config *config, const struct clock *clock,
                                  struct err *err)
{
    struct storage *storage = calloc(1, sizeof *storage);
    if (!storage)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "storage_open", "Out of memory.");
    storage->driver = driver;
    storage->clock = clock;
    const struct storage_options options = {config, clock, tell_retry, storage};
    enum err_code code = driver->open(&storage->state, &options, err);
    if (code != ERR_OK) {
        free(storage);
        return code;
    }
    *ret_storage = storage;
    return ERR_OK;
}

void storage_close(struct storage *storage)
{
    if (!storage)
        return;
    storage->driver->close(storage->state);
    free(storage);
}

unsigned storage_capabilities(const struct storage *storage)
{
    return storage->driver->capabilities;
}

bool storage_connections(const struct storage *storage, struct pool_usage *ret_usage)
{
    if (!storage->driver->connections)
        return false;
    storage->driver->connections(storage->state, ret_usage);
    ret_usage->driver = storage->driver->metric_index;
    return true;
}

enum err_code storage_init(const struct config *config, const struct clock *clock, struct err *err)
{
    const struct storage_driver *driver = NULL;
    enum err_code code = find_driver(config->storage_driver, &driver, err);
    return code == ERR_OK ? driver->init(config, clock, err) : code;
}

/* Adds a call to a put's time and tells of it when it failed or was the last. */
static enum err_code put_step(struct storage_put *put, int64_t start_ns, bool is_last,
                              enum err_code outcome)
{
    put->spent_ns += clock_steady_ns(put->storage->clock) - start_ns;
    if (!put->told && (is_last || outcome != ERR_OK)) {
        tell(put->storage, STORAGE_PUT, outcome, put->spent_ns);
        put->told = true;
    }
    return outcome;
}

enum err_code storage_put_begin(struct storage *storage, const char *key, int64_t size_hint,
                                struct storage_put **ret_put, struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    struct storage_put *put = calloc(1, sizeof *put);
    if (!put)
        return told(storage, STORAGE_PUT, start_ns,
                    err_set_internal(err, ERR_NO_MEMORY, 0, "put_begin", "Out of memory."));
    put->storage = storage;
    enum err_code code =
        put_step(put, start_ns, false,
                 storage->driver->uploads->begin(storage->state, key, size_hint, &put->state, err));
    if (code != ERR_OK) {
        free(put);
        return code;
    }
    *ret_put = put;
    return ERR_OK;
}

void storage_put_set_type(struct storage_put *put, const char *mime)
{
    if (put->storage->driver->uploads->set_type)
        put->storage->driver->uploads->set_type(put->state, mime);
}

enum err_code storage_put_write(struct storage_put *put, const void *data, size_t len,
                                struct err *err)
{
    int64_t start_ns = clock_steady_ns(put->storage->clock);
    return put_step(put, start_ns, false,
                    put->storage->driver->uploads->write(put->state, data, len, err));
}

enum err_code storage_put_commit(struct storage_put *put, const unsigned char sha256[32],
                                 char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    int64_t start_ns = clock_steady_ns(put->storage->clock);
    return put_step(put, start_ns, true,
                    put->storage->driver->uploads->commit(put->state, sha256, ret_tag, err));
}

void storage_put_close(struct storage_put *put)
{
    if (!put)
        return;
    put->storage->driver->uploads->close(put->state);
    free(put);
}

enum err_code storage_purge_unfinished(struct storage *storage, int64_t before_ms, int *ret_purged,
                                       struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    return told(storage, STORAGE_LIST, start_ns,
                storage->driver->uploads->purge(storage->state, before_ms, ret_purged, err));
}

static enum err_code get_step(struct storage_get *get, int64_t start_ns, bool is_last,
                              enum err_code outcome)
{
    get->spent_ns += clock_steady_ns(get->storage->clock) - start_ns;
    if (!get->told && (is_last || outcome != ERR_OK)) {
        tell(get->storage, STORAGE_GET, outcome, get->spent_ns);
        get->told = true;
    }
    return outcome;
}

enum err_code storage_get_open(struct storage *storage, const struct storage_wanted *wanted,
                               struct storage_get **ret_get, struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    struct storage_get *get = calloc(1, sizeof *get);
    if (!get)
        return told(storage, STORAGE_GET, start_ns,
                    err_set_internal(err, ERR_NO_MEMORY, 0, "get_open", "Out of memory."));
    get->storage = storage;
    enum err_code code =
        get_step(get, start_ns, false,
                 storage->driver->downloads->open(storage->state, wanted, &get->state, err));
    if (code != ERR_OK) {
        free(get);
        return code;
    }
    *ret_get = get;
    return ERR_OK;
}

enum err_code storage_get_read(struct storage_get *get, void *target, size_t size, size_t *ret_len,
                               struct err *err)
{
    int64_t start_ns = clock_steady_ns(get->storage->clock);
    return get_step(get, start_ns, false,
                    get->storage->driver->downloads->read(get->state, target, size, ret_len, err));
}

void storage_get_close(struct storage_get *get)
{
    if (!get)
        return;
    int64_t start_ns = clock_steady_ns(get->storage->clock);
    get->storage->driver->downloads->close(get->state);
    (void)get_step(get, start_ns, true, ERR_OK);
    free(get);
}

enum err_code storage_sendfile_path(struct storage *storage, const char *key, int64_t expected_size,
                                    struct buf *ret_path, struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    if (!storage->driver->downloads->sendfile_path)
        return told(storage, STORAGE_GET, start_ns,
                    err_set_internal(err, ERR_NOT_IMPLEMENTED, 0, "sendfile_path",
                                     "The driver %s has no files.", storage->driver->name));
    return told(storage, STORAGE_GET, start_ns,
                storage->driver->downloads->sendfile_path(storage->state, key, expected_size,
                                                          ret_path, err));
}

static enum err_code cannot_presign(const struct storage *storage, struct err *err)
{
    return err_set_internal(err, ERR_NOT_IMPLEMENTED, 0, "presign", "The driver %s can't presign.",
                            storage->driver->name);
}

/* No request is made, so nobody is told. */
enum err_code storage_presign_get(struct storage *storage, const struct storage_link *link,
                                  struct buf *ret_url, struct err *err)
{
    const struct storage_presigning *presigning = storage->driver->presigning;
    return presigning ? presigning->get(storage->state, link, ret_url, err)
                      : cannot_presign(storage, err);
}

enum err_code storage_remove(struct storage *storage, const char *key, struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    return told(storage, STORAGE_REMOVE, start_ns,
                storage->driver->objects->remove(storage->state, key, err));
}

enum err_code storage_remove_orphan(struct storage *storage, const char *key,
                                    const struct orphan_question *question, bool *ret_removed,
                                    struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    return told(
        storage, STORAGE_REMOVE, start_ns,
        storage->driver->objects->remove_orphan(storage->state, key, question, ret_removed, err));
}

enum err_code storage_stat_object(struct storage *storage, const char *key,
                                  struct storage_stat *ret_stat, struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    return told(storage, STORAGE_STAT, start_ns,
                storage->driver->objects->stat(storage->state, key, ret_stat, err));
}

enum err_code storage_list(struct storage *storage, storage_list_callback *callback, void *context,
                           struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    return told(storage, STORAGE_LIST, start_ns,
                storage->driver->objects->list(storage->state, callback, context, err));
}

enum err_code storage_read_mark(struct storage *storage, char ret_text[STORAGE_MARK_SIZE],
                                struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    return told(storage, STORAGE_STAT, start_ns,
                storage->driver->objects->read_mark(storage->state, ret_text, err));
}

enum err_code storage_write_mark(struct storage *storage, const char *text, bool replace,
                                 struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    return told(storage, STORAGE_PUT, start_ns,
                storage->driver->objects->write_mark(storage->state, text, replace, err));
}

enum err_code storage_ping(struct storage *storage, struct err *err)
{
    int64_t start_ns = clock_steady_ns(storage->clock);
    return told(storage, STORAGE_PING, start_ns, storage->driver->ping(storage->state, err));
}

static bool is_hex_digit(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
}

static bool is_key_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' ||
           byte == '_' || byte == '-';
}

bool storage_is_key(struct str key)
{
    const size_t name = STORAGE_SHARD_LENGTH + 1;
    if (key.len <= name || key.len > LIMIT_KEY_BYTES || !is_hex_digit(key.data[0]) ||
        !is_hex_digit(key.data[1]) || key.data[STORAGE_SHARD_LENGTH] != '/' ||
        key.data[name] == '.')
        return false;
    for (size_t i = name; i < key.len; i++)
        if (!is_key_byte(key.data[i]) || (key.data[i] == '.' && key.data[i - 1] == '.'))
            return false;
    return true;
}

enum err_code storage_check_key(const char *key, struct err *err)
{
    if (storage_is_key(str_of(key)))
        return ERR_OK;
    return err_set_internal(err, ERR_INTERNAL, 0, "check key", "Not a storage key.");
}
