/*
 * Group commit. A thread puts its change into the queue; when nobody leads it leads: it takes what
 * waits, commits it in one transaction, wakes its threads and hands the lead to the first that
 * came in the meantime. So 64 threads share one fsync, and a lone one waits for nobody.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/crash.h"
#include "base/thread.h"
#include "metadata/sqlite/metadata_sqlite.h"

#define CHECKPOINT_WAIT_US (100 * 1000) /* for readers, when the log is too long */

struct sqlite_waiting {
    const struct sqlite_change *change;
    struct err *err;
    enum err_code code;
    int64_t since_ns;
    bool leads; /* its thread is to lead now */
    bool done;
    pthread_cond_t wake;
    struct sqlite_waiting *next;
};

/* The log must stand at its path too, or what is committed into it is lost with the process. */
static bool log_at_path(const struct metadata_sqlite *db, struct stat *ret_stat)
{
    char path[SQLITE_PATH_SIZE + sizeof "-wal"];
    snprintf(path, sizeof path, "%s-wal", db->path);
    return lstat(path, ret_stat) == 0;
}

static bool writer_is_current(const struct metadata_sqlite *db)
{
    struct stat log;
    return sqlite_is_current(db, db->writer) && log_at_path(db, &log) &&
           log.st_ino == db->log.st_ino && log.st_dev == db->log.st_dev;
}

static enum err_code writer_open(struct metadata_sqlite *db, struct err *err)
{
    if (db->writer && !db->writer->broken && writer_is_current(db))
        return ERR_OK;
    sqlite_disconnect(db->writer);
    db->writer = NULL;
    db->checkpointed = 0;
    enum err_code code = sqlite_connect(db, true, &db->writer, err);
    if (code == ERR_CONFIG)
        code = err->code = ERR_METADATA_UNAVAILABLE;
    if (code == ERR_OK && !log_at_path(db, &db->log)) {
        db->writer->broken = true;
        code = err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "open database",
                                "The database has no write-ahead log.");
    }
    return code;
}

/* One change under its own savepoint: its failure takes back itself only. */
static enum err_code run_one(struct sqlite_connection *writer, const struct sqlite_change *change,
                             struct err *err)
{
    struct err ignored;
    enum err_code code = sqlite_simple(writer, SQL_SAVEPOINT, err);
    if (code != ERR_OK)
        return code;
    code = change->run(writer, change->args, err);
    if (sqlite3_get_autocommit(writer->db))
        return code; /* SQLite itself took back the whole transaction */
    if (code != ERR_OK && sqlite_simple(writer, SQL_ROLLBACK_TO, &ignored) != ERR_OK)
        writer->broken = true;
    if (sqlite_simple(writer, SQL_RELEASE, &ignored) != ERR_OK) {
        writer->broken = true;
        if (code == ERR_OK)
            code = (*err = ignored).code;
    }
    return code;
}

static void crash_points(const struct sqlite_waiting *batch, bool committed)
{
    for (; batch; batch = batch->next) {
        const char *name = committed ? batch->change->crash_after : batch->change->crash_before;
        if (name && batch->code == ERR_OK)
            crash_point(name);
    }
}

/* Runs each change; a failure that ended the transaction, or that makes the connection doubtful,
 * ends the batch. */
static enum err_code run_all(struct sqlite_connection *writer, struct sqlite_waiting *batch,
                             struct err *err)
{
    for (; batch; batch = batch->next) {
        batch->code = run_one(writer, batch->change, batch->err);
        if (!sqlite3_get_autocommit(writer->db) && !writer->broken)
            continue;
        if (batch->code == ERR_OK)
            return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "change",
                                    "The transaction was lost.");
        *err = *batch->err;
        return batch->code;
    }
    return ERR_OK;
}

static enum err_code commit(struct metadata_sqlite *db, struct sqlite_waiting *batch,
                            struct err *err)
{
    crash_points(batch, false);
    enum err_code code = sqlite_simple(db->writer, SQL_COMMIT, err);
    if (code == ERR_OK && !writer_is_current(db))
        code = err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "commit",
                                "The database was moved during a commit.");
    if (code != ERR_OK) { /* it may be in the log: recovery after a crash would find it */
        err->outcome_unknown = true;
        return code;
    }
    crash_points(batch, true);
    return ERR_OK;
}

/* Whoever waited longest decides how long the lock is waited for. */
static void set_busy_budget(const struct metadata_sqlite *db, const struct sqlite_waiting *first)
{
    int64_t waited_us = (clock_steady_ns(db->clock) - first->since_ns) / 1000;
    int64_t budget_us = db->busy_timeout_ms * 1000 - waited_us;
    db->writer->busy_budget_us = budget_us > 0 ? budget_us : 0;
}

/* ERR_OK when every change that succeeded is committed. */
static enum err_code try_batch(struct metadata_sqlite *db, struct sqlite_waiting *batch,
                               struct err *err)
{
    struct err ignored;
    set_busy_budget(db, batch);
    enum err_code code = sqlite_simple(db->writer, SQL_BEGIN_IMMEDIATE, err);
    if (code != ERR_OK)
        return code;
    code = run_all(db->writer, batch, err);
    if (code == ERR_OK)
        code = commit(db, batch, err);
    if (!sqlite3_get_autocommit(db->writer->db) &&
        sqlite_simple(db->writer, SQL_ROLLBACK, &ignored) != ERR_OK)
        db->writer->broken = true;
    return code;
}

/* On a full disk the log may be used again from its start, when what it holds is in the database:
 * overwriting takes no room. So deletes go on. */
static bool reuse_log(struct sqlite_connection *writer)
{
    writer->busy_budget_us = CHECKPOINT_WAIT_US;
    return !writer->broken && sqlite3_wal_checkpoint_v2(writer->db, NULL, SQLITE_CHECKPOINT_RESTART,
                                                        NULL, NULL) == SQLITE_OK;
}

/* A commit that failed stays unknown until another one has overwritten it. */
static enum err_code try_again(struct metadata_sqlite *db, struct sqlite_waiting *batch,
                               struct err *err)
{
    bool was_unknown = err->outcome_unknown;
    enum err_code code = try_batch(db, batch, err);
    if (code != ERR_OK)
        err->outcome_unknown |= was_unknown;
    for (; batch; batch = batch->next)
        if (batch->code != ERR_OK)
            batch->err->outcome_unknown |= was_unknown;
    return code;
}

static enum err_code run_batch(struct metadata_sqlite *db, struct sqlite_waiting *batch,
                               struct err *err)
{
    enum err_code code = writer_open(db, err);
    if (code != ERR_OK)
        return code;
    code = try_batch(db, batch, err);
    if (code == ERR_DISK_FULL && reuse_log(db->writer))
        code = try_again(db, batch, err);
    return code;
}

static bool read_free_bytes(const struct metadata_sqlite *db, uint64_t *ret_free_bytes)
{
    struct statvfs stat;
    return statvfs(db->path, &stat) == 0 &&
           !__builtin_mul_overflow((uint64_t)stat.f_bavail, (uint64_t)stat.f_frsize,
                                   ret_free_bytes);
}

enum err_code sqlite_check_space(const struct metadata_sqlite *db, struct err *err)
{
    uint64_t free_bytes = 0;
    if (!read_free_bytes(db, &free_bytes) || free_bytes >= (uint64_t)db->min_free_bytes)
        return ERR_OK;
    return err_set_internal(err, ERR_DISK_FULL, 0, "check space",
                            "Less than MIN_FREE_BYTES are free.");
}

/* How far may the log grow before it is copied back? Where room is scarce, not far: what it takes
 * would be missing for deletes. */
static int checkpoint_interval(const struct metadata_sqlite *db)
{
    uint64_t free_bytes = 0;
    if (!read_free_bytes(db, &free_bytes))
        return SQLITE_CHECKPOINT_PAGES;
    uint64_t ample = (uint64_t)db->min_free_bytes + 2 * SQLITE_CHECKPOINT_PAGES * SQLITE_PAGE_BYTES;
    return free_bytes < ample ? SQLITE_CHECKPOINT_PAGES_SCARCE : SQLITE_CHECKPOINT_PAGES;
}

/* The log is copied into the database by the leader, when its batch has been answered. It waits
 * for nobody, unless readers have kept the log from starting anew for too long. */
static void checkpoint_if_due(struct metadata_sqlite *db)
{
    struct sqlite_connection *writer = db->writer;
    if (!writer || writer->broken)
        return;
    if (writer->log_pages < db->checkpointed)
        db->checkpointed = 0; /* the log has started anew */
    if (writer->log_pages - db->checkpointed < checkpoint_interval(db))
        return;
    bool is_long = writer->log_pages > SQLITE_LOG_MAX_PAGES;
    writer->busy_budget_us = CHECKPOINT_WAIT_US;
    sqlite3_wal_checkpoint_v2(writer->db, NULL,
                              is_long ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE, NULL,
                              NULL);
    db->checkpointed = writer->log_pages;
}

/* With the mutex held: cuts the batch off the queue. */
static struct sqlite_waiting *take_batch(struct metadata_sqlite *db)
{
    struct sqlite_waiting *first = db->queue_first;
    struct sqlite_waiting *last = first;
    for (int i = 1; i < SQLITE_BATCH_MAX && last->next; i++)
        last = last->next;
    db->queue_first = last->next;
    if (!last->next)
        db->queue_last = NULL;
    last->next = NULL;
    return first;
}

/* With the mutex held. A waiting thread may be gone as soon as it is done: `next` is read first. */
static void answer(struct sqlite_waiting *batch, enum err_code code, const struct err *err)
{
    for (struct sqlite_waiting *next = NULL; batch; batch = next) {
        next = batch->next;
        if (code != ERR_OK) {
            batch->code = code;
            *batch->err = *err;
        }
        batch->done = true;
        pthread_cond_signal(&batch->wake);
    }
}

/* With the mutex held, by the first in the queue. */
static void lead(struct metadata_sqlite *db)
{
    struct err err;
    struct sqlite_waiting *batch = take_batch(db);
    pthread_mutex_unlock(&db->queue_mutex);
    enum err_code code = run_batch(db, batch, &err);
    pthread_mutex_lock(&db->queue_mutex);
    answer(batch, code, &err);
    pthread_mutex_unlock(&db->queue_mutex);
    checkpoint_if_due(db);
    pthread_mutex_lock(&db->queue_mutex);
    db->has_leader = db->queue_first != NULL;
    if (db->queue_first) {
        db->queue_first->leads = true;
        pthread_cond_signal(&db->queue_first->wake);
    }
}

enum err_code sqlite_write(struct metadata_sqlite *db, const struct sqlite_change *change,
                           struct err *err)
{
    struct sqlite_waiting waiting = {
        .change = change, .err = err, .since_ns = clock_steady_ns(db->clock)};
    pthread_cond_init(&waiting.wake, NULL);
    pthread_mutex_lock(&db->queue_mutex);
    if (db->queue_last)
        db->queue_last->next = &waiting;
    else
        db->queue_first = &waiting;
    db->queue_last = &waiting;
    if (!db->has_leader) {
        db->has_leader = true;
        waiting.leads = true;
    }
    while (!waiting.done && !waiting.leads)
        pthread_cond_wait(&waiting.wake, &db->queue_mutex);
    if (!waiting.done)
        lead(db);
    pthread_mutex_unlock(&db->queue_mutex);
    pthread_cond_destroy(&waiting.wake);
    return waiting.code;
}

void sqlite_writer_close(struct metadata_sqlite *db)
{
    /* What the log holds goes into the database file, for who copies it while nothing runs. */
    if (db->writer && !db->writer->broken && writer_is_current(db))
        sqlite3_wal_checkpoint_v2(db->writer->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    sqlite_disconnect(db->writer);
    db->writer = NULL;
}

static void end_reader(void *context, void *item)
{
    (void)context;
    sqlite_disconnect(item);
}

enum err_code sqlite_pool_init(struct metadata_sqlite *db, int64_t readers, struct err *err)
{
    const struct pool_options options = {
        .max = (size_t)readers, .idle_max = (size_t)readers, .end = end_reader};
    return pool_init(&db->readers, &options, err);
}

static void give_back(struct metadata_sqlite *db, struct sqlite_connection *connection)
{
    struct sqlite_connection *broken = connection && connection->broken ? connection : NULL;
    pool_give(&db->readers, broken ? NULL : connection);
    sqlite_disconnect(broken);
}

static enum err_code borrow(struct metadata_sqlite *db, struct sqlite_connection **ret_connection,
                            struct err *err)
{
    void *item = NULL;
    enum err_code code = ERR_OK;
    if (!pool_take(&db->readers, db->busy_timeout_ms, &item))
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "wait for reader",
                                "All connections to the database were busy for too long.");
    struct sqlite_connection *connection = item;
    if (connection && !sqlite_is_current(db, connection)) {
        sqlite_disconnect(connection);
        connection = NULL;
    }
    if (!connection)
        code = sqlite_connect(db, false, &connection, err);
    if (code == ERR_CONFIG) /* it was of our schema when the process started */
        code = err->code = ERR_METADATA_UNAVAILABLE;
    if (code != ERR_OK) {
        give_back(db, NULL);
        return code;
    }
    *ret_connection = connection;
    return ERR_OK;
}

enum err_code sqlite_read(struct metadata_sqlite *db, sqlite_operation *run, void *args,
                          struct err *err)
{
    struct sqlite_connection *connection = NULL;
    enum err_code code = borrow(db, &connection, err);
    if (code != ERR_OK)
        return code;
    code = run(connection, args, err);
    give_back(db, connection);
    return code;
}

void sqlite_pool_usage(void *state, struct pool_usage *ret_usage)
{
    struct metadata_sqlite *db = state;
    pool_usage(&db->readers, ret_usage);
}
