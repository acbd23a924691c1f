#include "app/watchdog.h"

#include <signal.h>
#include <stdlib.h>

#include "base/thread.h"

#define INTERRUPT_SIGNAL SIGRTMIN
#define NS_PER_SECOND 1000000000LL
#define PERIOD_MS 250
/* The gateway takes an answer in steps of up to so many bytes, each when its client has taken the last
 * one. Only a client that is a whole step behind the minimum rate is known to be too slow. */
#define GATEWAY_STEP_BYTES (128 * 1024)

struct watchdog {
    struct watchdog_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool closing; /* guarded by mutex */
};

static void on_interrupt(int signal_number)
{
    (void)signal_number; /* only to interrupt a read */
}

/* Without SA_RESTART: the read returns EINTR. */
static void install_interrupt(void)
{
    struct sigaction interrupt = {.sa_handler = on_interrupt};
    sigaction(INTERRUPT_SIGNAL, &interrupt, NULL);
}

/* The signal may come just before the worker's read or write begins: look_at sends it again. */
static void end_wait(struct watch *watch)
{
    atomic_store(&watch->timed_out, true);
    if (atomic_load(&watch->waiting) || atomic_load(&watch->writing))
        pthread_kill(watch->thread, INTERRUPT_SIGNAL);
}

static void restart_window(struct watch *watch, int64_t now_ns, int64_t received)
{
    watch->window_start_ns = now_ns;
    watch->window_received = received;
}

/* With the watch's mutex held and a connection open. */
static bool is_too_slow(const struct watchdog *watchdog, struct watch *watch, int64_t now_ns)
{
    int64_t idle_ns = watchdog->options.config->body_idle_seconds * NS_PER_SECOND;
    int64_t received = atomic_load(&watch->received);
    if (!atomic_load(&watch->waiting)) { /* our own slowness is not the client's */
        restart_window(watch, now_ns, received);
        watch->progress_ns = now_ns;
        return false;
    }
    if (received != watch->progress_received) {
        watch->progress_received = received;
        watch->progress_ns = now_ns;
    }
    if (now_ns - watch->progress_ns >= idle_ns)
        return true;
    if (now_ns - watch->window_start_ns < idle_ns)
        return false;
    int64_t wanted =
        watchdog->options.config->body_min_rate * watchdog->options.config->body_idle_seconds;
    bool slow = received - watch->window_received < wanted;
    restart_window(watch, now_ns, received);
    return slow;
}

static void restart_sending(struct watch *watch, int64_t now_ns, int64_t sent)
{
    watch->sent_start_ns = now_ns;
    watch->sent_at_start = sent;
}

/* With the watch's mutex held and a connection open. */
static bool is_taken_too_slowly(const struct watchdog *watchdog, struct watch *watch,
                                int64_t now_ns)
{
    const struct config *config = watchdog->options.config;
    const int64_t rate = config->download_min_rate;
    const int64_t sent = atomic_load(&watch->sent);
    if (rate == 0 || !atomic_load(&watch->writing)) { /* our own slowness is not the client's */
        restart_sending(watch, now_ns, sent);
        return false;
    }
    const int64_t seconds = (now_ns - watch->sent_start_ns) / NS_PER_SECOND;
    if (seconds < config->download_rate_seconds || rate * seconds < GATEWAY_STEP_BYTES)
        return false;
    bool slow = sent - watch->sent_at_start + GATEWAY_STEP_BYTES <= rate * seconds;
    restart_sending(watch, now_ns, sent);
    return slow;
}

static void look_at(const struct watchdog *watchdog, struct watch *watch, int64_t now_ns)
{
    pthread_mutex_lock(&watch->mutex);
    if (watch->fd >= 0 && atomic_load(&watch->timed_out)) {
        end_wait(watch);
    } else if (watch->fd >= 0) {
        if (is_too_slow(watchdog, watch, now_ns) || is_taken_too_slowly(watchdog, watch, now_ns))
            end_wait(watch);
    }
    pthread_mutex_unlock(&watch->mutex);
}

static bool sleep_until_next(struct watchdog *watchdog)
{
    const struct timespec until = condition_deadline(PERIOD_MS);
    pthread_mutex_lock(&watchdog->mutex);
    if (!watchdog->closing)
        condition_wait(&watchdog->wake, &watchdog->mutex, &until);
    bool go_on = !watchdog->closing;
    pthread_mutex_unlock(&watchdog->mutex);
    return go_on;
}

static void *run(void *argument)
{
    struct watchdog *watchdog = argument;
    while (sleep_until_next(watchdog)) {
        int64_t now_ns = clock_steady_ns(watchdog->options.clock);
        for (size_t i = 0; i < watchdog->options.count; i++)
            look_at(watchdog, &watchdog->options.watches[i], now_ns);
        if (watchdog->options.ticked)
            watchdog->options.ticked(watchdog->options.context);
    }
    return NULL;
}

static void init_watches(struct watch *watches, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        watches[i] = (struct watch){.fd = -1};
        pthread_mutex_init(&watches[i].mutex, NULL);
    }
}

enum err_code watchdog_open(struct watchdog **ret_watchdog, const struct watchdog_options *options,
                            struct err *err)
{
    struct watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (!watchdog)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "watchdog", "out of memory");
    watchdog->options = *options;
    install_interrupt();
    init_watches(options->watches, options->count);
    pthread_mutex_init(&watchdog->mutex, NULL);
    condition_init(&watchdog->wake);
    if (!thread_start(&watchdog->thread, 0, run, watchdog)) {
        pthread_cond_destroy(&watchdog->wake);
        pthread_mutex_destroy(&watchdog->mutex);
        free(watchdog);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "watchdog", "cannot start a thread");
    }
    *ret_watchdog = watchdog;
    return ERR_OK;
}

void watchdog_close(struct watchdog *watchdog)
{
    if (!watchdog)
        return;
    pthread_mutex_lock(&watchdog->mutex);
    watchdog->closing = true;
    pthread_cond_signal(&watchdog->wake);
    pthread_mutex_unlock(&watchdog->mutex);
    pthread_join(watchdog->thread, NULL);
    for (size_t i = 0; i < watchdog->options.count; i++)
        pthread_mutex_destroy(&watchdog->options.watches[i].mutex);
    pthread_cond_destroy(&watchdog->wake);
    pthread_mutex_destroy(&watchdog->mutex);
    free(watchdog);
}

void watchdog_end_all(struct watchdog *watchdog)
{
    for (size_t i = 0; i < watchdog->options.count; i++) {
        struct watch *watch = &watchdog->options.watches[i];
        pthread_mutex_lock(&watch->mutex);
        if (watch->fd >= 0)
            end_wait(watch);
        pthread_mutex_unlock(&watch->mutex);
    }
}

void watch_begin(struct watch *watch, const struct clock *clock, int fd)
{
    int64_t now_ns = clock_steady_ns(clock);
    pthread_mutex_lock(&watch->mutex);
    watch->fd = fd;
    watch->thread = pthread_self();
    watch->idempotency = NULL;
    watch->progress_ns = now_ns;
    watch->progress_received = 0;
    restart_window(watch, now_ns, 0);
    restart_sending(watch, now_ns, 0);
    atomic_store(&watch->received, 0);
    atomic_store(&watch->sent, 0);
    atomic_store(&watch->timed_out, false);
    atomic_store(&watch->waiting, false);
    atomic_store(&watch->writing, false);
    pthread_mutex_unlock(&watch->mutex);
}

void watch_idempotency(struct watch *watch, struct idempotency *idempotency)
{
    pthread_mutex_lock(&watch->mutex);
    watch->idempotency = idempotency;
    pthread_mutex_unlock(&watch->mutex);
}

void watch_end(struct watch *watch)
{
    pthread_mutex_lock(&watch->mutex);
    watch->fd = -1;
    watch->idempotency = NULL;
    pthread_mutex_unlock(&watch->mutex);
}
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

static void renew_if_due(struct watch *watch, const struct clock *clock)
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
static void renew_all_due(struct lease_keeper *keeper)
{
    size_t at = 0;
    while ((at = atomic_fetch_add(&keeper->next, 1)) < keeper->count)
        renew_if_due(&keeper->watches[at], keeper->clock);
}

static bool wait_for_round(struct lease_keeper *keeper)
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

static void *keep_leases(void *argument)
{
    struct lease_keeper *keeper = argument;
    while (wait_for_round(keeper)) {
        atomic_store(&keeper->next, 0);
        renew_all_due(keeper);
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
           thread_start(&keeper->threads[keeper->started], 0, keep_leases, keeper))
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
