#include "health/health_checks.h"

#include <stdlib.h>

#include "base/crash.h"
#include "base/thread.h"
#include "files/files_installation.h"

#define NS_PER_MS 1000000LL

struct checker {
    struct health *health;
    enum health_part part;
    bool belongs; /* the thread's: the store was found to be this database's once */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wanted_changed;
    pthread_cond_t finished;
    /* guarded by mutex */
    bool is_wanted;
    bool is_closing;
    int64_t started_ns;  /* steady; of the check under way, 0: none */
    int64_t finished_ns; /* of the last one, 0: none yet */
    struct health_result result;
};

struct health {
    struct storage *storage;
    struct metadata *metadata;
    const struct clock *clock;
    struct checker checkers[HEALTH_PARTS];
    int running; /* checkers whose thread was started */
};

/* A store of another database is as good as none. While the database is away that is not known, and
 * its own check tells. */
static enum err_code ask_storage(struct checker *checker, struct err *err)
{
    const struct health *health = checker->health;
    const struct files files = {
        .clock = health->clock, .storage = health->storage, .metadata = health->metadata};
    enum err_code code = storage_ping(health->storage, err);
    if (code != ERR_OK || checker->belongs)
        return code;
    code = files_installation_look(&files, err);
    checker->belongs = code == ERR_OK;
    return code == ERR_CONFIG ? code : ERR_OK;
}

static enum err_code ask_part(struct checker *checker, struct err *err)
{
    if (crash_or_fail("step.check"))
        return err_set_internal(err, ERR_INTERNAL, 0, "ask", "a test has it fail");
    return checker->part == HEALTH_STORAGE ? ask_storage(checker, err)
                                           : metadata_ping(checker->health->metadata, err);
}

static struct health_result ask(struct checker *checker)
{
    const struct health *health = checker->health;
    struct health_result result = {.code = ERR_OK};
    int64_t started_ns = clock_steady_ns(health->clock);
    result.code = ask_part(checker, &result.err);
    result.latency_ms = (clock_steady_ns(health->clock) - started_ns) / NS_PER_MS;
    return result;
}

/* With the mutex held, which is let go while the part is asked. */
static void run_check(struct checker *checker)
{
    checker->is_wanted = false;
    checker->started_ns = clock_steady_ns(checker->health->clock);
    pthread_mutex_unlock(&checker->mutex);
    struct health_result result = ask(checker);
    pthread_mutex_lock(&checker->mutex);
    checker->result = result;
    checker->started_ns = 0;
    checker->finished_ns = clock_steady_ns(checker->health->clock);
    pthread_cond_broadcast(&checker->finished);
}

static void *run(void *argument)
{
    struct checker *checker = argument;
    pthread_mutex_lock(&checker->mutex);
    while (!checker->is_closing) {
        if (checker->is_wanted)
            run_check(checker);
        else
            pthread_cond_wait(&checker->wanted_changed, &checker->mutex);
    }
    pthread_mutex_unlock(&checker->mutex);
    return NULL;
}

static enum err_code start_checker(struct health *health, enum health_part part, struct err *err)
{
    struct checker *checker = &health->checkers[part];
    *checker = (struct checker){.health = health, .part = part};
    pthread_mutex_init(&checker->mutex, NULL);
    pthread_cond_init(&checker->wanted_changed, NULL);
    condition_init(&checker->finished);
    if (!thread_start(&checker->thread, 0, run, checker)) {
        pthread_cond_destroy(&checker->finished);
        pthread_cond_destroy(&checker->wanted_changed);
        pthread_mutex_destroy(&checker->mutex);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "health", "cannot start a thread");
    }
    health->running++;
    return ERR_OK;
}

static void stop_checker(struct checker *checker)
{
    pthread_mutex_lock(&checker->mutex);
    checker->is_closing = true;
    pthread_cond_signal(&checker->wanted_changed);
    pthread_mutex_unlock(&checker->mutex);
    pthread_join(checker->thread, NULL);
    pthread_cond_destroy(&checker->finished);
    pthread_cond_destroy(&checker->wanted_changed);
    pthread_mutex_destroy(&checker->mutex);
}

enum err_code health_open(struct health **ret_health, struct storage *storage,
                          struct metadata *metadata, const struct clock *clock, struct err *err)
{
    struct health *health = calloc(1, sizeof *health);
    if (!health)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "health", "out of memory");
    health->storage = storage;
    health->metadata = metadata;
    health->clock = clock;
    enum err_code code = ERR_OK;
    for (int part = 0; code == ERR_OK && part < HEALTH_PARTS; part++)
        code = start_checker(health, (enum health_part)part, err);
    if (code != ERR_OK) {
        health_close(health);
        return code;
    }
    *ret_health = health;
    return ERR_OK;
}

void health_close(struct health *health)
{
    if (!health)
        return;
    for (int i = 0; i < health->running; i++)
        stop_checker(&health->checkers[i]);
    free(health);
}

/* With the mutex held: waits for a check that began after the last one was too old. */
static bool wait_for_result(struct checker *checker, int64_t now_ns)
{
    int64_t seen_ns = checker->finished_ns;
    int64_t began_ns = checker->started_ns ? checker->started_ns : now_ns;
    int64_t left_ms = HEALTH_PATIENCE_MS - (now_ns - began_ns) / NS_PER_MS;
    const struct timespec until = condition_deadline(left_ms > 0 ? left_ms : 0);
    bool in_time = left_ms > 0;
    if (!checker->started_ns) {
        checker->is_wanted = true;
        pthread_cond_signal(&checker->wanted_changed);
    }
    while (in_time && checker->finished_ns == seen_ns)
        in_time = condition_wait(&checker->finished, &checker->mutex, &until);
    return checker->finished_ns != seen_ns;
}

void health_check(struct health *health, enum health_part part, struct health_result *ret_result)
{
    struct checker *checker = &health->checkers[part];
    int64_t now_ns = clock_steady_ns(health->clock);
    pthread_mutex_lock(&checker->mutex);
    bool is_fresh =
        checker->finished_ns != 0 && now_ns - checker->finished_ns < HEALTH_FRESH_MS * NS_PER_MS;
    if (is_fresh || wait_for_result(checker, now_ns)) {
        *ret_result = checker->result;
    } else {
        *ret_result = (struct health_result){.latency_ms = HEALTH_PATIENCE_MS};
        ret_result->code = err_set_internal(&ret_result->err, ERR_UPSTREAM_TIMEOUT, 0, "health",
                                            "no answer within %d ms", HEALTH_PATIENCE_MS);
    }
    pthread_mutex_unlock(&checker->mutex);
}
