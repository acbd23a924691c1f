#include "metadata/sqlite/metadata_sqlite.h"
#include "base/condition.h"

#include <stdlib.h>

#include "metadata/metadata_drivers.h"

/* Before SQLite's first use in the process: each connection is used by one thread at a time, and
 * its memory statistics would be a lock that all threads share. */
static void configure_sqlite(void)
{
    sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static void sqlite_close(void *state)
{
    struct metadata_sqlite *db = state;
    if (!db)
        return;
    sqlite_writer_close(db);
    sqlite_pool_close(db);
    pthread_mutex_destroy(&db->pool_mutex);
    pthread_cond_destroy(&db->pool_free);
    pthread_mutex_destroy(&db->queue_mutex);
    free(db);
}

static void init_locks(struct metadata_sqlite *db)
{
    pthread_mutex_init(&db->pool_mutex, NULL);
    condition_init(&db->pool_free);
    pthread_mutex_init(&db->queue_mutex, NULL);
}

static enum err_code sqlite_open(void **ret_state, const struct config *config,
                                 const struct clock *clock, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, configure_sqlite);
    struct metadata_sqlite *db = calloc(1, sizeof *db);
    if (!db)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "metadata_open", "Out of memory.");
    snprintf(db->path, sizeof db->path, "%s/" SQLITE_FILE, config->data_dir);
    db->clock = clock;
    db->is_durable = config->durability == DURABILITY_FULL;
    db->busy_timeout_ms = config->sqlite_busy_timeout_ms;
    db->min_free_bytes = config->min_free_bytes;
    db->readers_max = config->sqlite_readers > 0 ? config->sqlite_readers : 1;
    init_locks(db);
    /* A database that is away comes back; one of another schema does not. */
    enum err_code code = sqlite_connect(db, false, &db->pool, err);
    if (code == ERR_CONFIG) {
        sqlite_close(db);
        return code;
    }
    db->readers = db->pool ? 1 : 0;
    *ret_state = db;
    return ERR_OK;
}

const struct metadata_driver metadata_sqlite_driver = {
    .name = "sqlite",
    .metric_index = 0,
    .init = sqlite_init,
    .open = sqlite_open,
    .close = sqlite_close,
    .connections = sqlite_pool_usage,
    .files = &sqlite_files,
    .access = &sqlite_access,
    .requests = &sqlite_requests,
    .upkeep = &sqlite_upkeep,
};
