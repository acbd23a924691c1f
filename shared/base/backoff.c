#include "base/backoff.h"

int64_t backoff_ms(const struct backoff *backoff, unsigned failures, const struct clock *clock)
{
    uint32_t random = 0;
    int64_t ceiling_ms = backoff->min_ms;
    for (unsigned i = 0; i < failures && ceiling_ms < backoff->max_ms; i++)
        ceiling_ms *= 2;
    if (ceiling_ms > backoff->max_ms)
        ceiling_ms = backoff->max_ms;
    int64_t floor_ms = backoff->jitter == BACKOFF_HALF_JITTER ? ceiling_ms / 2 : 0;
    clock_random(clock, &random, sizeof random);
    return floor_ms + random % (ceiling_ms - floor_ms + 1);
}
