#include "base/io.h"

#include <errno.h>
#include <unistd.h>

enum err_code io_write_all(int fd, const void *data, size_t len, struct err *err)
{
    const char *at = data;
    while (len > 0) {
        ssize_t written = write(fd, at, len);
        if (written > 0) {
            at += written;
            len -= (size_t)written;
        } else if (written == 0) {
            /* No descriptor we use does this; going on could be for ever. */
            return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, EIO, "write",
                                    "write took nothing, %zu bytes left", len);
        } else if (errno != EINTR) {
            bool is_full = errno == ENOSPC || errno == EDQUOT;
            return err_set_internal(err, is_full ? ERR_DISK_FULL : ERR_STORAGE_UNAVAILABLE, errno,
                                    "write", "write failed with %zu bytes left", len);
        }
    }
    return ERR_OK;
}

enum err_code io_read_some(int fd, void *target, size_t size, size_t *ret_len, struct err *err)
{
    ssize_t got;
    do {
        got = read(fd, target, size);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, errno, "read", "read failed");
    *ret_len = (size_t)got;
    return ERR_OK;
}

bool free_space_is_short(const struct statvfs *stat, int64_t min_free, int64_t wanted)
{
    uint64_t free_bytes = 0;
    if (__builtin_mul_overflow((uint64_t)stat->f_bavail, (uint64_t)stat->f_frsize, &free_bytes))
        free_bytes = UINT64_MAX;
    return free_bytes < (uint64_t)min_free + (uint64_t)wanted ||
           (stat->f_files != 0 && stat->f_favail == 0);
}
