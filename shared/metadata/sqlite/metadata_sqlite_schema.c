#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metadata/sqlite/metadata_sqlite.h"

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

enum err_code sqlite_check_schema(sqlite3 *db, struct err *err)
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

enum err_code sqlite_init(const struct config *config, const struct clock *clock, struct err *err)
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
