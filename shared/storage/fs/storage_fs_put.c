/*
 * Publishing an object: an unnamed file in its shard (a named one, FS_TEMP_PREFIX, where the file
 * system knows no unnamed ones), claimed by flock → bytes → fsync → link without overwrite → fsync
 * of the shard. A sync that failed is never tried again: the kernel has forgotten which pages were
 * lost. A name that was made before a failure is taken back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/io.h"
#include "base/text.h"
#include "storage/fs/storage_fs.h"

enum err_code(fs_failed)(struct err *err, int os_errno, const char *operation)
{
    switch (os_errno) {
    case ENOSPC:
    case EDQUOT:
        return err_set_internal(err, ERR_DISK_FULL, os_errno, operation, "The disk is full.");
    case ENOMEM:
        return err_set_internal(err, ERR_NO_MEMORY, os_errno, operation, "Out of memory.");
    default:
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, os_errno, operation,
                                "The data folder cannot be used.");
    }
}

enum err_code fs_check_marker(int objects_fd, struct err *err)
{
    char text[sizeof FS_MARKER_TEXT] = "";
    int fd = openat(objects_fd, "../" FS_MARKER, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fs_failed(err, errno, "open marker");
    ssize_t len = pread(fd, text, sizeof text - 1, 0);
    int os_errno = len < 0 ? errno : 0;
    close(fd);
    if (strcmp(text, FS_MARKER_TEXT) == 0)
        return ERR_OK;
    return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, os_errno, "read marker",
                            "The data folder's marker file is not one of this version.");
}

static enum err_code root_open(const struct storage_fs *fs, struct fs_root **ret_root,
                               struct err *err)
{
    struct stat stat = {0};
    enum err_code code = ERR_OK;
    struct fs_root *root = calloc(1, sizeof *root);
    int fd = open(fs->objects, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (!root || fd < 0 || fstat(fd, &stat) != 0)
        code = fs_failed(err, errno, "open data folder");
    else
        code = fs_check_marker(fd, err);
    if (code != ERR_OK) {
        if (fd >= 0)
            close(fd);
        free(root);
        return code;
    }
    *root = (struct fs_root){.fd = fd, .device = stat.st_dev, .inode = stat.st_ino, .users = 1};
    *ret_root = root;
    return ERR_OK;
}

/* With the mutex held. */
static void root_forget(struct fs_root *root)
{
    if (!root || --root->users > 0)
        return;
    close(root->fd);
    free(root);
}

void fs_root_release(struct storage_fs *fs, struct fs_root *root)
{
    pthread_mutex_lock(&fs->mutex);
    root_forget(root);
    pthread_mutex_unlock(&fs->mutex);
}

/* The held root when it is the folder `stat` tells of, else NULL. */
static struct fs_root *root_if_current(struct storage_fs *fs, const struct stat *stat)
{
    pthread_mutex_lock(&fs->mutex);
    struct fs_root *root = fs->root;
    if (root && root->inode == stat->st_ino && root->device == stat->st_dev)
        root->users++;
    else
        root = NULL;
    pthread_mutex_unlock(&fs->mutex);
    return root;
}

enum err_code fs_root_borrow(struct storage_fs *fs, struct fs_root **ret_root, struct err *err)
{
    struct stat stat;
    if (lstat(fs->objects, &stat) != 0)
        return fs_failed(err, errno, "stat data folder");
    struct fs_root *root = root_if_current(fs, &stat);
    if (!root) {
        enum err_code code = root_open(fs, &root, err);
        if (code != ERR_OK)
            return code;
        pthread_mutex_lock(&fs->mutex);
        root_forget(fs->root);
        fs->root = root;
        root->users++;
        pthread_mutex_unlock(&fs->mutex);
    }
    *ret_root = root;
    return ERR_OK;
}

static int open_shard_at(const struct fs_root *root, const char *key, int flags)
{
    char shard[STORAGE_SHARD_LENGTH + 1] = {key[0], key[1], '\0'};
    return openat(root->fd, shard, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

enum err_code fs_open_shard(struct storage_fs *fs, const char *key, int *ret_fd, struct err *err)
{
    struct fs_root *root = NULL;
    enum err_code code = fs_root_borrow(fs, &root, err);
    if (code != ERR_OK)
        return code;
    int fd = open_shard_at(root, key, O_RDONLY);
    if (fd < 0)
        code = fs_failed(err, errno, "open shard");
    else
        *ret_fd = fd;
    fs_root_release(fs, root);
    return code;
}

/* Two steps, for kernels and sandboxes without openat2. */
static int open_in_steps(const struct fs_root *root, const char *key, int flags)
{
    int shard_fd = open_shard_at(root, key, O_PATH);
    if (shard_fd < 0)
        return -1;
    int fd = openat(shard_fd, key + STORAGE_SHARD_LENGTH + 1, flags);
    int os_errno = errno;
    close(shard_fd);
    errno = os_errno;
    return fd;
}

static int open_beneath(const struct fs_root *root, const char *key)
{
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    struct open_how how = {.flags = (unsigned)flags,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, root->fd, key, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = open_in_steps(root, key, flags);
    return fd;
}

/* Tells a missing object from a missing store: the shard must be there, in the store that is at
 * DATA_DIR now. */
static enum err_code object_is_missing(struct storage_fs *fs, const char *key, struct err *err)
{
    int shard_fd = -1;
    enum err_code code = fs_open_shard(fs, key, &shard_fd, err);
    if (code != ERR_OK)
        return code;
    close(shard_fd);
    return err_set_internal(err, ERR_NOT_FOUND, ENOENT, "open object", "There is no such object.");
}

enum err_code fs_open_object(struct storage_fs *fs, const char *key, int *ret_fd,
                             struct stat *ret_stat, struct err *err)
{
    struct fs_root *root = NULL;
    enum err_code code = storage_check_key(key, err);
    if (code == ERR_OK)
        code = fs_root_borrow(fs, &root, err);
    if (code != ERR_OK)
        return code;
    int fd = open_beneath(root, key);
    int os_errno = errno;
    fs_root_release(fs, root);
    if (fd < 0)
        return os_errno == ENOENT ? object_is_missing(fs, key, err)
                                  : fs_failed(err, os_errno, "open object");
    if (fstat(fd, ret_stat) != 0)
        code = fs_failed(err, errno, "stat object");
    else if (!S_ISREG(ret_stat->st_mode))
        code = err_set_internal(err, ERR_STORAGE, 0, "open object", "An object is not a file.");
    if (code == ERR_OK)
        *ret_fd = fd;
    else
        close(fd);
    return code;
}

#define TEMP_RANDOM_BYTES 16
#define TEMP_NAME_SIZE (sizeof FS_TEMP_PREFIX + 2 * TEMP_RANDOM_BYTES)

struct fs_put {
    struct storage_fs *fs;
    int shard_fd;
    int fd;
    char key[LIMIT_KEY_BYTES + 1];
    char temp_name[TEMP_NAME_SIZE]; /* "" while the file has no name of its own */
    int64_t written;                /* bytes */
    int64_t next_step;              /* `written` at which space is looked at again */
};

static int open_temp(int dir_fd)
{
    return openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, FS_FILE_MODE);
}

static int link_file(int fd, int dir_fd, const char *temp_name, const char *name)
{
    char path[64];
    if (temp_name[0] != '\0')
        return linkat(dir_fd, temp_name, dir_fd, name, 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW);
}

const struct fs_calls fs_calls_system = {
    .open_temp = open_temp,
    .write = write,
    .fsync = fsync,
    .link = link_file,
    .fstatvfs = fstatvfs,
};

static const char *object_name(const struct fs_put *put)
{
    return put->key + STORAGE_SHARD_LENGTH + 1;
}

static enum err_code check_space(const struct fs_put *put, int64_t wanted, struct err *err)
{
    struct statvfs stat;
    if (put->fs->calls->fstatvfs(put->shard_fd, &stat) != 0)
        return fs_failed(err, errno, "statvfs");
    if (free_space_is_short(&stat, put->fs->min_free_bytes, wanted))
        return err_set_internal(err, ERR_DISK_FULL, 0, "statvfs",
                                "The disk has less than MIN_FREE_BYTES left.");
    return ERR_OK;
}

static int open_named_temp(struct fs_put *put)
{
    unsigned char random[TEMP_RANDOM_BYTES];
    char hex[2 * TEMP_RANDOM_BYTES + 1];
    clock_random(put->fs->clock, random, sizeof random);
    text_hex(random, sizeof random, hex);
    snprintf(put->temp_name, sizeof put->temp_name, FS_TEMP_PREFIX "%s", hex);
    int fd = openat(put->shard_fd, put->temp_name,
                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FS_FILE_MODE);
    if (fd < 0)
        put->temp_name[0] = '\0';
    return fd;
}

static enum err_code open_file(struct fs_put *put, struct err *err)
{
    put->fd = put->fs->calls->open_temp(put->shard_fd);
    if (put->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        put->fd = open_named_temp(put);
    if (put->fd < 0)
        return fs_failed(err, errno, "open temporary file");
    /* The claim: nobody else can hold it yet. The mode must not depend on the umask. */
    if (flock(put->fd, LOCK_EX | LOCK_NB) != 0 || fchmod(put->fd, FS_FILE_MODE) != 0)
        return fs_failed(err, errno, "claim temporary file");
    return ERR_OK;
}

enum err_code fs_put_begin(void *state, const char *key, int64_t size_hint, void **ret_put,
                           struct err *err)
{
    struct storage_fs *fs = state;
    enum err_code code = storage_check_key(key, err);
    if (code != ERR_OK)
        return code;
    struct fs_put *put = calloc(1, sizeof *put);
    if (!put)
        return fs_failed(err, ENOMEM, "put_begin");
    put->fs = fs;
    put->fd = -1;
    put->shard_fd = -1;
    put->next_step = FS_STEP_BYTES;
    snprintf(put->key, sizeof put->key, "%s", key);
    code = fs_open_shard(fs, key, &put->shard_fd, err);
    if (code == ERR_OK)
        code = check_space(put, size_hint > 0 ? size_hint : 0, err);
    if (code == ERR_OK)
        code = open_file(put, err);
    if (code != ERR_OK) {
        fs_put_close(put);
        return code;
    }
    crash_point("put.begun");
    *ret_put = put;
    return ERR_OK;
}

/* Each so many bytes: is there room for as many again? Then let the disk begin with them, so that
 * the fsync at the end finds little to do. */
static enum err_code step(struct fs_put *put, struct err *err)
{
    enum err_code code = check_space(put, 0, err);
    if (code != ERR_OK)
        return code;
    if (put->fs->is_durable)
        sync_file_range(put->fd, put->next_step - FS_STEP_BYTES, FS_STEP_BYTES,
                        SYNC_FILE_RANGE_WRITE); /* advice: the fsync tells of errors */
    put->next_step += FS_STEP_BYTES;
    return ERR_OK;
}

enum err_code fs_put_write(void *state, const void *data, size_t len, struct err *err)
{
    struct fs_put *put = state;
    const char *at = data;
    while (len > 0) {
        ssize_t written = put->fs->calls->write(put->fd, at, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return fs_failed(err, written < 0 ? errno : EIO, "write");
        at += written;
        len -= (size_t)written;
        if (put->written == 0)
            crash_point("put.first_write");
        put->written += written;
        while (put->written >= put->next_step) {
            enum err_code code = step(put, err);
            if (code != ERR_OK)
                return code;
        }
    }
    return ERR_OK;
}

/* Does the object stand where readers will look for it, at DATA_DIR as it is now? */
static bool is_at_its_path(const struct fs_put *put)
{
    char path[sizeof put->fs->objects + LIMIT_KEY_BYTES + 1];
    struct stat by_path;
    struct stat by_fd;
    snprintf(path, sizeof path, "%s/%s", put->fs->objects, put->key);
    return lstat(path, &by_path) == 0 && fstat(put->fd, &by_fd) == 0 &&
           by_path.st_ino == by_fd.st_ino && by_path.st_dev == by_fd.st_dev;
}

static enum err_code publish(struct fs_put *put, struct err *err)
{
    if (put->temp_name[0] != '\0' && unlinkat(put->shard_fd, put->temp_name, 0) != 0)
        return fs_failed(err, errno, "unlink temporary file");
    put->temp_name[0] = '\0';
    if (put->fs->is_durable && put->fs->calls->fsync(put->shard_fd) != 0)
        return fs_failed(err, errno, "fsync shard");
    crash_point("put.dir_synced");
    if (!is_at_its_path(put))
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "commit",
                                "The data folder was moved during an upload.");
    return ERR_OK;
}

enum err_code fs_put_commit(void *state, const unsigned char sha256[32],
                            char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct fs_put *put = state;
    (void)sha256; /* the kernel tells when a write failed; fsck reads what the disk kept */
    crash_point("put.written");
    if (put->fs->is_durable && put->fs->calls->fsync(put->fd) != 0)
        return fs_failed(err, errno, "fsync");
    crash_point("put.synced");
    if (put->fs->calls->link(put->fd, put->shard_fd, put->temp_name, object_name(put)) != 0)
        return errno == EEXIST
                   ? err_set_internal(err, ERR_EXISTS, EEXIST, "link", "The storage key is taken.")
                   : fs_failed(err, errno, "link");
    crash_point("put.linked");
    enum err_code code = publish(put, err);
    if (code != ERR_OK)
        unlinkat(put->shard_fd, object_name(put), 0);
    else
        ret_tag[0] = '\0';
    return code;
}

enum err_code fs_put_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err)
{
    (void)state;
    (void)before_ms;
    (void)err;
    *ret_purged = 0; /* what a dead put leaves has no name, or is swept by the listing */
    return ERR_OK;
}

void fs_put_close(void *state)
{
    struct fs_put *put = state;
    if (!put)
        return;
    if (put->temp_name[0] != '\0')
        unlinkat(put->shard_fd, put->temp_name, 0);
    if (put->fd >= 0)
        close(put->fd);
    if (put->shard_fd >= 0)
        close(put->shard_fd);
    free(put);
}

enum err_code fs_put_probe(struct storage_fs *fs, struct err *err)
{
    void *put = NULL;
    enum err_code code = fs_put_begin(fs, "00/ping", 1, &put, err);
    if (code == ERR_OK)
        code = fs_put_write(put, "", 1, err);
    fs_put_close(put);
    return code;
}
