/* Rows as the server keeps them: what is written, what is not, and what is made of them again. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "metadata/mongodb/metadata_mongodb.h"
#include "mongodb_database.h"
#include "mongodb_proxy.h"
#include "store.h"

#define NOW STORE_NOW_MS

/* ---- steps ---- */

struct world {
    struct config config;
    struct metadata *metadata;
};

static bool open_world(struct world *world)
{
    struct err err;
    world->metadata = NULL;
    if (!mongodb_database_make(&world->config))
        return false;
    CHECK_ERR(metadata_open(&world->metadata, &world->config, &clock_system, NULL, &err), ERR_OK,
              &err);
    return world->metadata != NULL;
}

/* Checks what there is, and drops it. */
static void close_world(struct world *world)
{
    struct err err;
    CHECK_ERR(metadata_check(world->metadata, false, &err), ERR_OK, &err);
    metadata_close(world->metadata);
    mongodb_database_drop(&world->config);
}

static void ordinary(struct file *ret_file, int number)
{
    store_file(ret_file, number, "");
    snprintf(ret_file->tag, sizeof ret_file->tag, "\"tag %d\"", number);
}

static void insert(const struct world *world, const struct file *file)
{
    struct err err;
    CHECK_ERR(metadata_file_insert(world->metadata, file, NULL, &err), ERR_OK, &err);
}

static enum err_code get(const struct world *world, const char *id, struct file *ret_file)
{
    struct err err;
    return metadata_file_get(world->metadata, id, NOW, ret_file, &err);
}

/* Raises the version, as a caller does. */
static void update(const struct world *world, struct file *file)
{
    struct err err;
    file->version++;
    file->updated_ms = NOW;
    CHECK_ERR(metadata_file_update(world->metadata, file, file->version - 1, NULL, &err), ERR_OK,
              &err);
}

static enum err_code mark(const struct world *world, const char *id, int64_t version)
{
    struct err err;
    enum err_code result = ERR_INTERNAL;
    CHECK_ERR(store_mark_deleted(world->metadata, &id, &version, 1, STR(""), NOW, &result, &err),
              ERR_OK, &err);
    return result;
}

/* The row has these members, each followed by a space, in whatever order: servers choose it. */
static void check_members(const struct world *world, const struct file *file, const char *want)
{
    char *json = mongodb_raw_document(&world->config, "files", file->id);
    bson_t *row = json ? bson_new_from_json((const uint8_t *)json, -1, NULL) : NULL;
    bson_iter_t at;
    int64_t len = 0;
    CHECK(row);
    if (row && bson_iter_init(&at, row))
        while (bson_iter_next(&at)) {
            char name[32];
            len += snprintf(name, sizeof name, " %s ", bson_iter_key(&at)) - 1;
            CHECK_ROW(json, strstr(want, name));
        }
    CHECK_INT_ROW(json, len, (int64_t)strlen(want) - 1);
    bson_destroy(row);
    bson_free(json);
}

static void check_same(const struct file *got, const struct file *want)
{
    CHECK_TEXT(got->id, want->id);
    CHECK_TEXT(got->owner, want->owner);
    CHECK_TEXT(got->name, want->name);
    CHECK_TEXT(got->mime, want->mime);
    CHECK_TEXT(got->charset, want->charset);
    CHECK_TEXT(got->sha256, want->sha256);
    CHECK_TEXT(got->bucket, want->bucket);
    CHECK_TEXT(got->key, want->key);
    CHECK_TEXT(got->tag, want->tag);
    CHECK_TEXT(got->metadata, want->metadata);
    CHECK_INT(got->size, want->size);
    CHECK_INT(got->created_ms, want->created_ms);
    CHECK_INT(got->updated_ms, want->updated_ms);
    CHECK_INT(got->expires_ms, want->expires_ms);
    CHECK_INT(got->version, want->version);
    CHECK_INT(got->visibility, want->visibility);
    CHECK_INT(got->status, want->status);
}

/* A member of a row as JSON writes it, `"name" : value`. */
static void check_has(const struct world *world, const char *id, const char *member)
{
    char *json = mongodb_raw_document(&world->config, "files", id);
    CHECK_ROW(json ? json : "no row", json && strstr(json, member));
    bson_free(json);
}

static enum err_code count_row(void *context, const struct file *file, struct err *err)
{
    (void)file;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

static int deleted(const struct world *world)
{
    struct err err;
    int rows = 0;
    CHECK_ERR(metadata_list_deleted(world->metadata, 100, count_row, &rows, &err), ERR_OK, &err);
    return rows;
}

static int64_t total(const struct world *world, int *ret_rows)
{
    struct err err;
    struct file_page page = {.total = -2};
    const struct file_query query = {.limit = 100};
    *ret_rows = 0;
    CHECK_ERR(store_list(world->metadata, &query, NOW, count_row, ret_rows, &page, &err), ERR_OK,
              &err);
    return page.total;
}

/* ---- what is written ---- */

#define ORDINARY " _id name mime key size createdMs untilMs detail "

TEST(metadata_mongodb_rows, an_ordinary_file_has_eight_members)
{
    struct world world;
    struct file file;
    struct file back;
    REQUIRE(open_world(&world));
    ordinary(&file, 1);
    insert(&world, &file);
    check_members(&world, &file, ORDINARY);
    check_has(&world, file.id,
              "\"detail\" : \"0000000000000000000000000000000000000000000000000000000000000001 "
              "uploads \\\"tag 1\\\"\"");
    CHECK_INT(get(&world, file.id, &back), ERR_OK);
    check_same(&back, &file);
    close_world(&world);
}

TEST(metadata_mongodb_rows, what_sets_a_file_apart_is_written_and_goes_again)
{
    struct world world;
    struct file file;
    struct file back;
    REQUIRE(open_world(&world));
    ordinary(&file, 1);
    snprintf(file.owner, sizeof file.owner, "alice");
    insert(&world, &file);
    check_members(&world, &file, " _id owner name mime key size createdMs untilMs detail ");
    snprintf(file.metadata, sizeof file.metadata, "{\"a\":\"b\"}");
    file.visibility = VISIBILITY_PUBLIC;
    file.status = FILE_DAMAGED;
    update(&world, &file);
    check_members(&world, &file,
                  " _id owner name mime key size createdMs untilMs detail metadata visibility "
                  "status revision updatedMs by ");
    CHECK_INT(get(&world, file.id, &back), ERR_OK);
    check_same(&back, &file);
    snprintf(file.metadata, sizeof file.metadata, "{}");
    file.visibility = VISIBILITY_PRIVATE;
    file.status = FILE_READY;
    update(&world, &file);
    check_members(&world, &file,
                  " _id owner name mime key size createdMs untilMs detail revision updatedMs by ");
    CHECK_INT(get(&world, file.id, &back), ERR_OK);
    CHECK_INT(back.version, 3);
    CHECK_TEXT(back.metadata, "{}");
    close_world(&world);
}

TEST(metadata_mongodb_rows, a_row_without_a_revision_has_version_1)
{
    struct world world;
    struct err err;
    struct file file;
    struct file back;
    REQUIRE(open_world(&world));
    for (int i = 1; i <= 3; i++) {
        ordinary(&file, i);
        insert(&world, &file);
    }
    /* Whatever changes it first, it has version 2 then. */
    ordinary(&file, 1);
    CHECK_INT(mark(&world, file.id, 2), ERR_CONFLICT);
    file.version = 3;
    CHECK_ERR(metadata_file_update(world.metadata, &file, 2, NULL, &err), ERR_CONFLICT, &err);
    file.version = 1;
    update(&world, &file);
    CHECK_INT(mark(&world, file.id, 1), ERR_CONFLICT);
    CHECK_INT(mark(&world, file.id, 2), ERR_OK);
    check_has(&world, file.id, "\"revision\" : 2");
    store_id(file.id, 2);
    CHECK_ERR(metadata_set_status(world.metadata, file.id, FILE_DAMAGED, &err), ERR_OK, &err);
    CHECK_INT(get(&world, file.id, &back), ERR_OK);
    CHECK_INT(back.version, 2);
    CHECK_INT(back.status, FILE_DAMAGED);
    CHECK_ERR(metadata_set_status(world.metadata, file.id, FILE_READY, &err), ERR_OK, &err);
    check_members(&world, &file, ORDINARY "revision ");
    store_id(file.id, 3);
    CHECK_INT(mark(&world, file.id, 1), ERR_OK);
    check_has(&world, file.id, "\"revision\" : 1");
    close_world(&world);
}

/* ---- until when a row is seen ---- */

TEST(metadata_mongodb_rows, a_deleted_row_is_neither_seen_nor_expired)
{
    static const int64_t expiries[] = {0, NOW + 5, NOW};
    struct world world;
    struct err err;
    struct file file;
    int rows = 0;
    int marked = 0;
    REQUIRE(open_world(&world));
    for (int i = 0; i < 3; i++) {
        ordinary(&file, i);
        file.expires_ms = expiries[i];
        insert(&world, &file);
    }
    CHECK_INT(total(&world, &rows), 2); /* the third has expired, and is not marked yet */
    CHECK_INT(rows, 2);
    CHECK_INT(deleted(&world), 0);
    store_id(file.id, 2);
    CHECK_ERR(metadata_file_remove(world.metadata, file.id, &err), ERR_NOT_FOUND, &err);
    for (int i = 0; i < 2; i++) {
        store_id(file.id, i);
        CHECK_INT(mark(&world, file.id, 0), ERR_OK);
        check_has(&world, file.id, "\"untilMs\" : 0,");
        check_has(&world, file.id, "\"status\" : 1");
    }
    CHECK_INT(deleted(&world), 2);
    CHECK_INT(total(&world, &rows), 0);
    CHECK_INT(rows, 0);
    CHECK_ERR(metadata_mark_expired(world.metadata, NOW + 10, 100, &marked, &err), ERR_OK, &err);
    CHECK_INT(marked, 1);
    check_has(&world, "0199c0de-0000-7c3e-9a55-000000000002", "\"untilMs\" : 0,");
    CHECK_ERR(metadata_mark_expired(world.metadata, NOW + 10, 100, &marked, &err), ERR_OK, &err);
    CHECK_INT(marked, 0);
    CHECK_INT(deleted(&world), 3);
    CHECK_INT(total(&world, &rows), 0);
    CHECK_ERR(metadata_check(world.metadata, false, &err), ERR_OK, &err); /* counts the rows */
    CHECK_INT(total(&world, &rows), 0);
    close_world(&world);
}

TEST(metadata_mongodb_rows, a_damaged_row_is_seen_and_not_swept)
{
    struct world world;
    struct err err;
    struct file file;
    int rows = 0;
    int scanned = 0;
    REQUIRE(open_world(&world));
    ordinary(&file, 1);
    insert(&world, &file);
    CHECK_ERR(metadata_set_status(world.metadata, file.id, FILE_DAMAGED, &err), ERR_OK, &err);
    CHECK_INT(deleted(&world), 0);
    CHECK_INT(total(&world, &rows), 1);
    CHECK_INT(rows, 1);
    CHECK_INT(mark(&world, file.id, 2), ERR_OK);
    CHECK_ERR(metadata_set_status(world.metadata, file.id, FILE_READY, &err), ERR_NOT_FOUND, &err);
    CHECK_INT(deleted(&world), 1);
    CHECK_ERR(metadata_scan(world.metadata, count_row, &scanned, &err), ERR_OK, &err);
    CHECK_INT(scanned, 1);
    close_world(&world);
}

/* ---- what is read ---- */

static enum err_code keep_row(void *context, const struct file *file, struct err *err)
{
    (void)err;
    *(struct file *)context = *file;
    return ERR_OK;
}

TEST(metadata_mongodb_rows, a_fence_has_no_hash_and_no_bucket)
{
    struct world world;
    struct err err;
    struct file back;
    struct file fence = {.created_ms = NOW, .updated_ms = NOW, .version = 1};
    REQUIRE(open_world(&world));
    fence.status = FILE_DELETED;
    store_id(fence.id, 1);
    snprintf(fence.key, sizeof fence.key, "ab/cd");
    snprintf(fence.metadata, sizeof fence.metadata, "{}");
    insert(&world, &fence);
    check_members(&world, &fence,
                  " _id name mime key size createdMs updatedMs status untilMs detail ");
    CHECK_ERR(metadata_list_deleted(world.metadata, 1, keep_row, &back, &err), ERR_OK, &err);
    check_same(&back, &fence);
    close_world(&world);
}

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LETTERS_20 "aaaaaaaaaaaaaaaaaaaa"

TEST(metadata_mongodb_rows, a_detail_is_three_parts_or_malformed)
{
    static const struct {
        const char *detail; /* NULL: there is none */
        const char *tag;    /* NULL: malformed */
    } rows[] = {
        {HASH " uploads ", ""},
        {HASH " uploads tag", "tag"},
        {HASH " uploads  a tag ", " a tag "},
        {"  ", ""},
        {NULL, NULL},
        {"", NULL},
        {" ", NULL},
        {HASH, NULL},
        {HASH " uploads", NULL},
        {HASH "0 uploads tag", NULL},
        {"0123 uploads tag", NULL},
        {HASH " " LETTERS_20 LETTERS_20 LETTERS_20 "aaa tag", "tag"},
        {HASH " " LETTERS_20 LETTERS_20 LETTERS_20 "aaaa tag", NULL},
        {HASH " uploads " LETTERS_20 LETTERS_20 LETTERS_20 LETTERS_20, NULL},
    };
    struct world world;
    struct file file;
    REQUIRE(open_world(&world));
    ordinary(&file, 1);
    insert(&world, &file);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {.message = ""};
        struct file back;
        char change[512] = "{\"$unset\": {\"detail\": \"\"}}";
        const char *label = rows[i].detail ? rows[i].detail : "none";
        if (rows[i].detail)
            snprintf(change, sizeof change, "{\"$set\": {\"detail\": \"%s\"}}", rows[i].detail);
        mongodb_raw_change(&world.config, "files", file.id, change);
        enum err_code code = metadata_file_get(world.metadata, file.id, NOW, &back, &err);
        CHECK_ERR_ROW(label, code, rows[i].tag ? ERR_OK : ERR_INTERNAL, &err);
        if (rows[i].tag)
            CHECK_STR_ROW(label, str_of(back.tag), rows[i].tag);
        else
            CHECK_STR_ROW(label, str_of(err.message), "A row's detail is malformed.");
    }
    close_world(&world);
}

/* What would not be read again as it is. */
TEST(metadata_mongodb_rows, a_hash_or_bucket_that_cannot_be_is_not_written)
{
    static const struct {
        const char *sha256;
        const char *bucket;
    } rows[] = {{"0123", "uploads"}, {HASH, "up loads"}, {" ", "uploads"}, {HASH, "up\xff"}};
    struct world world;
    REQUIRE(open_world(&world));
    for (int i = 0; i < (int)(sizeof rows / sizeof rows[0]); i++) {
        struct err err;
        struct file file;
        ordinary(&file, i);
        snprintf(file.sha256, sizeof file.sha256, "%s", rows[i].sha256);
        snprintf(file.bucket, sizeof file.bucket, "%s", rows[i].bucket);
        CHECK_ERR_ROW(rows[i].bucket, metadata_file_insert(world.metadata, &file, NULL, &err),
                      ERR_INTERNAL, &err);
    }
    close_world(&world);
}

/* ---- whose row is it? ---- */

enum before { NOTHING, SAME_ROW, SAME_ROW_CHANGED, SAME_ROW_DELETED, OTHER_KEY, OTHER_CONTENT };

static void prepare(const struct world *world, const struct file *file, enum before before)
{
    struct file other = *file;
    if (before == NOTHING)
        return;
    if (before == OTHER_KEY)
        snprintf(other.key, sizeof other.key, "another/%s", file->id);
    if (before == OTHER_CONTENT)
        memset(other.sha256, 'f', sizeof other.sha256 - 1);
    insert(world, &other);
    if (before == SAME_ROW_CHANGED)
        update(world, &other);
    if (before == SAME_ROW_DELETED)
        CHECK_INT(mark(world, file->id, 0), ERR_OK);
}

/* With a reply or request lost a row may be what the first run made; without, it is a stranger's. */
TEST(metadata_mongodb_rows, an_insert_knows_its_own_row_after_a_lost_reply_and_no_other)
{
    static const struct {
        const char *label;
        enum before before;
        enum mongodb_cut cut;
        int times;
        enum err_code want;
    } rows[] = {
        {"reply lost", NOTHING, CUT_REPLY, 1, ERR_OK},
        {"request lost", NOTHING, CUT_REQUEST, 1, ERR_OK},
        {"same row, nothing lost", SAME_ROW, CUT_REPLY, 0, ERR_EXISTS},
        {"other key, nothing lost", OTHER_KEY, CUT_REPLY, 0, ERR_EXISTS},
        {"other key, reply lost", OTHER_KEY, CUT_REPLY, 1, ERR_EXISTS},
        {"other key, request lost", OTHER_KEY, CUT_REQUEST, 1, ERR_EXISTS},
        {"other content, reply lost", OTHER_CONTENT, CUT_REPLY, 1, ERR_EXISTS},
        {"changed since, reply lost", SAME_ROW_CHANGED, CUT_REPLY, 1, ERR_METADATA_UNAVAILABLE},
        {"deleted since, reply lost", SAME_ROW_DELETED, CUT_REPLY, 1, ERR_METADATA_UNAVAILABLE},
        {"deleted since, nothing lost", SAME_ROW_DELETED, CUT_REPLY, 0, ERR_EXISTS},
    };
    struct world world;
    struct config through;
    struct metadata *proxied = NULL;
    struct err err;
    REQUIRE(open_world(&world));
    through = world.config;
    struct mongodb_proxy *proxy = mongodb_proxy_open(world.config.mongodb_uri, through.mongodb_uri,
                                                     sizeof through.mongodb_uri);
    REQUIRE(proxy);
    CHECK_ERR(metadata_open(&proxied, &through, &clock_system, NULL, &err), ERR_OK, &err);
    for (int i = 0; proxied && i < (int)(sizeof rows / sizeof rows[0]); i++) {
        struct file file;
        ordinary(&file, i);
        prepare(&world, &file, rows[i].before);
        CHECK_ERR(metadata_ping(proxied, &err), ERR_OK, &err);
        mongodb_proxy_cut(proxy, rows[i].cut, 1, rows[i].times);
        enum err_code code = metadata_file_insert(proxied, &file, NULL, &err);
        CHECK_ERR_ROW(rows[i].label, code, rows[i].want, &err);
        CHECK_INT_ROW(rows[i].label, mongodb_proxy_broken(proxy), rows[i].times);
        if (code == ERR_METADATA_UNAVAILABLE)
            CHECK_ROW(rows[i].label, err.outcome_unknown);
        mongodb_proxy_cut(proxy, rows[i].cut, 0, 0);
    }
    metadata_close(proxied);
    mongodb_proxy_close(proxy);
    close_world(&world);
}

/* Rows without an answer are no duplicates of each other; those with one are, whatever else is. */
TEST(metadata_mongodb_rows, only_rows_with_an_answer_have_its_key)
{
    struct world world;
    struct err err;
    struct file file;
    struct idempotency_answer answer = {.owner = STR("alice"),
                                        .key = STR("key"),
                                        .nonce = STR("one"),
                                        .fingerprint = STR("f00d"),
                                        .status = 201,
                                        .body = STR("{}")};
    struct idempotency_record record;
    REQUIRE(open_world(&world));
    idempotency_record_init(&record);
    CHECK_ERR(store_begin(world.metadata, answer.owner, answer.key, answer.nonce, NOW, NOW + 1000,
                          &record, &err),
              ERR_OK, &err);
    idempotency_record_release(&record);
    for (int i = 0; i < 4; i++) {
        ordinary(&file, i);
        enum err_code code =
            metadata_file_insert(world.metadata, &file, i < 2 ? NULL : &answer, &err);
        CHECK_ERR(code, i < 3 ? ERR_OK : ERR_CONFLICT, &err);
    }
    ordinary(&file, 2);
    check_members(&world, &file, ORDINARY "answerKey answer answerMs ");
    close_world(&world);
}
