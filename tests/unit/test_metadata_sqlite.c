/* The schema, its migrations and the plans of every statement. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "metadata/metadata_drivers.h"
#include "metadata/sqlite/metadata_sqlite.h"
#include "store.h"

static void path_of(const struct config *config, const char *rest, char target[SQLITE_PATH_SIZE])
{
    snprintf(target, SQLITE_PATH_SIZE, "%s/%s", config->data_dir, rest);
}

static bool exists(const struct config *config, const char *rest)
{
    char path[SQLITE_PATH_SIZE];
    struct stat stat;
    path_of(config, rest, path);
    return lstat(path, &stat) == 0;
}

/* Runs SQL on the database from outside. */
static void tamper(const struct config *config, const char *sql)
{
    char path[SQLITE_PATH_SIZE];
    sqlite3 *db = NULL;
    path_of(config, SQLITE_FILE, path);
    CHECK_INT(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static enum err_code open_and_close(const struct config *config, struct err *err)
{
    struct metadata *metadata = NULL;
    enum err_code code = metadata_open(&metadata, config, &clock_system, NULL, err);
    metadata_close(metadata);
    return code;
}

/* ---- init ---- */

TEST(metadata_sqlite, init_makes_one_private_file)
{
    struct config config;
    struct err err;
    struct stat stat;
    char path[SQLITE_PATH_SIZE];
    mode_t mask = umask(0);
    bool made = store_make(&config);
    umask(mask);
    REQUIRE(made);
    path_of(&config, SQLITE_FILE, path);
    CHECK(lstat(path, &stat) == 0 && (stat.st_mode & 07777u) == 0600);
    CHECK(!exists(&config, SQLITE_FILE ".new") && !exists(&config, SQLITE_FILE "-wal"));
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_EXISTS, &err);
    CHECK_ERR(open_and_close(&config, &err), ERR_OK, &err);
}

TEST(metadata_sqlite, a_lost_database_is_never_replaced_by_an_empty_one)
{
    struct config config;
    struct err err;
    char path[SQLITE_PATH_SIZE];
    REQUIRE(store_make(&config));
    path_of(&config, SQLITE_FILE, path);
    CHECK_INT(unlink(path), 0);
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_CONFIG, &err);
    CHECK(!exists(&config, SQLITE_FILE));
    path_of(&config, SQLITE_FOLDER, path);
    CHECK_INT(rmdir(path), 0);
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_CONFIG, &err);
    store_config(&config, "/nowhere/data");
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_CONFIG, &err);
}

TEST(metadata_sqlite, other_schemas_are_refused)
{
    static const struct {
        const char *sql;
        const char *says;
    } rows[] = {
        {"PRAGMA user_version=99", "newer version"},
        {"PRAGMA user_version=0", "coffer init"},
        {"PRAGMA application_id=7", "not a database of coffer"},
        {"DELETE FROM settings", "secret"},
        {"UPDATE settings SET value = x'0102'", "secret"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err = {.code = ERR_OK};
        REQUIRE(store_make(&config));
        tamper(&config, rows[i].sql);
        CHECK_ERR_ROW(rows[i].sql, open_and_close(&config, &err), ERR_CONFIG, &err);
        CHECK_ROW(rows[i].sql, strstr(err.message, rows[i].says) != NULL);
    }
}

TEST(metadata_sqlite, init_refuses_newer_and_foreign_databases)
{
    static const char *const sql[] = {"PRAGMA user_version=99", "PRAGMA application_id=7"};
    for (size_t i = 0; i < sizeof sql / sizeof sql[0]; i++) {
        struct config config;
        struct err err;
        REQUIRE(store_make(&config));
        tamper(&config, sql[i]);
        CHECK_ERR_ROW(sql[i], metadata_init(&config, &clock_system, &err), ERR_CONFIG, &err);
    }
}

/* ---- migrations ---- */

TEST(metadata_sqlite, migrations_run_in_order_and_once)
{
    static const struct sqlite_migration steps[] = {
        {"CREATE TABLE a (x); INSERT INTO a VALUES (1)"},
        {"UPDATE a SET x = x * 10 + 2"},
        {"UPDATE a SET x = x * 10 + 3"},
    };
    struct err err;
    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(":memory:", &db), SQLITE_OK);
    CHECK_ERR(sqlite_migrate(db, steps, 1, &err), ERR_OK, &err);
    CHECK_INT(sqlite_number(db, "PRAGMA user_version"), 1);
    CHECK_ERR(sqlite_migrate(db, steps, 3, &err), ERR_OK, &err);
    CHECK_ERR(sqlite_migrate(db, steps, 3, &err), ERR_OK, &err);
    CHECK_INT(sqlite_number(db, "PRAGMA user_version"), 3);
    CHECK_INT(sqlite_number(db, "SELECT x FROM a"), 123);
    sqlite3_close(db);
}

TEST(metadata_sqlite, a_migration_that_fails_changes_nothing)
{
    static const struct sqlite_migration steps[] = {
        {"CREATE TABLE a (x); INSERT INTO a VALUES (1)"},
        {"UPDATE a SET x = 2; INSERT INTO missing VALUES (1)"},
    };
    struct err err;
    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(":memory:", &db), SQLITE_OK);
    CHECK_ERR(sqlite_migrate(db, steps, 1, &err), ERR_OK, &err);
    CHECK_ERR(sqlite_migrate(db, steps, 2, &err), ERR_METADATA_UNAVAILABLE, &err);
    CHECK_INT(sqlite_number(db, "PRAGMA user_version"), 1);
    CHECK_INT(sqlite_number(db, "SELECT x FROM a"), 1);
    sqlite3_close(db);
}

/* ---- plans ---- */

struct plan {
    bool searches;
    bool scans_table; /* without an index */
    bool sorts;
    char text[512];
};

static void explain(sqlite3 *db, const char *sql, struct plan *ret_plan)
{
    char query[4096];
    sqlite3_stmt *statement = NULL;
    *ret_plan = (struct plan){.text = ""};
    snprintf(query, sizeof query, "EXPLAIN QUERY PLAN %s", sql);
    CHECK_INT_ROW(sql, sqlite3_prepare_v2(db, query, -1, &statement, NULL), SQLITE_OK);
    while (sqlite3_step(statement) == SQLITE_ROW) {
        const char *detail = (const char *)sqlite3_column_text(statement, 3);
        size_t len = strlen(ret_plan->text);
        ret_plan->searches |= strstr(detail, "SEARCH") != NULL;
        ret_plan->scans_table |= strncmp(detail, "SCAN", 4) == 0 && !strstr(detail, "INDEX") &&
                                 !strstr(detail, "SUBQUERY") && !strstr(detail, "(subquery");
        ret_plan->sorts |= strstr(detail, "TEMP B-TREE") != NULL;
        snprintf(ret_plan->text + len, sizeof ret_plan->text - len, "%s; ", detail);
    }
    sqlite3_finalize(statement);
}

static struct sqlite_connection *connect_to(const struct config *config)
{
    struct err err;
    struct metadata_sqlite db = {
        .clock = &clock_system, .is_durable = true, .busy_timeout_ms = 5000};
    struct sqlite_connection *connection = NULL;
    path_of(config, SQLITE_FILE, db.path);
    CHECK_ERR(sqlite_connect(&db, true, &connection, &err), ERR_OK, &err);
    return connection;
}

TEST(metadata_sqlite, no_listing_scans_the_table_or_sorts_a_wide_result)
{
    struct config config;
    REQUIRE(store_make(&config));
    struct sqlite_connection *connection = connect_to(&config);
    REQUIRE(connection != NULL);
    for (unsigned variant = 0; variant < LIST_VARIANTS; variant++) {
        struct buf sql;
        struct plan plan;
        bool filtered = variant & (LIST_PREFIX | LIST_MIME);
        bool counts = variant & LIST_COUNT;
        bool narrow = variant & LIST_NARROW;
        if ((counts && (variant & (LIST_AFTER | LIST_NARROW | LIST_SORT_MASK))) ||
            ((narrow || counts) && !filtered))
            continue; /* never asked */
        buf_init(&sql, 4096);
        sqlite_list_sql(variant, &sql);
        explain(connection->db, buf_text(&sql), &plan);
        CHECK_ROW(plan.text, !plan.scans_table);
        CHECK_ROW(plan.text, !plan.sorts || narrow);
        if ((variant & (LIST_OWNER | LIST_AFTER)) || narrow || counts)
            CHECK_ROW(plan.text, plan.searches);
        buf_release(&sql);
    }
    sqlite_disconnect(connection);
}

TEST(metadata_sqlite, no_other_statement_scans_or_sorts)
{
    struct config config;
    REQUIRE(store_make(&config));
    struct sqlite_connection *connection = connect_to(&config);
    REQUIRE(connection != NULL);
    for (unsigned sql = 0; sql < SQL_COUNT; sql++) {
        struct err err;
        struct plan plan;
        sqlite3_stmt *statement = NULL;
        CHECK_ERR(sqlite_statement(connection, (enum sqlite_sql)sql, &statement, &err), ERR_OK,
                  &err);
        explain(connection->db, sqlite3_sql(statement), &plan);
        if (sql == SQL_REQUEST_TRIM) /* sorts one owner's answers, which are bounded, and seldom */
            CHECK_ROW(plan.text, plan.searches && !plan.scans_table);
        else
            CHECK_ROW(sqlite3_sql(statement), !strstr(plan.text, "SCAN") && !plan.sorts);
    }
    sqlite_disconnect(connection);
}

TEST(metadata_sqlite, connections_are_set_up_as_decided)
{
    static const struct {
        const char *sql;
        int64_t want;
    } rows[] = {{"PRAGMA synchronous", 2},    {"PRAGMA foreign_keys", 1},
                {"PRAGMA trusted_schema", 0}, {"PRAGMA mmap_size", 0},
                {"PRAGMA query_only", 0},     {"SELECT sqlite_version() IS NOT NULL", 1}};
    struct config config;
    REQUIRE(store_make(&config));
    struct sqlite_connection *connection = connect_to(&config);
    REQUIRE(connection != NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_INT_ROW(rows[i].sql, sqlite_number(connection->db, rows[i].sql), rows[i].want);
    int keeps_log = 0;
    sqlite3_db_config(connection->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, -1, &keeps_log);
    CHECK_INT(keeps_log, 1);
    sqlite_disconnect(connection);
}

/* ---- wrappers ---- */

struct observed {
    int count[METADATA_OPERATION_COUNT];
    int failed;
};

static void observe(void *context, unsigned driver, enum metadata_operation operation,
                    enum err_code outcome, int64_t duration_ns)
{
    struct observed *observed = context;
    observed->count[operation]++;
    observed->failed += outcome != ERR_OK || driver != 0 || duration_ns < 0;
}

TEST(metadata_sqlite, each_call_is_observed)
{
    struct config config;
    struct err err;
    struct file file;
    struct metadata *metadata = NULL;
    struct observed observed = {.failed = 0};
    REQUIRE(store_make(&config));
    CHECK_ERR(metadata_open(&metadata, &config, &clock_system,
                            &(struct metadata_observer){observe, &observed}, &err),
              ERR_OK, &err);
    store_file(&file, 1, "alice");
    CHECK_ERR(metadata_file_insert(metadata, &file, NULL, &err), ERR_OK, &err);
    CHECK_ERR(metadata_file_get(metadata, file.id, STORE_NOW_MS, &file, &err), ERR_OK, &err);
    CHECK_ERR(metadata_file_remove(metadata, file.id, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR(metadata_ping(metadata, &err), ERR_OK, &err);
    CHECK_INT(observed.count[METADATA_FILE_INSERT], 1);
    CHECK_INT(observed.count[METADATA_FILE_GET], 1);
    CHECK_INT(observed.count[METADATA_FILE_REMOVE], 1);
    CHECK_INT(observed.count[METADATA_PING], 1);
    CHECK_INT(observed.failed, 1);
    CHECK(!metadata_waits(metadata));
    metadata_close(metadata);
    metadata = NULL;
    snprintf(config.metadata_driver, sizeof config.metadata_driver, "paper");
    CHECK_ERR(metadata_open(&metadata, &config, &clock_system, NULL, &err), ERR_CONFIG, &err);
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_CONFIG, &err);
}

TEST(metadata_sqlite, init_makes_its_own_folders)
{
    struct config config;
    struct err err;
    struct metadata *metadata = NULL;
    char data_dir[512];
    snprintf(data_dir, sizeof data_dir, "%s/elsewhere", check_temp_dir());
    store_config(&config, data_dir);
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_OK, &err);
    CHECK_ERR(metadata_init(&config, &clock_system, &err), ERR_EXISTS, &err);
    CHECK_ERR(metadata_open(&metadata, &config, &clock_system, NULL, &err), ERR_OK, &err);
    metadata_close(metadata);
}
