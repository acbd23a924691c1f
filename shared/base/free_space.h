/* Free space of a file system, as MIN_FREE_BYTES means it. Thread-safe. */
#ifndef COFFER_BASE_FREE_SPACE_H
#define COFFER_BASE_FREE_SPACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/statvfs.h>

/* Whether `wanted` more bytes would leave less than `min_free` for callers without privileges, or no
 * inode is left. */
bool free_space_is_short(const struct statvfs *stat, int64_t min_free, int64_t wanted);

#endif
