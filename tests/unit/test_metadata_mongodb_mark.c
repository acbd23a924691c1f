/* Marking rows deleted while others change, mark and sweep them. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "metadata/mongodb/metadata_mongodb.h"
#include "mongodb_database.h"
#include "mongodb_proxy.h"
#include "store.h"

#define NOW STORE_NOW_MS
#define ROWS 3
#define OTHERS_MARK                                                                              \
    "{\"$set\": {\"untilMs\": 0, \"status\": 1, \"by\": \"another\"}, \"$inc\": {\"revision\": " \
    "1}}"
#define OTHERS_CHANGE "{\"$set\": {\"by\": \"another\"}, \"$inc\": {\"revision\": 1}}"

/* What others do to the rows, by their number from 0. */
struct others {
    const char *change; /* to the rows `changed`, just before the server marks any */
    const char *changed;
    const char *swept; /* removed after that, just before rows are read */
};

struct trial {
    struct config config;
    struct others others;
    bool has_marked;
};

static void sweep_row(const struct config *config, const char *id)
{
    bson_t filter = BSON_INITIALIZER;
    bson_error_t error = {0};
    struct mongodb_raw raw = mongodb_raw_open(config, "files");
    bson_append_utf8(&filter, "_id", -1, id, -1);
    CHECK_ROW(error.message,
              mongoc_collection_delete_one(raw.collection, &filter, NULL, NULL, &error));
    bson_destroy(&filter);
    mongodb_raw_close(&raw);
}

static void interfere(void *context, const uint8_t *message, size_t len)
{
    struct trial *trial = context;
    const char *updated = mongodb_proxy_text(message, len, "update");
    const char *found = mongodb_proxy_text(message, len, "find");
    bool marks = updated && strcmp(updated, "files") == 0;
    bool reads = found && strcmp(found, "files") == 0;
    for (int i = 0; i < ROWS; i++) {
        char id[ID_SIZE];
        store_id(id, i);
        if (marks && !trial->has_marked && strchr(trial->others.changed, '0' + i))
            mongodb_raw_change(&trial->config, "files", id, trial->others.change);
        if (reads && trial->has_marked && strchr(trial->others.swept, '0' + i))
            sweep_row(&trial->config, id);
    }
    trial->has_marked |= marks;
}

/* Marks the first two rows of ROWS while others are at it. */
static enum err_code run_trial(struct trial *trial, const int64_t *versions,
                               enum err_code *ret_results, struct err *err)
{
    struct config through = trial->config;
    struct metadata *metadata = NULL;
    char ids[2][ID_SIZE];
    const char *const pointers[] = {ids[0], ids[1]};
    enum err_code code = ERR_INTERNAL;
    struct mongodb_proxy *proxy = mongodb_proxy_open(trial->config.mongodb_uri, through.mongodb_uri,
                                                     sizeof through.mongodb_uri);
    if (!proxy)
        return ERR_INTERNAL;
    mongodb_proxy_tell(proxy, interfere, trial);
    CHECK_ERR(metadata_open(&metadata, &through, &clock_system, NULL, err), ERR_OK, err);
    for (int i = 0; metadata && i < ROWS; i++) {
        struct file file;
        store_file(&file, i, "");
        CHECK_ERR(metadata_file_insert(metadata, &file, NULL, err), ERR_OK, err);
    }
    store_id(ids[0], 0);
    store_id(ids[1], 1);
    if (metadata)
        code = store_mark_deleted(metadata, pointers, versions, 2, STR(""), NOW, ret_results, err);
    metadata_close(metadata);
    mongodb_proxy_close(proxy);
    return code;
}

static int64_t kept_total(const struct config *config)
{
    int64_t total = -1;
    char *json = mongodb_raw_document(config, "totals", "");
    bson_t *row = json ? bson_new_from_json((const uint8_t *)json, -1, NULL) : NULL;
    if (row)
        total = mongodb_read_number(row, "files");
    bson_destroy(row);
    bson_free(json);
    return total;
}

#define DOUBT ERR_METADATA_UNAVAILABLE

TEST(metadata_mongodb_mark, others_that_change_and_sweep_rows_meanwhile)
{
    static const struct {
        const char *label;
        struct others others;
        int64_t versions[2];
        enum err_code want;
        enum err_code results[2];
        int64_t total; /* kept, of three files; others' marks are not counted here */
    } rows[] = {
        {"nobody", {"", "", ""}, {0, 0}, ERR_OK, {ERR_OK, ERR_OK}, 1},
        {"both swept at once", {"", "", "01"}, {0, 0}, ERR_OK, {ERR_OK, ERR_OK}, 1},
        {"one changed, any version", {OTHERS_CHANGE, "1", ""}, {0, 0}, ERR_OK, {ERR_OK, ERR_OK}, 1},
        {"one changed", {OTHERS_CHANGE, "1", ""}, {1, 1}, ERR_OK, {ERR_OK, ERR_CONFLICT}, 2},
        {"one changed, ours swept",
         {OTHERS_CHANGE, "1", "0"},
         {1, 1},
         ERR_OK,
         {ERR_OK, ERR_CONFLICT},
         2},
        {"one marked", {OTHERS_MARK, "1", ""}, {0, 0}, ERR_OK, {ERR_OK, ERR_NOT_FOUND}, 2},
        {"one marked, ours swept",
         {OTHERS_MARK, "1", "0"},
         {0, 0},
         ERR_OK,
         {ERR_OK, ERR_NOT_FOUND},
         2},
        {"one marked and swept",
         {OTHERS_MARK, "1", "1"},
         {0, 0},
         ERR_OK,
         {ERR_OK, ERR_NOT_FOUND},
         2},
        {"both marked and swept",
         {OTHERS_MARK, "01", "01"},
         {0, 0},
         ERR_OK,
         {ERR_NOT_FOUND, ERR_NOT_FOUND},
         3},
        {"one marked, both swept", {OTHERS_MARK, "1", "01"}, {0, 0}, DOUBT, {ERR_OK, ERR_OK}, 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct trial trial = {.others = rows[i].others};
        enum err_code results[2] = {ERR_INTERNAL, ERR_INTERNAL};
        struct err err = {.operation = ""};
        REQUIRE(mongodb_database_make(&trial.config));
        enum err_code code = run_trial(&trial, rows[i].versions, results, &err);
        CHECK_ERR_ROW(rows[i].label, code, rows[i].want, &err);
        if (code == DOUBT)
            CHECK_ROW(rows[i].label, err.outcome_unknown);
        for (int each = 0; each < 2 && code == ERR_OK; each++)
            CHECK_INT_ROW(rows[i].label, results[each], rows[i].results[each]);
        CHECK_INT_ROW(rows[i].label, kept_total(&trial.config), rows[i].total);
        mongodb_database_drop(&trial.config);
    }
}
