#include "app/accept_turn.h"

#include "base/thread.h"

#define TAKE_OVER_MS 5
#define QUIET_LOOKS 20 /* so many looks without a request, and the watcher goes to sleep */

void accept_turn_init(struct accept_turn *turn)
{
    *turn = (struct accept_turn){.held = false};
    pthread_mutex_init(&turn->mutex, NULL);
    condition_init(&turn->followers);
    condition_init(&turn->watcher);
}

void accept_turn_release(struct accept_turn *turn)
{
    pthread_cond_destroy(&turn->watcher);
    pthread_cond_destroy(&turn->followers);
    pthread_mutex_destroy(&turn->mutex);
}

static bool is_serving(uint64_t state)
{
    return state % 2 == 1;
}

static void wait_for_next_look(struct accept_turn *turn)
{
    const struct timespec until = condition_deadline(TAKE_OVER_MS);
    condition_wait(&turn->watcher, &turn->mutex, &until);
}

static void sleep_until_request(struct accept_turn *turn, uint64_t seen)
{
    atomic_store(&turn->watcher_sleeps, true);
    /* A request that began before the store is seen here, a later one sees the store. */
    while (!turn->stopping && atomic_load(&turn->watcher_sleeps) &&
           atomic_load(&turn->state) == seen)
        pthread_cond_wait(&turn->watcher, &turn->mutex);
    atomic_store(&turn->watcher_sleeps, false);
}

/* With the mutex held: looks until one request lasts too long, and takes its server's turn. */
static void watch(struct accept_turn *turn)
{
    int quiet = 0;
    uint64_t seen = atomic_load(&turn->state);
    while (!turn->stopping) {
        wait_for_next_look(turn);
        uint64_t now = seen;
        if (is_serving(seen) && atomic_compare_exchange_strong(&turn->state, &now, seen + 1))
            return;
        now = atomic_load(&turn->state);
        quiet = now == seen ? quiet + 1 : 0;
        if (quiet == QUIET_LOOKS) {
            sleep_until_request(turn, now);
            quiet = 0;
            now = atomic_load(&turn->state);
        }
        seen = now;
    }
}

bool accept_turn_wait(struct accept_turn *turn)
{
    pthread_mutex_lock(&turn->mutex);
    while (!turn->stopping && turn->held) {
        if (turn->watched) {
            pthread_cond_wait(&turn->followers, &turn->mutex);
            continue;
        }
        turn->watched = true;
        watch(turn);
        turn->watched = false;
        pthread_cond_signal(&turn->followers); /* another one watches now */
        break;
    }
    turn->held = true;
    bool go_on = !turn->stopping;
    pthread_mutex_unlock(&turn->mutex);
    return go_on;
}

uint64_t accept_turn_begin(struct accept_turn *turn)
{
    uint64_t begun = atomic_fetch_add(&turn->state, 1) + 1;
    if (atomic_load(&turn->watcher_sleeps)) {
        pthread_mutex_lock(&turn->mutex);
        atomic_store(&turn->watcher_sleeps, false);
        pthread_cond_signal(&turn->watcher);
        pthread_mutex_unlock(&turn->mutex);
    }
    return begun;
}

bool accept_turn_end(struct accept_turn *turn, uint64_t begun)
{
    return atomic_compare_exchange_strong(&turn->state, &begun, begun + 1);
}

void accept_turn_stop(struct accept_turn *turn)
{
    pthread_mutex_lock(&turn->mutex);
    turn->stopping = true;
    pthread_cond_broadcast(&turn->followers);
    pthread_cond_broadcast(&turn->watcher);
    pthread_mutex_unlock(&turn->mutex);
}
