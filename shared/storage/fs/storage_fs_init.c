#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/id.h"
#include "storage/fs/storage_fs.h"

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

enum err_code fs_init(const struct config *config, const struct clock *clock, struct err *err)
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
