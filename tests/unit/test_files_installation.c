/* Which store belongs to which database: tests/e2e/test_fault_installation.py shows it to a client. */
#include "files/files_installation.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "files/files_sweep.h"
#include "store.h"
#include "worlds.h"

#define MANY 101 /* orphans; one more than go at once */

static bool open_files(struct files *files, const struct config *config)
{
    struct err err;
    *files = (struct files){.config = config, .clock = &clock_system};
    return storage_open(&files->storage, config, &clock_system, NULL, &err) == ERR_OK &&
           metadata_open(&files->metadata, config, &clock_system, NULL, &err) == ERR_OK;
}

static void close_files(struct files *files)
{
    metadata_close(files->metadata);
    storage_close(files->storage);
}

/* As `coffer init` leaves a folder before it looks whose it is. */
static bool open_unmarked(struct config *config, struct files *files)
{
    return store_make(config) && open_files(files, config);
}

/* The store of one installation, the database of another. */
static struct files mix(const struct files *storage, const struct files *metadata)
{
    struct files mixed = *storage;
    mixed.metadata = metadata->metadata;
    return mixed;
}

static struct installation_marks marks_of(const struct files *files)
{
    struct err err = {0};
    struct installation_marks marks = {.store = {.id = ""}};
    CHECK_ERR(files_installation_read(files, &marks, &err), ERR_OK, &err);
    return marks;
}

static enum err_code count_object(void *context, const char *key, const struct storage_stat *stat,
                                  struct err *err)
{
    (void)key;
    (void)stat;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

static int count_objects_of(const struct files *files)
{
    int count = 0;
    struct err err = {0};
    CHECK_ERR(storage_list(files->storage, count_object, &count, &err), ERR_OK, &err);
    return count;
}

TEST(files_installation, of_an_empty_pair_is_made_once)
{
    struct config config;
    struct files files;
    struct err err = {0};
    REQUIRE(open_unmarked(&config, &files));
    CHECK_ERR(files_installation_check(&files, false, &err), ERR_OK, &err);
    CHECK_TEXT(marks_of(&files).database.id, "");
    CHECK_ERR(files_installation_settle(&files, &err), ERR_OK, &err);
    const struct installation_marks first = marks_of(&files);
    CHECK(id_is_valid(str_of(first.store.id)));
    CHECK_TEXT(first.database.id, first.store.id);
    CHECK_ERR(files_installation_settle(&files, &err), ERR_OK, &err);
    CHECK_TEXT(marks_of(&files).store.id, first.store.id);
    close_files(&files);
}

TEST(files_installation, of_files_from_before_is_made_where_one_has_its_bytes)
{
    struct config config;
    struct files files;
    struct file lost;
    struct err err = {0};
    REQUIRE(open_unmarked(&config, &files));
    store_file(&lost, 1, "alice");
    worlds_insert(&files, &lost);
    worlds_create(&files, 2);
    CHECK_ERR(files_installation_settle(&files, &err), ERR_OK, &err);
    const struct installation_marks marks = marks_of(&files);
    CHECK(marks.store.id[0] != '\0');
    CHECK_TEXT(marks.database.id, marks.store.id);
    close_files(&files);
}

/* ---- what is refused ---- */

static void mark_first(struct files *first, struct files *second)
{
    struct err err = {0};
    (void)second;
    CHECK_ERR(files_installation_settle(first, &err), ERR_OK, &err);
}

static void mark_both(struct files *first, struct files *second)
{
    mark_first(first, second);
    mark_first(second, first);
}

static void add_row(struct files *first, struct files *second)
{
    struct file file;
    (void)first;
    store_file(&file, 77, "bob");
    worlds_insert(second, &file);
}

/* What a killed sweep of a version without marks left: no evidence of belonging. */
static void add_fence(struct files *first, struct files *second)
{
    struct file fence = {.created_ms = 1, .updated_ms = 1, .version = 1, .status = FILE_DELETED};
    struct file known;
    (void)first;
    store_file(&known, 1, "alice");
    store_id(fence.id, 78);
    memcpy(fence.key, known.key, sizeof fence.key);
    snprintf(fence.metadata, sizeof fence.metadata, "{}");
    worlds_insert(second, &fence);
}

static void mark_none(struct files *first, struct files *second)
{
    (void)first;
    (void)second;
}

TEST(files_installation, another_database_neither_settles_nor_sweeps)
{
    static const struct {
        const char *label;
        void (*prepare)(struct files *first, struct files *second);
        const char *says;
    } rows[] = {
        {"both new, files in the store", mark_none, "the store holds files"},
        {"rows of other files", add_row, "none of the database's files"},
        {"a fence of one of the files", add_fence, "the store holds files"},
        {"a new database", mark_first, "the database is new"},
        {"another installation's", mark_both, "the database to"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config configs[2];
        struct files first;
        struct files second;
        struct sweep_result swept;
        struct err err = {0};
        REQUIRE(open_unmarked(&configs[0], &first) && open_unmarked(&configs[1], &second));
        worlds_create(&first, 1);
        rows[i].prepare(&first, &second);
        const struct installation_marks before[] = {marks_of(&first), marks_of(&second)};
        const struct files mixed = mix(&first, &second);
        CHECK_ERR_ROW(rows[i].label, files_installation_check(&mixed, false, &err), ERR_CONFIG,
                      &err);
        CHECK_ERR_ROW(rows[i].label, files_installation_settle(&mixed, &err), ERR_CONFIG, &err);
        CHECK_ROW(rows[i].label, strstr(err.message, rows[i].says) != NULL);
        CHECK_ROW(rows[i].label, strstr(err.message, "coffer init --adopt") != NULL);
        CHECK_ERR_ROW(rows[i].label, files_sweep(&mixed, 0, &swept, &err), ERR_CONFIG, &err);
        CHECK(files_sweep_without_limit(&mixed, 0, &swept, &err) == ERR_CONFIG);
        const struct installation_marks after[] = {marks_of(&first), marks_of(&second)};
        CHECK_ROW(rows[i].label, memcmp(before, after, sizeof before) == 0);
        CHECK_INT_ROW(rows[i].label, count_objects_of(&first), 1);
        close_files(&second);
        close_files(&first);
    }
}

TEST(files_installation, of_a_newer_version_is_left_alone)
{
    struct config config;
    struct files files;
    struct err err = {0};
    REQUIRE(open_unmarked(&config, &files));
    CHECK_ERR(storage_write_mark(files.storage, "coffer installation 2\nid x\n", false, &err),
              ERR_OK, &err);
    CHECK_ERR(files_installation_settle(&files, &err), ERR_CONFIG, &err);
    close_files(&files);
}

/* ---- two at once, and one that dies in between ---- */

struct start {
    const struct config *config;
    enum err_code codes[8];
    char ids[8][ID_SIZE];
};

static void start_node(void *context, int index)
{
    struct start *start = context;
    struct files files;
    struct err err;
    struct installation_marks marks;
    if (!open_files(&files, start->config))
        abort();
    start->codes[index] = files_installation_settle(&files, &err);
    if (start->codes[index] == ERR_OK)
        start->codes[index] = files_installation_read(&files, &marks, &err);
    if (start->codes[index] == ERR_OK)
        memcpy(start->ids[index], marks.store.id, ID_SIZE);
    close_files(&files);
}

TEST(files_installation, nodes_that_start_at_once_agree)
{
    for (int round = 0; round < 5; round++) {
        struct config config;
        struct start start = {&config, {ERR_OK}, {""}};
        REQUIRE(store_make(&config));
        store_threads(8, start_node, &start);
        for (int i = 0; i < 8; i++) {
            CHECK_INT(start.codes[i], ERR_OK);
            CHECK(start.ids[i][0] != '\0');
            CHECK_TEXT(start.ids[i], start.ids[0]);
        }
    }
}

#ifdef COFFER_CRASH_POINTS

static int die_settling(const struct config *config, const char *point)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct files files;
        struct err err;
        setenv("CRASH_AT", point, 1);
        _exit(open_files(&files, config) && files_installation_settle(&files, &err) == ERR_OK);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(files_installation, a_start_that_dies_is_completed_by_the_next)
{
    static const char *const points[] = {"installation.database_marked",
                                         "installation.store_marked"};
    for (size_t i = 0; i < 2 * sizeof points / sizeof points[0]; i++) {
        bool has_files = i % 2 != 0;
        struct config config;
        struct files files;
        struct err err = {0};
        REQUIRE(open_unmarked(&config, &files));
        if (has_files)
            worlds_create(&files, 1);
        CHECK_INT_ROW(points[i / 2], die_settling(&config, points[i / 2]), SIGKILL);
        const struct installation_marks half = marks_of(&files);
        CHECK_ROW(points[i / 2], half.database.id[0] != '\0');
        CHECK_INT_ROW(points[i / 2], half.store.id[0] == '\0', i / 2 == 0);
        CHECK_ERR_ROW(points[i / 2], files_installation_settle(&files, &err), ERR_OK, &err);
        CHECK_TEXT(marks_of(&files).store.id, half.database.id);
        close_files(&files);
    }
}

#endif

TEST(files_installation, a_half_marked_pair_is_not_completed_on_another_store)
{
    struct config configs[2];
    struct files first;
    struct files second;
    struct err err = {0};
    REQUIRE(open_unmarked(&configs[0], &first) && open_unmarked(&configs[1], &second));
    worlds_create(&first, 1);
    mark_first(&second, NULL);
    const struct files mixed = mix(&first, &second);
    CHECK_ERR(files_installation_settle(&mixed, &err), ERR_CONFIG, &err);
    CHECK_TEXT(marks_of(&first).store.id, "");
    close_files(&second);
    close_files(&first);
}

/* ---- adopt ---- */

TEST(files_installation, adopt_takes_over_the_stores)
{
    struct config configs[2];
    struct files first;
    struct files second;
    struct installation_marks before;
    struct installation_mark after;
    struct err err = {0};
    REQUIRE(open_unmarked(&configs[0], &first) && open_unmarked(&configs[1], &second));
    worlds_create(&first, 1);
    mark_both(&first, &second);
    const struct files mixed = mix(&first, &second);
    const struct installation_marks were = marks_of(&mixed);
    CHECK_ERR(files_installation_adopt(&mixed, &before, &after, &err), ERR_OK, &err);
    CHECK(memcmp(&before, &were, sizeof before) == 0);
    CHECK_TEXT(after.id, were.store.id);
    CHECK_TEXT(marks_of(&mixed).database.id, were.store.id);
    CHECK_ERR(files_installation_settle(&mixed, &err), ERR_OK, &err);
    close_files(&second);
    close_files(&first);
}

TEST(files_installation, adopt_marks_a_store_that_has_lost_everything)
{
    struct config config;
    struct files files;
    struct file file;
    struct installation_marks before;
    struct installation_mark after;
    struct err err = {0};
    REQUIRE(open_unmarked(&config, &files));
    store_file(&file, 1, "alice");
    worlds_insert(&files, &file);
    CHECK_ERR(files_installation_settle(&files, &err), ERR_CONFIG, &err);
    CHECK_ERR(files_installation_adopt(&files, &before, &after, &err), ERR_OK, &err);
    CHECK_ERR(files_installation_settle(&files, &err), ERR_OK, &err);
    CHECK_TEXT(marks_of(&files).store.id, after.id);
    close_files(&files);
}

/* ---- migration ---- */

TEST(files_installation, a_target_is_incomplete_until_all_is_there)
{
    struct worlds worlds;
    struct sweep_result swept;
    struct installation_marks before;
    struct installation_mark after;
    struct err err = {0};
    REQUIRE(worlds_open(&worlds));
    const struct files *target = &worlds.target.files;
    for (int number = 0; number < 60; number++)
        worlds_create(&worlds.source.files, number);
    worlds.stop_at = 300000;
    CHECK_ERR(worlds_migrate(&worlds, &err), ERR_CLIENT_GONE, &err);
    CHECK(!worlds.result.is_complete);
    CHECK_ERR(files_installation_settle(target, &err), ERR_CONFIG, &err);
    CHECK(strstr(err.message, "coffer migrate") != NULL);
    CHECK_ERR(files_sweep(target, 0, &swept, &err), ERR_CONFIG, &err);
    CHECK_ERR(files_installation_check(target, true, &err), ERR_OK, &err);
    worlds.stop_at = 0;
    atomic_store(&worlds.stop, false);

    worlds_remove(&worlds.source, 59);
    worlds_run(&worlds);
    CHECK_INT(worlds.result.failed, 1);
    CHECK_ERR(files_installation_settle(target, &err), ERR_CONFIG, &err);
    CHECK_ERR(files_installation_adopt(target, &before, &after, &err), ERR_OK, &err);
    CHECK(before.database.is_incomplete && !after.is_incomplete);
    CHECK_ERR(files_installation_settle(target, &err), ERR_OK, &err);

    worlds_delete(&worlds.source.files, 59);
    worlds_run(&worlds);
    CHECK(worlds.result.is_complete);
    CHECK_ERR(files_installation_settle(target, &err), ERR_OK, &err);
    worlds_close(&worlds);
}

TEST(files_installation, no_migration_into_another_installation)
{
    struct worlds worlds;
    struct config config;
    struct files other;
    struct err err = {0};
    REQUIRE(worlds_open(&worlds) && open_unmarked(&config, &other));
    worlds_create(&worlds.source.files, 1);
    worlds_create(&worlds.target.files, 2);
    const struct files mixed = mix(&worlds.target.files, &other);
    worlds.options.target = &mixed;
    CHECK_ERR(worlds_migrate(&worlds, &err), ERR_CONFIG, &err);
    worlds.options.dry_run = true;
    CHECK_ERR(worlds_migrate(&worlds, &err), ERR_CONFIG, &err);
    CHECK_TEXT(marks_of(&mixed).database.id, "");
    close_files(&other);
    worlds_close(&worlds);
}

/* The store stays, the database changes: its first start takes the store from the former one. */
TEST(files_installation, a_new_database_replaces_the_former_one)
{
    struct worlds worlds;
    struct config config;
    struct files other;
    struct err err = {0};
    REQUIRE(worlds_open(&worlds) && open_unmarked(&config, &other));
    const struct files *source = &worlds.source.files;
    for (int number = 0; number < 5; number++)
        worlds_create(source, number);
    const struct files mixed = mix(source, &other);
    const struct installation_marks before = marks_of(source);
    worlds.options.target = &mixed;
    worlds.options.is_same_storage = true;
    CHECK_ERR(files_installation_settle(&mixed, &err), ERR_CONFIG, &err);
    worlds_run(&worlds);
    CHECK(worlds.result.is_complete);
    CHECK_TEXT(marks_of(&mixed).store.id, before.store.id);
    CHECK_TEXT(marks_of(&mixed).database.replaces, before.store.id);
    CHECK_ERR(files_installation_settle(source, &err), ERR_OK, &err);
    CHECK_ERR(files_installation_check(&mixed, false, &err), ERR_OK, &err);

    CHECK_ERR(files_installation_settle(&mixed, &err), ERR_OK, &err);
    CHECK_TEXT(marks_of(&mixed).store.id, marks_of(&mixed).database.id);
    CHECK_ERR(files_installation_settle(source, &err), ERR_CONFIG, &err);
    CHECK_ERR(worlds_migrate(&worlds, &err), ERR_CONFIG, &err);

    /* And back again, from the database that is in use now. */
    worlds.options.source = &mixed;
    worlds.options.target = source;
    worlds_run(&worlds);
    CHECK(worlds.result.is_complete);
    CHECK_ERR(files_installation_settle(source, &err), ERR_OK, &err);
    CHECK_ERR(files_installation_settle(&mixed, &err), ERR_CONFIG, &err);
    close_files(&other);
    worlds_close(&worlds);
}

TEST(files_installation, a_new_store_gets_the_databases_id)
{
    struct worlds worlds;
    struct config config;
    struct files other;
    struct err err = {0};
    REQUIRE(worlds_open(&worlds) && open_unmarked(&config, &other));
    const struct files *source = &worlds.source.files;
    for (int number = 0; number < 5; number++)
        worlds_create(source, number);
    const struct files mixed = mix(&other, source);
    worlds.options.target = &mixed;
    worlds.options.is_same_metadata = true;
    worlds_run(&worlds);
    CHECK(worlds.result.is_complete);
    CHECK_TEXT(marks_of(&mixed).store.id, marks_of(source).database.id);
    CHECK_ERR(files_installation_settle(&mixed, &err), ERR_OK, &err);
    CHECK_INT(count_objects_of(&mixed), 5);

    const struct files foreign = mix(&worlds.target.files, source);
    worlds_create(&worlds.target.files, 9);
    worlds.options.target = &foreign;
    CHECK_ERR(worlds_migrate(&worlds, &err), ERR_CONFIG, &err);
    close_files(&other);
    worlds_close(&worlds);
}

/* ---- the sweep's limit ---- */

static void put_orphans(const struct files *files, int first, int end)
{
    for (int number = first; number < end; number++) {
        struct file file;
        store_file(&file, number, "");
        worlds_put(files, file.key, "abc", 3);
    }
}

TEST(files_installation, a_sweep_removes_nothing_when_too_much_is_unknown)
{
    struct worlds worlds;
    struct sweep_result swept;
    struct err err = {0};
    REQUIRE(worlds_open(&worlds));
    const struct files *files = &worlds.source.files;
    worlds_create(files, 1000);
    put_orphans(files, 1, MANY + 1);
    CHECK_ERR(files_sweep(files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.orphans, 0);
    CHECK_INT(swept.held_back, MANY);
    CHECK_INT(swept.held_back_bytes, 3 * MANY);
    CHECK_INT(swept.seen, MANY + 1);
    CHECK_INT(swept.limit, 100);
    CHECK_INT(count_objects_of(files), MANY + 1);

    worlds_remove(&worlds.source, 1);
    CHECK_ERR(files_sweep(files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.orphans, MANY - 1);
    CHECK_INT(swept.held_back, 0);
    CHECK_INT(count_objects_of(files), 1);

    put_orphans(files, 1, 4);
    worlds.source.config.sweep_max_orphans = 2;
    CHECK_ERR(files_sweep(files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.held_back, 3);
    CHECK_INT(swept.limit, 2);
    CHECK_ERR(files_sweep_without_limit(files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.orphans, 3);
    CHECK_INT(count_objects_of(files), 1);
    worlds_close(&worlds);
}
