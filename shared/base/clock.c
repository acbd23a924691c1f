#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static int64_t system_wall_ms(const struct clock *clock)
{
    (void)clock;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t system_steady_ns(const struct clock *clock)
{
    (void)clock;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void system_random(const struct clock *clock, void *target, size_t len)
{
    (void)clock;
    unsigned char *at = target;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        /* A kernel without randomness: every id and token made from here on would be a danger. */
        if (got < 0 && errno != EINTR)
            abort();
        if (got > 0) {
            at += got;
            len -= (size_t)got;
        }
    }
}

const struct clock clock_system = {
    .wall_ms = system_wall_ms,
    .steady_ns = system_steady_ns,
    .random = system_random,
};
