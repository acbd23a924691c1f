#include "app/workers.h"

#include <pthread.h>
#include <stdlib.h>

#include "app/watchdog.h"
#include "base/thread.h"
#include "observe/metrics.h"

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

static void set(struct metrics *metrics, enum metric metric, const struct pool_usage *usage)
{
    metrics_set(metrics, metric, (const unsigned[]){usage->driver, CONNECTIONS_BUSY}, usage->busy);
    metrics_set(metrics, metric, (const unsigned[]){usage->driver, CONNECTIONS_IDLE}, usage->idle);
}

void pool_gauges_set(const void *service)
{
    const struct files *files = &((const struct service *)service)->files;
    struct pool_usage usage;
    if (!files->metrics)
        return;
    if (storage_connections(files->storage, &usage))
        set(files->metrics, METRIC_STORAGE_CONNECTIONS, &usage);
    if (metadata_connections(files->metadata, &usage))
        set(files->metrics, METRIC_METADATA_CONNECTIONS, &usage);
}

#define WAKE_SIGNAL SIGUSR2
#define WORKER_STACK_BYTES (256 * 1024)
#define NS_PER_MS 1000000L
#define WAKE_PERIOD_MS 20
#define EXHAUSTED_PAUSE_MS 100
#define LAST_CHANCE_SECONDS 3

struct worker {
    pthread_t thread;
    struct workers *workers;
    struct watch *watch;
    struct fcgi *fcgi;
    atomic_bool running;
    atomic_bool accepting; /* waits for a connection: the wake signal may interrupt it */
};

struct workers {
    const struct service *service;
    struct watchdog *watchdog;
    struct lease_keeper *lease_keeper; /* of a program that takes Idempotency-Keys, else NULL */
    struct fcgi_head_pipe *head_pipe;  /* of a program that takes uploads, else NULL */
    struct watch *watches;
    struct worker *all;
    size_t count;            /* allocated */
    size_t started;          /* threads */
    struct accept_turn turn; /* of a program with short requests */
    atomic_bool stopping;
    atomic_int_fast64_t exhausted_logged_ns;
};

static void on_wake(int signal_number)
{
    (void)signal_number; /* only to interrupt accept4 */
}

/* What the main thread waits for. */
static void main_signals(sigset_t *ret_signals)
{
    sigemptyset(ret_signals);
    sigaddset(ret_signals, SIGTERM);
    sigaddset(ret_signals, SIGHUP);
}

void workers_prepare_signals(sigset_t *ret_signals)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction wake = {.sa_handler = on_wake, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &ignore, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a file size limit is an error of the write, no end */
    sigaction(WAKE_SIGNAL, &wake, NULL);
    sigaction(SIGHUP, &wake, NULL); /* lighttpd/coffer-serve sends it to whom it does not end */
    main_signals(ret_signals);
    pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
}

static void pause_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * NS_PER_MS};
    nanosleep(&pause, NULL);
}

/* At most one line a second, however many workers find no descriptor. */
static void log_exhausted(struct workers *workers)
{
    int64_t now_ns = clock_steady_ns(workers->service->files.clock);
    int_fast64_t last_ns = atomic_load(&workers->exhausted_logged_ns);
    if (now_ns - last_ns < 1000 * NS_PER_MS ||
        !atomic_compare_exchange_strong(&workers->exhausted_logged_ns, &last_ns, now_ns))
        return;
    log_write(workers->service->log, ERR_LEVEL_ERROR, NULL,
              "no descriptor or memory to accept a connection with", LOG_NO_FIELDS);
}

static void serve_connection(struct worker *worker)
{
    if (fcgi_read(worker->fcgi))
        serve_request(worker->workers->service, worker->fcgi, worker->watch);
}

/* Accepts one connection and serves it; false when the turn to accept went to another worker. */
static bool accept_and_serve(struct worker *worker)
{
    struct workers *workers = worker->workers;
    bool takes_turns = workers->service->takes_turns;
    uint64_t begun = 0;
    bool keeps_turn = true;
    atomic_store(&worker->accepting, true);
    enum fcgi_accepted accepted = fcgi_accept(worker->fcgi);
    atomic_store(&worker->accepting, false);
    if (accepted == FCGI_REQUEST) {
        if (takes_turns)
            begun = accept_turn_begin(&workers->turn);
        serve_connection(worker);
        if (takes_turns)
            keeps_turn = accept_turn_end(&workers->turn, begun);
    }
    if (accepted == FCGI_EXHAUSTED) {
        log_exhausted(workers);
        pause_ms(EXHAUSTED_PAUSE_MS);
    }
    return keeps_turn;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct workers *workers = worker->workers;
    bool has_turn = !workers->service->takes_turns;
    sigset_t blocked;
    main_signals(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL); /* a worker is woken by signals */
    while (!atomic_load(&workers->stopping)) {
        if (!has_turn)
            has_turn = accept_turn_wait(&workers->turn);
        if (has_turn)
            has_turn = accept_and_serve(worker);
    }
    atomic_store(&worker->running, false);
    return NULL;
}

static enum err_code start_worker(struct workers *workers, int listen_fd, size_t index,
                                  struct err *err)
{
    struct worker *worker = &workers->all[index];
    worker->workers = workers;
    worker->watch = &workers->watches[index];
    const struct fcgi_options options = {.listen_fd = listen_fd,
                                         .watch = worker->watch,
                                         .clock = workers->service->files.clock,
                                         .head_pipe = workers->head_pipe};
    enum err_code code = fcgi_open(&worker->fcgi, &options, err);
    if (code != ERR_OK)
        return code;
    atomic_store(&worker->running, true);
    if (!thread_start(&worker->thread, WORKER_STACK_BYTES, run_worker, worker)) {
        atomic_store(&worker->running, false);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "workers", "cannot start worker %zu of %zu",
                                index + 1, workers->count);
    }
    workers->started++;
    return ERR_OK;
}

static enum err_code open_watchdog(struct workers *workers, struct err *err)
{
    const struct watchdog_options options = {.config = workers->service->files.config,
                                             .clock = workers->service->files.clock,
                                             .watches = workers->watches,
                                             .count = workers->count,
                                             .ticked = pool_gauges_set,
                                             .context = workers->service};
    return watchdog_open(&workers->watchdog, &options, err);
}

static bool takes_keys(const struct app *app)
{
    for (size_t i = 0; i < app->endpoint_count; i++)
        if (app->endpoints[i].flags & ENDPOINT_IDEMPOTENT)
            return true;
    return false;
}

enum err_code workers_open(struct workers **ret_workers, const struct service *service,
                           int listen_fd, size_t count, struct err *err)
{
    enum err_code code;
    struct workers *workers = calloc(1, sizeof *workers);
    if (!workers)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "workers", "out of memory");
    workers->service = service;
    workers->count = count;
    accept_turn_init(&workers->turn);
    workers->all = calloc(count, sizeof *workers->all);
    workers->watches = calloc(count, sizeof *workers->watches);
    if (!workers->all || !workers->watches)
        code = err_set_internal(err, ERR_NO_MEMORY, 0, "workers", "out of memory");
    else
        code = open_watchdog(workers, err);
    if (code == ERR_OK && takes_keys(service->app))
        code = lease_keeper_open(&workers->lease_keeper, workers->watches, count,
                                 service->files.clock, err);
    if (code == ERR_OK && service->app->takes_uploads)
        code = fcgi_head_pipe_open(&workers->head_pipe, err);
    for (size_t i = 0; code == ERR_OK && i < count; i++)
        code = start_worker(workers, listen_fd, i, err);
    if (code != ERR_OK) {
        workers_stop(workers, 0);
        workers_close(workers);
        return code;
    }
    *ret_workers = workers;
    return ERR_OK;
}

/* Wakes those that wait for a connection; returns how many workers still run. The signal can come
 * between a worker's look at `stopping` and its accept4, so it is sent again until they are gone.
 */
static size_t wake_workers(struct workers *workers)
{
    size_t running = 0;
    for (size_t i = 0; i < workers->started; i++) {
        struct worker *worker = &workers->all[i];
        if (!atomic_load(&worker->running))
            continue;
        running++;
        if (atomic_load(&worker->accepting))
            pthread_kill(worker->thread, WAKE_SIGNAL);
    }
    return running;
}

static bool wait_until_gone(struct workers *workers, int64_t seconds)
{
    const struct clock *clock = workers->service->files.clock;
    int64_t until_ns = clock_steady_ns(clock) + seconds * 1000 * NS_PER_MS;
    while (wake_workers(workers) > 0) {
        if (clock_steady_ns(clock) >= until_ns)
            return false;
        pause_ms(WAKE_PERIOD_MS);
    }
    return true;
}

bool workers_stop(struct workers *workers, int64_t grace_seconds)
{
    atomic_store(&workers->stopping, true);
    accept_turn_stop(&workers->turn);
    if (!wait_until_gone(workers, grace_seconds)) {
        watchdog_end_all(workers->watchdog);
        if (!wait_until_gone(workers, LAST_CHANCE_SECONDS))
            return false;
    }
    for (size_t i = 0; i < workers->started; i++)
        pthread_join(workers->all[i].thread, NULL);
    workers->started = 0;
    return true;
}

void workers_close(struct workers *workers)
{
    if (!workers)
        return;
    lease_keeper_close(workers->lease_keeper); /* before the watches' mutexes go */
    watchdog_close(workers->watchdog);
    accept_turn_release(&workers->turn);
    for (size_t i = 0; workers->all && i < workers->count; i++)
        fcgi_close(workers->all[i].fcgi);
    fcgi_head_pipe_close(workers->head_pipe);
    free(workers->all);
    free(workers->watches);
    free(workers);
}
