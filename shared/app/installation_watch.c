#include "app/installation_watch.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "files/files_installation.h"

#define PATIENCE_MS 1000
#define AGAIN_MS 2000

struct installation_watch {
    const struct service *service;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* guarded by mutex */
    bool is_closing;
    bool is_started; /* nobody waits for the outcome any more */
    bool has_outcome;
    enum err_code outcome;
    struct err err;
};

static void stop_program(const struct installation_watch *watch)
{
    const struct log_field fields[] = {
        LOG_FIELD_STR("error.message", str_of(watch->err.message)),
        LOG_FIELD_STR("error.operation", str_of(watch->err.operation)),
    };
    log_write(watch->service->log, ERR_LEVEL_ERROR, NULL,
              "store and database do not belong together", (struct log_fields){fields, 2});
    kill(getpid(), SIGTERM);
}

/* Sets the outcome; false when there is nothing more to ask. */
static bool ask(struct installation_watch *watch)
{
    struct err err = {.code = ERR_OK};
    enum err_code code = files_installation_look(&watch->service->files, &err);
    pthread_mutex_lock(&watch->mutex);
    watch->outcome = code;
    watch->err = err;
    watch->has_outcome = true;
    if (code == ERR_CONFIG && watch->is_started)
        stop_program(watch);
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->mutex);
    return code != ERR_OK && code != ERR_CONFIG;
}

/* False when it is to end. */
static bool rest(struct installation_watch *watch)
{
    const struct timespec until = condition_deadline(AGAIN_MS);
    bool in_time = true;
    pthread_mutex_lock(&watch->mutex);
    while (!watch->is_closing && in_time)
        in_time = condition_wait(&watch->changed, &watch->mutex, &until);
    bool go_on = !watch->is_closing;
    pthread_mutex_unlock(&watch->mutex);
    return go_on;
}

static void *run(void *argument)
{
    struct installation_watch *watch = argument;
    signal_stack_take();
    while (ask(watch) && rest(watch))
        continue;
    return NULL;
}

static enum err_code wait_for_outcome(struct installation_watch *watch, struct err *err)
{
    const struct timespec until = condition_deadline(PATIENCE_MS);
    bool in_time = true;
    pthread_mutex_lock(&watch->mutex);
    while (!watch->has_outcome && in_time)
        in_time = condition_wait(&watch->changed, &watch->mutex, &until);
    bool is_refused = watch->has_outcome && watch->outcome == ERR_CONFIG;
    if (is_refused)
        *err = watch->err;
    watch->is_started = true;
    pthread_mutex_unlock(&watch->mutex);
    return is_refused ? ERR_CONFIG : ERR_OK;
}

static void release(struct installation_watch *watch)
{
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}

enum err_code installation_watch_open(struct installation_watch **ret_watch,
                                      const struct service *service, struct err *err)
{
    struct installation_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "installation", "out of memory");
    watch->service = service;
    pthread_mutex_init(&watch->mutex, NULL);
    condition_init(&watch->changed);
    if (!thread_start(&watch->thread, 0, run, watch)) {
        release(watch);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "installation", "cannot start a thread");
    }
    enum err_code code = wait_for_outcome(watch, err);
    if (code != ERR_OK)
        installation_watch_close(watch);
    else
        *ret_watch = watch;
    return code;
}

void installation_watch_close(struct installation_watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->mutex);
    watch->is_closing = true;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->mutex);
    pthread_join(watch->thread, NULL);
    release(watch);
}
