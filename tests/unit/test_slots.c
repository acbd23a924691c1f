#include "app/slots.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "check.h"
#include "store.h"

#define LONG_MS 60000

static enum err_code take(struct slots *slots, int64_t wait_ms)
{
    struct err err = {0};
    enum err_code code = slots_take(slots, wait_ms, &err);
    CHECK_ERR(code, code == ERR_OK ? ERR_OK : ERR_STORAGE_UNAVAILABLE, &err);
    CHECK(code == ERR_OK || !err.internal);
    return code;
}

TEST(slots, are_as_many_as_were_made_and_come_back)
{
    struct slots *slots = NULL;
    struct err err = {0};
    REQUIRE(slots_open(&slots, 2, 0, &err) == ERR_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(take(slots, LONG_MS), ERR_OK);
        CHECK_INT(take(slots, LONG_MS), ERR_OK);
        CHECK_INT(take(slots, LONG_MS), ERR_STORAGE_UNAVAILABLE); /* at once: none may wait */
        slots_give(slots);
        slots_give(slots);
    }
    slots_close(slots);
}

TEST(slots, are_waited_for_no_longer_than_asked)
{
    struct slots *slots = NULL;
    struct err err = {0};
    REQUIRE(slots_open(&slots, 1, 1, &err) == ERR_OK);
    CHECK_INT(take(slots, 0), ERR_OK);
    int64_t started_ns = clock_steady_ns(&clock_system);
    CHECK_INT(take(slots, 50), ERR_STORAGE_UNAVAILABLE);
    CHECK((clock_steady_ns(&clock_system) - started_ns) / 1000000 >= 50);
    slots_give(slots);
    CHECK_INT(take(slots, 50), ERR_OK);
    slots_close(slots);
}

struct crowd {
    struct slots *slots;
    atomic_int taken;
    atomic_int refused;
    atomic_int held;
    atomic_int most_held;
};

static void hold_for_a_moment(void *context, int index)
{
    struct crowd *crowd = context;
    (void)index;
    for (int i = 0; i < 200; i++) {
        if (take(crowd->slots, LONG_MS) != ERR_OK) {
            crowd->refused++;
            continue;
        }
        crowd->taken++;
        int held = ++crowd->held;
        int most = crowd->most_held;
        while (held > most && !atomic_compare_exchange_weak(&crowd->most_held, &most, held))
            continue;
        crowd->held--;
        slots_give(crowd->slots);
    }
}

TEST(slots, serve_all_who_may_wait)
{
    struct crowd crowd = {.taken = 0};
    struct err err = {0};
    REQUIRE(slots_open(&crowd.slots, 3, 5, &err) == ERR_OK);
    store_threads(8, hold_for_a_moment, &crowd); /* three hold one, five may wait */
    CHECK_INT(crowd.taken, 1600);
    CHECK_INT(crowd.refused, 0);
    CHECK(crowd.most_held <= 3);
    slots_close(crowd.slots);
}
