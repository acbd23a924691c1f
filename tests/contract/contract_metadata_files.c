/* Rows of files: insert, get, update, mark deleted, remove, and what the sweep asks. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract_metadata.h"

static enum err_code get_row(struct metadata *metadata, int number, int64_t now_ms,
                             struct file *ret_file)
{
    struct err err;
    char id[ID_SIZE];
    store_id(id, number);
    return metadata_file_get(metadata, id, now_ms, ret_file, &err);
}

static bool same_file(const struct file *a, const struct file *b)
{
    return strcmp(a->id, b->id) == 0 && strcmp(a->owner, b->owner) == 0 &&
           strcmp(a->name, b->name) == 0 && strcmp(a->mime, b->mime) == 0 &&
           strcmp(a->sha256, b->sha256) == 0 && strcmp(a->bucket, b->bucket) == 0 &&
           strcmp(a->charset, b->charset) == 0 && strcmp(a->key, b->key) == 0 &&
           strcmp(a->tag, b->tag) == 0 && strcmp(a->metadata, b->metadata) == 0 &&
           a->size == b->size && a->created_ms == b->created_ms && a->updated_ms == b->updated_ms &&
           a->expires_ms == b->expires_ms && a->version == b->version &&
           a->visibility == b->visibility && a->status == b->status;
}

CONTRACT(a_row_comes_back_as_it_was)
{
    struct err err;
    struct file file;
    struct file back;
    store_file(&file, 1, "alice");
    memset(file.name, 'n', LIMIT_NAME_BYTES);
    memset(file.owner, 'o', LIMIT_OWNER_BYTES);
    memset(file.mime, 'm', LIMIT_MIME_BYTES);
    memset(file.charset, 'c', LIMIT_CHARSET_BYTES);
    memset(file.metadata, 'd', LIMIT_METADATA_BYTES);
    memset(file.key + 35, 'k', LIMIT_KEY_BYTES - 35);
    memset(file.tag, 't', LIMIT_TAG_BYTES);
    file.size = INT64_C(1) << 60;
    file.expires_ms = STORE_NOW_MS + 5;
    file.visibility = VISIBILITY_PUBLIC;
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, NULL, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, get_row(metadata, 1, STORE_NOW_MS, &back), ERR_OK);
    CHECK_ROW(label, same_file(&file, &back));
    CHECK_INT_ROW(label, get_row(metadata, 2, STORE_NOW_MS, &back), ERR_NOT_FOUND);
    CHECK_ERR_ROW(label, metadata_file_get(metadata, "' OR 1=1--", STORE_NOW_MS, &back, &err),
                  ERR_NOT_FOUND, &err);
}

CONTRACT(names_of_every_kind_survive)
{
    static const char *const names[] = {"a\"b",      "'; DROP TABLE files;--",
                                        "%_",        "\xf0\x9f\x98\x80",
                                        "e\xcc\x81", "\xc3\xa9",
                                        "-x",        " trailing ",
                                        "\\"};
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
        struct err err;
        struct file file;
        struct file back;
        store_file(&file, i, "alice");
        snprintf(file.name, sizeof file.name, "%s", names[i]);
        CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, NULL, &err), ERR_OK, &err);
        CHECK_INT_ROW(names[i], get_row(metadata, i, STORE_NOW_MS, &back), ERR_OK);
        CHECK_STR_ROW(label, str_of(back.name), names[i]);
    }
}

CONTRACT(an_id_and_a_key_are_taken_once)
{
    struct err err;
    struct file file;
    CHECK_INT_ROW(label, insert_row(metadata, 1, "alice"), ERR_OK);
    CHECK_INT_ROW(label, insert_row(metadata, 1, "bob"), ERR_EXISTS);
    store_file(&file, 1, "alice");
    store_id(file.id, 2);
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, NULL, &err), ERR_EXISTS, &err);
    CHECK_INT_ROW(label, insert_row(metadata, 3, "alice"), ERR_OK);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS), 2);
}

CONTRACT(an_expired_row_is_not_found)
{
    struct err err;
    struct file file;
    store_file(&file, 1, "alice");
    file.expires_ms = STORE_NOW_MS;
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, NULL, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, get_row(metadata, 1, STORE_NOW_MS - 1, &file), ERR_OK);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS - 1), 1);
    CHECK_INT_ROW(label, get_row(metadata, 1, STORE_NOW_MS, &file), ERR_NOT_FOUND);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS), 0);
    CHECK_INT_ROW(label, kept_total(metadata, "alice", STORE_NOW_MS), 0);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 0, ""), ERR_NOT_FOUND);
}

CONTRACT(an_update_needs_the_version_it_saw)
{
    struct err err;
    struct file file;
    struct file back;
    CHECK_INT_ROW(label, insert_row(metadata, 1, "alice"), ERR_OK);
    CHECK_INT_ROW(label, get_row(metadata, 1, STORE_NOW_MS, &file), ERR_OK);
    snprintf(file.name, sizeof file.name, "renamed");
    snprintf(file.metadata, sizeof file.metadata, "{\"a\":\"b\"}");
    file.visibility = VISIBILITY_PUBLIC;
    file.expires_ms = STORE_NOW_MS + 1000;
    file.updated_ms = STORE_NOW_MS;
    file.version = 2;
    CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, 7, NULL, &err), ERR_CONFLICT, &err);
    CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, 1, NULL, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, get_row(metadata, 1, STORE_NOW_MS, &back), ERR_OK);
    CHECK_ROW(label, same_file(&file, &back));
    CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, 1, NULL, &err), ERR_CONFLICT, &err);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 0, ""), ERR_OK);
    CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, 2, NULL, &err), ERR_NOT_FOUND, &err);
    store_id(file.id, 9);
    CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, 1, NULL, &err), ERR_NOT_FOUND, &err);
}

static bool is_known(struct metadata *metadata, const char *key)
{
    struct err err;
    bool known = false;
    const char *const keys[1] = {key};
    return metadata_keys_known(metadata, keys, 1, &known, &err) == ERR_OK && known;
}

CONTRACT(a_marked_row_is_gone_for_readers_and_known_to_the_sweep)
{
    struct err err;
    struct file file;
    char id[ID_SIZE];
    CHECK_INT_ROW(label, insert_row(metadata, 1, "alice"), ERR_OK);
    store_id(id, 1);
    CHECK_ERR_ROW(label, metadata_file_remove(metadata, id, &err), ERR_NOT_FOUND, &err);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 0, "bob"), ERR_NOT_FOUND);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 5, "alice"), ERR_CONFLICT);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 5, "bob"), ERR_NOT_FOUND);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 1, "alice"), ERR_OK);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 0, "alice"), ERR_NOT_FOUND);
    CHECK_INT_ROW(label, get_row(metadata, 1, STORE_NOW_MS, &file), ERR_NOT_FOUND);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS), 0);
    store_file(&file, 1, "alice");
    CHECK_ROW(label, is_known(metadata, file.key));
    CHECK_ERR_ROW(label, metadata_set_status(metadata, id, FILE_READY, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR_ROW(label, metadata_file_remove(metadata, id, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_file_remove(metadata, id, &err), ERR_NOT_FOUND, &err);
    CHECK_ROW(label, !is_known(metadata, file.key));
}

CONTRACT(a_batch_is_judged_row_by_row)
{
    struct err err;
    char ids[4][ID_SIZE];
    const char *pointers[5] = {ids[0], ids[1], ids[2], ids[3], ids[0]};
    const int64_t versions[5] = {0, 1, 2, 0, 0};
    static const enum err_code want[5] = {ERR_OK, ERR_OK, ERR_CONFLICT, ERR_NOT_FOUND,
                                          ERR_NOT_FOUND};
    enum err_code results[5] = {ERR_INTERNAL, ERR_INTERNAL, ERR_INTERNAL, ERR_INTERNAL,
                                ERR_INTERNAL};
    for (int i = 0; i < 4; i++) {
        store_id(ids[i], i);
        if (i < 3)
            CHECK_INT_ROW(label, insert_row(metadata, i, "alice"), ERR_OK);
    }
    CHECK_ERR_ROW(label,
                  store_mark_deleted(metadata, pointers, versions, 5, STR("alice"), STORE_NOW_MS,
                                     results, &err),
                  ERR_OK, &err);
    for (int i = 0; i < 5; i++)
        CHECK_INT_ROW(label, results[i], want[i]);
    CHECK_INT_ROW(label, kept_total(metadata, "alice", STORE_NOW_MS), 1);
}

/* ---- many at once ---- */

struct race {
    struct metadata *metadata;
    atomic_int won;
    atomic_int lost;
    atomic_int failed;
};

static void note(struct race *race, enum err_code code, enum err_code loss)
{
    atomic_fetch_add(code == ERR_OK ? &race->won : code == loss ? &race->lost : &race->failed, 1);
}

static void race_to_mark(void *context, int index)
{
    struct race *race = context;
    (void)index;
    note(race, mark_row(race->metadata, 1, 0, ""), ERR_NOT_FOUND);
}

static void race_to_insert(void *context, int index)
{
    struct race *race = context;
    (void)index;
    note(race, insert_row(race->metadata, 1, "alice"), ERR_EXISTS);
}

static void race_to_update(void *context, int index)
{
    struct race *race = context;
    struct err err;
    struct file file;
    store_file(&file, 1, "alice");
    file.version = 2;
    snprintf(file.name, sizeof file.name, "by %d", index);
    note(race, metadata_file_update(race->metadata, &file, 1, NULL, &err), ERR_CONFLICT);
}

CONTRACT(one_of_many_wins)
{
    static void (*const races[])(void *context, int index) = {race_to_insert, race_to_update,
                                                              race_to_mark};
    for (size_t i = 0; i < sizeof races / sizeof races[0]; i++) {
        struct race race = {.metadata = metadata};
        store_threads(32, races[i], &race);
        CHECK_INT_ROW(label, race.won, 1);
        CHECK_INT_ROW(label, race.lost, 31);
    }
}

#define CHURN_THREADS 8
#define CHURN_ROWS 60 /* a multiple of six */
#define SLOW_CHURN_ROWS 18

struct churn {
    struct race race;
    int rows; /* of each thread */
};

/* Each thread inserts its rows, every third to expire, deletes every second, and looks at the
 * totals all the while. */
static void churn_rows(void *context, int index)
{
    struct churn *churn = context;
    struct race *race = &churn->race;
    char owner[16];
    snprintf(owner, sizeof owner, "owner-%d", index);
    for (int i = 0; i < churn->rows; i++) {
        struct err err;
        struct file file;
        int number = index * churn->rows + i;
        store_file(&file, number, owner);
        file.expires_ms = i % 3 == 0 ? STORE_NOW_MS + 10 : 0;
        note(race, metadata_file_insert(race->metadata, &file, NULL, &err), ERR_OK);
        if (i % 2 == 0)
            note(race, mark_row(race->metadata, number, 0, owner), ERR_OK);
        if (kept_total(race->metadata, owner, STORE_NOW_MS) != (i + 1) / 2)
            atomic_fetch_add(&race->failed, 1);
    }
}

CONTRACT(totals_are_exact_under_concurrent_changes)
{
    struct churn churn = {{.metadata = metadata}, store->is_slow ? SLOW_CHURN_ROWS : CHURN_ROWS};
    struct err err;
    int all = CHURN_THREADS * churn.rows;
    int some = all / 6 - 10;
    int marked = 0;
    store_threads(CHURN_THREADS, churn_rows, &churn);
    CHECK_INT_ROW(label, churn.race.failed, 0);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS), all / 2);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS + 10), all / 3);
    CHECK_ERR_ROW(label, metadata_mark_expired(metadata, STORE_NOW_MS + 10, some, &marked, &err),
                  ERR_OK, &err);
    CHECK_INT_ROW(label, marked, some);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS + 10), all / 3);
    CHECK_ERR_ROW(label, metadata_mark_expired(metadata, STORE_NOW_MS + 10, 1000, &marked, &err),
                  ERR_OK, &err);
    CHECK_INT_ROW(label, marked, all / 6 - some);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS + 10), all / 3);
    CHECK_INT_ROW(label, kept_total(metadata, "nobody", STORE_NOW_MS), 0);
}

/* ---- upkeep ---- */

CONTRACT(keys_are_asked_for_a_thousand_at_once)
{
    struct err err;
    struct file file;
    static char keys[LIMIT_KEYS_ASKED][LIMIT_KEY_BYTES + 1];
    static const char *pointers[LIMIT_KEYS_ASKED];
    static bool known[LIMIT_KEYS_ASKED];
    for (int i = 0; i < LIMIT_KEYS_ASKED; i++) {
        store_file(&file, i, "alice");
        memcpy(keys[i], file.key, sizeof keys[i]);
        pointers[i] = keys[i];
        known[i] = i % 100 != 7;
        if (i % 100 == 7)
            CHECK_INT_ROW(label, insert_row(metadata, i, "alice"), ERR_OK);
    }
    CHECK_INT_ROW(label, mark_row(metadata, 107, 0, ""), ERR_OK);
    pointers[1] = keys[7]; /* one may be asked for twice */
    CHECK_ERR_ROW(label, metadata_keys_known(metadata, pointers, LIMIT_KEYS_ASKED, known, &err),
                  ERR_OK, &err);
    for (int i = 0; i < LIMIT_KEYS_ASKED; i++)
        CHECK_ROW(label, known[i] == (i % 100 == 7 || i == 1));
    CHECK_ERR_ROW(label, metadata_keys_known(metadata, pointers, 0, known, &err), ERR_OK, &err);
}

static enum err_code is_fence(void *context, const struct file *file, struct err *err)
{
    const struct file *fence = context;
    bool is_it = strcmp(file->id, fence->id) == 0;
    return err_set(err, is_it ? ERR_EXISTS : ERR_INTERNAL, "test", "A deleted row.");
}

CONTRACT(a_row_may_be_inserted_deleted_to_fence_its_key)
{
    struct err err;
    struct file fence;
    struct file file;
    store_file(&fence, 1, "alice");
    fence.status = FILE_DELETED;
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &fence, NULL, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, get_row(metadata, 1, STORE_NOW_MS, &file), ERR_NOT_FOUND);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS), 0);
    CHECK_INT_ROW(label, kept_total(metadata, "alice", STORE_NOW_MS), 0);
    CHECK_ROW(label, is_known(metadata, fence.key));
    file = fence;
    file.status = FILE_READY;
    store_id(file.id, 2);
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, NULL, &err), ERR_EXISTS, &err);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 0, ""), ERR_NOT_FOUND);
    CHECK_ROW(label, fence.updated_ms == fence.created_ms); /* and a sweep finds it all the same */
    CHECK_ERR_ROW(label, metadata_list_deleted(metadata, 1, is_fence, &fence, &err), ERR_EXISTS,
                  &err);
    CHECK_ERR_ROW(label, metadata_file_remove(metadata, fence.id, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, NULL, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, kept_total(metadata, "alice", STORE_NOW_MS), 1);
}

struct collected {
    struct metadata *metadata;
    int count;
    int wrong;
    char last[ID_SIZE];
    bool remove;
};

static enum err_code collect(void *context, const struct file *file, struct err *err)
{
    struct collected *collected = context;
    if (strcmp(file->id, collected->last) <= 0)
        collected->wrong++;
    memcpy(collected->last, file->id, sizeof collected->last);
    collected->count++;
    return collected->remove ? metadata_file_remove(collected->metadata, file->id, err) : ERR_OK;
}

CONTRACT(the_sweep_sees_marked_rows_oldest_first_and_may_remove_them)
{
    struct err err;
    struct collected some = {.metadata = metadata};
    struct collected all = {.metadata = metadata, .remove = true};
    struct collected scanned = {.metadata = metadata};
    for (int i = 1; i <= 200; i++)
        CHECK_INT_ROW(label, insert_row(metadata, i, "alice"), ERR_OK);
    for (int i = 1; i <= 150; i++)
        CHECK_INT_ROW(label, mark_row(metadata, i, 0, ""), ERR_OK);
    CHECK_ERR_ROW(label, metadata_list_deleted(metadata, 100, collect, &some, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, some.count, 100);
    CHECK_INT_ROW(label, some.wrong, 0);
    CHECK_ERR_ROW(label, metadata_list_deleted(metadata, 1000, collect, &all, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, all.count, 150);
    CHECK_ERR_ROW(label, metadata_scan(metadata, collect, &scanned, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, scanned.count, 50);
    CHECK_INT_ROW(label, scanned.wrong, 0);
}

static enum err_code stop(void *context, const struct file *file, struct err *err)
{
    (void)context;
    return err_set(err, ERR_CLIENT_GONE, "test", "%s", file->id);
}

CONTRACT(a_callback_ends_a_listing)
{
    struct err err;
    struct file_page page;
    struct file_query query = {.limit = 10};
    CHECK_INT_ROW(label, insert_row(metadata, 1, "alice"), ERR_OK);
    CHECK_ERR_ROW(label, metadata_scan(metadata, stop, NULL, &err), ERR_CLIENT_GONE, &err);
    CHECK_ERR_ROW(label, store_list(metadata, &query, STORE_NOW_MS, stop, NULL, &page, &err),
                  ERR_CLIENT_GONE, &err);
    CHECK_INT_ROW(label, insert_row(metadata, 2, "alice"), ERR_OK);
}

CONTRACT(a_damaged_row_is_live_and_counted)
{
    struct err err;
    struct file file;
    CHECK_INT_ROW(label, insert_row(metadata, 1, "alice"), ERR_OK);
    store_id(file.id, 1);
    CHECK_ERR_ROW(label, metadata_set_status(metadata, file.id, FILE_DAMAGED, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, get_row(metadata, 1, STORE_NOW_MS, &file), ERR_OK);
    CHECK_INT_ROW(label, file.status, FILE_DAMAGED);
    CHECK_INT_ROW(label, kept_total(metadata, "alice", STORE_NOW_MS), 1);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 0, ""), ERR_OK);
}

CONTRACT(a_named_lease_has_one_holder)
{
    struct err err;
    bool held = false;
    static const struct {
        const char *holder;
        int64_t now_ms;
        int64_t until_ms;
        bool want;
    } steps[] = {
        {"a", 100, 200, true},
        {"b", 150, 250, false},
        {"a", 150, 260, true},
        {"b", 220, 300, false},
        {"b", 260, 300, true},
        {"a", 270, 400, false},
        /* the clock is set back: a little, then by more than clocks differ */
        {"a", 0, 100, false},
        {"a", -LIMIT_CLOCK_SKEW_MS, 299 - LIMIT_CLOCK_SKEW_MS, true},
        {"b", 299 - LIMIT_CLOCK_SKEW_MS, 400, true},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        CHECK_ERR_ROW(label,
                      store_lease(metadata, "sweep", steps[i].holder, steps[i].now_ms,
                                  steps[i].until_ms, &held, &err),
                      ERR_OK, &err);
        CHECK_INT_ROW(label, held, steps[i].want);
    }
    CHECK_ERR_ROW(label, store_lease(metadata, "other", "c", 100, 200, &held, &err), ERR_OK, &err);
    CHECK_ROW(label, held);
}

CONTRACT(the_secret_stays_the_same)
{
    struct err err;
    unsigned char first[32] = {0};
    unsigned char second[32] = {1};
    CHECK_ERR_ROW(label, metadata_secret(metadata, first, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_secret(metadata, second, &err), ERR_OK, &err);
    CHECK_ROW(label, memcmp(first, second, 32) == 0);
    CHECK_ROW(label, memcmp(first, (unsigned char[32]){0}, 32) != 0);
    CHECK_ERR_ROW(label, metadata_ping(metadata, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_check(metadata, true, &err), ERR_OK, &err);
}

/* ---- tokens ---- */

static enum err_code count_token(void *context, const struct token *token, struct err *err)
{
    (void)err;
    if (token->scopes == (SCOPE_READ | SCOPE_WRITE))
        ++*(int *)context;
    return ERR_OK;
}

CONTRACT(tokens_are_kept_listed_and_revoked)
{
    struct err err;
    struct token token = {.id = "t00000000000",
                          .owner = "alice",
                          .scopes = SCOPE_READ | SCOPE_WRITE,
                          .created_ms = 5,
                          .expires_ms = 6};
    struct token back;
    int tokens = 0;
    memset(token.digest, 0xA5, sizeof token.digest);
    for (int i = 0; i < 250; i++) {
        snprintf(token.id, sizeof token.id, "t%011d", i);
        CHECK_ERR_ROW(label, metadata_token_insert(metadata, &token, &err), ERR_OK, &err);
    }
    CHECK_ERR_ROW(label, metadata_token_insert(metadata, &token, &err), ERR_EXISTS, &err);
    CHECK_ERR_ROW(label, metadata_token_get(metadata, token.id, &back, &err), ERR_OK, &err);
    CHECK_ROW(label, memcmp(token.digest, back.digest, 32) == 0 && back.revoked_ms == 0 &&
                         back.expires_ms == 6 && strcmp(back.owner, "alice") == 0);
    CHECK_ERR_ROW(label, metadata_token_revoke(metadata, token.id, 77, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_token_revoke(metadata, token.id, 99, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_token_get(metadata, token.id, &back, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, back.revoked_ms, 77);
    CHECK_ERR_ROW(label, metadata_token_revoke(metadata, "nobody", 1, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR_ROW(label, metadata_token_get(metadata, "nobody", &back, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR_ROW(label, metadata_token_list(metadata, count_token, &tokens, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, tokens, 250);
}
