/*
 * Private to metadata_sqlite*.c and their tests: one SQLite file DATA_DIR/db/coffer.sqlite in WAL
 * mode, made by init only.
 *
 * Reads borrow a connection of a small pool. Writes go through one connection per process: threads
 * queue their operations, the first in the queue leads and commits all that wait in one
 * transaction (group commit), each operation under its own savepoint.
 *
 * The file may be moved, restored or lost while the process runs. Before each use the file at the
 * path is compared with the one that is open; another one means: close and open anew. No
 * connection checkpoints when it closes (SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE): SQLite would unlink
 * the log *by path*, which may be another database's by then. And nothing here opens the file but
 * SQLite: closing a second descriptor would drop the process's POSIX locks on it.
 */
#ifndef COFFER_METADATA_METADATA_SQLITE_H
#define COFFER_METADATA_METADATA_SQLITE_H

#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/pool.h"
#include "metadata/metadata.h"

#define SQLITE_FOLDER "db"
#define SQLITE_FILE SQLITE_FOLDER "/coffer.sqlite"
#define SQLITE_MARKER "coffer-database" /* in DATA_DIR: there was a database once */
#define SQLITE_APPLICATION 0x436f6672   /* "Cofr", PRAGMA application_id */
#define SQLITE_PATH_SIZE (CONFIG_TEXT_SIZE + 64)

#define SQLITE_BATCH_MAX 256         /* operations in one transaction */
#define SQLITE_CHECKPOINT_PAGES 2000 /* the log is copied into the database each so many pages */
#define SQLITE_CHECKPOINT_PAGES_SCARCE 64
#define SQLITE_PAGE_BYTES 4096
#define SQLITE_LOG_MAX_PAGES 16384 /* above, a checkpoint waits for readers: 64 MiB */

enum sqlite_sql {
    SQL_BEGIN,
    SQL_BEGIN_IMMEDIATE,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_SAVEPOINT,
    SQL_RELEASE,
    SQL_ROLLBACK_TO,
    SQL_FILE_INSERT,
    SQL_FILE_GET,
    SQL_FILE_UPDATE,
    SQL_FILE_MARK_DELETED,
    SQL_FILE_VERSION,
    SQL_FILE_REMOVE,
    SQL_FILE_SET_STATUS,
    SQL_FILE_MARK_EXPIRED,
    SQL_FILE_DELETED,
    SQL_FILE_SCAN,
    SQL_KEY_KNOWN,
    SQL_USAGE,
    SQL_EXPIRED_COUNT,
    SQL_EXPIRED_COUNT_OWNER,
    SQL_TOKEN_INSERT,
    SQL_TOKEN_GET,
    SQL_TOKEN_LIST,
    SQL_TOKEN_REVOKE,
    SQL_REQUEST_GET,
    SQL_REQUEST_TAKE,
    SQL_REQUEST_RENEW,
    SQL_REQUEST_FINISH,
    SQL_REQUEST_RELEASE,
    SQL_REQUEST_PURGE,
    SQL_REQUEST_TRIM,
    SQL_LEASE,
    SQL_SECRET,
    SQL_MARK_GET,
    SQL_MARK_INSERT,
    SQL_MARK_UPDATE,
    SQL_COUNT
};

/* List and count statements differ by what is asked; bits index their cache. */
#define LIST_SORT_MASK 3u
#define LIST_OWNER 4u
#define LIST_PREFIX 8u
#define LIST_MIME 16u
#define LIST_AFTER 32u
#define LIST_NARROW 64u /* at most LIMIT_COUNT rows match: walk the filter's index and sort */
#define LIST_COUNT 128u /* count instead of list */
#define LIST_VARIANTS 256u

struct sqlite_connection {
    sqlite3 *db;
    const struct clock *clock;
    struct stat file;       /* what stood at the path when it was opened */
    bool broken;            /* close it instead of using it again */
    int64_t busy_budget_us; /* how long a busy database is waited for */
    int64_t busy_slept_us;
    int log_pages;
    sqlite3_stmt *statements[SQL_COUNT];
    sqlite3_stmt *lists[LIST_VARIANTS];
};

/* One step inside a transaction or a read; must leave no statement running. */
typedef enum err_code sqlite_operation(struct sqlite_connection *connection, void *args,
                                       struct err *err);

struct sqlite_change {
    sqlite_operation *run;
    void *args;
    const char *crash_before; /* crash points around the commit, or NULL */
    const char *crash_after;
};

struct sqlite_waiting; /* a change in the queue */

struct metadata_sqlite {
    char path[SQLITE_PATH_SIZE];
    const struct clock *clock;
    bool is_durable;
    int64_t busy_timeout_ms;
    int64_t min_free_bytes;

    struct pool readers; /* of connections */

    pthread_mutex_t queue_mutex;
    struct sqlite_waiting *queue_first;
    struct sqlite_waiting *queue_last;
    bool has_leader;
    struct sqlite_connection *writer; /* the leader's; NULL until the first write */
    struct stat log;                  /* the writer's log file */
    int checkpointed;                 /* the leader's: log pages when it was last copied back */
};

/* Fills *err for a result code of SQLite; marks the connection broken when it must be reopened. */
enum err_code sqlite_failed(struct sqlite_connection *connection, int result, const char *operation,
                            struct err *err);
#ifdef __clang_analyzer__ /* which can't see across files that it never is ERR_OK */
#define sqlite_failed(connection, result, operation, err) \
    ((void)(sqlite_failed)(connection, result, operation, err), ERR_METADATA_UNAVAILABLE)
#endif
/* Opens the file at db->path, never making one. ERR_CONFIG for a foreign file or another schema,
 * else ERR_METADATA_UNAVAILABLE. Caller frees with sqlite_disconnect. */
enum err_code sqlite_connect(const struct metadata_sqlite *db, bool is_writer,
                             struct sqlite_connection **ret_connection, struct err *err)
    ERR_MUST_CHECK;
void sqlite_disconnect(struct sqlite_connection *connection);
/* Is the open file still the one at the path? */
bool sqlite_is_current(const struct metadata_sqlite *db,
                       const struct sqlite_connection *connection);
/* A prepared statement, borrowed from the connection's cache; to be reset after use. */
enum err_code sqlite_statement(struct sqlite_connection *connection, enum sqlite_sql sql,
                               sqlite3_stmt **ret_statement, struct err *err) ERR_MUST_CHECK;
enum err_code sqlite_prepare(struct sqlite_connection *connection, const char *sql,
                             sqlite3_stmt **ret_statement, struct err *err) ERR_MUST_CHECK;
/* Runs a statement that gives no rows, and resets it. */
enum err_code sqlite_finish(struct sqlite_connection *connection, sqlite3_stmt *statement,
                            const char *operation, struct err *err) ERR_MUST_CHECK;
/* A statement without parameters and rows. */
enum err_code sqlite_simple(struct sqlite_connection *connection, enum sqlite_sql sql,
                            struct err *err) ERR_MUST_CHECK;
/* Binds text that stays in place until the statement is reset. */
void sqlite_bind_str(sqlite3_stmt *statement, int index, struct str text);
void sqlite_bind_text(sqlite3_stmt *statement, int index, const char *text);
/* Borrowed until the next step or reset. */
struct str sqlite_column(sqlite3_stmt *statement, int index);
/* Copies a text column; false when it does not fit. */
bool sqlite_copy(sqlite3_stmt *statement, int index, char *target, size_t size);
/* The one integer of a PRAGMA or query; -1 on failure. */
int64_t sqlite_number(sqlite3 *db, const char *sql);

/* Runs a read on a borrowed connection. */
enum err_code sqlite_read(struct metadata_sqlite *db, sqlite_operation *run, void *args,
                          struct err *err) ERR_MUST_CHECK;
enum err_code sqlite_pool_init(struct metadata_sqlite *db, int64_t readers, struct err *err)
    ERR_MUST_CHECK;
void sqlite_pool_usage(void *state, struct pool_usage *ret_usage); /* of the readers */
/* Runs a change in a transaction, together with others that wait, and commits it. */
enum err_code sqlite_write(struct metadata_sqlite *db, const struct sqlite_change *change,
                           struct err *err) ERR_MUST_CHECK;
/* For a change that takes space: ERR_DISK_FULL where less than MIN_FREE_BYTES are free. */
enum err_code sqlite_check_space(const struct metadata_sqlite *db, struct err *err) ERR_MUST_CHECK;
void sqlite_writer_close(struct metadata_sqlite *db);

struct sqlite_migration {
    const char *sql; /* brings the schema from the version that is its index to the next */
};

/* Brings the database to version `count`, in one transaction. */
enum err_code sqlite_migrate(sqlite3 *db, const struct sqlite_migration *migrations, int count,
                             struct err *err) ERR_MUST_CHECK;

#define FILE_COLUMNS                                                                       \
    "id, owner, name, mime, sha256, bucket, key, metadata, size, created_ms, updated_ms, " \
    "expires_ms, version, visibility, status, tag, charset"

/* The file in a row of FILE_COLUMNS. ERR_INTERNAL when a value does not fit. */
enum err_code sqlite_row_file(sqlite3_stmt *statement, struct file *ret_file, struct err *err)
    ERR_MUST_CHECK;

/* ---- the slots, by purpose ---- */

extern const struct metadata_files sqlite_files;       /* _files.c */
extern const struct metadata_access sqlite_access;     /* _requests.c */
extern const struct metadata_requests sqlite_requests; /* _requests.c */
extern const struct metadata_upkeep sqlite_upkeep;     /* _requests.c */

/* The statement for a variant of a listing. */
void sqlite_list_sql(unsigned variant, struct buf *out);
/* _requests.c: stores the answer in the change it belongs to. ERR_CONFLICT. */
enum err_code sqlite_store_answer(struct sqlite_connection *connection,
                                  const struct idempotency_answer *answer, int64_t now_ms,
                                  struct err *err) ERR_MUST_CHECK;

#endif
