#include "storage/fs/storage_fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/id.h"
#include "base/io.h"
#include "base/text.h"
#include "storage/storage_drivers.h"

/* The folders of DATA_DIR. Whatever else the installation keeps has its place in them. */
static const struct {
    const char *name;
    mode_t mode;
} folders[] = {
    {FS_OBJECTS, FS_DIR_MODE},
    {"db", FS_PRIVATE_DIR_MODE},
    {"log", FS_DIR_MODE},
};
#define FOLDER_COUNT (sizeof folders / sizeof folders[0])

#define BARE_DEPTH 2 /* DATA_DIR, objects, shard: what init makes is no deeper */

static enum err_code config_failed(struct err *err, int os_errno, const char *operation,
                                   const char *what)
{
    return err_set_internal(err, ERR_CONFIG, os_errno, operation, "DATA_DIR: %s: %s.", what,
                            strerror(os_errno));
}

static void close_keeping_errno(int fd)
{
    int os_errno = errno;
    close(fd);
    errno = os_errno;
}

/* What a file system puts into its own root, and what an init that was cut short left. */
static bool is_ignored(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0 ||
           strcmp(name, FS_MARKER_TEMP) == 0;
}

#define DATABASE_MARKER "coffer-database" /* as the database's init leaves it */

/* What a database and its service keep beside it, where the bytes were kept elsewhere until now. */
static bool is_neighbour(int data_fd, const char *name)
{
    struct stat stat;
    if (strcmp(name, "db") != 0 && strcmp(name, "log") != 0 && strcmp(name, DATABASE_MARKER) != 0)
        return false;
    return fstatat(data_fd, DATABASE_MARKER, &stat, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_own_folder(const char *name)
{
    for (size_t i = 0; i < FOLDER_COUNT; i++)
        if (strcmp(folders[i].name, name) == 0)
            return true;
    return false;
}

static bool is_bare(int dir_fd, int depth);

static bool is_bare_child(int dir_fd, const char *name, int depth)
{
    if (depth > BARE_DEPTH || (depth == 1 && !is_own_folder(name)))
        return false;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool bare = is_bare(fd, depth);
    close(fd);
    return bare;
}

/* Nothing but what an init that was cut short may have made: own folders, and no file in them. */
static bool is_bare(int dir_fd, int depth)
{
    int own_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own_fd >= 0 ? fdopendir(own_fd) : NULL;
    if (!dir) {
        if (own_fd >= 0)
            close(own_fd);
        return false;
    }
    bool bare = true;
    struct dirent *entry = NULL;
    while (bare && (entry = readdir(dir)))
        bare = is_ignored(entry->d_name) || (depth == 0 && is_neighbour(dir_fd, entry->d_name)) ||
               is_bare_child(dir_fd, entry->d_name, depth + 1);
    closedir(dir);
    return bare;
}

/* A folder with exactly this mode, whatever the umask is; one that stands already is taken. */
static int make_folder(int dir_fd, const char *name, mode_t mode)
{
    if (mkdirat(dir_fd, name, mode) != 0 && errno != EEXIST)
        return -1;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fchmod(fd, mode) != 0) {
        close_keeping_errno(fd);
        return -1;
    }
    return fd;
}

static int make_shards(int objects_fd)
{
    for (unsigned i = 0; i < FS_SHARDS; i++) {
        char name[STORAGE_SHARD_LENGTH + 1];
        snprintf(name, sizeof name, "%02x", i & 0xFFu);
        int fd = make_folder(objects_fd, name, FS_DIR_MODE);
        if (fd < 0)
            return -1;
        close(fd);
    }
    return fsync(objects_fd);
}

static enum err_code make_folders(int data_fd, struct err *err)
{
    for (size_t i = 0; i < FOLDER_COUNT; i++) {
        int fd = make_folder(data_fd, folders[i].name, folders[i].mode);
        if (fd < 0)
            return config_failed(err, errno, "make folder", folders[i].name);
        bool made = strcmp(folders[i].name, FS_OBJECTS) != 0 || make_shards(fd) == 0;
        close_keeping_errno(fd);
        if (!made)
            return config_failed(err, errno, "make shards", FS_OBJECTS);
    }
    if (fsync(data_fd) != 0)
        return config_failed(err, errno, "fsync", "folder");
    return ERR_OK;
}

/* Last of all, and at once: a folder with a marker is whole. */
static enum err_code write_marker(int data_fd, struct err *err)
{
    char text[sizeof FS_MARKER_TEXT + ID_SIZE];
    char id[ID_SIZE];
    id_new(&clock_system, id);
    int len = snprintf(text, sizeof text, FS_MARKER_TEXT "%s\n", id);
    int fd = openat(data_fd, FS_MARKER_TEMP, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                    FS_FILE_MODE);
    if (fd < 0)
        return config_failed(err, errno, "make marker", FS_MARKER);
    bool written =
        fchmod(fd, FS_FILE_MODE) == 0 && write(fd, text, (size_t)len) == len && fsync(fd) == 0;
    close_keeping_errno(fd);
    if (!written || renameat(data_fd, FS_MARKER_TEMP, data_fd, FS_MARKER) != 0 ||
        fsync(data_fd) != 0)
        return config_failed(err, errno, "write marker", FS_MARKER);
    return ERR_OK;
}

/* A folder with a marker: is all there that init made? */
static enum err_code check_whole(int data_fd, struct err *err)
{
    int fd = openat(data_fd, FS_OBJECTS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return config_failed(err, errno, "open folder", FS_OBJECTS);
    enum err_code code = fs_check_marker(fd, err);
    for (unsigned i = 0; code == ERR_OK && i < FS_SHARDS; i++) {
        char name[STORAGE_SHARD_LENGTH + 1];
        struct stat stat;
        snprintf(name, sizeof name, "%02x", i & 0xFFu);
        if (fstatat(fd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(stat.st_mode))
            code = err_set_internal(err, ERR_CONFIG, 0, "check folders",
                                    "DATA_DIR: the folder objects/%s is missing.", name);
    }
    close(fd);
    if (code == ERR_OK)
        return err_set_internal(err, ERR_EXISTS, 0, "init", "The data folder is there already.");
    err->code = ERR_CONFIG;
    return ERR_CONFIG;
}

static enum err_code init_locked(int data_fd, struct err *err)
{
    struct stat stat;
    if (fstatat(data_fd, FS_MARKER, &stat, AT_SYMLINK_NOFOLLOW) == 0)
        return check_whole(data_fd, err);
    if (!is_bare(data_fd, 0))
        return err_set_internal(err, ERR_CONFIG, 0, "init",
                                "DATA_DIR is neither empty nor a data folder of coffer (it holds "
                                "no " FS_MARKER ").");
    enum err_code code = make_folders(data_fd, err);
    return code == ERR_OK ? write_marker(data_fd, err) : code;
}

/* So that the folder itself is there after a power loss. */
static enum err_code sync_parent(int data_fd, struct err *err)
{
    int fd = openat(data_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ERR_OK; /* another's folder: theirs to care for */
    int result = fsync(fd);
    close_keeping_errno(fd);
    return result == 0 ? ERR_OK : config_failed(err, errno, "fsync", "parent folder");
}

static enum err_code fs_init(const struct config *config, const struct clock *clock,
                             struct err *err)
{
    (void)clock;
    bool made = mkdir(config->data_dir, FS_DIR_MODE) == 0;
    if (!made && errno != EEXIST)
        return config_failed(err, errno, "make folder", config->data_dir);
    int fd = open(config->data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return config_failed(err, errno, "open folder", config->data_dir);
    enum err_code code = ERR_OK;
    if ((made && fchmod(fd, FS_DIR_MODE) != 0) || flock(fd, LOCK_EX) != 0)
        code = config_failed(err, errno, "lock folder", config->data_dir);
    if (code == ERR_OK)
        code = init_locked(fd, err);
    if (code == ERR_OK && made)
        code = sync_parent(fd, err);
    close(fd);
    return code;
}

/* The store's mark: the file DATA_DIR/coffer-installation beside the folder of objects. */

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

static enum err_code fs_read_mark(void *state, char ret_text[STORAGE_MARK_SIZE], struct err *err)
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

static enum err_code fs_write_mark(void *state, const char *text, bool replace, struct err *err)
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
