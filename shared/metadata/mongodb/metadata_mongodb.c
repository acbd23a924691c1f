#include "metadata/mongodb/metadata_mongodb.h"

#include <stdlib.h>

#include "metadata/metadata_drivers.h"

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

/* Called by who loads this object, which has a base/errors.h of its own (metadata_plugin.c). */
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
