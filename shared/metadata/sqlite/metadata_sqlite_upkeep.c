#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "metadata/sqlite/metadata_sqlite.h"

#define PURGE_ROWS 1000 /* rows removed in one transaction */

/* ---- rows in pages ---- */

static void bind_page(sqlite3_stmt *statement, const struct file_rows *rows)
{
    int at = 1;
    if (rows->is_deleted)
        sqlite3_bind_int64(statement, at++, rows->after_ms);
    sqlite_bind_text(statement, at++, rows->after_id);
    sqlite3_bind_int(statement, at, rows->limit);
}

static enum err_code read_page(struct sqlite_connection *connection, void *args, struct err *err)
{
    struct file_rows *rows = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(
        connection, rows->is_deleted ? SQL_FILE_DELETED : SQL_FILE_SCAN, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = SQLITE_OK;
    bind_page(statement, rows);
    rows->count = 0;
    while (code == ERR_OK && (result = sqlite3_step(statement)) == SQLITE_ROW)
        code = sqlite_row_file(statement, &rows->files[rows->count++], err);
    if (code == ERR_OK && result != SQLITE_DONE)
        code = sqlite_failed(connection, result, "read rows", err);
    sqlite3_reset(statement);
    return code;
}

static enum err_code read_rows(void *state, struct file_rows *rows, struct err *err)
{
    return sqlite_read(state, read_page, rows, err);
}

/* ---- small changes ---- */

struct sweep_args {
    enum sqlite_sql sql;
    int64_t until_ms;
    int limit;
    int changed;
};

static enum err_code sweep(struct sqlite_connection *connection, void *args, struct err *err)
{
    struct sweep_args *sweep = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, sweep->sql, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite3_bind_int64(statement, 1, sweep->until_ms);
    sqlite3_bind_int(statement, 2, sweep->limit);
    code = sqlite_finish(connection, statement, "sweep", err);
    sweep->changed = sqlite3_changes(connection->db);
    return code;
}

static enum err_code mark_expired(void *state, int64_t now_ms, int limit, int *ret_marked,
                                  struct err *err)
{
    struct sweep_args args = {SQL_FILE_MARK_EXPIRED, now_ms, limit, 0};
    struct sqlite_change change = {sweep, &args, NULL, NULL};
    enum err_code code = sqlite_write(state, &change, err);
    if (code == ERR_OK)
        *ret_marked = args.changed;
    return code;
}

static enum err_code purge_requests(void *state, int64_t now_ms, int *ret_purged, struct err *err)
{
    struct sweep_args args = {SQL_REQUEST_PURGE, now_ms - LIMIT_IDEMPOTENCY_KEEP_MS, PURGE_ROWS,
                              PURGE_ROWS};
    struct sqlite_change change = {sweep, &args, NULL, NULL};
    int purged = 0;
    while (args.changed == PURGE_ROWS) {
        enum err_code code = sqlite_write(state, &change, err);
        if (code != ERR_OK)
            return code;
        purged += args.changed;
    }
    *ret_purged = purged;
    return ERR_OK;
}

struct status_args {
    const char *id;
    enum file_status status;
};

/* Never a row that is marked deleted: nobody reads it again. */
static enum err_code change_status(struct sqlite_connection *connection, void *args,
                                   struct err *err)
{
    const struct status_args *wanted = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_FILE_SET_STATUS, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, wanted->id);
    sqlite3_bind_int(statement, 2, (int)wanted->status);
    code = sqlite_finish(connection, statement, "set status", err);
    if (code == ERR_OK && sqlite3_changes(connection->db) == 0)
        code = err_set(err, ERR_NOT_FOUND, "set status", "There is no such file.");
    return code;
}

static enum err_code set_status(void *state, const char *id, enum file_status status,
                                struct err *err)
{
    struct status_args args = {id, status};
    struct sqlite_change change = {change_status, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

struct named_lease_args {
    const struct named_lease *lease;
    bool held;
};

static enum err_code take_lease(struct sqlite_connection *connection, void *args, struct err *err)
{
    struct named_lease_args *taking = args;
    const struct named_lease *lease = taking->lease;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_LEASE, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, lease->name);
    sqlite_bind_text(statement, 2, lease->holder);
    sqlite3_bind_int64(statement, 3, lease->until_ms);
    sqlite3_bind_int64(statement, 4, lease->now_ms);
    sqlite3_bind_int64(statement, 5, lease->until_ms + LIMIT_CLOCK_SKEW_MS);
    code = sqlite_finish(connection, statement, "lease", err);
    taking->held = sqlite3_changes(connection->db) > 0;
    return code;
}

static enum err_code lease(void *state, const struct named_lease *lease, bool *ret_held,
                           struct err *err)
{
    struct named_lease_args args = {lease, false};
    struct sqlite_change change = {take_lease, &args, NULL, NULL};
    enum err_code code = sqlite_write(state, &change, err);
    if (code == ERR_OK)
        *ret_held = args.held;
    return code;
}

/* ---- questions ---- */

struct keys_args {
    const char *const *keys;
    size_t count;
    bool *ret_known;
};

static enum err_code find_keys(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct keys_args *asked = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_KEY_KNOWN, &statement, err);
    for (size_t i = 0; code == ERR_OK && i < asked->count; i++) {
        sqlite_bind_text(statement, 1, asked->keys[i]);
        int result = sqlite3_step(statement);
        if (result != SQLITE_ROW && result != SQLITE_DONE)
            code = sqlite_failed(connection, result, "find key", err);
        asked->ret_known[i] = result == SQLITE_ROW;
        sqlite3_reset(statement);
    }
    return code;
}

static enum err_code keys_known(void *state, const char *const *keys, size_t count, bool *ret_known,
                                struct err *err)
{
    struct keys_args args = {keys, count, ret_known};
    return sqlite_read(state, find_keys, &args, err);
}

static enum err_code read_secret(struct sqlite_connection *connection, void *args, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_SECRET, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW && sqlite3_column_bytes(statement, 0) == METADATA_SECRET_BYTES)
        memcpy(args, sqlite3_column_blob(statement, 0), METADATA_SECRET_BYTES);
    else if (result == SQLITE_ROW || result == SQLITE_DONE)
        code = err_set_internal(err, ERR_INTERNAL, 0, "secret", "The secret is missing.");
    else
        code = sqlite_failed(connection, result, "secret", err);
    sqlite3_reset(statement);
    return code;
}

static enum err_code secret(void *state, unsigned char ret_secret[32], struct err *err)
{
    return sqlite_read(state, read_secret, ret_secret, err);
}

/* ---- the mark ---- */

static enum err_code find_mark(struct sqlite_connection *connection, void *args, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_MARK_GET, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        const struct str text = {sqlite3_column_blob(statement, 0),
                                 (size_t)sqlite3_column_bytes(statement, 0)};
        if (!str_copy(args, METADATA_MARK_SIZE, text))
            code = err_set_internal(err, ERR_CONFIG, 0, "read mark",
                                    "The database's mark is not one of coffer.");
    } else if (result == SQLITE_DONE) {
        code = err_set_internal(err, ERR_NOT_FOUND, 0, "read mark", "There is no mark.");
    } else {
        code = sqlite_failed(connection, result, "read mark", err);
    }
    sqlite3_reset(statement);
    return code;
}

static enum err_code read_mark(void *state, char ret_text[METADATA_MARK_SIZE], struct err *err)
{
    return sqlite_read(state, find_mark, ret_text, err);
}

struct mark_args {
    const char *expected;
    const char *text;
};

static void bind_mark(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_blob(statement, index, text, (int)strlen(text), SQLITE_STATIC);
}

static enum err_code change_mark(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct mark_args *mark = args;
    bool is_new = *mark->expected == '\0';
    sqlite3_stmt *statement = NULL;
    enum err_code code =
        sqlite_statement(connection, is_new ? SQL_MARK_INSERT : SQL_MARK_UPDATE, &statement, err);
    if (code != ERR_OK)
        return code;
    bind_mark(statement, 1, mark->text);
    if (!is_new)
        bind_mark(statement, 2, mark->expected);
    code = sqlite_finish(connection, statement, "write mark", err);
    if (code == ERR_OK && sqlite3_changes(connection->db) == 0)
        code = err_set(err, ERR_CONFLICT, "write mark", "The mark has changed meanwhile.");
    return code;
}

static enum err_code write_mark(void *state, const char *expected, const char *text,
                                struct err *err)
{
    struct mark_args args = {expected, text};
    const struct sqlite_change change = {change_mark, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

static enum err_code probe(struct sqlite_connection *connection, void *args, struct err *err)
{
    unsigned char secret[METADATA_SECRET_BYTES];
    enum err_code code = read_secret(connection, secret, err);
    explicit_bzero(secret, sizeof secret);
    /* A file system mounted read-only is found without writing. */
    if (code == ERR_OK && faccessat(AT_FDCWD, args, W_OK, AT_EACCESS) != 0)
        code = err_set_internal(err, ERR_METADATA_UNAVAILABLE, errno, "ping",
                                "The database cannot be written.");
    return code;
}

static enum err_code ping(void *state, struct err *err)
{
    struct metadata_sqlite *db = state;
    return sqlite_read(db, probe, db->path, err);
}

/* ---- check ---- */

static const char totals_differ[] =
    "SELECT owner FROM (SELECT owner, count(*) AS n, sum(size) AS b FROM files WHERE status <> 1"
    " GROUP BY owner UNION ALL SELECT '', count(*), coalesce(sum(size), 0) FROM files"
    " WHERE status <> 1) AS counted LEFT JOIN usage USING (owner)"
    " WHERE n IS NOT usage.files OR b IS NOT usage.bytes"
    " UNION ALL SELECT owner FROM usage WHERE (files <> 0 OR bytes <> 0) AND owner <> ''"
    " AND owner NOT IN (SELECT owner FROM files WHERE status <> 1) LIMIT 1";

static const char recount[] =
    "DELETE FROM usage;"
    "INSERT INTO usage SELECT owner, count(*), sum(size) FROM files WHERE status <> 1"
    " GROUP BY owner;"
    "INSERT INTO usage SELECT '', count(*), coalesce(sum(size), 0) FROM files WHERE status <> 1";

/* The first column of the first row as text; "" when there is none. */
static enum err_code first_text(struct sqlite_connection *connection, const char *sql,
                                char target[ERR_MESSAGE_MAX], struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_prepare(connection, sql, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_step(statement);
    target[0] = '\0';
    if (result == SQLITE_ROW)
        snprintf(target, ERR_MESSAGE_MAX, "%.200s",
                 (const char *)sqlite3_column_text(statement, 0));
    else if (result != SQLITE_DONE)
        code = sqlite_failed(connection, result, "check", err);
    sqlite3_finalize(statement);
    return code;
}

static enum err_code check_database(struct sqlite_connection *connection, void *args,
                                    struct err *err)
{
    char text[ERR_MESSAGE_MAX];
    (void)args;
    enum err_code code = first_text(connection, "PRAGMA integrity_check(1)", text, err);
    if (code == ERR_OK && strcmp(text, "ok") != 0)
        return err_set_internal(err, ERR_INTERNAL, 0, "check", "integrity_check: %s", text);
    return code;
}

static enum err_code check_totals(struct sqlite_connection *connection, void *args, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    (void)args;
    enum err_code code = sqlite_prepare(connection, totals_differ, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        code = err_set_internal(err, ERR_INTERNAL, 0, "check",
                                "The kept totals differ from the rows (owner \"%.128s\").",
                                (const char *)sqlite3_column_text(statement, 0));
    else if (result != SQLITE_DONE)
        code = sqlite_failed(connection, result, "check", err);
    sqlite3_finalize(statement);
    return code;
}

static enum err_code recount_totals(struct sqlite_connection *connection, void *args,
                                    struct err *err)
{
    (void)args;
    int result = sqlite3_exec(connection->db, recount, NULL, NULL, NULL);
    return result == SQLITE_OK ? ERR_OK : sqlite_failed(connection, result, "recount", err);
}

static enum err_code check(void *state, bool repair, struct err *err)
{
    struct sqlite_change change = {recount_totals, NULL, NULL, NULL};
    enum err_code code = sqlite_read(state, check_database, NULL, err);
    if (code == ERR_OK && repair)
        code = sqlite_write(state, &change, err);
    return code == ERR_OK ? sqlite_read(state, check_totals, NULL, err) : code;
}

const struct metadata_upkeep sqlite_upkeep = {
    .read_rows = read_rows,
    .mark_expired = mark_expired,
    .keys_known = keys_known,
    .set_status = set_status,
    .purge_requests = purge_requests,
    .lease = lease,
    .secret = secret,
    .read_mark = read_mark,
    .write_mark = write_mark,
    .check = check,
    .ping = ping,
};
