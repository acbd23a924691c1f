/* Which index each question walks: named in every command, and on a server of MongoDB itself also
 * seen in its plans. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "metadata/mongodb/metadata_mongodb.h"
#include "mongodb_database.h"
#include "mongodb_proxy.h"
#include "store.h"

#define NOW STORE_NOW_MS

static enum err_code insert(struct metadata *metadata, int number, int64_t expires_ms)
{
    struct err err;
    struct file file;
    store_file(&file, number, "alice");
    file.expires_ms = expires_ms;
    return metadata_file_insert(metadata, &file, NULL, &err);
}

static struct metadata *open_metadata(const struct config *config)
{
    struct err err;
    struct metadata *metadata = NULL;
    CHECK_ERR(metadata_open(&metadata, config, &clock_system, NULL, &err), ERR_OK, &err);
    return metadata;
}

static enum err_code ignore_row(void *context, const struct file *file, struct err *err)
{
    (void)file;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

struct hints {
    int seen;
    int finds_without;
    int unknown;
    int unbounded;
    char name[64];
};

/* Is anything asked of the field? Orders and projections are of type int32. */
static bool is_asked(const uint8_t *message, size_t len, const char *name)
{
    enum { TEXT = 0x02, DOCUMENT = 0x03, INT64 = 0x12 };
    size_t size = strlen(name) + 1;
    for (size_t at = 0; at + 1 + size <= len; at++)
        if ((message[at] == TEXT || message[at] == DOCUMENT || message[at] == INT64) &&
            memcmp(message + at + 1, name, size) == 0)
            return true;
    return false;
}

/* The first field of an index of files; NULL: there is none of the name. */
static const char *first_field(const char *name)
{
    const char *field = strcmp(name, "_id_") == 0 ? "_id" : NULL;
    for (size_t i = 0; i < mongodb_index_count; i++)
        if (mongodb_indexes[i].collection == COLLECTION_FILES &&
            strcmp(mongodb_indexes[i].name, name) == 0)
            field = mongodb_indexes[i].fields[0];
    return field;
}

static void note_hint(void *context, const uint8_t *message, size_t len)
{
    struct hints *hints = context;
    const char *target = mongodb_proxy_text(message, len, "find");
    const char *hint = mongodb_proxy_text(message, len, "hint");
    if (!target)
        target = mongodb_proxy_text(message, len, "aggregate");
    if (!target || strcmp(target, "files") != 0)
        return;
    if (!hint) {
        hints->finds_without++;
        return;
    }
    hints->seen++;
    const char *field = first_field(hint);
    bool is_bounded = field && is_asked(message, len, field);
    hints->unknown += !field;
    hints->unbounded += !is_bounded;
    if (!is_bounded)
        snprintf(hints->name, sizeof hints->name, "%s", hint);
}

/* Every kind of listing there is, first page and next. */
static void list_all_ways(struct metadata *metadata)
{
    for (int kind = 0; kind < 64; kind++) {
        struct file_query query = {.limit = 1, .sort = (enum file_sort)(kind & 3)};
        query.owner = str_of(kind & 4 ? "alice" : "");
        query.prefix = str_of(kind & 8 ? "file-" : "");
        query.mime = str_of(kind & 16 ? "text/plain" : "");
        if (kind & 32) {
            store_id(query.after.id, 1);
            query.after.number = 1;
            snprintf(query.after.name, sizeof query.after.name, "file-1");
        }
        struct err err;
        struct file_page page;
        int rows = 0;
        CHECK_ERR(store_list(metadata, &query, NOW, ignore_row, &rows, &page, &err), ERR_OK, &err);
    }
}

/* Without a bound on its first field MongoDB would read each row that an index leads to. */
TEST(metadata_mongodb_plans, every_listing_names_an_index_that_init_makes_and_bounds_it)
{
    struct config config;
    struct config through;
    struct err err;
    struct hints hints = {.seen = 0};
    REQUIRE(mongodb_database_make(&config));
    through = config;
    through.mongodb_pool_size = 1;
    struct mongodb_proxy *proxy =
        mongodb_proxy_open(config.mongodb_uri, through.mongodb_uri, sizeof through.mongodb_uri);
    REQUIRE(proxy);
    mongodb_proxy_tell(proxy, note_hint, &hints);
    struct metadata *metadata = open_metadata(&through);
    for (int i = 0; metadata && i < 3; i++)
        CHECK_INT(insert(metadata, i, 0), ERR_OK);
    if (metadata) {
        int rows = 0;
        int marked = 0;
        list_all_ways(metadata);
        /* Where nothing ever expires, what has expired is not counted: 16 have no filter. */
        CHECK_INT(hints.seen, 64 * 2 - 16);
        hints.seen = 0;
        CHECK_INT(insert(metadata, 3, NOW + 1000), ERR_OK);
        list_all_ways(metadata);
        CHECK_ERR(metadata_scan(metadata, ignore_row, &rows, &err), ERR_OK, &err);
        CHECK_ERR(metadata_list_deleted(metadata, 5, ignore_row, &rows, &err), ERR_OK, &err);
        CHECK_ERR(metadata_mark_expired(metadata, NOW, 5, &marked, &err), ERR_OK, &err);
    }
    metadata_close(metadata);
    mongodb_proxy_close(proxy);
    CHECK_INT(hints.seen, 64 * 2 + 3);
    CHECK_INT(hints.finds_without, 0);
    CHECK_INT_ROW(hints.name, hints.unknown, 0);
    CHECK_INT_ROW(hints.name, hints.unbounded, 0);
    mongodb_database_drop(&config);
}

/* ---- on a server of MongoDB itself ---- */

struct explaining {
    mongoc_client_t *client;
    int plans;
};

/* Explains a find as it went over the wire: it must walk an index, and sort nothing but what a
 * narrow filter found. */
static void explain(void *context, const uint8_t *message, size_t len)
{
    struct explaining *explaining = context;
    bson_t find;
    bson_t command = BSON_INITIALIZER;
    bson_t explained;
    bson_t reply;
    const char *target = mongodb_proxy_text(message, len, "find");
    if (!target || strcmp(target, "files") != 0 || !bson_init_static(&find, message + 21, len - 21))
        return;
    bson_append_document_begin(&command, "explain", -1, &explained);
    bson_copy_to_excluding_noinit(&find, &explained, "$db", "lsid", "$clusterTime",
                                  "$readPreference", "readConcern", NULL);
    bson_append_document_end(&command, &explained);
    mongodb_put_text(&command, "verbosity", "queryPlanner");
    bool done = mongoc_client_command_simple(
        explaining->client, mongodb_proxy_text(message, len, "$db"), &command, NULL, &reply, NULL);
    char *text = bson_as_relaxed_extended_json(&reply, NULL);
    CHECK_ROW(text, done && strstr(text, "IXSCAN") && !strstr(text, "COLLSCAN"));
    const char *from = mongodb_proxy_text(message, len, "$gte"); /* "": all names */
    bool is_filtered = mongodb_proxy_text(message, len, "mime") || (from && *from) ||
                       mongodb_proxy_text(message, len, "$lt");
    CHECK_ROW(text, is_filtered || !strstr(text, "\"SORT\""));
    explaining->plans++;
    bson_free(text);
    bson_destroy(&reply);
    bson_destroy(&command);
}

TEST(metadata_mongodb_plans, a_real_server_walks_the_indexes)
{
    struct config config;
    struct config through;
    REQUIRE(mongodb_database_make(&config));
    if (mongodb_database_is_real(&config)) {
        through = config;
        struct explaining explaining = {mongoc_client_new(config.mongodb_uri), 0};
        struct mongodb_proxy *proxy =
            mongodb_proxy_open(config.mongodb_uri, through.mongodb_uri, sizeof through.mongodb_uri);
        REQUIRE(proxy);
        mongodb_proxy_tell(proxy, explain, &explaining);
        struct metadata *metadata = open_metadata(&through);
        list_all_ways(metadata);
        metadata_close(metadata);
        mongodb_proxy_close(proxy);
        CHECK_INT(explaining.plans, 64);
        mongoc_client_destroy(explaining.client);
    }
    mongodb_database_drop(&config);
}
