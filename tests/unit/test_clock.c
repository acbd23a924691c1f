#include "base/clock.h"

#include "check.h"

TEST(clock, wall_time_is_that_of_the_system)
{
    int64_t before = (int64_t)time(NULL) * 1000;
    int64_t now = clock_wall_ms(&clock_system);
    int64_t after = ((int64_t)time(NULL) + 2) * 1000;
    CHECK(before <= now && now <= after);
}

TEST(clock, steady_time_counts_nanoseconds_forward)
{
    int64_t start = clock_steady_ns(&clock_system);
    struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    nanosleep(&pause, NULL);
    int64_t passed = clock_steady_ns(&clock_system) - start;
    CHECK(passed >= 20 * 1000 * 1000);
    CHECK(passed < INT64_C(60) * 1000 * 1000 * 1000);
}

TEST(clock, random_fills_all_and_never_the_same)
{
    static unsigned char first[1000], second[1000];
    clock_random(&clock_system, first, sizeof first);
    clock_random(&clock_system, second, sizeof second - 10);
    CHECK(memcmp(first, second, 100) != 0);
    for (size_t i = sizeof second - 10; i < sizeof second; i++)
        CHECK_INT(second[i], 0); /* beyond its length nothing is written */
    size_t zeros = 0;
    for (size_t i = 0; i < sizeof first; i++)
        zeros += first[i] == 0;
    CHECK(zeros < 50); /* about 4 are likely; 50 in 1000 is a part left empty */
}
