#include "base/backoff.h"

#include <string.h>

#include "check.h"

static unsigned char filler;

static void fill(const struct clock *clock, void *target, size_t len)
{
    (void)clock;
    memset(target, filler, len);
}

TEST(backoff, grows_to_its_maximum_and_is_spread)
{
    static const int64_t most_ms[] = {50, 100, 200, 400, 800, 1000, 1000, 1000};
    const struct backoff full = {50, 1000, BACKOFF_FULL_JITTER};
    int64_t seen_ms = 0;
    for (unsigned i = 0; i < sizeof most_ms / sizeof most_ms[0]; i++) {
        for (int draw = 0; draw < 200; draw++) {
            int64_t wait_ms = backoff_ms(&full, i, &clock_system);
            CHECK(wait_ms >= 0 && wait_ms <= most_ms[i]);
            seen_ms = wait_ms > seen_ms ? wait_ms : seen_ms;
        }
    }
    CHECK(seen_ms > 800);
}

TEST(backoff, has_half_of_the_ceiling_as_its_floor)
{
    const struct backoff half = {1000, 60 * 1000, BACKOFF_HALF_JITTER};
    const struct clock fixed = {clock_system.wall_ms, clock_system.steady_ns, fill};
    filler = 0;
    CHECK_INT(backoff_ms(&half, 0, &fixed), 500);
    CHECK_INT(backoff_ms(&half, 3, &fixed), 4000);
    CHECK_INT(backoff_ms(&half, 1000, &fixed), 30 * 1000);
    filler = 0xff;
    CHECK(backoff_ms(&half, 0, &fixed) <= 1000);
    CHECK(backoff_ms(&half, 1000, &fixed) <= 60 * 1000);
}
