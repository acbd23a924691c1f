#include "files/migrate_jobs.h"

#include <stdlib.h>

#include "base/thread.h"
#include "files/files_migrate.h"

struct migrate_jobs {
    pthread_mutex_t mutex;
    pthread_cond_t added;
    pthread_cond_t taken;
    migrate_job *run;
    void *context;
    bool closing;
    enum err_code failed; /* the first failure */
    struct err err;
    int thread_count;
    pthread_t threads[MIGRATE_JOBS_MAX];
    int capacity;
    int first;
    int count;
    struct file *rows; /* a ring of `capacity` */
};

/* False when there is nothing left to do. */
static bool take(struct migrate_jobs *jobs, struct file *row)
{
    pthread_mutex_lock(&jobs->mutex);
    while (jobs->count == 0 && !jobs->closing && jobs->failed == ERR_OK)
        pthread_cond_wait(&jobs->added, &jobs->mutex);
    bool has_row = jobs->count > 0 && jobs->failed == ERR_OK;
    if (has_row) {
        *row = jobs->rows[jobs->first];
        jobs->first = (jobs->first + 1) % jobs->capacity;
        jobs->count--;
        pthread_cond_signal(&jobs->taken);
    }
    pthread_mutex_unlock(&jobs->mutex);
    return has_row;
}

static void fail(struct migrate_jobs *jobs, enum err_code code, const struct err *err)
{
    pthread_mutex_lock(&jobs->mutex);
    if (jobs->failed == ERR_OK) {
        jobs->failed = code;
        jobs->err = *err;
    }
    pthread_cond_broadcast(&jobs->added);
    pthread_cond_broadcast(&jobs->taken);
    pthread_mutex_unlock(&jobs->mutex);
}

static void *work(void *argument)
{
    struct migrate_jobs *jobs = argument;
    struct file row;
    while (take(jobs, &row)) {
        struct err err;
        enum err_code code = jobs->run(jobs->context, &row, &err);
        if (code != ERR_OK)
            fail(jobs, code, &err);
    }
    return NULL;
}

static bool start_threads(struct migrate_jobs *jobs, int threads)
{
    bool started = true;
    while (started && jobs->thread_count < threads) {
        started = thread_start(&jobs->threads[jobs->thread_count], 0, work, jobs);
        jobs->thread_count += started;
    }
    return started;
}

enum err_code migrate_jobs_open(struct migrate_jobs **ret_jobs, int threads, migrate_job *run,
                                void *context, struct err *err)
{
    struct migrate_jobs *jobs = calloc(1, sizeof *jobs);
    struct file *rows = calloc((size_t)threads, sizeof *rows);
    if (!jobs || !rows) {
        free(jobs);
        free(rows);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "migrate", "Out of memory.");
    }
    jobs->run = run;
    jobs->context = context;
    jobs->rows = rows;
    jobs->capacity = threads;
    pthread_mutex_init(&jobs->mutex, NULL);
    pthread_cond_init(&jobs->added, NULL);
    pthread_cond_init(&jobs->taken, NULL);
    if (!start_threads(jobs, threads))
        return migrate_jobs_close(
            jobs, err_set_internal(err, ERR_NO_MEMORY, 0, "migrate", "Can't start threads."), err);
    *ret_jobs = jobs;
    return ERR_OK;
}

enum err_code migrate_jobs_add(struct migrate_jobs *jobs, const struct file *row, struct err *err)
{
    pthread_mutex_lock(&jobs->mutex);
    while (jobs->count == jobs->capacity && jobs->failed == ERR_OK)
        pthread_cond_wait(&jobs->taken, &jobs->mutex);
    enum err_code code = jobs->failed;
    if (code == ERR_OK) {
        jobs->rows[(jobs->first + jobs->count) % jobs->capacity] = *row;
        jobs->count++;
        pthread_cond_signal(&jobs->added);
    } else {
        *err = jobs->err;
    }
    pthread_mutex_unlock(&jobs->mutex);
    return code;
}

enum err_code migrate_jobs_close(struct migrate_jobs *jobs, enum err_code code, struct err *err)
{
    if (!jobs)
        return code;
    if (code != ERR_OK)
        fail(jobs, code, err);
    pthread_mutex_lock(&jobs->mutex);
    jobs->closing = true;
    pthread_cond_broadcast(&jobs->added);
    pthread_mutex_unlock(&jobs->mutex);
    for (int i = 0; i < jobs->thread_count; i++)
        pthread_join(jobs->threads[i], NULL);
    if (code == ERR_OK && jobs->failed != ERR_OK) {
        code = jobs->failed;
        *err = jobs->err;
    }
    pthread_cond_destroy(&jobs->taken);
    pthread_cond_destroy(&jobs->added);
    pthread_mutex_destroy(&jobs->mutex);
    free(jobs->rows);
    free(jobs);
    return code;
}
