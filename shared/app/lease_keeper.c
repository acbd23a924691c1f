#include "app/lease_keeper.h"

#include <stdlib.h>

#include "base/thread.h"

#define PERIOD_MS 250
#define THREADS_MAX 4
#define WATCHES_PER_THREAD 64 /* their renewals can share a commit */

struct lease_keeper {
    struct watch *watches;
    size_t count;
    const struct clock *clock;
    pthread_t threads[THREADS_MAX];
    size_t started;     /* threads */
    atomic_size_t next; /* the watch that is looked at next in this round */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool closing; /* guarded by mutex */
};

static void look_at(struct watch *watch, const struct clock *clock)
{
    struct idempotency_renewal renewal;
    struct err err;
    pthread_mutex_lock(&watch->mutex);
    bool is_due = watch->fd >= 0 && watch->idempotency &&
                  idempotency_renewal_due(watch->idempotency, &renewal);
    pthread_mutex_unlock(&watch->mutex);
    /* The request may have ended meanwhile: then its key is not ours, and nothing is changed. A lease
     * that is lost is noticed at the commit. */
    enum err_code ignored = is_due ? idempotency_renew(&renewal, clock, &err) : ERR_OK;
    (void)ignored;
}

/* The watches of one round are shared by the threads. */
static void look_at_all(struct lease_keeper *keeper)
{
    size_t at = 0;
    while ((at = atomic_fetch_add(&keeper->next, 1)) < keeper->count)
        look_at(&keeper->watches[at], keeper->clock);
}

static bool sleep_until_next(struct lease_keeper *keeper)
{
    const struct timespec until = condition_deadline(PERIOD_MS);
    bool in_time = true;
    pthread_mutex_lock(&keeper->mutex);
    while (!keeper->closing && in_time)
        in_time = condition_wait(&keeper->wake, &keeper->mutex, &until);
    bool go_on = !keeper->closing;
    pthread_mutex_unlock(&keeper->mutex);
    return go_on;
}

static void *run(void *argument)
{
    struct lease_keeper *keeper = argument;
    signal_stack_take();
    while (sleep_until_next(keeper)) {
        atomic_store(&keeper->next, 0);
        look_at_all(keeper);
    }
    return NULL;
}

enum err_code lease_keeper_open(struct lease_keeper **ret_keeper, struct watch *watches,
                                size_t count, const struct clock *clock, struct err *err)
{
    struct lease_keeper *keeper = calloc(1, sizeof *keeper);
    if (!keeper)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "lease keeper", "out of memory");
    keeper->watches = watches;
    keeper->count = count;
    keeper->clock = clock;
    pthread_mutex_init(&keeper->mutex, NULL);
    condition_init(&keeper->wake);
    size_t wanted = 1 + count / WATCHES_PER_THREAD;
    wanted = wanted < THREADS_MAX ? wanted : THREADS_MAX;
    while (keeper->started < wanted &&
           thread_start(&keeper->threads[keeper->started], 0, run, keeper))
        keeper->started++;
    if (keeper->started < wanted) {
        lease_keeper_close(keeper);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "lease keeper", "cannot start a thread");
    }
    *ret_keeper = keeper;
    return ERR_OK;
}

void lease_keeper_close(struct lease_keeper *keeper)
{
    if (!keeper)
        return;
    pthread_mutex_lock(&keeper->mutex);
    keeper->closing = true;
    pthread_cond_broadcast(&keeper->wake);
    pthread_mutex_unlock(&keeper->mutex);
    for (size_t i = 0; i < keeper->started; i++)
        pthread_join(keeper->threads[i], NULL);
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->mutex);
    free(keeper);
}
