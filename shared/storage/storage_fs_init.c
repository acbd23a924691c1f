#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/id.h"
#include "base/str.h"
#include "storage/storage_fs.h"

/* The folders of DATA_DIR. Whatever else the installation keeps has its place in them. */
static const struct {
    const char *name;
    mode_t mode;
} folders[] = {
    {FS_OBJECTS, FS_DIR_MODE},
    {"db", FS_PRIVATE_DIR_MODE},
    {"log", FS_DIR_MODE},
};

/* What a file system puts into its own root, and what an init that was cut short left. */
static bool is_ignored(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0 ||
           strcmp(name, FS_MARKER_TEMP) == 0;
}

static enum err_code config_failed(struct err *err, int os_errno, const char *operation,
                                   const char *path)
{
    return err_set_internal(err, ERR_CONFIG, os_errno, operation, "DATA_DIR %s: %s.", path,
                            strerror(os_errno));
}

/* An own folder, whatever the umask is; one that stands already is taken. */
static int make_folder(int dir_fd, const char *name, mode_t mode)
{
    if (mkdirat(dir_fd, name, mode) != 0 && errno != EEXIST)
        return -1;
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fchmod(fd, mode) != 0) {
        int os_errno = errno;
        close(fd);
        errno = os_errno;
        return -1;
    }
    return fd;
}

static bool folder_is_empty(int dir_fd, const char *name);

static bool is_folder_of_ours(int dir_fd, const char *name)
{
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        if (strcmp(folders[i].name, name) == 0)
            return true;
    (void)dir_fd;
    return false;
}

/* Holds `dir_fd` nothing but what an init that was cut short may have made? At `depth` 0 that is
 * folders of ours, in "objects" empty shards, below nothing. */
static bool is_unfinished(int dir_fd, int depth)
{
    int copy_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy_fd >= 0 ? fdopendir(copy_fd) : NULL;
    if (!dir) {
        if (copy_fd >= 0)
            close(copy_fd);
        return false;
    }
    bool unfinished = true;
    struct dirent *entry = NULL;
    while (unfinished && (entry = readdir(dir)))
        if (!is_ignored(entry->d_name))
            unfinished = depth < 2 && (depth > 0 || is_folder_of_ours(dir_fd, entry->d_name)) &&
                         folder_is_empty(dir_fd, entry->d_name);
    closedir(dir);
    return unfinished;
}
