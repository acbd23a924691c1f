/*
 * Reading and writing a descriptor to the end: signals (EINTR) and short writes are not failures.
 * For files, pipes and sockets in blocking mode. Usable by any thread.
 */
#ifndef COFFER_BASE_IO_H
#define COFFER_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include "base/errors.h"

/* Writes all `len` bytes. ERR_DISK_FULL on ENOSPC and EDQUOT, else ERR_STORAGE_UNAVAILABLE with
 * the errno; some bytes may have been written then. A closed pipe is EPIPE where SIGPIPE is
 * ignored. */
enum err_code io_write_all(int fd, const void *data, size_t len, struct err *err) ERR_MUST_CHECK;

/* Reads what is there, at most `size` bytes; *ret_len is 0 at the end only (`size` must not be 0).
 * ERR_STORAGE_UNAVAILABLE with the errno. */
enum err_code io_read_some(int fd, void *target, size_t size, size_t *ret_len, struct err *err)
    ERR_MUST_CHECK;

/* Free space of a file system, as MIN_FREE_BYTES means it. Thread-safe. */

/* Whether `wanted` more bytes would leave less than `min_free` for callers without privileges, or no
 * inode is left. */
bool free_space_is_short(const struct statvfs *stat, int64_t min_free, int64_t wanted);

#endif
