/* System calls that fail (ABUSE F17, F18, F19) and processes that die (F1, F2). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "storage/fs/storage_fs.h"
#include "storage/storage_drivers.h"
#include "store.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"

/* ---- calls that fail ---- */

/* The tests of this file run one after the other: one set of faults is enough. */
static struct {
    int fail_write; /* errno, after `good_writes` */
    int good_writes;
    int short_writes; /* at most so many bytes at once; 0: all */
    int interrupts;   /* so many EINTR first */
    int fail_fsync;   /* the number of the call that fails, from 1 */
    int fsyncs;
    int fail_link; /* errno */
    uint64_t free_bytes;
    uint64_t free_inodes;
    bool space_is_set;
} fault;

static ssize_t faulty_write(int fd, const void *data, size_t len)
{
    if (fault.interrupts > 0) {
        fault.interrupts--;
        errno = EINTR;
        return -1;
    }
    if (fault.fail_write && fault.good_writes-- <= 0) {
        errno = fault.fail_write;
        return -1;
    }
    if (fault.short_writes && len > (size_t)fault.short_writes)
        len = (size_t)fault.short_writes;
    return write(fd, data, len);
}

static int faulty_fsync(int fd)
{
    if (++fault.fsyncs == fault.fail_fsync) {
        errno = EIO;
        return -1;
    }
    return fsync(fd);
}

static int faulty_link(int fd, int dir_fd, const char *temp_name, const char *name)
{
    if (fault.fail_link) {
        errno = fault.fail_link;
        return -1;
    }
    return fs_calls_system.link(fd, dir_fd, temp_name, name);
}

static int faulty_fstatvfs(int fd, struct statvfs *ret_stat)
{
    int result = fstatvfs(fd, ret_stat);
    if (fault.space_is_set) {
        ret_stat->f_bavail = (fsblkcnt_t)(fault.free_bytes / ret_stat->f_frsize);
        ret_stat->f_files = 1000;
        ret_stat->f_favail = (fsfilcnt_t)fault.free_inodes;
    }
    return result;
}

static enum err_code open_faulty(void **ret_state, const struct storage_options *options,
                                 struct err *err)
{
    static struct fs_calls calls;
    calls = fs_calls_system;
    calls.write = faulty_write;
    calls.fsync = faulty_fsync;
    calls.link = faulty_link;
    calls.fstatvfs = faulty_fstatvfs;
    return fs_open_with(ret_state, options->config, options->clock, &calls, err);
}

static bool open_with_faults(struct config *config, struct storage **ret_storage)
{
    static struct storage_driver driver;
    struct err err;
    driver = storage_fs_driver;
    driver.open = open_faulty;
    memset(&fault, 0, sizeof fault);
    return store_make(config) &&
           storage_open_driver(ret_storage, &driver, config, &clock_system, &err) == ERR_OK;
}

/* fs does not look at the hash. */
static enum err_code commit(struct storage_put *handle, struct err *err)
{
    static const unsigned char sha256[32];
    char tag[STORAGE_TAG_SIZE];
    return storage_put_commit(handle, sha256, tag, err);
}

static enum err_code put(struct storage *storage, size_t len, struct err *err)
{
    struct storage_put *handle = NULL;
    char *data = calloc(1, len + 1);
    enum err_code code = storage_put_begin(storage, KEY, (int64_t)len, &handle, err);
    if (code == ERR_OK)
        code = storage_put_write(handle, data, len, err);
    if (code == ERR_OK)
        code = commit(handle, err);
    storage_put_close(handle);
    free(data);
    return code;
}

static enum err_code see_object(void *context, const char *key, const struct storage_stat *stat,
                                struct err *err)
{
    (void)key;
    (void)stat;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

static int count(struct storage *storage)
{
    struct err err;
    int objects = 0;
    return storage_list(storage, see_object, &objects, &err) == ERR_OK ? objects : -1;
}

TEST(storage_fs_faults, a_failed_call_fails_the_upload_and_leaves_nothing)
{
    static const struct {
        const char *label;
        int write;
        int good_writes;
        int fsync;
        int link;
        enum err_code want;
    } rows[] = {
        {"write: ENOSPC", ENOSPC, 0, 0, 0, ERR_DISK_FULL},
        {"second write: EDQUOT", EDQUOT, 1, 0, 0, ERR_DISK_FULL},
        {"write: EIO", EIO, 0, 0, 0, ERR_STORAGE_UNAVAILABLE},
        {"third write: EROFS", EROFS, 2, 0, 0, ERR_STORAGE_UNAVAILABLE},
        {"fsync of the file", 0, 0, 1, 0, ERR_STORAGE_UNAVAILABLE},
        {"fsync of the shard", 0, 0, 2, 0, ERR_STORAGE_UNAVAILABLE},
        {"link: ENOSPC", 0, 0, 0, ENOSPC, ERR_DISK_FULL},
        {"link: EIO", 0, 0, 0, EIO, ERR_STORAGE_UNAVAILABLE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err;
        struct storage *storage = NULL;
        REQUIRE(open_with_faults(&config, &storage));
        fault.fail_write = rows[i].write;
        fault.good_writes = rows[i].good_writes;
        fault.short_writes = rows[i].good_writes ? 1000 : 0;
        fault.fail_fsync = rows[i].fsync;
        fault.fail_link = rows[i].link;
        CHECK_ERR_ROW(rows[i].label, put(storage, 10000, &err), rows[i].want, &err);
        CHECK_INT_ROW(rows[i].label, count(storage), 0);
        if (rows[i].fsync) /* a failed sync is not tried again */
            CHECK_INT_ROW(rows[i].label, fault.fsyncs, rows[i].fsync);
        memset(&fault, 0, sizeof fault);
        CHECK_ERR_ROW(rows[i].label, put(storage, 10000, &err), ERR_OK, &err);
        storage_close(storage);
    }
}

TEST(storage_fs_faults, short_writes_and_signals_are_no_failures)
{
    struct config config;
    struct err err;
    struct storage *storage = NULL;
    struct storage_stat stat;
    REQUIRE(open_with_faults(&config, &storage));
    fault.short_writes = 7;
    fault.interrupts = 5;
    CHECK_ERR(put(storage, 1000, &err), ERR_OK, &err);
    CHECK_ERR(storage_stat_object(storage, KEY, &stat, &err), ERR_OK, &err);
    CHECK_INT(stat.size, 1000);
    storage_close(storage);
}

TEST(storage_fs_faults, durability_decides_the_syncs)
{
    struct config config;
    struct err err;
    struct storage *storage = NULL;
    REQUIRE(open_with_faults(&config, &storage));
    CHECK_ERR(put(storage, 10, &err), ERR_OK, &err);
    CHECK_INT(fault.fsyncs, 2);
    storage_close(storage);
    static struct storage_driver driver;
    driver = storage_fs_driver;
    driver.open = open_faulty;
    REQUIRE(store_make(&config));
    config.durability = DURABILITY_RELAXED;
    fault.fsyncs = 0;
    CHECK_ERR(storage_open_driver(&storage, &driver, &config, &clock_system, &err), ERR_OK, &err);
    CHECK_ERR(put(storage, 10, &err), ERR_OK, &err);
    CHECK_INT(fault.fsyncs, 0);
    storage_close(storage);
}

TEST(storage_fs_faults, min_free_bytes_are_kept)
{
    struct config config;
    struct err err;
    struct storage *storage = NULL;
    struct storage_put *handle = NULL;
    static char piece[1024 * 1024];
    REQUIRE(open_with_faults(&config, &storage));
    storage_close(storage);
    config.min_free_bytes = 1024 * 1024;
    static struct storage_driver driver;
    driver = storage_fs_driver;
    driver.open = open_faulty;
    CHECK_ERR(storage_open_driver(&storage, &driver, &config, &clock_system, &err), ERR_OK, &err);
    fault.space_is_set = true;
    fault.free_inodes = 10;
    fault.free_bytes = 2 * 1024 * 1024;
    CHECK_ERR(put(storage, 1024 * 1024, &err), ERR_OK, &err);
    CHECK_ERR(storage_remove(storage, KEY, &err), ERR_OK, &err);
    CHECK_ERR(put(storage, 1024 * 1024 + 1, &err), ERR_DISK_FULL, &err);
    CHECK_ERR(storage_ping(storage, &err), ERR_OK, &err);
    fault.free_bytes = 1024 * 1024;
    CHECK_ERR(storage_ping(storage, &err), ERR_DISK_FULL, &err);
    fault.free_bytes = 2 * 1024 * 1024;
    fault.free_inodes = 0;
    CHECK_ERR(put(storage, 1, &err), ERR_DISK_FULL, &err);
    fault.free_inodes = 10;
    /* of unknown length: found on the way */
    CHECK_ERR(storage_put_begin(storage, KEY, -1, &handle, &err), ERR_OK, &err);
    fault.free_bytes = 0;
    enum err_code code = ERR_OK;
    for (int i = 0; i < 9 && code == ERR_OK; i++)
        code = storage_put_write(handle, piece, sizeof piece, &err);
    CHECK_ERR(code, ERR_DISK_FULL, &err);
    storage_put_close(handle);
    CHECK_INT(count(storage), 0);
    storage_close(storage);
}

/* ---- processes that die ---- */

static enum err_code answer_unknown(void *context, const char *key, bool *ret_known,
                                    struct err *err)
{
    (void)context;
    (void)key;
    (void)err;
    *ret_known = false;
    return ERR_OK;
}

static enum err_code sweep(void *context, const char *key, const struct storage_stat *stat,
                           struct err *err)
{
    bool removed = false;
    (void)stat;
    return store_remove_orphan(context, key, answer_unknown, NULL, &removed, err);
}

/* A child that dies after `commit`, still holding its put. */
static int die_holding(const struct config *config)
{
    pid_t child = fork();
    if (child == 0) {
        struct err err;
        struct storage *storage = NULL;
        struct storage_put *handle = NULL;
        if (storage_open(&storage, config, &clock_system, NULL, &err) == ERR_OK &&
            storage_put_begin(storage, KEY, 1, &handle, &err) == ERR_OK &&
            storage_put_write(handle, "x", 1, &err) == ERR_OK && commit(handle, &err) == ERR_OK)
            raise(SIGKILL);
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(storage_fs_faults, the_claim_of_a_dead_process_is_let_go)
{
    struct config config;
    struct err err;
    struct storage *storage = NULL;
    REQUIRE(open_with_faults(&config, &storage));
    CHECK_INT(die_holding(&config), SIGKILL);
    CHECK_INT(count(storage), 1);
    CHECK_ERR(storage_list(storage, sweep, storage, &err), ERR_OK, &err);
    CHECK_INT(count(storage), 0);
    storage_close(storage);
}

#ifdef COFFER_CRASH_POINTS

static int die_at(const struct config *config, const char *point)
{
    pid_t child = fork();
    if (child == 0) {
        struct err err;
        struct storage *storage = NULL;
        setenv("CRASH_AT", point, 1);
        if (storage_open(&storage, config, &clock_system, NULL, &err) != ERR_OK ||
            put(storage, 100, &err) != ERR_OK || storage_remove(storage, KEY, &err) != ERR_OK)
            _exit(1);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(storage_fs_faults, whoever_dies_anywhere_leaves_all_or_nothing)
{
    static const struct {
        const char *point;
        int objects;
    } rows[] = {
        {"put.begun", 0},
        {"put.first_write", 0},
        {"put.written", 0},
        {"put.synced", 0},
        {"put.linked", 1},
        {"put.dir_synced", 1},
        {"remove.before_unlink", 1},
        {"remove.unlinked", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err;
        struct storage_stat stat;
        struct storage *storage = NULL;
        REQUIRE(open_with_faults(&config, &storage));
        CHECK_INT_ROW(rows[i].point, die_at(&config, rows[i].point), SIGKILL);
        CHECK_INT_ROW(rows[i].point, count(storage), rows[i].objects);
        if (rows[i].objects)
            CHECK_ERR_ROW(rows[i].point, storage_stat_object(storage, KEY, &stat, &err), ERR_OK,
                          &err);
        if (rows[i].objects)
            CHECK_INT_ROW(rows[i].point, stat.size, 100);
        CHECK_ERR_ROW(rows[i].point, storage_list(storage, sweep, storage, &err), ERR_OK, &err);
        CHECK_ERR_ROW(rows[i].point, put(storage, 100, &err), ERR_OK, &err);
        storage_close(storage);
    }
}

#endif
