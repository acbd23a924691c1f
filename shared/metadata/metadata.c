#include "metadata/metadata.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metadata/metadata_drivers.h"

#define SHARE 16 /* of a bound that is stored between two looks */

void metadata_ledger_init(struct metadata_ledger *ledger, const struct config *config)
{
    *ledger = (struct metadata_ledger){.keys = config->idempotency_keys,
                                       .bytes = config->idempotency_bytes};
    pthread_mutex_init(&ledger->mutex, NULL);
}

void metadata_ledger_release(struct metadata_ledger *ledger)
{
    pthread_mutex_destroy(&ledger->mutex);
}

/* FNV-1a; never 0. */
static uint64_t hash_of(struct str owner)
{
    uint64_t hash = 14695981039346656037U;
    for (size_t i = 0; i < owner.len; i++)
        hash = (hash ^ (unsigned char)owner.data[i]) * 1099511628211U;
    return hash ? hash : 1;
}

bool metadata_ledger_add(struct metadata_ledger *ledger, struct str owner, int64_t bytes,
                         struct idempotency_bounds *ret_bounds)
{
    uint64_t hash = hash_of(owner);
    struct metadata_ledger_entry *entry = &ledger->entries[hash % METADATA_LEDGER_ENTRIES];
    pthread_mutex_lock(&ledger->mutex);
    bool is_due = entry->owner != hash;
    entry->owner = hash;
    entry->keys++;
    entry->bytes += bytes;
    is_due |= entry->keys >= ledger->keys / SHARE || entry->bytes >= ledger->bytes / SHARE;
    if (is_due)
        entry->keys = entry->bytes = 0;
    pthread_mutex_unlock(&ledger->mutex);
    *ret_bounds = (struct idempotency_bounds){owner, ledger->keys, ledger->bytes};
    return is_due;
}

/*
 * The MongoDB driver is an object of its own, coffer-mongodb.so beside the programs: libmongoc and
 * what it loads take a megabyte in every process, also where nothing uses them. It is loaded the
 * first time it is asked for, and stays. Thread-safe.
 */

#define PLUGIN "coffer-mongodb.so"
#define SYMBOL "metadata_mongodb_driver"
#define WATCH_SYMBOL "metadata_mongodb_watch_errors"

extern const struct metadata_driver metadata_mongodb_driver __attribute__((weak));

struct plugin {
    const struct metadata_driver *driver;
    char failure[ERR_MESSAGE_MAX];
};

static struct plugin plugin;

/* In the program's folder; or, for the admin command of an installation, in the programs' one. */
static const char *const folders[] = {"", "../libexec/coffer/"};

static void *load_from(const char *program_folder, const char *folder)
{
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s" PLUGIN, program_folder, folder);
    /* It is never closed: its threads and the library's state live as long as the process. */
    return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

/* The object has a copy of the library of its own: its errors are watched like the program's. */
static void watch_errors(void *object)
{
    void (*watch)(err_watcher *);
    *(void **)&watch = dlsym(object, WATCH_SYMBOL);
    if (watch)
        watch(err_watching());
}

static void load(void)
{
    char program[PATH_MAX];
    void *object = NULL;
    const char *why = NULL;
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    program[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = '\0';
    /* libmongoc's counters would be a file in /dev/shm, which a killed process leaves behind and the
     * next one with its id stumbles over. It looks when it is loaded. */
    setenv("MONGOC_DISABLE_SHM", "1", 1);
    for (size_t i = 0; !object && i < sizeof folders / sizeof *folders; i++) {
        object = load_from(program, folders[i]);
        if (!object && !why) /* the first folder's failure says most */
            why = dlerror();
    }
    if (object)
        plugin.driver = dlsym(object, SYMBOL);
    if (plugin.driver)
        watch_errors(object);
    if (!plugin.driver)
        snprintf(plugin.failure, sizeof plugin.failure, "%s", why ? why : "it holds no driver");
}

/* The driver linked into this program (tests), else that of the object. ERR_CONFIG, saying why, when
 * there is none. */
static enum err_code metadata_plugin_mongodb(const struct metadata_driver **ret_driver,
                                             struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (&metadata_mongodb_driver) {
        *ret_driver = &metadata_mongodb_driver;
        return ERR_OK;
    }
    pthread_once(&once, load);
    if (!plugin.driver)
        return err_set_internal(err, ERR_CONFIG, 0, "load driver",
                                "METADATA_DRIVER=mongodb: " PLUGIN " can't be loaded (%s); is "
                                "libmongoc-1.0-0 installed?",
                                plugin.failure);
    *ret_driver = plugin.driver;
    return ERR_OK;
}

#define LOCATION_MAX 2048
#define ETAG_MAX 256

struct metadata {
    const struct metadata_driver *driver;
    void *state;
    const struct clock *clock;
    struct metadata_observer observer;
    /* Made at init and never changed, so it is asked for once. */
    pthread_mutex_t secret_lock;
    bool has_secret;
    unsigned char secret[METADATA_SECRET_BYTES];
    struct metadata_ledger ledger;
};

static enum err_code find_driver(const char *name, const struct metadata_driver **ret_driver,
                                 struct err *err)
{
    if (strcmp(name, metadata_sqlite_driver.name) == 0) {
        *ret_driver = &metadata_sqlite_driver;
        return ERR_OK;
    }
    if (strcmp(name, "mongodb") == 0)
        return metadata_plugin_mongodb(ret_driver, err);
    return err_set(err, ERR_CONFIG, "metadata_open", "METADATA_DRIVER: there is no driver \"%s\".",
                   name);
}

enum err_code metadata_open(struct metadata **ret_metadata, const struct config *config,
                            const struct clock *clock, const struct metadata_observer *observer,
                            struct err *err)
{
    const struct metadata_driver *driver = NULL;
    enum err_code code = find_driver(config->metadata_driver, &driver, err);
    if (code != ERR_OK)
        return code;
    struct metadata *metadata = calloc(1, sizeof *metadata);
    if (!metadata)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "metadata_open", "Out of memory.");
    if (pthread_mutex_init(&metadata->secret_lock, NULL) != 0) {
        free(metadata);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "metadata_open", "Out of memory.");
    }
    metadata->driver = driver;
    metadata->clock = clock;
    metadata_ledger_init(&metadata->ledger, config);
    if (observer)
        metadata->observer = *observer;
    code = driver->open(&metadata->state, config, clock, err);
    if (code != ERR_OK) {
        metadata_ledger_release(&metadata->ledger);
        pthread_mutex_destroy(&metadata->secret_lock);
        free(metadata);
        return code;
    }
    *ret_metadata = metadata;
    return ERR_OK;
}

void metadata_close(struct metadata *metadata)
{
    if (!metadata)
        return;
    metadata->driver->close(metadata->state);
    metadata_ledger_release(&metadata->ledger);
    pthread_mutex_destroy(&metadata->secret_lock);
    explicit_bzero(metadata->secret, sizeof metadata->secret);
    free(metadata);
}

enum err_code metadata_init(const struct config *config, const struct clock *clock, struct err *err)
{
    const struct metadata_driver *driver = NULL;
    enum err_code code = find_driver(config->metadata_driver, &driver, err);
    return code == ERR_OK ? driver->init(config, clock, err) : code;
}

bool metadata_waits(const struct metadata *metadata)
{
    return metadata->driver->waits;
}

bool metadata_connections(const struct metadata *metadata, struct pool_usage *ret_usage)
{
    if (!metadata->state)
        return false;
    metadata->driver->connections(metadata->state, ret_usage);
    ret_usage->driver = metadata->driver->metric_index;
    return true;
}

static int64_t now_ns(const struct metadata *metadata)
{
    return clock_steady_ns(metadata->clock);
}

/* Tells the observer of a call that began at start_ns; passes its outcome on. */
static enum err_code told(const struct metadata *metadata, enum metadata_operation operation,
                          int64_t start_ns, enum err_code outcome)
{
    if (metadata->observer.told)
        metadata->observer.told(metadata->observer.context, metadata->driver->metric_index,
                                operation, outcome, now_ns(metadata) - start_ns);
    return outcome;
}

void idempotency_record_init(struct idempotency_record *record)
{
    *record = (struct idempotency_record){.state = IDEMPOTENCY_STARTED};
    buf_init(&record->location, LOCATION_MAX);
    buf_init(&record->etag, ETAG_MAX);
    buf_init(&record->body, LIMIT_JSON_RESPONSE_BYTES);
}

void idempotency_record_release(struct idempotency_record *record)
{
    buf_release(&record->location);
    buf_release(&record->etag);
    buf_release(&record->body);
}

enum err_code metadata_file_insert(struct metadata *metadata, const struct file *file,
                                   const struct idempotency_answer *answer, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->files->insert(metadata->state, file, answer, err);
    return told(metadata, METADATA_FILE_INSERT, start_ns, code);
}

enum err_code metadata_file_get(struct metadata *metadata, const char *id, int64_t now_ms,
                                struct file *ret_file, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->files->get(metadata->state, id, now_ms, ret_file, err);
    return told(metadata, METADATA_FILE_GET, start_ns, code);
}

enum err_code metadata_file_list(struct metadata *metadata, const struct file_query *query,
                                 int64_t now_ms, struct file_listing *listing, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->files->list(metadata->state, query, now_ms, listing, err);
    return told(metadata, METADATA_FILE_LIST, start_ns, code);
}

enum err_code metadata_file_update(struct metadata *metadata, const struct file *file,
                                   int64_t expected_version,
                                   const struct idempotency_answer *answer, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->files->update(metadata->state, file, expected_version, answer, err);
    return told(metadata, METADATA_FILE_UPDATE, start_ns, code);
}

enum err_code metadata_file_mark_deleted(struct metadata *metadata,
                                         const struct file_marking *marking, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->files->mark_deleted(metadata->state, marking, err);
    return told(metadata, METADATA_FILE_MARK_DELETED, start_ns, code);
}

enum err_code metadata_file_remove(struct metadata *metadata, const char *id, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->files->remove(metadata->state, id, err);
    return told(metadata, METADATA_FILE_REMOVE, start_ns, code);
}

enum err_code metadata_token_insert(struct metadata *metadata, const struct token *token,
                                    struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->access->token_insert(metadata->state, token, err);
    return told(metadata, METADATA_TOKEN, start_ns, code);
}

enum err_code metadata_token_get(struct metadata *metadata, const char *id, struct token *ret_token,
                                 struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->access->token_get(metadata->state, id, ret_token, err);
    return told(metadata, METADATA_TOKEN, start_ns, code);
}

enum err_code metadata_token_list(struct metadata *metadata, token_callback *callback,
                                  void *context, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->access->token_list(metadata->state, callback, context, err);
    return told(metadata, METADATA_TOKEN, start_ns, code);
}

enum err_code metadata_token_revoke(struct metadata *metadata, const char *id, int64_t now_ms,
                                    struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->access->token_revoke(metadata->state, id, now_ms, err);
    return told(metadata, METADATA_TOKEN, start_ns, code);
}

enum err_code metadata_idempotency_begin(struct metadata *metadata,
                                         const struct idempotency_claim *claim,
                                         struct idempotency_record *ret_record, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->requests->idempotency_begin(metadata->state, claim, ret_record, err);
    return told(metadata, METADATA_IDEMPOTENCY, start_ns, code);
}

enum err_code metadata_idempotency_renew(struct metadata *metadata,
                                         const struct idempotency_claim *claim, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->requests->idempotency_renew(metadata->state, claim, err);
    return told(metadata, METADATA_IDEMPOTENCY, start_ns, code);
}

enum err_code metadata_idempotency_finish(struct metadata *metadata,
                                          const struct idempotency_answer *answer, int64_t now_ms,
                                          struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->requests->idempotency_finish(metadata->state, answer, now_ms, err);
    return told(metadata, METADATA_IDEMPOTENCY, start_ns, code);
}

enum err_code metadata_idempotency_release(struct metadata *metadata,
                                           const struct idempotency_claim *claim, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->requests->idempotency_release(metadata->state, claim, err);
    return told(metadata, METADATA_IDEMPOTENCY, start_ns, code);
}

enum err_code metadata_idempotency_trim(struct metadata *metadata,
                                        const struct idempotency_bounds *bounds, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->requests->idempotency_trim(metadata->state, bounds, err);
    return told(metadata, METADATA_IDEMPOTENCY, start_ns, code);
}

enum err_code metadata_idempotency_stored(struct metadata *metadata, struct str owner,
                                          int64_t bytes, struct err *err)
{
    struct idempotency_bounds bounds;
    return metadata_ledger_add(&metadata->ledger, owner, bytes, &bounds)
               ? metadata_idempotency_trim(metadata, &bounds, err)
               : ERR_OK;
}

struct row_reading {
    bool is_deleted;
    int64_t limit; /* rows */
    file_callback *callback;
    void *context;
};

static void move_on(struct file_rows *rows)
{
    if (rows->count == 0)
        return;
    const struct file *last = &rows->files[rows->count - 1];
    memcpy(rows->after_id, last->id, sizeof rows->after_id);
    rows->after_ms = last->updated_ms;
}

static enum err_code read_pages(struct metadata *metadata, const struct row_reading *reading,
                                struct file_rows *rows, struct err *err)
{
    int64_t left = reading->limit;
    enum err_code code = ERR_OK;
    bool more = true;
    while (code == ERR_OK && more && left > 0) {
        rows->limit = left < METADATA_PAGE_ROWS ? (int)left : METADATA_PAGE_ROWS;
        code = metadata->driver->upkeep->read_rows(metadata->state, rows, err);
        if (code != ERR_OK)
            break;
        more = rows->count == rows->limit;
        left -= rows->count;
        for (int i = 0; code == ERR_OK && i < rows->count; i++)
            code = reading->callback(reading->context, &rows->files[i], err);
        move_on(rows);
    }
    return code;
}

static enum err_code for_each_row(struct metadata *metadata, const struct row_reading *reading,
                                  struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    struct file_rows *rows = calloc(1, sizeof *rows);
    if (!rows)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "read rows", "Out of memory.");
    rows->is_deleted = reading->is_deleted;
    rows->after_ms = INT64_MIN;
    enum err_code code = read_pages(metadata, reading, rows, err);
    free(rows);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_list_deleted(struct metadata *metadata, int limit, file_callback *callback,
                                    void *context, struct err *err)
{
    const struct row_reading reading = {true, limit, callback, context};
    return for_each_row(metadata, &reading, err);
}

enum err_code metadata_mark_expired(struct metadata *metadata, int64_t now_ms, int limit,
                                    int *ret_marked, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->upkeep->mark_expired(metadata->state, now_ms, limit, ret_marked, err);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_keys_known(struct metadata *metadata, const char *const *keys, size_t count,
                                  bool *ret_known, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->upkeep->keys_known(metadata->state, keys, count, ret_known, err);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_scan(struct metadata *metadata, file_callback *callback, void *context,
                            struct err *err)
{
    const struct row_reading reading = {false, INT64_MAX, callback, context};
    return for_each_row(metadata, &reading, err);
}

enum err_code metadata_set_status(struct metadata *metadata, const char *id,
                                  enum file_status status, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->upkeep->set_status(metadata->state, id, status, err);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_purge_requests(struct metadata *metadata, int64_t now_ms, int *ret_purged,
                                      struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code =
        metadata->driver->upkeep->purge_requests(metadata->state, now_ms, ret_purged, err);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_lease(struct metadata *metadata, const struct named_lease *lease,
                             bool *ret_held, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->upkeep->lease(metadata->state, lease, ret_held, err);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

static bool known_secret(struct metadata *metadata, unsigned char ret_secret[METADATA_SECRET_BYTES])
{
    pthread_mutex_lock(&metadata->secret_lock);
    bool is_known = metadata->has_secret;
    if (is_known)
        memcpy(ret_secret, metadata->secret, sizeof metadata->secret);
    pthread_mutex_unlock(&metadata->secret_lock);
    return is_known;
}

static void keep_secret(struct metadata *metadata,
                        const unsigned char secret[METADATA_SECRET_BYTES])
{
    pthread_mutex_lock(&metadata->secret_lock);
    memcpy(metadata->secret, secret, sizeof metadata->secret);
    metadata->has_secret = true;
    pthread_mutex_unlock(&metadata->secret_lock);
}

enum err_code metadata_secret(struct metadata *metadata,
                              unsigned char ret_secret[METADATA_SECRET_BYTES], struct err *err)
{
    if (known_secret(metadata, ret_secret))
        return ERR_OK;
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->upkeep->secret(metadata->state, ret_secret, err);
    if (code == ERR_OK)
        keep_secret(metadata, ret_secret);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_read_mark(struct metadata *metadata, char ret_text[METADATA_MARK_SIZE],
                                 struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->upkeep->read_mark(metadata->state, ret_text, err);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_write_mark(struct metadata *metadata, const char *expected, const char *text,
                                  struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->upkeep->write_mark(metadata->state, expected, text, err);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_check(struct metadata *metadata, bool repair, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->upkeep->check(metadata->state, repair, err);
    return told(metadata, METADATA_SWEEP, start_ns, code);
}

enum err_code metadata_ping(struct metadata *metadata, struct err *err)
{
    int64_t start_ns = now_ns(metadata);
    enum err_code code = metadata->driver->upkeep->ping(metadata->state, err);
    return told(metadata, METADATA_PING, start_ns, code);
}
