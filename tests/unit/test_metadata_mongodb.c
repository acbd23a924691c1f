/* What the contract suite doesn't see of the mongodb driver: schema, indexes, totals that a process
 * left wrong, values that look like operators. */
#include "metadata/mongodb/metadata_mongodb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "metadata/metadata_drivers.h"
#include "mongodb_database.h"
#include "store.h"

#define NOW STORE_NOW_MS

/* ---- steps ---- */

static struct metadata *open_metadata(const struct config *config)
{
    struct err err;
    struct metadata *metadata = NULL;
    CHECK_ERR(metadata_open(&metadata, config, &clock_system, NULL, &err), ERR_OK, &err);
    return metadata;
}

static enum err_code insert(struct metadata *metadata, int number, const char *owner)
{
    struct err err;
    struct file file;
    store_file(&file, number, owner);
    return metadata_file_insert(metadata, &file, NULL, &err);
}

static enum err_code ignore_row(void *context, const struct file *file, struct err *err)
{
    (void)file;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

static int64_t total_of(struct metadata *metadata, const struct file_query *query)
{
    struct err err;
    struct file_page page = {.total = -2};
    int rows = 0;
    CHECK_ERR(store_list(metadata, query, NOW, ignore_row, &rows, &page, &err), ERR_OK, &err);
    return page.total;
}

/* ---- init and open ---- */

TEST(metadata_mongodb, init_makes_the_database_once)
{
    struct config config;
    struct err err;
    REQUIRE(mongodb_database_config(&config));
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_OK, &err);
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_EXISTS, &err);
    mongodb_database_drop(&config);
}

struct init_race {
    const struct config *config;
    atomic_int made;
    atomic_int there;
};

static void race_to_init(void *context, int index)
{
    struct init_race *race = context;
    struct err err = {.message = ""};
    (void)index;
    enum err_code code = metadata_init(race->config, &clock_system, &err);
    CHECK_ROW(err.message, code == ERR_OK || code == ERR_EXISTS);
    atomic_fetch_add(code == ERR_OK ? &race->made : &race->there, 1);
}

TEST(metadata_mongodb, many_nodes_may_init_at_once)
{
    struct config config;
    struct err err;
    REQUIRE(mongodb_database_config(&config));
    struct init_race race = {.config = &config};
    store_threads(4, race_to_init, &race);
    CHECK_INT(race.made, 1);
    CHECK_INT(race.there, 3);
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_OK, &err);
    metadata_close(metadata);
    mongodb_database_drop(&config);
}

TEST(metadata_mongodb, an_index_that_is_missing_is_found_and_made_again)
{
    struct config config;
    struct err err;
    bson_error_t error;
    REQUIRE(mongodb_database_make(&config));
    struct metadata *metadata = open_metadata(&config);
    REQUIRE(metadata);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_OK, &err);
    struct mongodb_raw raw = mongodb_raw_open(&config, "files");
    CHECK(mongoc_collection_drop_index(raw.collection, "owner_name", &error));
    mongodb_raw_close(&raw);
    CHECK_ERR(metadata_check(metadata, true, &err), ERR_INTERNAL, &err);
    CHECK(strstr(err.message, "owner_name"));
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_EXISTS, &err);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_OK, &err);
    metadata_close(metadata);
    mongodb_database_drop(&config);
}

/* There is no way from an older schema but by what wrote it. */
TEST(metadata_mongodb, a_database_of_another_schema_is_refused)
{
    static const struct {
        const char *change; /* this one's schema is 2 */
        const char *advice;
    } schemas[] = {{"{\"$set\": {\"schema\": 0}}", "coffer migrate"},
                   {"{\"$set\": {\"schema\": 1}}", "coffer migrate"},
                   {"{\"$set\": {\"schema\": 3}}", "newer version"}};
    CHECK_INT(MONGODB_SCHEMA, 2);
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++) {
        struct config config;
        struct err err;
        struct metadata *metadata = NULL;
        REQUIRE(mongodb_database_make(&config));
        mongodb_raw_change(&config, "settings", "coffer", schemas[i].change);
        CHECK_ERR(metadata_open(&metadata, &config, &clock_system, NULL, &err), ERR_CONFIG, &err);
        CHECK_ROW(err.message, strstr(err.message, schemas[i].advice));
        CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_CONFIG, &err);
        CHECK_ROW(err.message, strstr(err.message, schemas[i].advice));
        mongodb_database_drop(&config);
    }
}

TEST(metadata_mongodb, a_database_of_another_program_is_left_alone)
{
    struct config config;
    struct err err;
    REQUIRE(mongodb_database_config(&config));
    mongodb_raw_change(&config, "files", "something", "{\"$set\": {\"number\": 1}}");
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_CONFIG, &err);
    mongodb_database_drop(&config);
}

/* Without init there are no unique indexes: nothing may be written. */
TEST(metadata_mongodb, an_empty_database_takes_no_calls_until_it_is_made)
{
    struct config config;
    struct err err;
    REQUIRE(mongodb_database_config(&config));
    struct metadata *metadata = open_metadata(&config);
    REQUIRE(metadata);
    CHECK_ERR(metadata_ping(metadata, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_INT(insert(metadata, 1, "alice"), ERR_METADATA_UNAVAILABLE);
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_OK, &err);
    CHECK_INT(insert(metadata, 1, "alice"), ERR_OK);
    mongodb_database_drop(&config); /* while the process runs */
    CHECK_ERR(metadata_ping(metadata, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_INT(insert(metadata, 2, "alice"), ERR_METADATA_UNAVAILABLE);
    metadata_close(metadata);
    mongodb_database_drop(&config);
}

TEST(metadata_mongodb, a_uri_is_understood_or_refused_without_its_password)
{
    static const char *const uris[] = {"mongodb://user:hush@", "mongodb://user:hush@a:99999/",
                                       "http://user:hush@localhost/",
                                       "mongodb://user:hush@localhost/?tls=true&tlsInsecure=maybe"};
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        struct err err = {.message = ""};
        struct metadata *metadata = NULL;
        struct config config = {.mongodb_timeout_ms = 100, .mongodb_pool_size = 1};
        snprintf(config.metadata_driver, sizeof config.metadata_driver, "mongodb");
        snprintf(config.mongodb_database, sizeof config.mongodb_database, "coffer");
        snprintf(config.mongodb_uri, sizeof config.mongodb_uri, "%s", uris[i]);
        enum err_code code = metadata_open(&metadata, &config, &clock_system, NULL, &err);
        CHECK_ROW(uris[i], code == ERR_CONFIG || i == 3); /* which libmongoc takes as no */
        CHECK_ROW(uris[i], !strstr(err.message, "hush"));
        if (code == ERR_OK)
            metadata_close(metadata);
    }
}

/* ---- values ---- */

TEST(metadata_mongodb, what_looks_like_an_operator_is_text)
{
    static const char *const texts[] = {"$where",  "{\"$ne\": null}", "$gt",  "a.b", "\xef\xbf\xbf",
                                        "[$ne]=1", "$owner",          "null", ".*"};
    struct config config;
    REQUIRE(mongodb_database_make(&config));
    struct metadata *metadata = open_metadata(&config);
    REQUIRE(metadata);
    int count = (int)(sizeof texts / sizeof texts[0]);
    for (int i = 0; i < count; i++) {
        struct err err;
        struct file file;
        store_file(&file, i, texts[i]);
        snprintf(file.name, sizeof file.name, "%s", texts[i]);
        snprintf(file.mime, sizeof file.mime, "%s", texts[i]);
        CHECK_ERR(metadata_file_insert(metadata, &file, NULL, &err), ERR_OK, &err);
    }
    for (int i = 0; i < count; i++) {
        struct str text = str_of(texts[i]);
        const struct file_query queries[] = {{.owner = text, .limit = 10},
                                             {.prefix = text, .limit = 10},
                                             {.mime = text, .limit = 10}};
        for (int j = 0; j < 3; j++)
            CHECK_INT_ROW(texts[i], total_of(metadata, &queries[j]), 1);
    }
    metadata_close(metadata);
    mongodb_database_drop(&config);
}

TEST(metadata_mongodb, what_is_no_utf_8_is_not_written)
{
    struct config config;
    struct err err;
    struct file file;
    REQUIRE(mongodb_database_make(&config));
    struct metadata *metadata = open_metadata(&config);
    REQUIRE(metadata);
    store_file(&file, 1, "alice");
    snprintf(file.name, sizeof file.name, "a\xff");
    CHECK_ERR(metadata_file_insert(metadata, &file, NULL, &err), ERR_INTERNAL, &err);
    CHECK_ERR(metadata_file_get(metadata, file.id, NOW, &file, &err), ERR_NOT_FOUND, &err);
    CHECK_INT(insert(metadata, 2, "alice"), ERR_OK);
    store_file(&file, 2, "alice");
    file.version = 2;
    snprintf(file.metadata, sizeof file.metadata, "{\"\xc3\":1}");
    CHECK_ERR(metadata_file_update(metadata, &file, 1, NULL, &err), ERR_INTERNAL, &err);
    const struct file_query query = {.prefix = STR("\xc3"), .limit = 1};
    struct file_page page;
    int rows = 0;
    CHECK_ERR(store_list(metadata, &query, NOW, ignore_row, &rows, &page, &err), ERR_INTERNAL,
              &err);
    metadata_close(metadata);
    mongodb_database_drop(&config);
}

/* ---- totals ---- */

TEST(metadata_mongodb, totals_that_were_left_wrong_are_put_right)
{
    const struct file_query alice = {.owner = STR("alice"), .limit = 1};
    const struct file_query all = {.limit = 1};
    struct config config;
    struct err err;
    int purged = 0;
    REQUIRE(mongodb_database_make(&config));
    struct metadata *metadata = open_metadata(&config);
    REQUIRE(metadata);
    for (int i = 0; i < 4; i++)
        CHECK_INT(insert(metadata, i, i < 3 ? "alice" : "bob"), ERR_OK);
    mongodb_raw_change(&config, "totals", "alice", "{\"$inc\": {\"files\": 5}}");
    mongodb_raw_change(&config, "totals", "bob", "{\"$inc\": {\"bytes\": -7}}");
    mongodb_raw_change(&config, "totals", "nobody", "{\"$inc\": {\"files\": 2}}");
    CHECK_INT(total_of(metadata, &alice), 8);
    CHECK_INT(total_of(metadata, &all), 11);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_OK, &err);
    CHECK_INT(total_of(metadata, &alice), 3);
    CHECK_INT(total_of(metadata, &all), 4);
    mongodb_raw_change(&config, "totals", "alice", "{\"$inc\": {\"files\": -1}}");
    CHECK_ERR(metadata_purge_requests(metadata, NOW, &purged, &err), ERR_OK, &err);
    CHECK_INT(total_of(metadata, &alice), 3);
    metadata_close(metadata);
    mongodb_database_drop(&config);
}

struct busy {
    struct metadata *metadata;
    atomic_int running;
    atomic_int failed;
    struct err failure; /* the first */
};

static void note_failure(struct busy *busy, const struct err *err)
{
    if (atomic_fetch_add(&busy->failed, 1) == 0)
        busy->failure = *err;
}

static void change_or_check(void *context, int index)
{
    struct busy *busy = context;
    struct err err;
    if (index == 0) {
        while (atomic_load(&busy->running) > 0)
            if (metadata_check(busy->metadata, false, &err) != ERR_OK)
                note_failure(busy, &err);
        return;
    }
    for (int i = 0; i < 40; i++) {
        enum err_code result = ERR_INTERNAL;
        char id[ID_SIZE];
        const char *const ids[1] = {id};
        store_id(id, index * 100 + i);
        struct file file;
        store_file(&file, index * 100 + i, "alice");
        enum err_code code = metadata_file_insert(busy->metadata, &file, NULL, &err);
        if (code == ERR_OK && i % 2) {
            code =
                store_mark_deleted(busy->metadata, ids, NULL, 1, STR("alice"), NOW, &result, &err);
            if (code == ERR_OK && result != ERR_OK)
                code = err_set(&err, result, "test", "The row is not there.");
        }
        if (code != ERR_OK)
            note_failure(busy, &err);
    }
    atomic_fetch_sub(&busy->running, 1);
}

/* What is in flight is no error: totals are right in the end though they were checked meanwhile. */
TEST(metadata_mongodb, a_check_leaves_totals_that_move_alone)
{
    const struct file_query alice = {.owner = STR("alice"), .limit = 1};
    struct config config;
    struct err err;
    REQUIRE(mongodb_database_make(&config));
    struct busy busy = {.metadata = open_metadata(&config), .running = 4};
    REQUIRE(busy.metadata);
    store_threads(5, change_or_check, &busy);
    CHECK_INT_ROW(busy.failure.message, busy.failed, 0);
    CHECK_ERR(metadata_check(busy.metadata, false, &err), ERR_OK, &err);
    CHECK_INT(total_of(busy.metadata, &alice), 80);
    metadata_close(busy.metadata);
    mongodb_database_drop(&config);
}

/* Rows in bulk, past the driver. */
static void fill(const struct config *config, int count)
{
    bson_error_t error = {0};
    struct err err;
    bson_t options = BSON_INITIALIZER;
    struct mongodb_raw raw = mongodb_raw_open(config, "files");
    mongoc_bulk_operation_t *bulk =
        mongoc_collection_create_bulk_operation_with_opts(raw.collection, &options);
    for (int i = 0; i < count; i++) {
        bson_t document = BSON_INITIALIZER;
        struct file file;
        store_file(&file, i, "alice");
        CHECK_ERR(mongodb_put_file(&document, &file, &err), ERR_OK, &err);
        mongoc_bulk_operation_insert(bulk, &document);
        bson_destroy(&document);
    }
    CHECK_ROW(error.message, mongoc_bulk_operation_execute(bulk, NULL, &error));
    mongoc_bulk_operation_destroy(bulk);
    bson_destroy(&options);
    mongodb_raw_close(&raw);
}

TEST(metadata_mongodb, a_filtered_total_above_the_limit_is_not_counted)
{
    const struct file_query query = {.mime = STR("text/plain"), .limit = 2};
    struct config config;
    REQUIRE(mongodb_database_make(&config));
    struct metadata *metadata = open_metadata(&config);
    REQUIRE(metadata);
    fill(&config, LIMIT_COUNT + 1);
    CHECK_INT(total_of(metadata, &query), -1);
    metadata_close(metadata);
    mongodb_database_drop(&config);
}
