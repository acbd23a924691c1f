#include "metadata/mongodb/metadata_mongodb.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "metadata/metadata_drivers.h"

/* Codes of the server: github.com/mongodb/mongo, src/mongo/base/error_codes.yml. */
enum {
    SERVER_INTERNAL_ERROR = 1,
    SERVER_UNKNOWN_ERROR = 8,
    SERVER_INTERRUPTED = 11601,
    SERVER_UNAUTHORIZED = 13,
    SERVER_AUTHENTICATION_FAILED = 18,
    SERVER_DUPLICATE_KEY = 11000,
    SERVER_OUT_OF_DISK_SPACE = 14031
};

const char *mongodb_collection_name(enum mongodb_collection collection)
{
    static const char *const names[COLLECTION_COUNT] = {
        [COLLECTION_FILES] = "files",   [COLLECTION_REQUESTS] = "requests",
        [COLLECTION_TOKENS] = "tokens", [COLLECTION_TOTALS] = "totals",
        [COLLECTION_LEASES] = "leases", [COLLECTION_SETTINGS] = "settings",
    };
    return names[collection];
}

mongoc_collection_t *mongodb_collection(struct mongodb_session *session,
                                        enum mongodb_collection collection)
{
    return mongoc_client_get_collection(session->client, session->db->database,
                                        mongodb_collection_name(collection));
}

/* Failures that pass when the primary has moved, or the server has started again. */
static bool is_passing(uint32_t code)
{
    static const uint32_t codes[] = {6,     7,     43,    89,    91,    133,   175,
                                     189,   234,   262,   9001,  10107, 11600, 11602,
                                     13388, 13435, 13436, 10058, 17405, 50};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i] == code)
            return true;
    return false;
}

static bool is_disk_full(const bson_error_t *error)
{
    return error->code == SERVER_OUT_OF_DISK_SPACE || strstr(error->message, "disk is full") ||
           strstr(error->message, "No space left");
}

/* Its code is one of the server's, not one of libmongoc's. */
static bool is_servers(const bson_error_t *error)
{
    return error->domain == MONGOC_ERROR_SERVER || error->domain == MONGOC_ERROR_COMMAND ||
           error->domain == MONGOC_ERROR_QUERY || error->domain == MONGOC_ERROR_WRITE_CONCERN;
}

/* The server failed while it was at work: that does not say how far it got. */
static bool is_interrupted(const bson_error_t *error)
{
    return is_servers(error) &&
           (error->code == SERVER_INTERNAL_ERROR || error->code == SERVER_UNKNOWN_ERROR ||
            error->code == SERVER_INTERRUPTED);
}

static bool is_refused(const bson_error_t *error)
{
    if (is_servers(error))
        return error->code == SERVER_UNAUTHORIZED || error->code == SERVER_AUTHENTICATION_FAILED;
    return error->domain == MONGOC_ERROR_SCRAM || error->domain == MONGOC_ERROR_SASL ||
           (error->domain == MONGOC_ERROR_CLIENT &&
            error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE);
}

static bool is_network(const bson_error_t *error)
{
    return error->domain == MONGOC_ERROR_STREAM || error->domain == MONGOC_ERROR_SERVER_SELECTION ||
           error->domain == MONGOC_ERROR_PROTOCOL;
}

static enum err_code network_failed(struct mongodb_session *session, bool is_change,
                                    const bson_error_t *error, const char *operation,
                                    struct err *err)
{
    /* Where no server was found or reached, nothing was sent. */
    bool was_sent = error->domain != MONGOC_ERROR_SERVER_SELECTION &&
                    error->code != MONGOC_ERROR_STREAM_CONNECT &&
                    error->code != MONGOC_ERROR_STREAM_NAME_RESOLUTION;
    session->again = error->domain != MONGOC_ERROR_SERVER_SELECTION;
    session->unknown |= is_change && was_sent;
    return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, operation,
                            "MongoDB cannot be reached: %s", error->message);
}

enum err_code(mongodb_failed)(struct mongodb_session *session, bool is_change,
                              const bson_error_t *error, const char *operation, struct err *err)
{
    if (is_network(error))
        return network_failed(session, is_change, error, operation, err);
    if (error->domain == MONGOC_ERROR_WRITE_CONCERN ||
        (is_servers(error) && is_passing(error->code))) {
        /* The primary has it, perhaps; a majority has not said so. */
        session->again = true;
        session->unknown |= is_change;
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, operation,
                                "MongoDB cannot answer now (%u): %s", error->code, error->message);
    }
    if (is_refused(error))
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, operation,
                                "MongoDB refuses the user of MONGODB_URI (%u): %s", error->code,
                                error->message);
    if (is_disk_full(error))
        return err_set_internal(err, ERR_DISK_FULL, 0, operation, "MongoDB: %s", error->message);
    session->unknown |= is_change && is_interrupted(error);
    return err_set_internal(err, ERR_INTERNAL, 0, operation, "MongoDB (%u): %s", error->code,
                            error->message);
}

enum err_code mongodb_doubtful(struct err *err)
{
    enum err_code code =
        err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "commit",
                         "A change was interrupted, and its outcome cannot be seen.");
    err->outcome_unknown = true;
    return code;
}

static bool is_duplicate(const bson_error_t *error)
{
    return error->code == SERVER_DUPLICATE_KEY;
}

static enum err_code taken(struct err *err)
{
    return err_set_internal(err, ERR_EXISTS, 0, "insert", "A unique index refuses the document.");
}

enum err_code mongodb_insert(struct mongodb_session *session, enum mongodb_collection collection,
                             const bson_t *document, struct err *err)
{
    bson_error_t error = {0};
    enum err_code code = ERR_OK;
    mongoc_collection_t *target = mongodb_collection(session, collection);
    if (!mongoc_collection_insert_one(target, document, NULL, NULL, &error))
        code = is_duplicate(&error) ? taken(err)
                                    : mongodb_failed(session, true, &error, "insert", err);
    mongoc_collection_destroy(target);
    return code;
}

enum err_code mongodb_update(struct mongodb_session *session, const struct mongodb_change *change,
                             bool *ret_matched, struct err *err)
{
    bson_error_t error = {0};
    bson_t reply; /* made by the call, also when it fails */
    bson_t options = BSON_INITIALIZER;
    enum err_code code = ERR_OK;
    mongoc_collection_t *target = mongodb_collection(session, change->collection);
    if (change->upsert)
        bson_append_bool(&options, "upsert", -1, true);
    if (!mongoc_collection_update_one(target, change->filter, change->update, &options, &reply,
                                      &error))
        code = is_duplicate(&error) ? taken(err)
                                    : mongodb_failed(session, true, &error, "update", err);
    else
        *ret_matched = mongodb_read_number(&reply, "matchedCount") > 0;
    bson_destroy(&reply);
    bson_destroy(&options);
    mongoc_collection_destroy(target);
    return code;
}

enum err_code mongodb_delete(struct mongodb_session *session, enum mongodb_collection collection,
                             const bson_t *filter, int64_t *ret_removed, struct err *err)
{
    bson_error_t error = {0};
    bson_t reply;
    enum err_code code = ERR_OK;
    mongoc_collection_t *target = mongodb_collection(session, collection);
    if (!mongoc_collection_delete_many(target, filter, NULL, &reply, &error))
        code = mongodb_failed(session, true, &error, "delete", err);
    else
        *ret_removed = mongodb_read_number(&reply, "deletedCount");
    bson_destroy(&reply);
    mongoc_collection_destroy(target);
    return code;
}

/* ---- reading ---- */

static enum err_code read_all(struct mongodb_session *session, mongoc_cursor_t *cursor,
                              const struct mongodb_question *question, struct err *err)
{
    const bson_t *document = NULL;
    bson_error_t error = {0};
    enum err_code code = ERR_OK;
    while (code == ERR_OK && mongoc_cursor_next(cursor, &document))
        code = question->told(question->context, document, err);
    if (code == ERR_OK && mongoc_cursor_error(cursor, &error))
        code = mongodb_failed(session, false, &error, "find", err);
    mongoc_cursor_destroy(cursor);
    return code;
}

enum err_code mongodb_find(struct mongodb_session *session, const struct mongodb_question *question,
                           struct err *err)
{
    mongoc_collection_t *target = mongodb_collection(session, question->collection);
    enum err_code code = read_all(
        session,
        mongoc_collection_find_with_opts(target, question->filter, question->options, NULL),
        question, err);
    mongoc_collection_destroy(target);
    return code;
}

enum err_code mongodb_aggregate(struct mongodb_session *session,
                                const struct mongodb_question *question, struct err *err)
{
    mongoc_collection_t *target = mongodb_collection(session, question->collection);
    enum err_code code =
        read_all(session,
                 mongoc_collection_aggregate(target, MONGOC_QUERY_NONE, question->filter,
                                             question->options, NULL),
                 question, err);
    mongoc_collection_destroy(target);
    return code;
}

enum err_code mongodb_count(struct mongodb_session *session,
                            const struct mongodb_question *question, int64_t *ret_count,
                            struct err *err)
{
    bson_error_t error = {0};
    mongoc_collection_t *target = mongodb_collection(session, question->collection);
    int64_t count = mongoc_collection_count_documents(target, question->filter, question->options,
                                                      NULL, NULL, &error);
    mongoc_collection_destroy(target);
    if (count < 0)
        return mongodb_failed(session, false, &error, "count", err);
    *ret_count = count;
    return ERR_OK;
}

/* ---- many at once ---- */

void mongodb_bulk_init(struct mongodb_session *session, enum mongodb_collection collection,
                       struct mongodb_bulk *bulk)
{
    bson_t options = BSON_INITIALIZER;
    bson_append_bool(&options, "ordered", -1, false);
    bulk->collection = mongodb_collection(session, collection);
    bulk->operation = mongoc_collection_create_bulk_operation_with_opts(bulk->collection, &options);
    bulk->count = 0;
    bulk->matched = 0;
    bson_destroy(&options);
}

void mongodb_bulk_add(struct mongodb_bulk *bulk, const bson_t *filter, const bson_t *update,
                      bool upsert)
{
    bson_t options = BSON_INITIALIZER;
    bson_append_bool(&options, "upsert", -1, upsert);
    /* What it refuses, it refuses again when the operation runs. */
    mongoc_bulk_operation_update_one_with_opts(bulk->operation, filter, update, &options, NULL);
    bulk->count++;
    bson_destroy(&options);
}

enum err_code mongodb_bulk_run(struct mongodb_session *session, struct mongodb_bulk *bulk,
                               struct err *err)
{
    bson_error_t error = {0};
    bson_t reply;
    enum err_code code = ERR_OK;
    if (bulk->count > 0) {
        if (!mongoc_bulk_operation_execute(bulk->operation, &reply, &error))
            code = mongodb_failed(session, true, &error, "update", err);
        else
            bulk->matched = mongodb_read_number(&reply, "nMatched");
        bson_destroy(&reply);
    }
    mongoc_bulk_operation_destroy(bulk->operation);
    mongoc_collection_destroy(bulk->collection);
    return code;
}

/*
 * The process's pool, and a call's hold on one client of it. libmongoc itself waits for a server as
 * long as it is told to, whether one may come soon (an election) or nobody answers at all; so we
 * look first, and give up early when no server of the set can be reached.
 */

#define APPLICATION "coffer"
#define NOBODY_MS 1500  /* waited while no server of the set answers */
#define CONNECT_MS 1500 /* to connect, and for a heartbeat's answer */
#define ANSWER_MIN_MS 250
/* For the set to acknowledge a write: the answer that it has not must come in time. */
#define MAJORITY_SHARE(answer_ms) ((answer_ms)*3 / 4)
#define HEARTBEAT_MS 1000
#define LOOK_FIRST_MS 2
#define LOOK_MS 20

static void init_library(void)
{
    mongoc_init();
    mongoc_log_set_handler(NULL, NULL); /* failures come back to the caller */
}

/* Two answers fit into the deadline, and what it takes to see that nobody is there. */
static void set_deadline(struct metadata_mongodb *db, const struct config *config)
{
    db->timeout_ms = config->mongodb_timeout_ms;
    db->deadline_ms = config->mongodb_deadline_seconds * 1000;
    db->answer_ms = (db->deadline_ms - NOBODY_MS) / 2;
    if (db->answer_ms < ANSWER_MIN_MS)
        db->answer_ms = ANSWER_MIN_MS;
}

static void set_durability(const struct metadata_mongodb *db, mongoc_uri_t *uri,
                           const struct config *config)
{
    bool is_durable = config->durability == DURABILITY_FULL;
    mongoc_write_concern_t *concern = mongoc_write_concern_new();
    mongoc_read_concern_t *reading = mongoc_read_concern_new();
    if (is_durable) {
        mongoc_write_concern_set_wmajority(concern, (int32_t)MAJORITY_SHARE(db->answer_ms));
        mongoc_write_concern_set_journal(concern, true);
    } else {
        mongoc_write_concern_set_w(concern, 1);
    }
    mongoc_read_concern_set_level(reading, is_durable ? MONGOC_READ_CONCERN_LEVEL_MAJORITY
                                                      : MONGOC_READ_CONCERN_LEVEL_LOCAL);
    mongoc_uri_set_write_concern(uri, concern);
    mongoc_uri_set_read_concern(uri, reading);
    mongoc_write_concern_destroy(concern);
    mongoc_read_concern_destroy(reading);
}

static void set_options(const struct metadata_mongodb *db, mongoc_uri_t *uri,
                        const struct config *config)
{
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {MONGOC_URI_SERVERSELECTIONTIMEOUTMS, config->mongodb_timeout_ms},
        {MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS},
        {MONGOC_URI_SOCKETTIMEOUTMS, db->answer_ms},
        {MONGOC_URI_HEARTBEATFREQUENCYMS, HEARTBEAT_MS},
        {MONGOC_URI_WAITQUEUETIMEOUTMS, config->mongodb_timeout_ms},
        {MONGOC_URI_MAXPOOLSIZE, config->mongodb_pool_size},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        mongoc_uri_set_option_as_int32(uri, numbers[i].name, (int32_t)numbers[i].value);
    /* Our own second run does it, after a look at who is there: libmongoc would wait for a server as
     * long as it may, also where nobody answers. */
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYWRITES, false);
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYREADS, false);
    mongoc_uri_set_appname(uri, APPLICATION);
    mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    mongoc_uri_set_read_prefs_t(uri, primary);
    mongoc_read_prefs_destroy(primary);
    set_durability(db, uri, config);
}

enum err_code mongodb_pool_open(struct metadata_mongodb *db, const struct config *config,
                                struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    bson_error_t error;
    pthread_once(&once, init_library);
    if (!str_copy(db->database, sizeof db->database, str_of(config->mongodb_database)))
        return err_set_internal(err, ERR_CONFIG, 0, "open database", "MONGODB_DATABASE is wrong.");
    set_deadline(db, config);
    /* What libmongoc says of a URI may hold its password. */
    mongoc_uri_t *uri = mongoc_uri_new_with_error(config->mongodb_uri, &error);
    if (!uri)
        return err_set_internal(err, ERR_CONFIG, 0, "open database",
                                "MONGODB_URI is no URI of MongoDB.");
    set_options(db, uri, config);
    db->pool = mongoc_client_pool_new_with_error(uri, &error);
    mongoc_uri_destroy(uri);
    if (!db->pool)
        return err_set_internal(err, ERR_CONFIG, 0, "open database",
                                "MONGODB_URI asks for what libmongoc cannot do.");
    mongoc_client_pool_set_error_api(db->pool, MONGOC_ERROR_API_VERSION_2);
    return ERR_OK;
}

/* ---- a server that takes writes ---- */

enum reach { REACH_NOBODY, REACH_SOMEBODY, REACH_PRIMARY };

static enum reach reach_of(const char *type)
{
    static const char *const writable[] = {"Standalone", "RSPrimary", "Mongos", "LoadBalancer"};
    for (size_t i = 0; i < sizeof writable / sizeof writable[0]; i++)
        if (strcmp(type, writable[i]) == 0)
            return REACH_PRIMARY;
    return strcmp(type, "Unknown") == 0 ? REACH_NOBODY : REACH_SOMEBODY;
}

static enum reach look(const mongoc_client_t *client)
{
    size_t count = 0;
    enum reach reach = REACH_NOBODY;
    mongoc_server_description_t **servers = mongoc_client_get_server_descriptions(client, &count);
    for (size_t i = 0; i < count; i++) {
        enum reach each = reach_of(mongoc_server_description_type(servers[i]));
        reach = each > reach ? each : reach;
    }
    mongoc_server_descriptions_destroy_all(servers, count);
    return reach;
}

/* How long there has been no server, for all calls together: who comes late need not wait for what
 * others have waited for. */
static int64_t nobody_for_ms(struct metadata_mongodb *db, int64_t now_ms)
{
    long long since_ms = 0;
    if (atomic_compare_exchange_strong(&db->nobody_since_ms, &since_ms, now_ms))
        return 0;
    return now_ms - since_ms;
}

static int64_t steady_ms(const struct metadata_mongodb *db)
{
    return clock_steady_ns(db->clock) / 1000000 + 1; /* never 0 */
}

/* How long to look for a server: an answer must still fit in afterwards. */
static int64_t patience_ms(const struct mongodb_session *session, int64_t now_ms)
{
    int64_t left_ms = session->until_ms - session->db->answer_ms - now_ms;
    return left_ms < session->db->timeout_ms ? left_ms : session->db->timeout_ms;
}

static enum err_code wait_for_primary(const struct mongodb_session *session, struct err *err)
{
    struct metadata_mongodb *db = session->db;
    int64_t nobody_ms = db->timeout_ms < NOBODY_MS ? db->timeout_ms : NOBODY_MS;
    int64_t start_ms = steady_ms(db);
    int64_t most_ms = patience_ms(session, start_ms);
    for (int pause_ms = LOOK_FIRST_MS;; pause_ms = pause_ms < LOOK_MS ? 2 * pause_ms : LOOK_MS) {
        enum reach reach = look(session->client);
        int64_t now_ms = steady_ms(db);
        if (reach == REACH_NOBODY && nobody_for_ms(db, now_ms) >= nobody_ms)
            return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "find server",
                                    "No server of MONGODB_URI answers.");
        if (reach != REACH_NOBODY && atomic_load(&db->nobody_since_ms) != 0)
            atomic_store(&db->nobody_since_ms, 0);
        if (reach == REACH_PRIMARY)
            return ERR_OK;
        if (now_ms - start_ms >= most_ms)
            return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "find server",
                                    "MongoDB has no primary.");
        const struct timespec pause = {.tv_nsec = pause_ms * 1000000L};
        nanosleep(&pause, NULL);
    }
}

/* ---- a call ---- */

static enum err_code check_ready(struct mongodb_session *session, struct err *err)
{
    if (atomic_load_explicit(&session->db->ready, memory_order_acquire))
        return ERR_OK;
    enum err_code code = mongodb_check_schema(session, NULL, err);
    if (code == ERR_CONFIG) /* it was ours when the process started, or was away */
        code = err->code = ERR_METADATA_UNAVAILABLE;
    return code;
}

struct run {
    mongodb_operation *operation;
    void *args;
    bool any_schema;
};

static enum err_code run_once(struct mongodb_session *session, const struct run *run,
                              struct err *err)
{
    session->again = false;
    enum err_code code = wait_for_primary(session, err);
    if (code == ERR_OK && !run->any_schema)
        code = check_ready(session, err);
    return code == ERR_OK ? run->operation(session, run->args, err) : code;
}

/* libmongoc's pool makes a client when none is idle, and keeps it. */
static void count_borrowed(struct metadata_mongodb *db)
{
    unsigned busy = atomic_fetch_add(&db->busy, 1) + 1;
    unsigned clients = atomic_load(&db->clients);
    while (busy > clients && !atomic_compare_exchange_weak(&db->clients, &clients, busy))
        continue;
}

static void mongodb_pool_usage(void *state, struct pool_usage *ret_usage)
{
    struct metadata_mongodb *db = state;
    unsigned busy = atomic_load(&db->busy);
    unsigned clients = atomic_load(&db->clients);
    ret_usage->busy = busy;
    ret_usage->idle = clients > busy ? clients - busy : 0;
}

static enum err_code run_on_client(struct metadata_mongodb *db, const struct run *run,
                                   struct err *err)
{
    unsigned char random[(MONGODB_NONCE_SIZE - 1) / 2];
    struct mongodb_session session = {.db = db, .until_ms = steady_ms(db) + db->deadline_ms};
    session.client = mongoc_client_pool_pop(db->pool);
    if (!session.client)
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "wait for client",
                                "All connections to MongoDB were busy for too long.");
    count_borrowed(db);
    clock_random(db->clock, random, sizeof random);
    text_hex(random, sizeof random, session.by);
    enum err_code code = run_once(&session, run, err);
    if (code != ERR_OK && session.again && !session.told &&
        patience_ms(&session, steady_ms(db)) >= 0) {
        session.repeated = true;
        code = run_once(&session, run, err);
    }
    atomic_fetch_sub(&db->busy, 1);
    mongoc_client_pool_push(db->pool, session.client);
    if (code == ERR_METADATA_UNAVAILABLE)
        atomic_store_explicit(&db->ready, false, memory_order_release);
    /* Whatever the second run failed with. */
    if (code != ERR_OK && session.unknown)
        err->outcome_unknown = true;
    return code;
}

enum err_code mongodb_run(struct metadata_mongodb *db, mongodb_operation *run, void *args,
                          struct err *err)
{
    const struct run wanted = {run, args, false};
    return run_on_client(db, &wanted, err);
}

enum err_code mongodb_run_any(struct metadata_mongodb *db, mongodb_operation *run, void *args,
                              struct err *err)
{
    const struct run wanted = {run, args, true};
    return run_on_client(db, &wanted, err);
}

static void close_driver(void *state)
{
    struct metadata_mongodb *db = state;
    if (!db)
        return;
    if (db->pool)
        mongoc_client_pool_destroy(db->pool);
    free(db);
}

static enum err_code look_at_schema(struct mongodb_session *session, void *args, struct err *err)
{
    (void)args;
    return mongodb_check_schema(session, NULL, err);
}

static enum err_code open_driver(void **ret_state, const struct config *config,
                                 const struct clock *clock, struct err *err)
{
    struct metadata_mongodb *db = calloc(1, sizeof *db);
    if (!db)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "metadata_open", "Out of memory.");
    db->clock = clock;
    enum err_code code = mongodb_pool_open(db, config, err);
    /* A server that is away comes back; a database of another schema does not. */
    if (code == ERR_OK && mongodb_run_any(db, look_at_schema, NULL, err) == ERR_CONFIG)
        code = ERR_CONFIG;
    if (code != ERR_OK) {
        close_driver(db);
        return code;
    }
    *ret_state = db;
    return ERR_OK;
}

/* Called by who loads this object, which has a base/errors.h of its own (metadata.c). */
void metadata_mongodb_watch_errors(err_watcher *watcher);

void metadata_mongodb_watch_errors(err_watcher *watcher)
{
    err_watch(watcher);
}

const struct metadata_driver metadata_mongodb_driver = {
    .name = "mongodb",
    .metric_index = 1,
    .waits = true,
    .init = mongodb_init,
    .open = open_driver,
    .close = close_driver,
    .connections = mongodb_pool_usage,
    .files = &mongodb_files,
    .access = &mongodb_access,
    .requests = &mongodb_requests,
    .upkeep = &mongodb_upkeep,
};
