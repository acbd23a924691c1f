/* The store's mark: the file DATA_DIR/coffer-installation beside the folder of objects. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "storage/fs/storage_fs.h"

#define MARK_PATH "../" STORAGE_MARK /* from the folder of objects */
#define NONCE_BYTES 8
#define TEMP_SIZE (sizeof MARK_PATH ".new-" + 2 * (size_t)NONCE_BYTES)

static enum err_code read_text(int fd, char ret_text[STORAGE_MARK_SIZE], struct err *err)
{
    char text[STORAGE_MARK_SIZE + 1] = "";
    ssize_t len = pread(fd, text, STORAGE_MARK_SIZE, 0);
    if (len < 0)
        return fs_failed(err, errno, "read mark");
    if (len > LIMIT_MARK_BYTES || strlen(text) != (size_t)len)
        return err_set_internal(err, ERR_CONFIG, 0, "read mark",
                                "DATA_DIR/" STORAGE_MARK " is not a file of coffer.");
    memcpy(ret_text, text, (size_t)len + 1);
    return ERR_OK;
}

enum err_code fs_read_mark(void *state, char ret_text[STORAGE_MARK_SIZE], struct err *err)
{
    struct fs_root *root = NULL;
    enum err_code code = fs_root_borrow(state, &root, err);
    if (code != ERR_OK)
        return code;
    int fd = openat(root->fd, MARK_PATH, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int os_errno = errno;
    fs_root_release(state, root);
    if (fd < 0 && os_errno == ENOENT)
        return err_set_internal(err, ERR_NOT_FOUND, os_errno, "open mark", "There is no mark.");
    if (fd < 0)
        return fs_failed(err, os_errno, "open mark");
    code = read_text(fd, ret_text, err);
    close(fd);
    return code;
}

static enum err_code write_temp(const struct storage_fs *fs, int dir_fd, const char *name,
                                const char *text, struct err *err)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(dir_fd, name, flags, FS_FILE_MODE);
    if (fd < 0)
        return fs_failed(err, errno, "make mark");
    enum err_code code = io_write_all(fd, text, strlen(text), err);
    if (code == ERR_OK && fs->calls->fsync(fd) != 0)
        code = fs_failed(err, errno, "fsync mark");
    close(fd);
    return code;
}

/* Under its name at once, or not at all. */
static enum err_code place(int dir_fd, const char *temp, bool replace, struct err *err)
{
    int result = replace ? renameat(dir_fd, temp, dir_fd, MARK_PATH)
                         : linkat(dir_fd, temp, dir_fd, MARK_PATH, 0);
    if (result != 0 && errno == EEXIST)
        return err_set_internal(err, ERR_EXISTS, EEXIST, "place mark", "There is a mark already.");
    return result == 0 ? ERR_OK : fs_failed(err, errno, "place mark");
}

static enum err_code sync_folder(const struct storage_fs *fs, int objects_fd, struct err *err)
{
    int fd = openat(objects_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fs_failed(err, errno, "open data folder");
    enum err_code code =
        fs->calls->fsync(fd) == 0 ? ERR_OK : fs_failed(err, errno, "fsync data folder");
    close(fd);
    return code;
}

enum err_code fs_write_mark(void *state, const char *text, bool replace, struct err *err)
{
    struct storage_fs *fs = state;
    struct fs_root *root = NULL;
    unsigned char random[NONCE_BYTES];
    char nonce[2 * NONCE_BYTES + 1];
    char temp[TEMP_SIZE];
    enum err_code code = fs_root_borrow(fs, &root, err);
    if (code != ERR_OK)
        return code;
    clock_random(fs->clock, random, sizeof random);
    text_hex(random, sizeof random, nonce);
    snprintf(temp, sizeof temp, MARK_PATH ".new-%s", nonce);
    code = write_temp(fs, root->fd, temp, text, err);
    if (code == ERR_OK)
        code = place(root->fd, temp, replace, err);
    unlinkat(root->fd, temp, 0); /* gone already where it was renamed */
    if (code == ERR_OK)
        code = sync_folder(fs, root->fd, err);
    fs_root_release(fs, root);
    return code;
}
