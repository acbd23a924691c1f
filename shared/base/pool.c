#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

#define NS_PER_MS 1000000LL

struct pool_item {
    void *item;
    int64_t since_ns; /* steady */
};

enum err_code pool_init(struct pool *pool, const struct pool_options *options, struct err *err)
{
    *pool = (struct pool){.options = *options};
    pool->idle = calloc(options->idle_max + 1, sizeof *pool->idle);
    if (!pool->idle)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "pool", "out of memory");
    pthread_mutex_init(&pool->mutex, NULL);
    condition_init(&pool->returned);
    return ERR_OK;
}

static void end_item(const struct pool *pool, void *item)
{
    pool->options.end(pool->options.context, item);
}

void pool_release(struct pool *pool)
{
    if (!pool->idle)
        return;
    for (size_t i = 0; i < pool->idle_count; i++)
        end_item(pool, pool->idle[i].item);
    pthread_cond_destroy(&pool->returned);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->idle);
    *pool = (struct pool){.idle = NULL};
}

/* With the mutex held. */
static bool wait_for_place(struct pool *pool, int64_t wait_ms)
{
    size_t max = pool->options.max;
    if (max == 0 || pool->busy < max)
        return true;
    const struct timespec until = condition_deadline(wait_ms > 0 ? wait_ms : 0);
    bool in_time = wait_ms > 0;
    while (pool->busy >= max && in_time)
        in_time = condition_wait(&pool->returned, &pool->mutex, &until);
    return pool->busy < max;
}

bool pool_take(struct pool *pool, int64_t wait_ms, void **ret_item)
{
    pthread_mutex_lock(&pool->mutex);
    bool has_place = wait_for_place(pool, wait_ms);
    if (has_place) {
        pool->busy++;
        *ret_item = pool->idle_count > 0 ? pool->idle[--pool->idle_count].item : NULL;
    }
    pthread_mutex_unlock(&pool->mutex);
    return has_place;
}

/* Takes out the one that was idle for the longest time, when that was too long. */
static void *take_stale(struct pool *pool, int64_t now_ns)
{
    void *stale = NULL;
    pthread_mutex_lock(&pool->mutex);
    if (pool->idle_count > 0 &&
        now_ns - pool->idle[0].since_ns >= pool->options.idle_max_ms * NS_PER_MS) {
        stale = pool->idle[0].item;
        pool->idle_count--;
        memmove(pool->idle, pool->idle + 1, pool->idle_count * sizeof *pool->idle);
    }
    pthread_mutex_unlock(&pool->mutex);
    return stale;
}

void pool_give(struct pool *pool, void *item)
{
    void *stale;
    bool ages = pool->options.idle_max_ms > 0;
    int64_t now_ns = ages ? clock_steady_ns(pool->options.clock) : 0;
    while (ages && (stale = take_stale(pool, now_ns)) != NULL)
        end_item(pool, stale);
    pthread_mutex_lock(&pool->mutex);
    pool->busy--;
    if (item && pool->idle_count < pool->options.idle_max) {
        pool->idle[pool->idle_count++] = (struct pool_item){item, now_ns};
        item = NULL;
    }
    pthread_cond_signal(&pool->returned);
    pthread_mutex_unlock(&pool->mutex);
    if (item)
        end_item(pool, item);
}

void pool_usage(struct pool *pool, struct pool_usage *ret_usage)
{
    pthread_mutex_lock(&pool->mutex);
    ret_usage->busy = (unsigned)pool->busy;
    ret_usage->idle = (unsigned)pool->idle_count;
    pthread_mutex_unlock(&pool->mutex);
}
