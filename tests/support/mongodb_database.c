#include "mongodb_database.h"

#include <stdatomic.h>
#include <unistd.h>

#include "check.h"
#include "metadata/metadata.h"
#include "store.h"

bool mongodb_database_config(struct config *ret_config)
{
    static atomic_int number;
    const char *uri = getenv("MONGODB_TEST_URI");
    if (!uri || !*uri)
        uri = getenv("FERRETDB_URI");
    if (!uri || !*uri) {
        static atomic_flag said = ATOMIC_FLAG_INIT;
        if (!atomic_flag_test_and_set(&said))
            fprintf(stderr,
                    "No server for tests of the mongodb driver: run them by `tests/servers/serve "
                    "ferretdb -- COMMAND`, or name one of yours in MONGODB_TEST_URI.\n");
        return false;
    }
    *ret_config = (struct config){.durability = DURABILITY_FULL,
                                  .mongodb_timeout_ms = 3000,
                                  .mongodb_deadline_seconds = 20,
                                  .mongodb_pool_size = 16};
    snprintf(ret_config->metadata_driver, sizeof ret_config->metadata_driver, "mongodb");
    snprintf(ret_config->mongodb_uri, sizeof ret_config->mongodb_uri, "%s", uri);
    snprintf(ret_config->mongodb_database, sizeof ret_config->mongodb_database, "coffer_test_%d_%d",
             (int)getpid(), atomic_fetch_add(&number, 1));
    return true;
}

bool mongodb_database_make(struct config *ret_config)
{
    struct err err;
    if (!mongodb_database_config(ret_config))
        return false;
    if (metadata_init(ret_config, &clock_system, &err) == ERR_OK)
        return true;
    fprintf(stderr, "mongodb_database_make: %s: %s\n", err.operation, err.message);
    return false;
}

struct mongodb_raw mongodb_raw_open(const struct config *config, const char *collection)
{
    struct mongodb_raw raw = {mongoc_client_new(config->mongodb_uri), NULL};
    if (!raw.client)
        abort();
    raw.collection = mongoc_client_get_collection(raw.client, config->mongodb_database, collection);
    return raw;
}

void mongodb_raw_close(struct mongodb_raw *raw)
{
    mongoc_collection_destroy(raw->collection);
    mongoc_client_destroy(raw->client);
}

char *mongodb_raw_document(const struct config *config, const char *collection, const char *id)
{
    const bson_t *document = NULL;
    char *json = NULL;
    bson_t filter = BSON_INITIALIZER;
    struct mongodb_raw raw = mongodb_raw_open(config, collection);
    bson_append_utf8(&filter, "_id", -1, id, -1);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(raw.collection, &filter, NULL, NULL);
    if (mongoc_cursor_next(cursor, &document))
        json = bson_as_relaxed_extended_json(document, NULL);
    mongoc_cursor_destroy(cursor);
    bson_destroy(&filter);
    mongodb_raw_close(&raw);
    return json;
}

void mongodb_raw_change(const struct config *config, const char *collection, const char *id,
                        const char *update)
{
    bson_error_t error = {0};
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    struct mongodb_raw raw = mongodb_raw_open(config, collection);
    bson_t *change = bson_new_from_json((const uint8_t *)update, -1, &error);
    bson_append_utf8(&filter, "_id", -1, id, -1);
    bson_append_bool(&options, "upsert", -1, true);
    bool changed = change && mongoc_collection_update_one(raw.collection, &filter, change, &options,
                                                          NULL, &error);
    CHECK_ROW(error.message, changed);
    bson_destroy(change);
    bson_destroy(&options);
    bson_destroy(&filter);
    mongodb_raw_close(&raw);
}

void mongodb_database_drop(const struct config *config)
{
    bson_error_t error;
    mongoc_client_t *client = mongoc_client_new(config->mongodb_uri);
    mongoc_database_t *database =
        client ? mongoc_client_get_database(client, config->mongodb_database) : NULL;
    if (!database || !mongoc_database_drop(database, &error))
        fprintf(stderr, "mongodb_database_drop: %s\n", database ? error.message : "no client");
    mongoc_database_destroy(database);
    mongoc_client_destroy(client);
}

bool mongodb_database_is_real(const struct config *config)
{
    bson_t command = BSON_INITIALIZER;
    bson_t reply;
    mongoc_client_t *client = mongoc_client_new(config->mongodb_uri);
    bson_append_int32(&command, "buildInfo", -1, 1);
    bool is_real = mongoc_client_command_simple(client, "admin", &command, NULL, &reply, NULL) &&
                   !bson_has_field(&reply, "ferretdb") &&
                   !bson_has_field(&reply, "ferretdbVersion");
    bson_destroy(&reply);
    bson_destroy(&command);
    mongoc_client_destroy(client);
    return is_real;
}
