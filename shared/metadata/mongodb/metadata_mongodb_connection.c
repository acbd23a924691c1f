/*
 * The process's pool, and a call's hold on one client of it. libmongoc itself waits for a server as
 * long as it is told to, whether one may come soon (an election) or nobody answers at all; so we
 * look first, and give up early when no server of the set can be reached.
 */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "metadata/mongodb/metadata_mongodb.h"

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

void mongodb_pool_usage(void *state, struct pool_usage *ret_usage)
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
