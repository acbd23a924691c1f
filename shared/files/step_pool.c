#include "files/step_pool.h"

#include <stdlib.h>

#include "base/thread.h"

#define STEP_THREADS_MAX 64
#define STEP_STACK_BYTES (128 * 1024)

struct step_pool {
    pthread_mutex_t mutex;
    pthread_cond_t queued;
    pthread_cond_t done;
    struct step *first;
    struct step **last;
    bool closing;
    int thread_count;
    pthread_t threads[STEP_THREADS_MAX];
};

static struct step *take(struct step_pool *pool)
{
    while (!pool->first && !pool->closing)
        pthread_cond_wait(&pool->queued, &pool->mutex);
    struct step *step = pool->first;
    if (step) {
        pool->first = step->next;
        if (!pool->first)
            pool->last = &pool->first;
    }
    return step;
}

static void *run_steps(void *argument)
{
    struct step_pool *pool = argument;
    struct step *step;
    signal_stack_take();
    pthread_mutex_lock(&pool->mutex);
    while ((step = take(pool)) != NULL) {
        pthread_mutex_unlock(&pool->mutex);
        trace_context_set(step->trace_context);
        step->run(step);
        trace_context_set(NULL);
        pthread_mutex_lock(&pool->mutex);
        step->pending = false;
        pthread_cond_broadcast(&pool->done);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

static bool start_thread(struct step_pool *pool)
{
    if (!thread_start(&pool->threads[pool->thread_count], STEP_STACK_BYTES, run_steps, pool))
        return false;
    pool->thread_count++;
    return true;
}

enum err_code step_pool_open(struct step_pool **ret_pool, int threads, struct err *err)
{
    struct step_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "step_pool", "out of memory");
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->queued, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->last = &pool->first;
    for (int i = 0; i < threads && i < STEP_THREADS_MAX; i++) {
        if (start_thread(pool))
            continue;
        step_pool_close(pool);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "step_pool", "cannot start a thread");
    }
    *ret_pool = pool;
    return ERR_OK;
}

void step_pool_close(struct step_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->closing = true;
    pthread_cond_broadcast(&pool->queued);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->queued);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

void step_submit(struct step_pool *pool, struct step *step)
{
    step->trace_context = trace_context_get();
    pthread_mutex_lock(&pool->mutex);
    step->next = NULL;
    step->pending = true;
    *pool->last = step;
    pool->last = &step->next;
    pthread_cond_signal(&pool->queued);
    pthread_mutex_unlock(&pool->mutex);
}

void step_wait(struct step_pool *pool, struct step *step)
{
    pthread_mutex_lock(&pool->mutex);
    while (step->pending)
        pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}
