/* Every call that SQLite makes to the system while a change runs fails in turn (ABUSE F16, F17): once, or
 * from then on until the end of the call. */
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "store.h"

#define NOW STORE_NOW_MS
#define EXPIRES (NOW + 1000) /* the first row */
#define CALLS_MAX 300        /* of one change; more are a loop */

/* ---- a file system between SQLite and the system's ---- */

/* Counted calls, of any thread, until the first that fails; those after it fail too when `lasts`. */
static atomic_int calls_left;
static atomic_bool is_set;
static atomic_bool has_failed;
static atomic_bool lasts;

static bool fails_now(void)
{
    if (!atomic_load(&is_set))
        return false;
    if (atomic_fetch_sub(&calls_left, 1) == 1)
        atomic_store(&has_failed, true);
    else if (!atomic_load(&has_failed) || !atomic_load(&lasts))
        return false;
    return true;
}

static void set_fault(int nth, bool should_last)
{
    atomic_store(&calls_left, nth);
    atomic_store(&has_failed, false);
    atomic_store(&lasts, should_last);
    atomic_store(&is_set, true);
}

/* Was a call made to fail? */
static bool clear_fault(void)
{
    atomic_store(&is_set, false);
    return atomic_load(&has_failed);
}

/* The system's file lies behind this one. */
struct faulty_file {
    sqlite3_file base;
    sqlite3_file *real;
};

static sqlite3_file *real_file(sqlite3_file *file)
{
    return ((struct faulty_file *)file)->real;
}

static int faulty_close(sqlite3_file *file)
{
    return real_file(file)->pMethods->xClose(real_file(file));
}

static int faulty_read(sqlite3_file *file, void *target, int len, sqlite3_int64 at)
{
    return fails_now() ? SQLITE_IOERR_READ
                       : real_file(file)->pMethods->xRead(real_file(file), target, len, at);
}

static int faulty_write(sqlite3_file *file, const void *data, int len, sqlite3_int64 at)
{
    return fails_now() ? SQLITE_IOERR_WRITE
                       : real_file(file)->pMethods->xWrite(real_file(file), data, len, at);
}

static int faulty_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return fails_now() ? SQLITE_IOERR_TRUNCATE
                       : real_file(file)->pMethods->xTruncate(real_file(file), size);
}

static int faulty_sync(sqlite3_file *file, int flags)
{
    return fails_now() ? SQLITE_IOERR_FSYNC
                       : real_file(file)->pMethods->xSync(real_file(file), flags);
}

static int faulty_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    return fails_now() ? SQLITE_IOERR_FSTAT
                       : real_file(file)->pMethods->xFileSize(real_file(file), ret_size);
}

static int faulty_lock(sqlite3_file *file, int lock)
{
    return fails_now() ? SQLITE_IOERR_LOCK
                       : real_file(file)->pMethods->xLock(real_file(file), lock);
}

static int faulty_unlock(sqlite3_file *file, int lock)
{
    return real_file(file)->pMethods->xUnlock(real_file(file), lock);
}

static int faulty_check_lock(sqlite3_file *file, int *ret_is_locked)
{
    return real_file(file)->pMethods->xCheckReservedLock(real_file(file), ret_is_locked);
}

static int faulty_control(sqlite3_file *file, int operation, void *argument)
{
    return real_file(file)->pMethods->xFileControl(real_file(file), operation, argument);
}

static int faulty_sector_size(sqlite3_file *file)
{
    return real_file(file)->pMethods->xSectorSize(real_file(file));
}

static int faulty_characteristics(sqlite3_file *file)
{
    return real_file(file)->pMethods->xDeviceCharacteristics(real_file(file));
}

static int faulty_shm_map(sqlite3_file *file, int region, int size, int extend,
                          void volatile **ret_memory)
{
    return fails_now() ? SQLITE_IOERR_SHMMAP
                       : real_file(file)->pMethods->xShmMap(real_file(file), region, size, extend,
                                                            ret_memory);
}

static int faulty_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    if ((flags & SQLITE_SHM_LOCK) && fails_now())
        return SQLITE_IOERR_SHMLOCK;
    return real_file(file)->pMethods->xShmLock(real_file(file), offset, count, flags);
}

static void faulty_shm_barrier(sqlite3_file *file)
{
    real_file(file)->pMethods->xShmBarrier(real_file(file));
}

static int faulty_shm_unmap(sqlite3_file *file, int remove)
{
    return real_file(file)->pMethods->xShmUnmap(real_file(file), remove);
}

static const sqlite3_io_methods faulty_methods = {
    .iVersion = 2,
    .xClose = faulty_close,
    .xRead = faulty_read,
    .xWrite = faulty_write,
    .xTruncate = faulty_truncate,
    .xSync = faulty_sync,
    .xFileSize = faulty_size,
    .xLock = faulty_lock,
    .xUnlock = faulty_unlock,
    .xCheckReservedLock = faulty_check_lock,
    .xFileControl = faulty_control,
    .xSectorSize = faulty_sector_size,
    .xDeviceCharacteristics = faulty_characteristics,
    .xShmMap = faulty_shm_map,
    .xShmLock = faulty_shm_lock,
    .xShmBarrier = faulty_shm_barrier,
    .xShmUnmap = faulty_shm_unmap,
};

static int faulty_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                       int *ret_flags)
{
    sqlite3_vfs *real = vfs->pAppData;
    struct faulty_file *faulty = (struct faulty_file *)file;
    faulty->base.pMethods = NULL;
    faulty->real = (sqlite3_file *)(faulty + 1);
    if (fails_now())
        return SQLITE_CANTOPEN;
    int result = real->xOpen(real, name, faulty->real, flags, ret_flags);
    if (result == SQLITE_OK)
        faulty->base.pMethods = &faulty_methods;
    return result;
}

static sqlite3_vfs *begin_faulty(void)
{
    static sqlite3_vfs faulty;
    sqlite3_vfs *real = sqlite3_vfs_find(NULL);
    faulty = *real;
    faulty.pNext = NULL;
    faulty.zName = "faulty";
    faulty.pAppData = real;
    faulty.szOsFile = (int)sizeof(struct faulty_file) + real->szOsFile;
    faulty.xOpen = faulty_open;
    sqlite3_vfs_register(&faulty, 1);
    return &faulty;
}

/* ---- changes: row 1 is there before, row 2 is not ---- */

struct trial {
    struct metadata *metadata;
    struct err err;
};

static enum err_code insert(struct trial *trial, int number)
{
    struct file file;
    store_file(&file, number, "alice");
    if (number == 1)
        file.expires_ms = EXPIRES;
    return metadata_file_insert(trial->metadata, &file, NULL, &trial->err);
}

static enum err_code get(struct trial *trial, int number, struct file *ret_file)
{
    char id[ID_SIZE];
    store_id(id, number);
    return metadata_file_get(trial->metadata, id, NOW, ret_file, &trial->err);
}

static enum err_code run_insert(struct trial *trial)
{
    return insert(trial, 2);
}

static enum err_code run_update(struct trial *trial)
{
    struct file file;
    store_file(&file, 1, "alice");
    snprintf(file.name, sizeof file.name, "another");
    file.version = 2;
    file.updated_ms = NOW;
    return metadata_file_update(trial->metadata, &file, 1, NULL, &trial->err);
}

static enum err_code run_mark(struct trial *trial)
{
    char id[ID_SIZE];
    const char *ids[1] = {id};
    int64_t version = 0;
    enum err_code result = ERR_INTERNAL;
    store_id(id, 1);
    enum err_code code =
        store_mark_deleted(trial->metadata, ids, &version, 1, STR(""), NOW, &result, &trial->err);
    return code == ERR_OK ? result : code;
}

/* As a sweep: what changes a row comes last. */
static enum err_code run_upkeep(struct trial *trial)
{
    bool is_held = false;
    int count = 0;
    struct err *err = &trial->err;
    enum err_code code =
        store_lease(trial->metadata, "sweep", "me", NOW, NOW + 1000, &is_held, err);
    if (code == ERR_OK)
        code = metadata_purge_requests(trial->metadata, NOW, &count, err);
    if (code == ERR_OK)
        code = metadata_mark_expired(trial->metadata, EXPIRES, 10, &count, err);
    return code == ERR_OK && (!is_held || count != 1) ? ERR_CONFLICT : code;
}

static enum err_code run_get(struct trial *trial)
{
    struct file file;
    return get(trial, 1, &file);
}

static enum err_code count_row(void *context, const struct file *file, struct err *err)
{
    (void)file;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

static int count_rows(struct trial *trial, int64_t *ret_total)
{
    int rows = 0;
    struct file_page page = {.total = -1};
    const struct file_query query = {.limit = 100};
    enum err_code code =
        store_list(trial->metadata, &query, NOW, count_row, &rows, &page, &trial->err);
    *ret_total = page.total;
    return code == ERR_OK ? rows : -1;
}

static enum err_code run_list(struct trial *trial)
{
    int64_t total = 0;
    int rows = count_rows(trial, &total);
    return rows == -1 ? trial->err.code : rows == 1 && total == 1 ? ERR_OK : ERR_CONFLICT;
}

static bool has_second(struct trial *trial)
{
    struct file file;
    return get(trial, 2, &file) == ERR_OK;
}

static bool has_another_name(struct trial *trial)
{
    struct file file;
    return get(trial, 1, &file) == ERR_OK && strcmp(file.name, "another") == 0;
}

static bool has_lost_first(struct trial *trial)
{
    struct file file;
    return get(trial, 1, &file) == ERR_NOT_FOUND;
}

static const struct change {
    const char *name;
    enum err_code (*run)(struct trial *trial);
    bool (*is_made)(struct trial *trial); /* NULL: it changes nothing */
    int rows;                             /* that are there when it is made */
} changes[] = {
    {"insert", run_insert, has_second, 2},
    {"update", run_update, has_another_name, 1},
    {"mark deleted", run_mark, has_lost_first, 0},
    {"upkeep", run_upkeep, has_lost_first, 0},
    {"get", run_get, NULL, 1},
    {"list", run_list, NULL, 1},
};

/* ---- trials ---- */

static bool is_honest(enum err_code code)
{
    return code == ERR_OK || code == ERR_METADATA_UNAVAILABLE || code == ERR_DISK_FULL;
}

/* Everything works again without a restart. */
static void recover(struct trial *trial, const char *label)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    enum err_code code = ERR_INTERNAL;
    for (int i = 0; i < 500 && code != ERR_OK; i++) {
        code = insert(trial, 3);
        if (code == ERR_EXISTS) /* its own, of a try before */
            code = ERR_OK;
        if (code != ERR_OK)
            nanosleep(&pause, NULL);
    }
    CHECK_ERR_ROW(label, code, ERR_OK, &trial->err);
}

/* What a change came to. */
struct outcome {
    enum err_code code;
    bool is_unknown; /* it failed, and says that it may have been made */
};

static void check_rows(struct trial *trial, const struct change *change,
                       const struct outcome *outcome, const char *label)
{
    int64_t total = 0;
    bool is_made = !change->is_made || change->is_made(trial);
    int rows = count_rows(trial, &total);
    CHECK_ROW(label, is_made || outcome->code != ERR_OK); /* acknowledged is done */
    CHECK_ROW(label,
              !change->is_made || !is_made || outcome->code == ERR_OK || outcome->is_unknown);
    CHECK_INT_ROW(label, rows, 1 + (is_made ? change->rows : 1));
    CHECK_INT_ROW(label, total, rows);
    CHECK_ERR_ROW(label, metadata_check(trial->metadata, false, &trial->err), ERR_OK, &trial->err);
}

static struct metadata *open_again(const struct config *config, const char *label)
{
    struct metadata *metadata = NULL;
    struct err err;
    CHECK_ERR_ROW(label, metadata_open(&metadata, config, &clock_system, NULL, &err), ERR_OK, &err);
    return metadata;
}

/* False when the change makes fewer calls. */
static bool fail_nth(const struct change *change, int nth, bool should_last)
{
    char label[100];
    struct config config;
    struct trial trial = {.err = {.operation = ""}};
    snprintf(label, sizeof label, "%s, call %d fails%s", change->name, nth,
             should_last ? " and all after it" : "");
    CHECK_ROW(label, store_make(&config));
    trial.metadata = open_again(&config, label);
    if (!trial.metadata)
        return false;
    CHECK_ERR_ROW(label, insert(&trial, 1), ERR_OK, &trial.err);
    set_fault(nth, should_last);
    struct outcome outcome = {.code = change->run(&trial)};
    outcome.is_unknown = outcome.code != ERR_OK && trial.err.outcome_unknown;
    bool has_struck = clear_fault();
    CHECK_ROW(label, is_honest(outcome.code));
    CHECK_ROW(label, has_struck || outcome.code == ERR_OK);
    recover(&trial, label);
    check_rows(&trial, change, &outcome, label);
    metadata_close(trial.metadata);
    trial.metadata = open_again(&config, label); /* as after a restart */
    if (trial.metadata)
        check_rows(&trial, change, &outcome, label);
    metadata_close(trial.metadata);
    return has_struck;
}

TEST(metadata_sqlite_calls, whichever_fails_nothing_is_lost_or_half_done)
{
    sqlite3_vfs *faulty = begin_faulty();
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        for (int should_last = 0; should_last < 2; should_last++) {
            int nth = 1;
            while (nth < CALLS_MAX && fail_nth(&changes[i], nth, should_last))
                nth++;
            CHECK_ROW(changes[i].name, nth > 1 && nth < CALLS_MAX);
        }
    sqlite3_vfs_unregister(faulty);
}
