#include "base/condition.h"
#include "metadata/sqlite/metadata_sqlite.h"

/* With the mutex held: waits until a reader is idle or another may be opened. */
static enum err_code wait_for_turn(struct metadata_sqlite *db, struct err *err)
{
    const struct timespec until = condition_deadline(db->busy_timeout_ms);
    bool in_time = true;
    while (!db->pool && db->readers >= db->readers_max && in_time)
        in_time = condition_wait(&db->pool_free, &db->pool_mutex, &until);
    if (db->pool || db->readers < db->readers_max)
        return ERR_OK;
    return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "wait for reader",
                            "All connections to the database were busy for too long.");
}

static void give_back(struct metadata_sqlite *db, struct sqlite_connection *connection)
{
    struct sqlite_connection *broken = NULL;
    if (connection && connection->broken) {
        broken = connection;
        connection = NULL;
    }
    pthread_mutex_lock(&db->pool_mutex);
    if (connection) {
        connection->next = db->pool;
        db->pool = connection;
    } else {
        db->readers--;
    }
    pthread_cond_signal(&db->pool_free);
    pthread_mutex_unlock(&db->pool_mutex);
    sqlite_disconnect(broken);
}

static enum err_code borrow(struct metadata_sqlite *db, struct sqlite_connection **ret_connection,
                            struct err *err)
{
    struct sqlite_connection *connection = NULL;
    pthread_mutex_lock(&db->pool_mutex);
    enum err_code code = wait_for_turn(db, err);
    if (code == ERR_OK && db->pool) {
        connection = db->pool;
        db->pool = connection->next;
    } else if (code == ERR_OK) {
        db->readers++;
    }
    pthread_mutex_unlock(&db->pool_mutex);
    if (code != ERR_OK)
        return code;
    if (connection && !sqlite_is_current(db, connection)) {
        sqlite_disconnect(connection);
        connection = NULL;
    }
    if (!connection)
        code = sqlite_connect(db, false, &connection, err);
    if (code == ERR_CONFIG) /* it was of our schema when the process started */
        code = err->code = ERR_METADATA_UNAVAILABLE;
    if (code != ERR_OK) {
        give_back(db, NULL);
        return code;
    }
    *ret_connection = connection;
    return ERR_OK;
}

enum err_code sqlite_read(struct metadata_sqlite *db, sqlite_operation *run, void *args,
                          struct err *err)
{
    struct sqlite_connection *connection = NULL;
    enum err_code code = borrow(db, &connection, err);
    if (code != ERR_OK)
        return code;
    code = run(connection, args, err);
    give_back(db, connection);
    return code;
}

void sqlite_pool_usage(void *state, struct pool_usage *ret_usage)
{
    struct metadata_sqlite *db = state;
    ret_usage->idle = 0;
    pthread_mutex_lock(&db->pool_mutex);
    for (const struct sqlite_connection *one = db->pool; one; one = one->next)
        ret_usage->idle++;
    ret_usage->busy = (unsigned)db->readers - ret_usage->idle;
    pthread_mutex_unlock(&db->pool_mutex);
}

void sqlite_pool_close(struct metadata_sqlite *db)
{
    while (db->pool) {
        struct sqlite_connection *connection = db->pool;
        db->pool = connection->next;
        sqlite_disconnect(connection);
    }
}
