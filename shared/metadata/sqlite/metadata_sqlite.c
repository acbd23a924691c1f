#include "metadata/sqlite/metadata_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "metadata/metadata_drivers.h"

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

static enum err_code sqlite_check_schema(sqlite3 *db, struct err *err);

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

#define NEW_SUFFIX ".new"

/*
 * Version 1. Status 1 is FILE_DELETED: every index a reader walks leaves such rows out. Each sort
 * has an index with and without the owner, ending in the id that breaks ties and in expires_ms
 * (for names also in the type, which may be asked for together with a prefix), so that rows are
 * passed over without being read. `usage` holds the kept totals of rows that are not marked
 * deleted, per owner and (owner '') of all; triggers move them in the row's transaction.
 */
static const char version_1[] =
    "CREATE TABLE settings (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT,"
    " WITHOUT ROWID;"
    "CREATE TABLE files ("
    " id TEXT PRIMARY KEY NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, mime TEXT NOT NULL,"
    " sha256 TEXT NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL UNIQUE,"
    " metadata TEXT NOT NULL, size INTEGER NOT NULL CHECK (size >= 0),"
    " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,"
    " version INTEGER NOT NULL, visibility INTEGER NOT NULL, status INTEGER NOT NULL) STRICT;"
    "CREATE INDEX files_created ON files (created_ms, id, expires_ms) WHERE status <> 1;"
    "CREATE INDEX files_name ON files (name, id, expires_ms, mime) WHERE status <> 1;"
    "CREATE INDEX files_size ON files (size, id, expires_ms) WHERE status <> 1;"
    "CREATE INDEX files_mime ON files (mime, created_ms, id, expires_ms) WHERE status <> 1;"
    "CREATE INDEX files_owner_created ON files (owner, created_ms, id, expires_ms)"
    " WHERE status <> 1;"
    "CREATE INDEX files_owner_name ON files (owner, name, id, expires_ms, mime)"
    " WHERE status <> 1;"
    "CREATE INDEX files_owner_size ON files (owner, size, id, expires_ms) WHERE status <> 1;"
    "CREATE INDEX files_owner_mime ON files (owner, mime, created_ms, id, expires_ms)"
    " WHERE status <> 1;"
    "CREATE INDEX files_expires ON files (expires_ms) WHERE status <> 1 AND expires_ms > 0;"
    "CREATE INDEX files_owner_expires ON files (owner, expires_ms)"
    " WHERE status <> 1 AND expires_ms > 0;"
    "CREATE INDEX files_deleted ON files (updated_ms, id) WHERE status = 1;"
    "CREATE TABLE usage (owner TEXT PRIMARY KEY NOT NULL, files INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO usage VALUES ('', 0, 0);"
    "CREATE TRIGGER files_count_insert AFTER INSERT ON files WHEN new.status <> 1 BEGIN"
    " UPDATE usage SET files = files + 1, bytes = bytes + new.size WHERE owner = '';"
    " INSERT INTO usage VALUES (new.owner, 1, new.size) ON CONFLICT (owner)"
    "  DO UPDATE SET files = files + 1, bytes = bytes + new.size;"
    "END;"
    "CREATE TRIGGER files_count_mark AFTER UPDATE OF status ON files"
    " WHEN old.status <> 1 AND new.status = 1 BEGIN"
    " UPDATE usage SET files = files - 1, bytes = bytes - old.size"
    "  WHERE owner IN ('', old.owner);"
    "END;"
    "CREATE TRIGGER files_count_delete AFTER DELETE ON files WHEN old.status <> 1 BEGIN"
    " UPDATE usage SET files = files - 1, bytes = bytes - old.size"
    "  WHERE owner IN ('', old.owner);"
    "END;"
    "CREATE TABLE tokens (id TEXT PRIMARY KEY NOT NULL, owner TEXT NOT NULL,"
    " digest BLOB NOT NULL, scopes INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    " expires_ms INTEGER NOT NULL, revoked_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE requests (owner TEXT NOT NULL, key TEXT NOT NULL, nonce TEXT NOT NULL,"
    " lease_until_ms INTEGER NOT NULL, touched_ms INTEGER NOT NULL, fingerprint TEXT NOT NULL,"
    " status INTEGER NOT NULL, location TEXT NOT NULL, etag TEXT NOT NULL, body TEXT NOT NULL,"
    " UNIQUE (owner, key)) STRICT;"
    "CREATE INDEX requests_touched ON requests (touched_ms);"
    "CREATE TABLE leases (name TEXT PRIMARY KEY NOT NULL, holder TEXT NOT NULL,"
    " until_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/* Version 2: the store's tag of the content, where the store has such. */
static const char version_2[] = "ALTER TABLE files ADD COLUMN tag TEXT NOT NULL DEFAULT '';";

/* Version 3: the charset of text files. */
static const char version_3[] = "ALTER TABLE files ADD COLUMN charset TEXT NOT NULL DEFAULT '';";

static const struct sqlite_migration migrations[] = {{version_1}, {version_2}, {version_3}};
#define SCHEMA_VERSION ((int)(sizeof migrations / sizeof migrations[0]))

static enum err_code schema_failed(sqlite3 *db, int result, const char *operation, struct err *err)
{
    if ((result & 0xff) == SQLITE_FULL)
        return err_set_internal(err, ERR_DISK_FULL, 0, operation, "The disk is full.");
    return err_set_internal(err, ERR_METADATA_UNAVAILABLE, sqlite3_system_errno(db), operation,
                            "The database cannot be used: %s.", sqlite3_errmsg(db));
}

/* ERR_CONFIG for a foreign database or another version, saying which way. */
static enum err_code sqlite_check_schema(sqlite3 *db, struct err *err)
{
    int64_t application = sqlite_number(db, "PRAGMA application_id");
    int64_t version = sqlite_number(db, "PRAGMA user_version");
    if (application < 0 || version < 0)
        return schema_failed(db, SQLITE_ERROR, "check schema", err);
    if (application != SQLITE_APPLICATION)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "DATA_DIR/" SQLITE_FILE " is not a database of coffer.");
    if (version > SCHEMA_VERSION)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "DATA_DIR/" SQLITE_FILE " was written by a newer version of "
                                "coffer (schema %d, this one knows %d).",
                                (int)version, SCHEMA_VERSION);
    if (version < SCHEMA_VERSION)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "DATA_DIR/" SQLITE_FILE " has an older schema (%d, wanted %d): "
                                "run `coffer init`.",
                                (int)version, SCHEMA_VERSION);
    int64_t len = sqlite_number(db, "SELECT length(value) FROM settings WHERE name = 'secret'");
    int result = sqlite3_errcode(db) & 0xff;
    if (len < 0 && result != SQLITE_OK && result != SQLITE_DONE)
        return schema_failed(db, result, "check schema", err);
    if (len != METADATA_SECRET_BYTES)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "DATA_DIR/" SQLITE_FILE " has lost its secret: restore it from a "
                                "backup.");
    return ERR_OK;
}

static int apply(sqlite3 *db, const struct sqlite_migration *steps, int count)
{
    char pragmas[96];
    int result = SQLITE_OK;
    int version = (int)sqlite_number(db, "PRAGMA user_version");
    for (int i = version; result == SQLITE_OK && i >= 0 && i < count; i++)
        result = sqlite3_exec(db, steps[i].sql, NULL, NULL, NULL);
    snprintf(pragmas, sizeof pragmas, "PRAGMA user_version=%d; PRAGMA application_id=%d", count,
             SQLITE_APPLICATION);
    return result == SQLITE_OK ? sqlite3_exec(db, pragmas, NULL, NULL, NULL) : result;
}

enum err_code sqlite_migrate(sqlite3 *db, const struct sqlite_migration *steps, int count,
                             struct err *err)
{
    int result = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (result == SQLITE_OK)
        result = apply(db, steps, count);
    if (result == SQLITE_OK)
        result = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    if (result == SQLITE_OK)
        return ERR_OK;
    enum err_code code = schema_failed(db, result, "migrate", err);
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

/* ---- init ---- */

struct init {
    char path[SQLITE_PATH_SIZE]; /* the database */
    char path_new[SQLITE_PATH_SIZE];
    int data_fd;
    int64_t busy_timeout_ms;
    const struct clock *clock;
};

static enum err_code init_failed(struct err *err, int os_errno, const char *operation)
{
    return err_set_internal(err, ERR_CONFIG, os_errno, operation,
                            "DATA_DIR/" SQLITE_FILE " cannot be made: %s.", strerror(os_errno));
}

static enum err_code write_secret(sqlite3 *db, const struct clock *clock, struct err *err)
{
    unsigned char secret[METADATA_SECRET_BYTES];
    sqlite3_stmt *statement = NULL;
    clock_random(clock, secret, sizeof secret);
    int result =
        sqlite3_prepare_v2(db, "INSERT INTO settings VALUES ('secret', ?1)", -1, &statement, NULL);
    if (result == SQLITE_OK) {
        sqlite3_bind_blob(statement, 1, secret, sizeof secret, SQLITE_STATIC);
        result = sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
    explicit_bzero(secret, sizeof secret);
    return result == SQLITE_DONE ? ERR_OK : schema_failed(db, result, "write secret", err);
}

static enum err_code fill_new(sqlite3 *db, const struct clock *clock, struct err *err)
{
    enum err_code code = sqlite_migrate(db, migrations, SCHEMA_VERSION, err);
    if (code == ERR_OK)
        code = write_secret(db, clock, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_exec(db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
    return result == SQLITE_OK ? ERR_OK : schema_failed(db, result, "journal_mode", err);
}

/* The whole database under another name, then renamed: it is there at once or not at all. */
static enum err_code make_database(const struct init *init, struct err *err)
{
    sqlite3 *db = NULL;
    int fd = open(init->path_new, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return init_failed(err, errno, "make database");
    enum err_code code = ERR_OK;
    int result = sqlite3_open_v2(init->path_new, &db, SQLITE_OPEN_READWRITE, NULL);
    if (fchmod(fd, 0600) != 0 || result != SQLITE_OK)
        code = init_failed(err, errno, "open database");
    if (code == ERR_OK)
        code = fill_new(db, init->clock, err);
    if (sqlite3_close(db) != SQLITE_OK && code == ERR_OK)
        code = init_failed(err, EIO, "close database");
    if (code == ERR_OK && (fsync(fd) != 0 || rename(init->path_new, init->path) != 0))
        code = init_failed(err, errno, "rename database");
    close(fd);
    int folder_fd = openat(init->data_fd, SQLITE_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (code == ERR_OK && (folder_fd < 0 || fsync(folder_fd) != 0))
        code = init_failed(err, errno, "fsync");
    if (folder_fd >= 0)
        close(folder_fd);
    return code;
}

static enum err_code migrate_existing(const struct init *init, struct err *err)
{
    sqlite3 *db = NULL;
    enum err_code code = ERR_OK;
    int result = sqlite3_open_v2(init->path, &db, SQLITE_OPEN_READWRITE, NULL);
    sqlite3_busy_timeout(db, (int)init->busy_timeout_ms);
    if (result != SQLITE_OK)
        code = schema_failed(db, result, "open database", err);
    if (code == ERR_OK)
        code = sqlite_check_schema(db, err);
    if (code == ERR_OK) {
        code = err_set_internal(err, ERR_EXISTS, 0, "init", "The database is there already.");
    } else if (code == ERR_CONFIG &&
               sqlite_number(db, "PRAGMA application_id") == SQLITE_APPLICATION &&
               sqlite_number(db, "PRAGMA user_version") < SCHEMA_VERSION) {
        code = sqlite_migrate(db, migrations, SCHEMA_VERSION, err);
    }
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(db);
    return code;
}

/* From here on a missing database is a loss, never a first start. */
static enum err_code write_marker(const struct init *init, struct err *err)
{
    int fd =
        openat(init->data_fd, SQLITE_MARKER, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        return init_failed(err, errno, "make marker");
    bool synced = fsync(fd) == 0 && fsync(init->data_fd) == 0;
    int os_errno = errno;
    close(fd);
    return synced ? ERR_OK : init_failed(err, os_errno, "fsync marker");
}

static bool exists_at(int dir_fd, const char *name)
{
    struct stat stat;
    return fstatat(dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0;
}

static enum err_code init_locked(const struct init *init, struct err *err)
{
    struct err ignored;
    if (exists_at(init->data_fd, SQLITE_FILE)) {
        enum err_code code = migrate_existing(init, err);
        if (code == ERR_OK || code == ERR_EXISTS)
            if (write_marker(init, &ignored) != ERR_OK)
                return *err = ignored, ignored.code;
        return code;
    }
    if (exists_at(init->data_fd, SQLITE_MARKER) || exists_at(init->data_fd, SQLITE_FILE "-wal"))
        return err_set_internal(err, ERR_CONFIG, 0, "init",
                                "DATA_DIR/" SQLITE_FILE " is gone: restore it. An empty one in "
                                "its place would let the sweep take all files.");
    enum err_code code = make_database(init, err);
    return code == ERR_OK ? write_marker(init, err) : code;
}

/* Where the bytes are kept elsewhere, nobody else makes these folders. */
static enum err_code make_folders(const struct config *config, struct err *err)
{
    char folder[SQLITE_PATH_SIZE];
    snprintf(folder, sizeof folder, "%s/" SQLITE_FOLDER, config->data_dir);
    if (mkdir(config->data_dir, 0750) != 0 && errno != EEXIST)
        return init_failed(err, errno, "make DATA_DIR");
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return init_failed(err, errno, "make folder");
    return ERR_OK;
}

static enum err_code sqlite_init(const struct config *config, const struct clock *clock,
                                 struct err *err)
{
    enum err_code code = make_folders(config, err);
    if (code != ERR_OK)
        return code;
    struct init init = {.clock = clock, .busy_timeout_ms = config->sqlite_busy_timeout_ms};
    snprintf(init.path, sizeof init.path, "%s/" SQLITE_FILE, config->data_dir);
    snprintf(init.path_new, sizeof init.path_new, "%s/" SQLITE_FILE NEW_SUFFIX, config->data_dir);
    init.data_fd = open(config->data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (init.data_fd < 0)
        return init_failed(err, errno, "open DATA_DIR");
    code = flock(init.data_fd, LOCK_EX) == 0 ? init_locked(&init, err)
                                             : init_failed(err, errno, "flock");
    close(init.data_fd);
    return code;
}

/* Before SQLite's first use in the process: each connection is used by one thread at a time, and
 * its memory statistics would be a lock that all threads share. */
static void configure_sqlite(void)
{
    sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static void sqlite_close(void *state)
{
    struct metadata_sqlite *db = state;
    if (!db)
        return;
    sqlite_writer_close(db);
    pool_release(&db->readers);
    pthread_mutex_destroy(&db->queue_mutex);
    free(db);
}

/* A database that is away comes back; one of another schema does not. */
static enum err_code open_first_reader(struct metadata_sqlite *db, struct err *err)
{
    void *item = NULL;
    struct sqlite_connection *connection = NULL;
    bool has_place = pool_take(&db->readers, 0, &item); /* nobody else knows the pool yet */
    enum err_code code = sqlite_connect(db, false, &connection, err);
    if (has_place)
        pool_give(&db->readers, connection);
    return code == ERR_CONFIG ? code : ERR_OK;
}

static enum err_code sqlite_open(void **ret_state, const struct config *config,
                                 const struct clock *clock, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, configure_sqlite);
    struct metadata_sqlite *db = calloc(1, sizeof *db);
    if (!db)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "metadata_open", "Out of memory.");
    snprintf(db->path, sizeof db->path, "%s/" SQLITE_FILE, config->data_dir);
    db->clock = clock;
    db->is_durable = config->durability == DURABILITY_FULL;
    db->busy_timeout_ms = config->sqlite_busy_timeout_ms;
    db->min_free_bytes = config->min_free_bytes;
    pthread_mutex_init(&db->queue_mutex, NULL);
    int64_t readers = config->sqlite_readers > 0 ? config->sqlite_readers : 1;
    enum err_code code = sqlite_pool_init(db, readers, err);
    if (code == ERR_OK)
        code = open_first_reader(db, err);
    if (code != ERR_OK) {
        sqlite_close(db);
        return code;
    }
    *ret_state = db;
    return ERR_OK;
}

const struct metadata_driver metadata_sqlite_driver = {
    .name = "sqlite",
    .metric_index = 0,
    .init = sqlite_init,
    .open = sqlite_open,
    .close = sqlite_close,
    .connections = sqlite_pool_usage,
    .files = &sqlite_files,
    .access = &sqlite_access,
    .requests = &sqlite_requests,
    .upkeep = &sqlite_upkeep,
};
