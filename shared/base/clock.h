/*
 * Time and randomness, passed in so that tests can fix them. A clock is immutable once made and
 * may be shared by threads; the system one calls clock_gettime and getrandom.
 */
#ifndef COFFER_BASE_CLOCK_H
#define COFFER_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

struct clock {
    int64_t (*wall_ms)(const struct clock *clock);   /* ms since 1970, UTC */
    int64_t (*steady_ns)(const struct clock *clock); /* ns, never goes back: for durations */
    void (*random)(const struct clock *clock, void *target, size_t len);
};

extern const struct clock clock_system;

static inline int64_t clock_wall_ms(const struct clock *clock)
{
    return clock->wall_ms(clock);
}
static inline int64_t clock_steady_ns(const struct clock *clock)
{
    return clock->steady_ns(clock);
}
static inline void clock_random(const struct clock *clock, void *target, size_t len)
{
    clock->random(clock, target, len);
}

#endif
