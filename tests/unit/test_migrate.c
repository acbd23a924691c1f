/* Migration between two real installations on folders. Which drivers they use decides nothing
 * here; tests/e2e/test_migrate.py runs it between real stores. */
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "files/files_remove.h"
#include "store.h"
#include "worlds.h"

/* ---- what arrives ---- */

TEST(migrate, everything_arrives_and_a_second_run_finds_it)
{
    struct worlds worlds;
    REQUIRE(worlds_open(&worlds));
    for (int number = 0; number < 50; number++)
        worlds_create(&worlds.source.files, number);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.total_files, 50);
    CHECK_INT(worlds.result.files, 50);
    CHECK_INT(worlds.result.bytes, worlds.result.total_bytes);
    CHECK_INT(worlds.result.copied, 50);
    CHECK_INT(worlds.result.copied_bytes, worlds.result.total_bytes);
    CHECK(worlds.progress >= 50);
    for (int number = 0; number < 50; number++)
        worlds_check(&worlds, number);

    worlds_create(&worlds.source.files, 50);
    worlds.options.verify = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 1);
    CHECK_INT(worlds.result.skipped, 50);
    CHECK_INT(worlds.result.bytes, worlds.result.total_bytes);
    worlds_check(&worlds, 50);
    worlds_close(&worlds);
}

TEST(migrate, what_nobody_can_read_stays_behind)
{
    struct worlds worlds;
    struct file file;
    struct err err = {0};
    static char content[WORLDS_CONTENT_SIZE];
    size_t len;
    enum err_code marked = ERR_OK;
    REQUIRE(worlds_open(&worlds));
    worlds_create(&worlds.source.files, 1);
    worlds_create(&worlds.source.files, 2);
    worlds_describe(&file, 3, content, &len);
    worlds_put(&worlds.source.files, file.key, content, len);
    file.expires_ms = clock_wall_ms(&clock_system) - 1;
    worlds_insert(&worlds.source.files, &file);
    worlds_describe(&file, 4, content, &len);
    worlds_put(&worlds.source.files, file.key, content, len);
    file.expires_ms = clock_wall_ms(&clock_system) + 3600000;
    worlds_insert(&worlds.source.files, &file);
    char id[ID_SIZE];
    store_id(id, 2);
    const char *ids[] = {id};
    CHECK_ERR(
        store_mark_deleted(worlds.source.files.metadata, ids, NULL, 1, STR(""), 1, &marked, &err),
        ERR_OK, &err);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.total_files, 2);
    CHECK_INT(worlds.result.copied, 2);
    worlds_check(&worlds, 1);
    worlds_check(&worlds, 4);
    CHECK(worlds_get(&worlds.target.files, 4, &file) && file.expires_ms > 0);
    CHECK(!worlds_get(&worlds.target.files, 2, &file) && !worlds_has(&worlds.target, 2));
    CHECK(!worlds_get(&worlds.target.files, 3, &file) && !worlds_has(&worlds.target, 3));
    worlds_close(&worlds);
}

TEST(migrate, tokens_come_too_and_revocations_follow)
{
    struct worlds worlds;
    struct err err = {0};
    struct token token = {.id = "abcdefghijkl",
                          .owner = "alice",
                          .digest = {1, 2, 3},
                          .scopes = SCOPE_READ | SCOPE_ADMIN,
                          .created_ms = 5,
                          .expires_ms = 6000000000000};
    struct token got;
    REQUIRE(worlds_open(&worlds));
    CHECK_ERR(metadata_token_insert(worlds.source.files.metadata, &token, &err), ERR_OK, &err);
    worlds.options.dry_run = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.tokens, 1);
    CHECK_ERR(metadata_token_get(worlds.target.files.metadata, token.id, &got, &err), ERR_NOT_FOUND,
              &err);
    worlds.options.dry_run = false;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.tokens, 1);
    CHECK_ERR(metadata_token_get(worlds.target.files.metadata, token.id, &got, &err), ERR_OK, &err);
    CHECK(memcmp(got.digest, token.digest, 32) == 0 && got.scopes == token.scopes);
    CHECK(got.created_ms == 5 && got.expires_ms == token.expires_ms && got.revoked_ms == 0);
    CHECK_TEXT(got.owner, "alice");

    CHECK_ERR(metadata_token_revoke(worlds.source.files.metadata, token.id, 77, &err), ERR_OK,
              &err);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.tokens, 1);
    CHECK_ERR(metadata_token_get(worlds.target.files.metadata, token.id, &got, &err), ERR_OK, &err);
    CHECK_INT(got.revoked_ms, 77);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.tokens, 0);
    worlds_close(&worlds);
}

TEST(migrate, a_dry_run_writes_nothing)
{
    struct worlds worlds;
    struct file file;
    REQUIRE(worlds_open(&worlds));
    worlds_create(&worlds.source.files, 1);
    worlds_create(&worlds.source.files, 2);
    worlds_create(&worlds.target.files, 2);
    worlds_create(&worlds.target.files, 3);
    worlds.options.dry_run = true;
    worlds.options.prune = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 1);
    CHECK_INT(worlds.result.skipped, 1);
    CHECK_INT(worlds.result.extra, 1);
    CHECK_INT(worlds.result.pruned, 0);
    CHECK(!worlds_get(&worlds.target.files, 1, &file) && !worlds_has(&worlds.target, 1));
    CHECK(worlds_get(&worlds.target.files, 3, &file) && worlds_has(&worlds.target, 3));
    worlds.options.target_is_empty = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 2);
    worlds_close(&worlds);
}

/* ---- interruption ---- */

TEST(migrate, stops_when_told_and_goes_on)
{
    struct worlds worlds;
    struct err err = {0};
    REQUIRE(worlds_open(&worlds));
    for (int number = 0; number < 60; number++)
        worlds_create(&worlds.source.files, number);
    worlds.stop_at = 300000;
    CHECK_ERR(worlds_migrate(&worlds, &err), ERR_CLIENT_GONE, &err);
    CHECK(worlds.result.copied > 0 && worlds.result.copied < 60);
    int64_t copied = worlds.result.copied;
    worlds.stop_at = 0;
    atomic_store(&worlds.stop, false);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.skipped, copied);
    CHECK_INT(worlds.result.copied, 60 - copied);
    for (int number = 0; number < 60; number++)
        worlds_check(&worlds, number);
    worlds_close(&worlds);
}

TEST(migrate, takes_over_the_bytes_an_interrupted_run_left)
{
    struct worlds worlds;
    static char content[WORLDS_CONTENT_SIZE];
    struct file file;
    size_t len;
    REQUIRE(worlds_open(&worlds));
    for (int number = 1; number <= 3; number++)
        worlds_create(&worlds.source.files, number);
    worlds_describe(&file, 1, content, &len); /* right */
    worlds_put(&worlds.target.files, file.key, content, len);
    worlds_describe(&file, 2, content, &len); /* right size, wrong bytes */
    content[7] = '!';
    worlds_put(&worlds.target.files, file.key, content, len);
    worlds_describe(&file, 3, content, &len); /* wrong size */
    worlds_put(&worlds.target.files, file.key, content, len / 2);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 3);
    CHECK_INT(worlds.result.failed, 0);
    for (int number = 1; number <= 3; number++)
        worlds_check(&worlds, number);
    worlds_close(&worlds);
}

TEST(migrate, never_takes_what_another_file_holds)
{
    struct worlds worlds;
    static char content[WORLDS_CONTENT_SIZE];
    struct file file;
    struct file other;
    size_t len;
    REQUIRE(worlds_open(&worlds));
    worlds_create(&worlds.source.files, 1);
    worlds_create(&worlds.source.files, 2);
    /* In the target, file 1's key is that of another file, and file 2's id too. */
    worlds_describe(&file, 1, content, &len);
    worlds_describe(&other, 9, content, &len);
    memcpy(other.key, file.key, sizeof other.key);
    worlds_put(&worlds.target.files, other.key, content, len);
    worlds_insert(&worlds.target.files, &other);
    worlds_describe(&other, 8, content, &len);
    store_id(other.id, 2);
    worlds_insert(&worlds.target.files, &other);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.failed, 2);
    CHECK_INT(worlds.result.copied, 0);
    CHECK(worlds_get(&worlds.target.files, 9, &file) &&
          worlds_get(&worlds.target.files, 2, &other));
    struct storage_stat stat;
    struct err err = {0};
    CHECK_ERR(storage_stat_object(worlds.target.files.storage, file.key, &stat, &err), ERR_OK,
              &err);
    CHECK_INT(stat.size, file.size);
    worlds_close(&worlds);
}

TEST(migrate, a_deleted_row_in_the_way_is_told)
{
    struct worlds worlds;
    struct file file;
    struct err err = {0};
    char id[ID_SIZE];
    enum err_code marked = ERR_OK;
    REQUIRE(worlds_open(&worlds));
    worlds_create(&worlds.source.files, 1);
    worlds_create(&worlds.target.files, 1);
    store_id(id, 1);
    const char *ids[] = {id};
    CHECK_ERR(
        store_mark_deleted(worlds.target.files.metadata, ids, NULL, 1, STR(""), 1, &marked, &err),
        ERR_OK, &err);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.failed, 1);
    CHECK(strstr(worlds.text, "coffer gc") != NULL);
    CHECK(!worlds_get(&worlds.target.files, 1, &file));
    store_file(&file, 1, "");
    CHECK_ERR(files_remove_marked(&worlds.target.files, id, file.key, &err), ERR_OK, &err);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.failed, 0);
    worlds_check(&worlds, 1);
    worlds_close(&worlds);
}

/* ---- what is wrong in the source ---- */

TEST(migrate, wrong_bytes_of_the_source_never_arrive_as_good)
{
    struct worlds worlds;
    struct file file;
    REQUIRE(worlds_open(&worlds));
    for (int number = 1; number <= 4; number++)
        worlds_create(&worlds.source.files, number);
    worlds_flip(&worlds.source, 1);
    worlds_write(&worlds.source, 2, "short");
    worlds_remove(&worlds.source, 3);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.failed, 3);
    CHECK_INT(worlds.found[MIGRATE_FAILED], 3);
    CHECK_INT(worlds.result.copied, 1);
    CHECK_INT(worlds.result.files, 4);
    CHECK_INT(worlds.result.bytes, worlds.result.total_bytes);
    for (int number = 1; number <= 3; number++) {
        CHECK(!worlds_get(&worlds.target.files, number, &file));
        CHECK(!worlds_has(&worlds.target, number));
    }
    worlds_check(&worlds, 4);
    worlds_close(&worlds);
}

TEST(migrate, quarantined_files_stay_behind_or_stay_quarantined)
{
    struct worlds worlds;
    struct file file;
    struct err err = {0};
    char id[ID_SIZE];
    REQUIRE(worlds_open(&worlds));
    for (int number = 1; number <= 3; number++)
        worlds_create(&worlds.source.files, number);
    worlds_write(&worlds.source, 1, "short");
    worlds_remove(&worlds.source, 2);
    for (int number = 1; number <= 2; number++) {
        store_id(id, number);
        CHECK_ERR(metadata_set_status(worlds.source.files.metadata, id, FILE_DAMAGED, &err), ERR_OK,
                  &err);
    }
    worlds_run(&worlds);
    CHECK_INT(worlds.result.damaged, 2);
    CHECK_INT(worlds.result.copied, 1);
    CHECK_INT(worlds.result.files, 3);
    CHECK(!worlds_get(&worlds.target.files, 1, &file) &&
          !worlds_get(&worlds.target.files, 2, &file));

    worlds.options.include_damaged = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 2);
    CHECK_INT(worlds.result.failed, 0);
    for (int number = 1; number <= 2; number++)
        CHECK(worlds_get(&worlds.target.files, number, &file) && file.status == FILE_DAMAGED);
    CHECK(worlds_has(&worlds.target, 1) && !worlds_has(&worlds.target, 2));
    worlds_run(&worlds);
    CHECK_INT(worlds.result.skipped, 3);
    worlds_close(&worlds);
}
