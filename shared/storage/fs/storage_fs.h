/*
 * Private to storage_fs*.c and their tests: objects as files under DATA_DIR/objects/<xx>/<rest>,
 * where the key is "<xx>/<rest>", xx two lower-case hexadecimal digits.
 *
 * DATA_DIR may be moved away, unmounted and restored while the process runs. So the folder that
 * stands at the path *now* is what counts: every call compares it with the one that is held open
 * and takes the new one when they differ; a folder without its marker file is no store. Nothing
 * but fs_init ever makes a folder.
 *
 * A claim is a flock on the object's file, held from before its name exists until put_close and
 * let go by the kernel when the process dies.
 *
 * Thread-safe: the mutex guards `root` only; a root is counted and freed by its last user.
 */
#ifndef COFFER_STORAGE_STORAGE_FS_H
#define COFFER_STORAGE_STORAGE_FS_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "base/limits.h"
#include "storage/storage_drivers.h"

#define FS_DIR_MODE 0750
#define FS_FILE_MODE 0640
#define FS_PRIVATE_DIR_MODE 0700
#define FS_SHARDS 256
#define FS_OBJECTS "objects"
#define FS_MARKER "coffer-format"
#define FS_MARKER_TEMP "coffer-format.new"
#define FS_MARKER_TEXT "coffer 1\n" /* followed by the installation's id and a newline */
#define FS_TEMP_PREFIX ".tmp-"
#define FS_TEMP_STALE_MS (60 * 1000) /* an unclaimed temporary file this old has no owner */
#define FS_STEP_BYTES \
    (8 * 1024 * 1024) /* free space is checked and write-back started this often */

/* The system calls a test may make fail. */
struct fs_calls {
    int (*open_temp)(int dir_fd); /* an unnamed file; EOPNOTSUPP where there is no such thing */
    ssize_t (*write)(int fd, const void *data, size_t len);
    int (*fsync)(int fd);
    int (*link)(int fd, int dir_fd, const char *temp_name, const char *name);
    int (*fstatvfs)(int fd, struct statvfs *ret_stat);
};

extern const struct fs_calls fs_calls_system;

struct fs_root {
    int fd; /* of DATA_DIR/objects */
    dev_t device;
    ino_t inode;
    unsigned users;
};

struct storage_fs {
    char data_dir[CONFIG_TEXT_SIZE];
    char objects[CONFIG_TEXT_SIZE + sizeof "/" FS_OBJECTS];
    bool is_durable;
    int64_t min_free_bytes;
    const struct clock *clock;
    const struct fs_calls *calls;
    pthread_mutex_t mutex;
    struct fs_root *root; /* NULL until the store was seen */
};

/* The way from a key to an open file. */

/* Fills *err for a failed system call. ENOENT is the store's absence here, never an object's. */
enum err_code fs_failed(struct err *err, int os_errno, const char *operation);
#ifdef __clang_analyzer__ /* which can't see across files that it never is ERR_OK */
#define fs_failed(err, os_errno, operation) \
    ((void)(fs_failed)(err, os_errno, operation), ERR_STORAGE_UNAVAILABLE)
#endif
/* The store at DATA_DIR now; the caller ends with fs_root_release. ERR_STORAGE_UNAVAILABLE. */
enum err_code fs_root_borrow(struct storage_fs *fs, struct fs_root **ret_root, struct err *err)
    ERR_MUST_CHECK;
void fs_root_release(struct storage_fs *fs, struct fs_root *root);
/* Opens the folder of a key's shard; the caller closes it. */
enum err_code fs_open_shard(struct storage_fs *fs, const char *key, int *ret_fd, struct err *err)
    ERR_MUST_CHECK;
/* Opens an object, a regular file reached without symbolic links; the caller closes it.
 * ERR_NOT_FOUND only while the store is there. */
enum err_code fs_open_object(struct storage_fs *fs, const char *key, int *ret_fd,
                             struct stat *ret_stat, struct err *err) ERR_MUST_CHECK;
/* Is there a marker beside the objects folder `objects_fd`? */
enum err_code fs_check_marker(int objects_fd, struct err *err) ERR_MUST_CHECK;

enum err_code fs_put_begin(void *state, const char *key, int64_t size_hint, void **ret_put,
                           struct err *err) ERR_MUST_CHECK;
enum err_code fs_put_write(void *state, const void *data, size_t len, struct err *err)
    ERR_MUST_CHECK;
enum err_code fs_put_commit(void *state, const unsigned char sha256[32],
                            char ret_tag[STORAGE_TAG_SIZE], struct err *err) ERR_MUST_CHECK;
void fs_put_close(void *state);
enum err_code fs_put_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err)
    ERR_MUST_CHECK;
/* Writes a byte where uploads are written, and lets it go. ERR_DISK_FULL like an upload. */
enum err_code fs_put_probe(struct storage_fs *fs, struct err *err) ERR_MUST_CHECK;

/* The driver's open with other system calls. */
enum err_code fs_open_with(void **ret_state, const struct config *config, const struct clock *clock,
                           const struct fs_calls *calls, struct err *err) ERR_MUST_CHECK;

#endif
