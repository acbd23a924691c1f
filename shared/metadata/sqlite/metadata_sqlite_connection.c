#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "metadata/sqlite/metadata_sqlite.h"

#define READER_CACHE_KIB 1024
#define WRITER_CACHE_KIB 4096

/* About what an answer takes, with its row and index entries. */
#define ANSWER_BYTES                                      \
    "256 + length(CAST(body AS BLOB)) + length(location)" \
    " + 2 * length(key) + length(owner)"

static const char *const sql_texts[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN",
    [SQL_BEGIN_IMMEDIATE] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_SAVEPOINT] = "SAVEPOINT change",
    [SQL_RELEASE] = "RELEASE change",
    [SQL_ROLLBACK_TO] = "ROLLBACK TO change",
    [SQL_FILE_INSERT] = "INSERT INTO files (" FILE_COLUMNS ") VALUES"
                        " (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)",
    [SQL_FILE_GET] = "SELECT " FILE_COLUMNS " FROM files WHERE id = ?1 AND status <> 1"
                     " AND (expires_ms = 0 OR expires_ms > ?2)",
    [SQL_FILE_UPDATE] = "UPDATE files SET name = ?3, metadata = ?4, visibility = ?5,"
                        " expires_ms = ?6, updated_ms = ?7, status = ?8, version = ?9"
                        " WHERE id = ?1 AND version = ?2 AND status <> 1"
                        " AND (expires_ms = 0 OR expires_ms > ?7)",
    [SQL_FILE_MARK_DELETED] = "UPDATE files SET status = 1, updated_ms = ?2, version = version + 1"
                              " WHERE id = ?1 AND status <> 1"
                              " AND (expires_ms = 0 OR expires_ms > ?2)"
                              " AND (?3 = 0 OR version = ?3) AND (?4 = '' OR owner = ?4)",
    [SQL_FILE_VERSION] = "SELECT version FROM files WHERE id = ?1 AND status <> 1"
                         " AND (expires_ms = 0 OR expires_ms > ?2) AND (?3 = '' OR owner = ?3)",
    [SQL_FILE_REMOVE] = "DELETE FROM files WHERE id = ?1 AND status = 1",
    [SQL_FILE_SET_STATUS] = "UPDATE files SET status = ?2, version = version + 1"
                            " WHERE id = ?1 AND status <> 1",
    [SQL_FILE_MARK_EXPIRED] = "UPDATE files SET status = 1, updated_ms = ?1, version = version + 1"
                              " WHERE id IN (SELECT id FROM files INDEXED BY files_expires"
                              " WHERE status <> 1 AND expires_ms > 0 AND expires_ms <= ?1"
                              " ORDER BY expires_ms LIMIT ?2)",
    [SQL_FILE_DELETED] = "SELECT " FILE_COLUMNS " FROM files INDEXED BY files_deleted"
                         " WHERE status = 1 AND (updated_ms, id) > (?1, ?2)"
                         " ORDER BY updated_ms, id LIMIT ?3",
    [SQL_FILE_SCAN] = "SELECT " FILE_COLUMNS " FROM files WHERE id > ?1 ORDER BY id LIMIT ?2",
    [SQL_KEY_KNOWN] = "SELECT 1 FROM files WHERE key = ?1",
    [SQL_USAGE] = "SELECT files FROM usage WHERE owner = ?1",
    [SQL_EXPIRED_COUNT] = "SELECT count(*) FROM files INDEXED BY files_expires"
                          " WHERE status <> 1 AND expires_ms > 0 AND expires_ms <= ?2",
    [SQL_EXPIRED_COUNT_OWNER] = "SELECT count(*) FROM files INDEXED BY files_owner_expires"
                                " WHERE status <> 1 AND owner = ?1 AND expires_ms > 0"
                                " AND expires_ms <= ?2",
    [SQL_TOKEN_INSERT] = "INSERT INTO tokens VALUES (?1,?2,?3,?4,?5,?6,?7)",
    [SQL_TOKEN_GET] = "SELECT id, owner, digest, scopes, created_ms, expires_ms, revoked_ms"
                      " FROM tokens WHERE id = ?1",
    [SQL_TOKEN_LIST] = "SELECT id, owner, digest, scopes, created_ms, expires_ms, revoked_ms"
                       " FROM tokens WHERE id > ?1 ORDER BY id LIMIT ?2",
    [SQL_TOKEN_REVOKE] = "UPDATE tokens SET revoked_ms = CASE revoked_ms WHEN 0 THEN ?2"
                         " ELSE revoked_ms END WHERE id = ?1",
    [SQL_REQUEST_GET] = "SELECT nonce, lease_until_ms, touched_ms, status, fingerprint, location,"
                        " etag, body FROM requests WHERE owner = ?1 AND key = ?2",
    [SQL_REQUEST_TAKE] = "INSERT INTO requests VALUES (?1,?2,?3,?4,?5,'',0,'','','')"
                         " ON CONFLICT (owner, key) DO UPDATE SET nonce = ?3, lease_until_ms = ?4,"
                         " touched_ms = ?5, fingerprint = '', status = 0, location = '',"
                         " etag = '', body = ''",
    [SQL_REQUEST_RENEW] = "UPDATE requests SET lease_until_ms = ?4"
                          " WHERE owner = ?1 AND key = ?2 AND nonce = ?3 AND status = 0",
    [SQL_REQUEST_FINISH] = "UPDATE requests SET touched_ms = ?4, fingerprint = ?5, status = ?6,"
                           " location = ?7, etag = ?8, body = ?9"
                           " WHERE owner = ?1 AND key = ?2 AND nonce = ?3 AND status = 0",
    [SQL_REQUEST_RELEASE] = "DELETE FROM requests"
                            " WHERE owner = ?1 AND key = ?2 AND nonce = ?3 AND status = 0",
    [SQL_REQUEST_PURGE] = "DELETE FROM requests WHERE rowid IN (SELECT rowid FROM requests"
                          " INDEXED BY requests_touched WHERE touched_ms <= ?1 LIMIT ?2)",
    [SQL_REQUEST_TRIM] =
        "DELETE FROM requests WHERE rowid IN (SELECT id FROM (SELECT rowid AS id,"
        " row_number() OVER newest AS keys, sum(" ANSWER_BYTES ") OVER newest AS bytes"
        " FROM requests WHERE owner = ?1 AND status <> 0 WINDOW newest AS"
        " (ORDER BY touched_ms DESC, rowid DESC ROWS UNBOUNDED PRECEDING))"
        " WHERE keys > ?2 OR bytes > ?3)",
    [SQL_LEASE] = "INSERT INTO leases VALUES (?1,?2,?3) ON CONFLICT (name)"
                  " DO UPDATE SET holder = ?2, until_ms = ?3 WHERE holder = ?2 OR until_ms <= ?4"
                  " OR until_ms > ?5",
    [SQL_SECRET] = "SELECT value FROM settings WHERE name = 'secret'",
    [SQL_MARK_GET] = "SELECT value FROM settings WHERE name = 'installation'",
    [SQL_MARK_INSERT] = "INSERT INTO settings VALUES ('installation', ?1)"
                        " ON CONFLICT (name) DO NOTHING",
    [SQL_MARK_UPDATE] = "UPDATE settings SET value = ?1"
                        " WHERE name = 'installation' AND value = ?2",
};

enum err_code(sqlite_failed)(struct sqlite_connection *connection, int result,
                             const char *operation, struct err *err)
{
    int os_errno = sqlite3_system_errno(connection->db);
    const char *text = sqlite3_errstr(result);
    switch (result & 0xff) {
    case SQLITE_FULL:
        return err_set_internal(err, ERR_DISK_FULL, os_errno, operation, "The disk is full.");
    case SQLITE_NOMEM:
        return err_set_internal(err, ERR_NO_MEMORY, 0, operation, "Out of memory.");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, operation,
                                "The database was locked for too long (%s).", text);
    case SQLITE_IOERR:
        connection->broken = true;
        /* A failed sync is no "disk full": whether the commit holds is unknown then. */
        if (result != SQLITE_IOERR_FSYNC && (os_errno == ENOSPC || os_errno == EDQUOT))
            return err_set_internal(err, ERR_DISK_FULL, os_errno, operation, "The disk is full.");
        break;
    case SQLITE_CANTOPEN:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_READONLY:
    case SQLITE_PROTOCOL:
    case SQLITE_PERM:
        connection->broken = true;
        break;
    default:
        return err_set_internal(err, ERR_INTERNAL, os_errno, operation, "SQLite: %s (%d).", text,
                                result);
    }
    return err_set_internal(err, ERR_METADATA_UNAVAILABLE, os_errno, operation,
                            "The database cannot be used: %s (%d).", text, result);
}

/* Short sleeps: the lock is held for one commit, and SQLite's own steps of up to 100 ms would let
 * a busy process shut out the others. */
static int wait_while_busy(void *context, int count)
{
    struct sqlite_connection *connection = context;
    if (count == 0)
        connection->busy_slept_us = 0;
    if (connection->busy_slept_us >= connection->busy_budget_us)
        return 0;
    unsigned char random = 0;
    clock_random(connection->clock, &random, 1);
    int64_t us = (count < 100 ? 200 : 1000) + random * 4;
    struct timespec pause = {.tv_nsec = (long)us * 1000};
    nanosleep(&pause, NULL);
    connection->busy_slept_us += us;
    return 1;
}

static int note_log_pages(void *context, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    ((struct sqlite_connection *)context)->log_pages = pages;
    return SQLITE_OK;
}

static bool file_at_path(const struct metadata_sqlite *db, struct stat *ret_stat)
{
    return lstat(db->path, ret_stat) == 0 && S_ISREG(ret_stat->st_mode);
}

bool sqlite_is_current(const struct metadata_sqlite *db, const struct sqlite_connection *connection)
{
    struct stat stat;
    return file_at_path(db, &stat) && stat.st_ino == connection->file.st_ino &&
           stat.st_dev == connection->file.st_dev;
}

static enum err_code set_up(const struct metadata_sqlite *db, bool is_writer,
                            struct sqlite_connection *connection, struct err *err)
{
    char pragmas[320];
    sqlite3_extended_result_codes(connection->db, 1);
    sqlite3_busy_handler(connection->db, wait_while_busy, connection);
    sqlite3_wal_hook(connection->db, note_log_pages, connection);
    sqlite3_db_config(connection->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(connection->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    snprintf(pragmas, sizeof pragmas,
             "PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY;"
             "PRAGMA synchronous=%s; PRAGMA cache_size=-%d; PRAGMA journal_size_limit=%d;"
             "PRAGMA query_only=%d",
             db->is_durable ? "FULL" : "NORMAL", is_writer ? WRITER_CACHE_KIB : READER_CACHE_KIB,
             SQLITE_LOG_MAX_PAGES * SQLITE_PAGE_BYTES, !is_writer);
    int result = sqlite3_exec(connection->db, pragmas, NULL, NULL, NULL);
    if (result != SQLITE_OK)
        return sqlite_failed(connection, result, "set up", err);
    return sqlite_check_schema(connection->db, err);
}

enum err_code sqlite_connect(const struct metadata_sqlite *db, bool is_writer,
                             struct sqlite_connection **ret_connection, struct err *err)
{
    struct sqlite_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "open database", "Out of memory.");
    connection->clock = db->clock;
    connection->busy_budget_us = db->busy_timeout_ms * 1000;
    enum err_code code = ERR_OK;
    int result = SQLITE_OK;
    if (!file_at_path(db, &connection->file))
        code = err_set_internal(err, ERR_METADATA_UNAVAILABLE, errno, "open database",
                                "The database is not there.");
    if (code == ERR_OK)
        result = sqlite3_open_v2(db->path, &connection->db,
                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result != SQLITE_OK)
        code = sqlite_failed(connection, result, "open database", err);
    if (code == ERR_OK)
        code = set_up(db, is_writer, connection, err);
    if (code == ERR_OK && !sqlite_is_current(db, connection))
        code = err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "open database",
                                "The database was replaced just now.");
    if (code != ERR_OK) {
        sqlite_disconnect(connection);
        return code;
    }
    *ret_connection = connection;
    return ERR_OK;
}

void sqlite_disconnect(struct sqlite_connection *connection)
{
    if (!connection)
        return;
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(connection->statements[i]);
    for (size_t i = 0; i < LIST_VARIANTS; i++)
        sqlite3_finalize(connection->lists[i]);
    sqlite3_close(connection->db);
    free(connection);
}

enum err_code sqlite_prepare(struct sqlite_connection *connection, const char *sql,
                             sqlite3_stmt **ret_statement, struct err *err)
{
    int result =
        sqlite3_prepare_v3(connection->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_statement, NULL);
    return result == SQLITE_OK ? ERR_OK : sqlite_failed(connection, result, "prepare", err);
}

enum err_code sqlite_statement(struct sqlite_connection *connection, enum sqlite_sql sql,
                               sqlite3_stmt **ret_statement, struct err *err)
{
    enum err_code code = ERR_OK;
    if (!connection->statements[sql])
        code = sqlite_prepare(connection, sql_texts[sql], &connection->statements[sql], err);
    if (code == ERR_OK)
        *ret_statement = connection->statements[sql];
    return code;
}

enum err_code sqlite_finish(struct sqlite_connection *connection, sqlite3_stmt *statement,
                            const char *operation, struct err *err)
{
    int result = sqlite3_step(statement);
    enum err_code code = result == SQLITE_DONE || result == SQLITE_ROW
                             ? ERR_OK
                             : sqlite_failed(connection, result, operation, err);
    sqlite3_reset(statement);
    return code;
}

enum err_code sqlite_simple(struct sqlite_connection *connection, enum sqlite_sql sql,
                            struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, sql, &statement, err);
    return code == ERR_OK ? sqlite_finish(connection, statement, sql_texts[sql], err) : code;
}

void sqlite_bind_str(sqlite3_stmt *statement, int index, struct str text)
{
    sqlite3_bind_text(statement, index, text.data ? text.data : "", (int)text.len, SQLITE_STATIC);
}

void sqlite_bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
}

struct str sqlite_column(sqlite3_stmt *statement, int index)
{
    const void *text = sqlite3_column_text(statement, index);
    return (struct str){text, (size_t)sqlite3_column_bytes(statement, index)};
}

bool sqlite_copy(sqlite3_stmt *statement, int index, char *target, size_t size)
{
    return str_copy(target, size, sqlite_column(statement, index));
}

int64_t sqlite_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return number;
}
