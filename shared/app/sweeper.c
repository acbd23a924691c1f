#include "app/sweeper.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/condition.h"
#include "base/signal_stack.h"
#include "base/thread.h"
#include "files/files_sweep.h"

struct sweeper {
    const struct service *service;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool closing;    /* guarded by mutex, as is what follows */
    bool bytes_left; /* since the last look */
};

static void log_sweep(struct log *log, enum err_code code, const struct sweep_result *result,
                      const struct err *err)
{
    const struct log_field counts[] = {
        LOG_FIELD_INT("coffer.sweep.expired", result->expired),
        LOG_FIELD_INT("coffer.sweep.deleted", result->deleted),
        LOG_FIELD_INT("coffer.sweep.orphans", result->orphans),
        LOG_FIELD_INT("coffer.sweep.orphan_bytes", result->orphan_bytes),
    };
    const struct log_field failure[] = {
        LOG_FIELD_STR("error.message", str_of(code == ERR_OK ? "" : err->message)),
        LOG_FIELD_STR("error.operation", str_of(code == ERR_OK ? "" : err->operation)),
    };
    if (code != ERR_OK)
        log_write(log, ERR_LEVEL_WARN, NULL, "sweep failed", (struct log_fields){failure, 2});
    else if (result->expired + result->deleted + result->orphans > 0)
        log_write(log, ERR_LEVEL_INFO, NULL, "swept", (struct log_fields){counts, 4});
}

static void sweep_once(const struct sweeper *sweeper)
{
    char holder[64];
    bool swept = false;
    struct sweep_result result = {0};
    struct err err;
    snprintf(holder, sizeof holder, "%s-%ld", sweeper->service->app->name, (long)getpid());
    enum err_code code =
        files_sweep_if_due(&sweeper->service->files, holder, &swept, &result, &err);
    log_sweep(sweeper->service->log, code, &result, &err);
}

static void sweep_deleted(const struct sweeper *sweeper)
{
    struct sweep_result result = {0};
    struct err err;
    enum err_code code = files_sweep_deleted(&sweeper->service->files, &result, &err);
    if (code != ERR_OK)
        log_sweep(sweeper->service->log, code, &result, &err);
}

/* Until the next sweep is due, removing what deletes leave meanwhile; false when it is to end. After
 * a failure the bytes wait for the next sweep or delete. */
static bool wait_until_next(struct sweeper *sweeper)
{
    const struct timespec until =
        condition_deadline(sweeper->service->files.config->sweep_interval_seconds * 1000);
    bool in_time = true;
    pthread_mutex_lock(&sweeper->mutex);
    while (!sweeper->closing && in_time) {
        if (sweeper->bytes_left) {
            sweeper->bytes_left = false;
            pthread_mutex_unlock(&sweeper->mutex);
            sweep_deleted(sweeper);
            pthread_mutex_lock(&sweeper->mutex);
        } else {
            in_time = condition_wait(&sweeper->wake, &sweeper->mutex, &until);
        }
    }
    bool go_on = !sweeper->closing;
    pthread_mutex_unlock(&sweeper->mutex);
    return go_on;
}

static void *run(void *argument)
{
    struct sweeper *sweeper = argument;
    signal_stack_take();
    do {
        sweep_once(sweeper);
    } while (wait_until_next(sweeper));
    return NULL;
}

void sweeper_wake(struct sweeper *sweeper)
{
    pthread_mutex_lock(&sweeper->mutex);
    sweeper->bytes_left = true;
    pthread_cond_signal(&sweeper->wake);
    pthread_mutex_unlock(&sweeper->mutex);
}

enum err_code sweeper_open(struct sweeper **ret_sweeper, const struct service *service,
                           struct err *err)
{
    struct sweeper *sweeper = calloc(1, sizeof *sweeper);
    if (!sweeper)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "sweeper", "out of memory");
    sweeper->service = service;
    pthread_mutex_init(&sweeper->mutex, NULL);
    condition_init(&sweeper->wake);
    if (!thread_start(&sweeper->thread, 0, run, sweeper)) {
        pthread_cond_destroy(&sweeper->wake);
        pthread_mutex_destroy(&sweeper->mutex);
        free(sweeper);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "sweeper", "cannot start a thread");
    }
    *ret_sweeper = sweeper;
    return ERR_OK;
}

void sweeper_close(struct sweeper *sweeper)
{
    if (!sweeper)
        return;
    pthread_mutex_lock(&sweeper->mutex);
    sweeper->closing = true;
    pthread_cond_signal(&sweeper->wake);
    pthread_mutex_unlock(&sweeper->mutex);
    pthread_join(sweeper->thread, NULL);
    pthread_cond_destroy(&sweeper->wake);
    pthread_mutex_destroy(&sweeper->mutex);
    free(sweeper);
}
