#include <time.h>
#include <unistd.h>

#include "app/workers.h"
#include "check.h"

#define WORKERS 8

struct crew {
    struct accept_turn turn;
    atomic_int holders; /* of the right to accept, now */
    atomic_int most;    /* ever at once */
    atomic_int requests;
    atomic_int takeovers;
    atomic_bool slow; /* the next request lasts long */
    atomic_bool stopping;
};

static void sleep_us(long us)
{
    const struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&pause, NULL);
}

static void note_holder(struct crew *crew)
{
    int now = atomic_fetch_add(&crew->holders, 1) + 1;
    int most = atomic_load(&crew->most);
    while (now > most && !atomic_compare_exchange_weak(&crew->most, &most, now))
        ;
}

static void *work(void *argument)
{
    struct crew *crew = argument;
    bool has_turn = false;
    while (!atomic_load(&crew->stopping)) {
        if (!has_turn && !accept_turn_wait(&crew->turn))
            break;
        note_holder(crew); /* "accepting" */
        sleep_us(20);
        atomic_fetch_sub(&crew->holders, 1);
        uint64_t begun = accept_turn_begin(&crew->turn);
        if (atomic_exchange(&crew->slow, false))
            sleep_us(300000);
        atomic_fetch_add(&crew->requests, 1);
        has_turn = accept_turn_end(&crew->turn, begun);
        if (!has_turn)
            atomic_fetch_add(&crew->takeovers, 1);
    }
    return NULL;
}

TEST(accept_turn, one_accepts_and_a_slow_request_holds_up_nobody)
{
    static struct crew crew;
    pthread_t threads[WORKERS];
    accept_turn_init(&crew.turn);
    for (int i = 0; i < WORKERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, &crew) == 0);
    for (int i = 0; i < 5; i++) {
        atomic_store(&crew.slow, true);
        while (atomic_load(&crew.slow))
            sleep_us(100);
        int before = atomic_load(&crew.requests);
        sleep_us(150000); /* while the slow one still lasts */
        CHECK(atomic_load(&crew.requests) > before + 10);
        sleep_us(200000);
    }
    CHECK(atomic_load(&crew.takeovers) >= 5);
    CHECK_INT(atomic_load(&crew.most), 1);
    atomic_store(&crew.stopping, true);
    accept_turn_stop(&crew.turn);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(!accept_turn_wait(&crew.turn));
    accept_turn_release(&crew.turn);
}
