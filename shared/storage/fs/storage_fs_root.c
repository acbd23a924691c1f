#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

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
