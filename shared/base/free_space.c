#include "base/free_space.h"

bool free_space_is_short(const struct statvfs *stat, int64_t min_free, int64_t wanted)
{
    uint64_t free_bytes = 0;
    if (__builtin_mul_overflow((uint64_t)stat->f_bavail, (uint64_t)stat->f_frsize, &free_bytes))
        free_bytes = UINT64_MAX;
    return free_bytes < (uint64_t)min_free + (uint64_t)wanted ||
           (stat->f_files != 0 && stat->f_favail == 0);
}
