#include "app/sweeper.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "files/files_installation.h"
#include "files/files_sweep.h"
#include "observe/metrics.h"

struct sweeper {
    const struct service *service;
    pthread_t thread;
    bool belongs;      /* the thread's: store and database are known to be one installation's */
    int64_t listed_ns; /* the thread's: steady time of its last listing of the objects */
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
    const struct log_field held_back[] = {
        LOG_FIELD_INT("coffer.sweep.orphans_held_back", result->held_back),
        LOG_FIELD_INT("coffer.sweep.orphan_limit", result->limit),
        LOG_FIELD_INT("coffer.sweep.objects", result->seen),
    };
    if (code != ERR_OK)
        log_write(log, code == ERR_CONFIG ? ERR_LEVEL_ERROR : ERR_LEVEL_WARN, NULL, "sweep failed",
                  (struct log_fields){failure, 2});
    else if (result->held_back > 0)
        log_write(log, ERR_LEVEL_ERROR, NULL,
                  "sweep removed no orphans: there are too many, see `coffer gc`",
                  (struct log_fields){held_back, 3});
    else if (result->expired + result->deleted + result->orphans > 0)
        log_write(log, ERR_LEVEL_INFO, NULL, "swept", (struct log_fields){counts, 4});
}

/* Is the store known to be this database's? It was once, and no sweep of the objects found another. */
static enum err_code check_belonging(struct sweeper *sweeper, struct err *err)
{
    enum err_code code =
        sweeper->belongs ? ERR_OK : files_installation_settle(&sweeper->service->files, err);
    sweeper->belongs = code == ERR_OK;
    return code;
}

/* Until this program or another one has listed the objects again, when it is that one's to tell. */
static void show_held_back(struct sweeper *sweeper, const struct sweep_result *result)
{
    const struct files *files = &sweeper->service->files;
    const struct config *config = files->config;
    int64_t now_ns = clock_steady_ns(files->clock);
    int64_t valid_s = config->orphan_interval_seconds + 2 * config->sweep_interval_seconds;
    if (result->listed)
        sweeper->listed_ns = now_ns;
    if (result->listed || (now_ns - sweeper->listed_ns) / INT64_C(1000000000) > valid_s)
        metrics_set(files->metrics, METRIC_ORPHANS_HELD_BACK, NULL, result->held_back);
}

static void sweep_once(struct sweeper *sweeper)
{
    char holder[64];
    bool swept = false;
    struct sweep_result result = {0};
    struct err err;
    snprintf(holder, sizeof holder, "%s-%ld", sweeper->service->app->name, (long)getpid());
    enum err_code code = check_belonging(sweeper, &err);
    if (code == ERR_OK)
        code = files_sweep_if_due(&sweeper->service->files, holder, &swept, &result, &err);
    if (code == ERR_CONFIG)
        sweeper->belongs = false;
    show_held_back(sweeper, &result);
    log_sweep(sweeper->service->log, code, &result, &err);
}

static void sweep_deleted(struct sweeper *sweeper)
{
    const struct files *files = &sweeper->service->files;
    struct sweep_result result = {0};
    struct err err;
    enum err_code code = check_belonging(sweeper, &err);
    if (code == ERR_OK)
        code = files_sweep_deleted(files, &result, &err);
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
