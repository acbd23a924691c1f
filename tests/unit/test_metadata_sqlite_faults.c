/* Databases that vanish, move, are replaced, locked, full, damaged (ABUSE F16, F17, F20, F29), and
 * processes that write at once or die (F1, F2). */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "metadata/metadata_drivers.h"
#include "metadata/sqlite/metadata_sqlite.h"
#include "store.h"

/* ---- steps ---- */

static void path_of(const struct config *config, const char *rest, char target[SQLITE_PATH_SIZE])
{
    snprintf(target, SQLITE_PATH_SIZE, "%s/%s", config->data_dir, rest);
}

static void rename_in(const struct config *config, const char *from, const char *to)
{
    char old_path[SQLITE_PATH_SIZE];
    char new_path[SQLITE_PATH_SIZE];
    path_of(config, from, old_path);
    path_of(config, to, new_path);
    CHECK_INT(rename(old_path, new_path), 0);
}

static struct metadata *open_metadata(const struct config *config)
{
    struct err err;
    struct metadata *metadata = NULL;
    CHECK_ERR(metadata_open(&metadata, config, &clock_system, NULL, &err), ERR_OK, &err);
    return metadata;
}

static enum err_code insert(struct metadata *metadata, int number, struct err *err)
{
    struct file file;
    store_file(&file, number, "alice");
    return metadata_file_insert(metadata, &file, NULL, err);
}

static enum err_code get(struct metadata *metadata, int number, struct err *err)
{
    struct file file;
    char id[ID_SIZE];
    store_id(id, number);
    return metadata_file_get(metadata, id, STORE_NOW_MS, &file, err);
}

/* ---- away and back ---- */

TEST(metadata_sqlite_faults, a_database_that_is_away_comes_back)
{
    struct config config;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    struct stat stat;
    REQUIRE(store_make(&config));
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(insert(metadata, 1, &err), ERR_OK, &err);
    rename_in(&config, "db", "db.away");
    CHECK_ERR(get(metadata, 1, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_ERR(insert(metadata, 2, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_ERR(metadata_ping(metadata, &err), ERR_METADATA_UNAVAILABLE, &err);
    path_of(&config, "db", path);
    CHECK(lstat(path, &stat) != 0);
    CHECK_INT(mkdir(path, 0700), 0);
    CHECK_ERR(insert(metadata, 2, &err), ERR_METADATA_UNAVAILABLE, &err);
    path_of(&config, SQLITE_FILE, path);
    CHECK(lstat(path, &stat) != 0);
    path_of(&config, "db", path);
    CHECK_INT(rmdir(path), 0);
    rename_in(&config, "db.away", "db");
    CHECK_ERR(get(metadata, 1, &err), ERR_OK, &err);
    CHECK_ERR(get(metadata, 2, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR(insert(metadata, 2, &err), ERR_OK, &err);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_OK, &err);
    metadata_close(metadata);
}

TEST(metadata_sqlite_faults, a_database_that_is_away_at_the_start_is_found_later)
{
    struct config config;
    struct err err;
    REQUIRE(store_make(&config));
    rename_in(&config, "db", "db.away");
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(insert(metadata, 1, &err), ERR_METADATA_UNAVAILABLE, &err);
    rename_in(&config, "db.away", "db");
    CHECK_ERR(insert(metadata, 1, &err), ERR_OK, &err);
    CHECK_ERR(get(metadata, 1, &err), ERR_OK, &err);
    metadata_close(metadata);
}

TEST(metadata_sqlite_faults, a_restored_database_is_taken_and_not_harmed)
{
    struct config config;
    struct config other;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    char target[SQLITE_PATH_SIZE];
    REQUIRE(store_make(&config) && store_make(&other));
    struct metadata *metadata = open_metadata(&config);
    struct metadata *restored = open_metadata(&other);
    CHECK_ERR(insert(metadata, 1, &err), ERR_OK, &err);
    CHECK_ERR(insert(restored, 2, &err), ERR_OK, &err);
    rename_in(&config, "db", "db.old");
    path_of(&other, "db", path);
    path_of(&config, "db", target);
    CHECK_INT(rename(path, target), 0);
    CHECK_ERR(get(metadata, 1, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR(get(metadata, 2, &err), ERR_OK, &err);
    CHECK_ERR(insert(metadata, 3, &err), ERR_OK, &err);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_OK, &err);
    metadata_close(restored);
    metadata_close(metadata);
    metadata = open_metadata(&config);
    CHECK_ERR(get(metadata, 2, &err), ERR_OK, &err);
    CHECK_ERR(get(metadata, 3, &err), ERR_OK, &err);
    metadata_close(metadata);
}

TEST(metadata_sqlite_faults, nothing_is_acknowledged_into_a_log_that_is_gone)
{
    struct config config;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    REQUIRE(store_make(&config));
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(insert(metadata, 1, &err), ERR_OK, &err);
    path_of(&config, SQLITE_FILE "-wal", path);
    CHECK_INT(unlink(path), 0);
    if (insert(metadata, 2, &err) == ERR_OK) {
        metadata_close(metadata);
        metadata = open_metadata(&config);
        CHECK_ERR(get(metadata, 2, &err), ERR_OK, &err);
    }
    metadata_close(metadata);
}

/* ---- damaged ---- */

TEST(metadata_sqlite_faults, garbage_is_no_database_and_stays_as_it_is)
{
    struct config config;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    char back[16] = "";
    REQUIRE(store_make(&config));
    path_of(&config, SQLITE_FILE, path);
    FILE *file = fopen(path, "w");
    REQUIRE(file != NULL);
    for (int i = 0; i < 2000; i++)
        fputs("garbage ", file);
    fclose(file);
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(get(metadata, 1, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_ERR(insert(metadata, 1, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_ERR(metadata_ping(metadata, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_METADATA_UNAVAILABLE, &err);
    metadata_close(metadata);
    file = fopen(path, "r");
    REQUIRE(file != NULL);
    CHECK(fread(back, 1, 8, file) == 8 && memcmp(back, "garbage ", 8) == 0);
    fclose(file);
}

TEST(metadata_sqlite_faults, a_symbolic_link_is_no_database)
{
    struct config config;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    REQUIRE(store_make(&config));
    rename_in(&config, SQLITE_FILE, "db/real.sqlite");
    path_of(&config, SQLITE_FILE, path);
    CHECK_INT(symlink("real.sqlite", path), 0);
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(get(metadata, 1, &err), ERR_METADATA_UNAVAILABLE, &err);
    metadata_close(metadata);
}

TEST(metadata_sqlite_faults, check_finds_wrong_totals_and_repairs_them)
{
    struct config config;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    sqlite3 *db = NULL;
    REQUIRE(store_make(&config));
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(insert(metadata, 1, &err), ERR_OK, &err);
    path_of(&config, SQLITE_FILE, path);
    CHECK_INT(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    CHECK_INT(
        sqlite3_exec(db, "UPDATE usage SET bytes = 7 WHERE owner = 'alice'", NULL, NULL, NULL),
        SQLITE_OK);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_INTERNAL, &err);
    CHECK_ERR(metadata_check(metadata, true, &err), ERR_OK, &err);
    CHECK_INT(sqlite3_exec(db, "INSERT INTO usage VALUES ('ghost', 1, 1)", NULL, NULL, NULL),
              SQLITE_OK);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_INTERNAL, &err);
    CHECK_ERR(metadata_check(metadata, true, &err), ERR_OK, &err);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_OK, &err);
    sqlite3_close(db);
    metadata_close(metadata);
}

/* ---- locked, full, read-only ---- */

TEST(metadata_sqlite_faults, a_locked_database_is_waited_for_no_longer_than_set)
{
    struct config config;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    sqlite3 *holder = NULL;
    REQUIRE(store_make(&config));
    config.sqlite_busy_timeout_ms = 300;
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(insert(metadata, 1, &err), ERR_OK, &err);
    path_of(&config, SQLITE_FILE, path);
    CHECK_INT(sqlite3_open_v2(path, &holder, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    CHECK_INT(sqlite3_exec(holder, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    int64_t start_ns = clock_steady_ns(&clock_system);
    CHECK_ERR(insert(metadata, 2, &err), ERR_METADATA_UNAVAILABLE, &err);
    int64_t waited_ms = (clock_steady_ns(&clock_system) - start_ns) / 1000000;
    CHECK(waited_ms >= 250 && waited_ms < 5000);
    CHECK_ERR(get(metadata, 1, &err), ERR_OK, &err);
    CHECK_INT(sqlite3_exec(holder, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    CHECK_ERR(insert(metadata, 2, &err), ERR_OK, &err);
    sqlite3_close(holder);
    metadata_close(metadata);
}

/* SQLite's own ceiling stands for the disk's. */
TEST(metadata_sqlite_faults, a_full_disk_refuses_rows_and_lets_deletes_pass)
{
    struct config config;
    struct err err;
    void *state = NULL;
    struct file file;
    int inserted = 0;
    enum err_code code = ERR_OK;
    REQUIRE(store_make(&config));
    const struct metadata_driver *driver = &metadata_sqlite_driver;
    CHECK_ERR(driver->open(&state, &config, &clock_system, &err), ERR_OK, &err);
    store_file(&file, 0, "alice");
    CHECK_ERR(driver->files->insert(state, &file, NULL, &err), ERR_OK, &err);
    sqlite3 *writer = ((struct metadata_sqlite *)state)->writer->db;
    int64_t pages = sqlite_number(writer, "PRAGMA page_count");
    char pragma[64];
    snprintf(pragma, sizeof pragma, "PRAGMA max_page_count=%d", (int)pages + 40);
    CHECK_INT(sqlite3_exec(writer, pragma, NULL, NULL, NULL), SQLITE_OK);
    while (code == ERR_OK && inserted < 5000) {
        store_file(&file, ++inserted, "alice");
        code = driver->files->insert(state, &file, NULL, &err);
    }
    CHECK_ERR(code, ERR_DISK_FULL, &err);
    for (int i = 0; i < inserted; i++) {
        const char *ids[1] = {file.id};
        int64_t version = 0;
        enum err_code result = ERR_INTERNAL;
        store_id(file.id, i);
        const struct file_marking marking = {.ids = ids,
                                             .expected_versions = &version,
                                             .count = 1,
                                             .owner = STR(""),
                                             .now_ms = STORE_NOW_MS,
                                             .results = &result};
        CHECK_ERR(driver->files->mark_deleted(state, &marking, &err), ERR_OK, &err);
        CHECK_INT(result, ERR_OK);
        CHECK_ERR(driver->files->remove(state, file.id, &err), ERR_OK, &err);
    }
    store_file(&file, inserted, "alice");
    CHECK_ERR(driver->files->insert(state, &file, NULL, &err), ERR_OK, &err);
    CHECK_ERR(driver->upkeep->check(state, false, &err), ERR_OK, &err);
    driver->close(state);
}

/* As another user, who may read only: root may write everywhere. */
static int try_read_only(const struct config *config)
{
    struct err err;
    struct metadata *metadata = NULL;
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        return 10;
    if (metadata_open(&metadata, config, &clock_system, NULL, &err) != ERR_OK)
        return 11;
    if (insert(metadata, 2, &err) != ERR_METADATA_UNAVAILABLE)
        return 12;
    if (metadata_ping(metadata, &err) != ERR_METADATA_UNAVAILABLE)
        return 13;
    return 0;
}

TEST(metadata_sqlite_faults, a_read_only_database_is_found_by_ping)
{
    static const char *const files[] = {"db/coffer.sqlite", "db/coffer.sqlite-wal",
                                        "db/coffer.sqlite-shm"};
    struct config config;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    REQUIRE(store_make(&config));
    struct metadata *metadata = open_metadata(&config);
    CHECK_ERR(insert(metadata, 1, &err), ERR_OK, &err);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        path_of(&config, files[i], path);
        CHECK_INT(chmod(path, 0444), 0);
    }
    path_of(&config, "db", path);
    CHECK(chmod(path, 0555) == 0 && chmod(config.data_dir, 0755) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(try_read_only(&config));
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    CHECK_INT(chmod(path, 0700), 0);
    metadata_close(metadata);
}

/* ---- many writers ---- */

#define CHILDREN 3
#define CHILD_THREADS 4
#define CHILD_ROWS 50

struct writing {
    struct metadata *metadata;
    int first;
    atomic_int failed;
};

static void write_rows(void *context, int index)
{
    struct writing *writing = context;
    for (int i = 0; i < CHILD_ROWS; i++) {
        struct err err;
        int number = writing->first + index * CHILD_ROWS + i;
        /* each also tries a row that is taken: its neighbours in the batch must not suffer */
        if (insert(writing->metadata, number, &err) != ERR_OK ||
            insert(writing->metadata, number, &err) != ERR_EXISTS)
            writing->failed++;
    }
}

TEST(metadata_sqlite_faults, processes_and_threads_write_at_once)
{
    struct config config;
    struct err err;
    pid_t children[CHILDREN];
    REQUIRE(store_make(&config));
    config.sqlite_busy_timeout_ms = 30000;
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct writing writing = {.first = i * CHILD_THREADS * CHILD_ROWS};
            if (metadata_open(&writing.metadata, &config, &clock_system, NULL, &err) != ERR_OK)
                _exit(2);
            store_threads(CHILD_THREADS, write_rows, &writing);
            metadata_close(writing.metadata);
            _exit(writing.failed ? 1 : 0);
        }
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status = -1;
        waitpid(children[i], &status, 0);
        CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
    }
    struct metadata *metadata = open_metadata(&config);
    for (int i = 0; i < CHILDREN * CHILD_THREADS * CHILD_ROWS; i++)
        CHECK_ERR(get(metadata, i, &err), ERR_OK, &err);
    CHECK_ERR(metadata_check(metadata, false, &err), ERR_OK, &err);
    metadata_close(metadata);
}

static void read_rows(void *context, int index)
{
    struct writing *writing = context;
    for (int i = 0; i < 200; i++) {
        struct err err;
        if (get(writing->metadata, (index + i) % 20, &err) != ERR_OK)
            writing->failed++;
    }
}

TEST(metadata_sqlite_faults, more_readers_than_connections_take_turns)
{
    struct config config;
    struct err err;
    REQUIRE(store_make(&config));
    config.sqlite_readers = 1;
    struct writing writing = {.metadata = open_metadata(&config)};
    for (int i = 0; i < 20; i++)
        CHECK_ERR(insert(writing.metadata, i, &err), ERR_OK, &err);
    store_threads(16, read_rows, &writing);
    CHECK_INT(writing.failed, 0);
    metadata_close(writing.metadata);
}

static enum err_code ignore_row(void *context, const struct file *file, struct err *err)
{
    (void)context;
    (void)file;
    (void)err;
    return ERR_OK;
}

/* The log is copied back while writing goes on: it must not grow with the number of changes. */
TEST(metadata_sqlite_faults, the_log_stays_bounded)
{
    struct config config;
    struct err err;
    struct stat stat;
    char path[SQLITE_PATH_SIZE];
    struct file_page page;
    struct file_query query = {.limit = 100};
    REQUIRE(store_make(&config));
    config.durability = DURABILITY_RELAXED;
    struct metadata *metadata = open_metadata(&config);
    for (int i = 0; i < 1500; i++)
        CHECK_ERR(insert(metadata, i, &err), ERR_OK, &err);
    path_of(&config, SQLITE_FILE "-wal", path);
    CHECK(lstat(path, &stat) == 0 && stat.st_size < 2 * SQLITE_CHECKPOINT_PAGES * 4200);
    CHECK_ERR(store_list(metadata, &query, STORE_NOW_MS, ignore_row, NULL, &page, &err), ERR_OK,
              &err);
    CHECK_INT(page.total, 1500);
    metadata_close(metadata);
}

/* ---- processes that die ---- */

#ifdef COFFER_CRASH_POINTS

static enum err_code mark(struct metadata *metadata, int number, struct err *err)
{
    char id[ID_SIZE];
    const char *ids[1] = {id};
    int64_t version = 0;
    enum err_code result = ERR_INTERNAL;
    store_id(id, number);
    enum err_code code =
        store_mark_deleted(metadata, ids, &version, 1, STR(""), STORE_NOW_MS, &result, err);
    return code == ERR_OK ? result : code;
}

static int die_at(const struct config *config, const char *point)
{
    pid_t child = fork();
    if (child == 0) {
        struct err err;
        struct metadata *metadata = NULL;
        setenv("CRASH_AT", point, 1);
        if (metadata_open(&metadata, config, &clock_system, NULL, &err) != ERR_OK ||
            insert(metadata, 2, &err) != ERR_OK || mark(metadata, 1, &err) != ERR_OK)
            _exit(1);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(metadata_sqlite_faults, whoever_dies_at_a_commit_leaves_all_or_nothing)
{
    static const struct {
        const char *point;
        enum err_code inserted; /* row 2 */
        enum err_code marked;   /* row 1, read */
    } rows[] = {
        {"insert.before_commit", ERR_NOT_FOUND, ERR_OK},
        {"insert.committed", ERR_OK, ERR_OK},
        {"delete.before_commit", ERR_OK, ERR_OK},
        {"delete.committed", ERR_OK, ERR_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err;
        REQUIRE(store_make(&config));
        struct metadata *metadata = open_metadata(&config);
        CHECK_ERR(insert(metadata, 1, &err), ERR_OK, &err);
        metadata_close(metadata);
        CHECK_INT_ROW(rows[i].point, die_at(&config, rows[i].point), SIGKILL);
        metadata = open_metadata(&config);
        CHECK_ERR_ROW(rows[i].point, get(metadata, 2, &err), rows[i].inserted, &err);
        CHECK_ERR_ROW(rows[i].point, get(metadata, 1, &err), rows[i].marked, &err);
        CHECK_ERR_ROW(rows[i].point, metadata_check(metadata, false, &err), ERR_OK, &err);
        CHECK_ERR_ROW(rows[i].point, insert(metadata, 3, &err), ERR_OK, &err);
        metadata_close(metadata);
    }
}

#endif
