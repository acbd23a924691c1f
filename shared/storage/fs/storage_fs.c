#include "storage/fs/storage_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/crash.h"
#include "storage/storage_drivers.h"

enum err_code fs_open_with(void **ret_state, const struct config *config, const struct clock *clock,
                           const struct fs_calls *calls, struct err *err)
{
    struct storage_fs *fs = calloc(1, sizeof *fs);
    if (!fs)
        return fs_failed(err, ENOMEM, "storage_open");
    snprintf(fs->data_dir, sizeof fs->data_dir, "%s", config->data_dir);
    snprintf(fs->objects, sizeof fs->objects, "%s/" FS_OBJECTS, config->data_dir);
    fs->is_durable = config->durability == DURABILITY_FULL;
    fs->min_free_bytes = config->min_free_bytes;
    fs->clock = clock;
    fs->calls = calls;
    pthread_mutex_init(&fs->mutex, NULL);
    *ret_state = fs;
    return ERR_OK;
}

static enum err_code fs_open(void **ret_state, const struct storage_options *options,
                             struct err *err)
{
    return fs_open_with(ret_state, options->config, options->clock, &fs_calls_system, err);
}

static void fs_close(void *state)
{
    struct storage_fs *fs = state;
    if (!fs)
        return;
    if (fs->root)
        fs_root_release(fs, fs->root);
    pthread_mutex_destroy(&fs->mutex);
    free(fs);
}

/* ---- reading ---- */

struct fs_get {
    int fd;
    off_t offset;
    int64_t left; /* bytes still to be given; -1: to the end */
};

static enum err_code another_size(struct err *err, const char *operation)
{
    return err_set_internal(err, ERR_STORAGE, 0, operation,
                            "An object has another size than its row says.");
}

static enum err_code fs_get_open(void *state, const struct storage_wanted *wanted, void **ret_get,
                                 struct err *err)
{
    struct stat stat;
    struct fs_get *get = calloc(1, sizeof *get);
    if (!get)
        return fs_failed(err, ENOMEM, "get_open");
    get->offset = wanted->offset;
    get->left = wanted->length;
    enum err_code code = fs_open_object(state, wanted->key, &get->fd, &stat, err);
    if (code == ERR_OK && wanted->size >= 0 && stat.st_size != wanted->size) {
        close(get->fd);
        code = another_size(err, "get_open");
    }
    if (code != ERR_OK) {
        free(get);
        return code;
    }
    *ret_get = get;
    return ERR_OK;
}

static enum err_code fs_get_read(void *state, void *target, size_t size, size_t *ret_len,
                                 struct err *err)
{
    struct fs_get *get = state;
    ssize_t len = 0;
    if (get->left >= 0 && (int64_t)size > get->left)
        size = (size_t)get->left;
    do {
        len = pread(get->fd, target, size, get->offset);
    } while (len < 0 && errno == EINTR);
    if (len < 0)
        return fs_failed(err, errno, "read");
    if (len == 0 && size > 0 && get->left > 0)
        return another_size(err, "read");
    get->offset += len;
    if (get->left > 0)
        get->left -= len;
    *ret_len = (size_t)len;
    return ERR_OK;
}

static void fs_get_close(void *state)
{
    struct fs_get *get = state;
    if (!get)
        return;
    close(get->fd);
    free(get);
}

static struct storage_stat stat_of(const struct stat *stat)
{
    return (struct storage_stat){.size = stat->st_size,
                                 .modified_ms = (int64_t)stat->st_mtim.tv_sec * 1000 +
                                                stat->st_mtim.tv_nsec / 1000000};
}

static enum err_code fs_stat(void *state, const char *key, struct storage_stat *ret_stat,
                             struct err *err)
{
    struct stat stat;
    int fd = -1;
    enum err_code code = fs_open_object(state, key, &fd, &stat, err);
    if (code != ERR_OK)
        return code;
    close(fd);
    *ret_stat = stat_of(&stat);
    return ERR_OK;
}

static enum err_code fs_sendfile_path(void *state, const char *key, int64_t expected_size,
                                      struct buf *ret_path, struct err *err)
{
    const struct storage_fs *fs = state;
    struct storage_stat stat;
    enum err_code code = fs_stat(state, key, &stat, err);
    if (code != ERR_OK)
        return code;
    if (stat.size != expected_size)
        return another_size(err, "sendfile_path");
    buf_reset(ret_path);
    buf_append_text(ret_path, fs->objects);
    buf_append_char(ret_path, '/');
    buf_append_text(ret_path, key);
    if (ret_path->failed)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "sendfile_path", "The path does not fit.");
    return ERR_OK;
}

/* ---- copying ---- */

static enum err_code copy_bytes(struct fs_get *get, void *put, struct err *err)
{
    size_t len = 0;
    char *buffer = malloc(LIMIT_IO_BUFFER);
    enum err_code code = buffer ? ERR_OK : fs_failed(err, ENOMEM, "copy");
    while (code == ERR_OK) {
        code = fs_get_read(get, buffer, LIMIT_IO_BUFFER, &len, err);
        if (code != ERR_OK || len == 0)
            break;
        code = fs_put_write(put, buffer, len, err);
    }
    free(buffer);
    return code;
}

static enum err_code fs_copy(void *state, const struct storage_wanted *from, const char *to,
                             char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    static const unsigned char unused[32];
    const struct storage_wanted whole = {from->key, from->size, NULL, 0, -1};
    void *get = NULL;
    void *put = NULL;
    enum err_code code = fs_get_open(state, &whole, &get, err);
    if (code == ERR_OK)
        code = fs_put_begin(state, to, from->size, &put, err);
    if (code == ERR_OK)
        code = copy_bytes(get, put, err);
    if (code == ERR_OK)
        code = fs_put_commit(put, unused, ret_tag, err);
    fs_put_close(put);
    fs_get_close(get);
    return code;
}

/* ---- removing ---- */

static enum err_code unlink_object(int shard_fd, const char *key, struct err *err)
{
    crash_point("remove.before_unlink");
    if (unlinkat(shard_fd, key + STORAGE_SHARD_LENGTH + 1, 0) != 0)
        return errno == ENOENT ? err_set_internal(err, ERR_NOT_FOUND, ENOENT, "unlink",
                                                  "There is no such object.")
                               : fs_failed(err, errno, "unlink");
    crash_point("remove.unlinked");
    return ERR_OK;
}

/* No fsync: metadata said first that the object is gone, so an unlink that a power loss undoes
 * leaves an orphan for the sweep and nothing else. */
static enum err_code fs_remove(void *state, const char *key, struct err *err)
{
    int shard_fd = -1;
    enum err_code code = storage_check_key(key, err);
    if (code == ERR_OK)
        code = fs_open_shard(state, key, &shard_fd, err);
    if (code != ERR_OK)
        return code;
    code = unlink_object(shard_fd, key, err);
    close(shard_fd);
    return code;
}

static enum err_code fs_remove_orphan(void *state, const char *key,
                                      const struct orphan_question *question, bool *ret_removed,
                                      struct err *err)
{
    struct stat stat;
    int fd = -1;
    bool known = true;
    enum err_code code = fs_open_object(state, key, &fd, &stat, err);
    if (code != ERR_OK)
        return code;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        code = errno == EWOULDBLOCK ? err_set_internal(err, ERR_BUSY, 0, "flock",
                                                       "The object is still being stored.")
                                    : fs_failed(err, errno, "flock");
    if (code == ERR_OK)
        code = question->is_known(question->context, key, &known, err);
    if (code == ERR_OK && !known)
        code = fs_remove(state, key, err);
    close(fd);
    if (code == ERR_OK)
        *ret_removed = !known;
    return code;
}

/* ---- listing ---- */

struct listing {
    struct storage_fs *fs;
    storage_list_callback *callback;
    void *context;
};

/* A temporary file whose writer is dead: nobody claims it any more. */
static void sweep_temp(const struct storage_fs *fs, int shard_fd, const char *name,
                       const struct stat *stat)
{
    if (clock_wall_ms(fs->clock) - stat_of(stat).modified_ms < FS_TEMP_STALE_MS)
        return;
    int fd = openat(shard_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(shard_fd, name, 0);
    close(fd);
}

static enum err_code list_entry(const struct listing *listing, int shard_fd, const char *shard,
                                const char *name, struct err *err)
{
    char key[LIMIT_KEY_BYTES + 1];
    struct stat stat;
    struct err ignored;
    if (fstatat(shard_fd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? ERR_OK : fs_failed(err, errno, "stat object");
    if (!S_ISREG(stat.st_mode))
        return ERR_OK;
    if (strncmp(name, FS_TEMP_PREFIX, sizeof FS_TEMP_PREFIX - 1) == 0) {
        sweep_temp(listing->fs, shard_fd, name, &stat);
        return ERR_OK;
    }
    int len = snprintf(key, sizeof key, "%s/%s", shard, name);
    if (len >= (int)sizeof key || storage_check_key(key, &ignored) != ERR_OK)
        return ERR_OK; /* not ours: neither told of nor touched */
    struct storage_stat found = stat_of(&stat);
    return listing->callback(listing->context, key, &found, err);
}

/* Takes over the folder's descriptor. */
static enum err_code list_shard(const struct listing *listing, int shard_fd, const char *shard,
                                struct err *err)
{
    DIR *dir = fdopendir(shard_fd);
    if (!dir) {
        enum err_code failed = fs_failed(err, errno, "open shard");
        close(shard_fd);
        return failed;
    }
    enum err_code code = ERR_OK;
    while (code == ERR_OK) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            code = errno ? fs_failed(err, errno, "read shard") : ERR_OK;
            break;
        }
        code = list_entry(listing, dirfd(dir), shard, entry->d_name, err);
    }
    closedir(dir);
    return code;
}

static enum err_code fs_list(void *state, storage_list_callback *callback, void *context,
                             struct err *err)
{
    struct listing listing = {.fs = state, .callback = callback, .context = context};
    enum err_code code = ERR_OK;
    for (unsigned i = 0; code == ERR_OK && i < FS_SHARDS; i++) {
        char shard[STORAGE_SHARD_LENGTH + 1];
        int shard_fd = -1;
        snprintf(shard, sizeof shard, "%02x", i & 0xFFu);
        code = fs_open_shard(state, shard, &shard_fd, err);
        if (code == ERR_OK)
            code = list_shard(&listing, shard_fd, shard, err);
    }
    return code;
}

static enum err_code fs_ping(void *state, struct err *err)
{
    struct storage_fs *fs = state;
    struct fs_root *root = NULL;
    enum err_code code = fs_root_borrow(fs, &root, err);
    if (code != ERR_OK)
        return code;
    code = fs_check_marker(root->fd, err);
    fs_root_release(fs, root);
    return code == ERR_OK ? fs_put_probe(fs, err) : code;
}

static const struct storage_uploads uploads = {
    .begin = fs_put_begin,
    .set_type = NULL,
    .write = fs_put_write,
    .commit = fs_put_commit,
    .close = fs_put_close,
    .purge = fs_put_purge,
};

static const struct storage_downloads downloads = {
    .open = fs_get_open,
    .read = fs_get_read,
    .close = fs_get_close,
    .sendfile_path = fs_sendfile_path,
};

static const struct storage_objects objects = {
    .stat = fs_stat,
    .copy = fs_copy,
    .remove = fs_remove,
    .remove_orphan = fs_remove_orphan,
    .list = fs_list,
    .read_mark = fs_read_mark,
    .write_mark = fs_write_mark,
};

const struct storage_driver storage_fs_driver = {
    .name = "fs",
    .metric_index = 0,
    .capabilities = STORAGE_CAN_SENDFILE | STORAGE_CAN_CLAIM,
    .init = fs_init,
    .open = fs_open,
    .close = fs_close,
    .ping = fs_ping,
    .uploads = &uploads,
    .downloads = &downloads,
    .objects = &objects,
    .presigning = NULL,
};
