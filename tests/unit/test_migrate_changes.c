/* Migration again: what changed meanwhile on either side, and what both sides share. */
#include <unistd.h>

#include "check.h"
#include "files/files_remove.h"
#include "store.h"
#include "worlds.h"

/* ---- what changes between two runs ---- */

static void rename_file(const struct files *files, int number, const char *name, int times)
{
    struct file file;
    struct err err = {0};
    CHECK(worlds_get(files, number, &file));
    snprintf(file.name, sizeof file.name, "%s", name);
    for (int i = 0; i < times; i++) {
        file.version++;
        file.updated_ms++;
        CHECK_ERR(metadata_file_update(files->metadata, &file, file.version - 1, NULL, &err),
                  ERR_OK, &err);
    }
}

TEST(migrate_changes, changes_of_the_source_follow)
{
    struct worlds worlds;
    struct file want;
    struct file got;
    REQUIRE(worlds_open(&worlds));
    worlds_create(&worlds.source.files, 1);
    worlds_run(&worlds);
    rename_file(&worlds.source.files, 1, "new name", 3);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.updated, 1);
    CHECK_INT(worlds.result.copied, 0);
    CHECK(worlds_get(&worlds.source.files, 1, &want) && worlds_get(&worlds.target.files, 1, &got));
    CHECK_TEXT(got.name, "new name");
    CHECK_INT(got.version, want.version);
    CHECK_INT(got.updated_ms, want.updated_ms);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.skipped, 1);
    worlds_close(&worlds);
}

TEST(migrate_changes, changes_of_the_target_are_never_written_over)
{
    struct worlds worlds;
    struct file got;
    REQUIRE(worlds_open(&worlds));
    worlds_create(&worlds.source.files, 1);
    worlds_create(&worlds.source.files, 2);
    worlds_run(&worlds);
    rename_file(&worlds.target.files, 1, "theirs", 2);
    rename_file(&worlds.source.files, 1, "ours", 1);
    rename_file(&worlds.target.files, 2, "theirs", 1);
    rename_file(&worlds.source.files, 2, "ours", 1);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.newer, 2);
    CHECK_INT(worlds.result.updated, 0);
    for (int number = 1; number <= 2; number++) {
        CHECK(worlds_get(&worlds.target.files, number, &got));
        CHECK_TEXT(got.name, "theirs");
    }
    worlds_close(&worlds);
}

TEST(migrate_changes, bytes_lost_in_the_target_are_copied_again)
{
    struct worlds worlds;
    REQUIRE(worlds_open(&worlds));
    for (int number = 1; number <= 3; number++)
        worlds_create(&worlds.source.files, number);
    worlds_run(&worlds);
    worlds_remove(&worlds.target, 1);
    worlds_write(&worlds.target, 2, "short");
    worlds_flip(&worlds.target, 3);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 2);
    CHECK_INT(worlds.result.skipped, 1);
    worlds_check(&worlds, 1);
    worlds_check(&worlds, 2);
    worlds.options.verify = true; /* only reading finds the flipped byte */
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 1);
    CHECK_INT(worlds.result.skipped, 2);
    worlds_check(&worlds, 3);
    worlds_close(&worlds);
}

TEST(migrate_changes, a_file_deleted_while_it_is_copied_is_no_failure)
{
    struct worlds worlds;
    struct file file;
    REQUIRE(worlds_open(&worlds));
    for (int number = 1; number <= 3; number++)
        worlds_create(&worlds.source.files, number);
    worlds.options.jobs = 1;
    worlds.delete_first = 3;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.gone, 1);
    CHECK_INT(worlds.result.failed, 0);
    CHECK_INT(worlds.result.copied, 2);
    CHECK(!worlds_get(&worlds.target.files, 3, &file) && !worlds_has(&worlds.target, 3));
    worlds_close(&worlds);
}

TEST(migrate_changes, extra_files_go_only_when_asked)
{
    struct worlds worlds;
    struct file file;
    struct err err = {0};
    char id[ID_SIZE];
    enum err_code marked = ERR_OK;
    REQUIRE(worlds_open(&worlds));
    for (int number = 1; number <= 3; number++)
        worlds_create(&worlds.source.files, number);
    worlds_run(&worlds);
    store_id(id, 2);
    const char *ids[] = {id};
    CHECK_ERR(
        store_mark_deleted(worlds.source.files.metadata, ids, NULL, 1, STR(""), 1, &marked, &err),
        ERR_OK, &err);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.extra, 1);
    CHECK_INT(worlds.result.pruned, 0);
    CHECK(worlds_get(&worlds.target.files, 2, &file));
    worlds.options.prune = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.pruned, 1);
    CHECK(!worlds_get(&worlds.target.files, 2, &file) && !worlds_has(&worlds.target, 2));
    worlds_check(&worlds, 1);
    worlds_check(&worlds, 3);
    worlds_close(&worlds);
}

TEST(migrate_changes, an_empty_source_prunes_nothing)
{
    struct worlds worlds;
    struct file file;
    struct err err = {0};
    REQUIRE(worlds_open(&worlds));
    worlds_create(&worlds.target.files, 1);
    worlds.options.prune = true;
    CHECK_ERR(worlds_migrate(&worlds, &err), ERR_CONFIG, &err);
    CHECK(worlds_get(&worlds.target.files, 1, &file) && worlds_has(&worlds.target, 1));
    worlds_close(&worlds);
}

/* ---- one side shared ---- */

TEST(migrate_changes, over_the_same_objects_only_rows_move)
{
    struct worlds worlds;
    struct file file;
    struct files target;
    REQUIRE(worlds_open(&worlds));
    for (int number = 1; number <= 3; number++)
        worlds_create(&worlds.source.files, number);
    worlds_remove(&worlds.source, 3);
    target = worlds.target.files;
    target.storage = worlds.source.files.storage;
    worlds.options.target = &target;
    worlds.options.is_same_storage = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 2);
    CHECK_INT(worlds.result.failed, 1);
    CHECK(worlds_get(&target, 1, &file) && worlds_get(&target, 2, &file) &&
          !worlds_get(&target, 3, &file));
    CHECK(!worlds_has(&worlds.target, 1));

    /* A row that the source never had goes, the bytes that it names stay: they are the source's. */
    worlds_create(&worlds.source.files, 4);
    worlds_run(&worlds);
    char id[ID_SIZE];
    struct err err = {0};
    enum err_code marked = ERR_OK;
    store_id(id, 4);
    const char *ids[] = {id};
    CHECK_ERR(
        store_mark_deleted(worlds.source.files.metadata, ids, NULL, 1, STR(""), 1, &marked, &err),
        ERR_OK, &err);
    worlds.options.prune = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.pruned, 1);
    CHECK(!worlds_get(&target, 4, &file) && worlds_has(&worlds.source, 4));

    /* Bytes that are lost are told of, and nothing is dropped. */
    worlds.options.prune = false;
    worlds_remove(&worlds.source, 2);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.failed, 2);
    CHECK(worlds_get(&target, 2, &file));
    worlds_close(&worlds);
}

TEST(migrate_changes, over_the_same_rows_only_objects_move)
{
    struct worlds worlds;
    struct file before;
    struct file after;
    struct files target;
    REQUIRE(worlds_open(&worlds));
    for (int number = 1; number <= 3; number++)
        worlds_create(&worlds.source.files, number);
    CHECK(worlds_get(&worlds.source.files, 1, &before));
    worlds_write(&worlds.target, 1, "short");
    target = worlds.target.files;
    target.metadata = worlds.source.files.metadata;
    worlds.options.target = &target;
    worlds.options.is_same_metadata = true;
    worlds.options.prune = true;
    worlds_run(&worlds);
    CHECK_INT(worlds.result.copied, 3);
    CHECK_INT(worlds.result.failed, 0);
    CHECK_INT(worlds.result.pruned, 0);
    for (int number = 1; number <= 3; number++)
        CHECK(worlds_has(&worlds.target, number));
    CHECK(worlds_get(&worlds.source.files, 1, &after));
    CHECK(before.version == after.version && before.status == after.status);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.skipped, 3);
    worlds_close(&worlds);
}

/* ---- when nothing works ---- */

TEST(migrate_changes, failures_of_rows_end_the_run)
{
    struct worlds worlds;
    struct err err = {0};
    char path[WORLDS_PATH_SIZE];
    REQUIRE(worlds_open(&worlds));
    worlds_create(&worlds.source.files, 1);
    snprintf(path, sizeof path, "%s/db/coffer.sqlite", worlds.source.config.data_dir);
    CHECK(unlink(path) == 0);
    CHECK_ERR(worlds_migrate(&worlds, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_INT(worlds.result.copied, 0);
    worlds_close(&worlds);
}
