#include <time.h>

#include "storage/libs3/storage_libs3.h"

#define NS_PER_SECOND 1000000000LL

void libs3_pool_init(struct storage_libs3 *libs3)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&libs3->pool_mutex, NULL);
    pthread_cond_init(&libs3->pool_returned, &attributes);
    pthread_mutex_init(&libs3->claim_mutex, NULL);
    pthread_cond_init(&libs3->claim_released, NULL);
    pthread_condattr_destroy(&attributes);
}

void libs3_pool_release(struct storage_libs3 *libs3)
{
    for (unsigned i = 0; i < libs3->idle_count; i++)
        libs3->library->destroy_request_context(libs3->idle[i]);
    pthread_cond_destroy(&libs3->claim_released);
    pthread_mutex_destroy(&libs3->claim_mutex);
    pthread_cond_destroy(&libs3->pool_returned);
    pthread_mutex_destroy(&libs3->pool_mutex);
}

/* With the mutex held. */
static bool wait_for_turn(struct storage_libs3 *libs3, int64_t deadline_ns)
{
    while (libs3->borrowed >= LIBS3_CONNECTIONS) {
        int64_t left_ns = deadline_ns - clock_steady_ns(libs3->clock);
        struct timespec until;
        if (left_ns <= 0)
            return false;
        clock_gettime(CLOCK_MONOTONIC, &until);
        int64_t until_ns = (int64_t)until.tv_nsec + left_ns;
        until.tv_sec += (time_t)(until_ns / NS_PER_SECOND);
        until.tv_nsec = (long)(until_ns % NS_PER_SECOND);
        pthread_cond_timedwait(&libs3->pool_returned, &libs3->pool_mutex, &until);
    }
    return true;
}

enum err_code libs3_pool_take(struct storage_libs3 *libs3, int64_t deadline_ns,
                              S3RequestContext **ret_context, struct err *err)
{
    S3RequestContext *context = NULL;
    pthread_mutex_lock(&libs3->pool_mutex);
    bool has_turn = wait_for_turn(libs3, deadline_ns);
    if (has_turn) {
        libs3->borrowed++;
        if (libs3->idle_count > 0)
            context = libs3->idle[--libs3->idle_count];
    }
    pthread_mutex_unlock(&libs3->pool_mutex);
    if (!has_turn)
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "take connection",
                                "All %d connections to the store are in use.", LIBS3_CONNECTIONS);
    if (!context && libs3->library->create_request_context(&context) != S3StatusOK) {
        libs3_pool_give(libs3, NULL);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "take connection", "Out of memory.");
    }
    *ret_context = context;
    return ERR_OK;
}

void libs3_pool_give(struct storage_libs3 *libs3, S3RequestContext *context)
{
    pthread_mutex_lock(&libs3->pool_mutex);
    libs3->borrowed--;
    if (context && libs3->idle_count < LIBS3_IDLE_CONNECTIONS) {
        libs3->idle[libs3->idle_count++] = context;
        context = NULL;
    }
    pthread_cond_signal(&libs3->pool_returned);
    pthread_mutex_unlock(&libs3->pool_mutex);
    if (context)
        libs3->library->destroy_request_context(context);
}

void libs3_pool_usage(void *state, struct pool_usage *ret_usage)
{
    struct storage_libs3 *libs3 = state;
    pthread_mutex_lock(&libs3->pool_mutex);
    ret_usage->busy = (unsigned)libs3->borrowed;
    ret_usage->idle = (unsigned)libs3->idle_count;
    pthread_mutex_unlock(&libs3->pool_mutex);
}

static bool is_claimed(const struct storage_libs3 *libs3, const char *key)
{
    for (const struct libs3_claim *claim = libs3->claims; claim; claim = claim->next)
        if (strcmp(claim->key, key) == 0)
            return true;
    return false;
}

void libs3_claim_take(struct storage_libs3 *libs3, struct libs3_claim *claim)
{
    pthread_mutex_lock(&libs3->claim_mutex);
    while (is_claimed(libs3, claim->key))
        pthread_cond_wait(&libs3->claim_released, &libs3->claim_mutex);
    claim->next = libs3->claims;
    libs3->claims = claim;
    pthread_mutex_unlock(&libs3->claim_mutex);
}

void libs3_claim_release(struct storage_libs3 *libs3, const struct libs3_claim *claim)
{
    pthread_mutex_lock(&libs3->claim_mutex);
    struct libs3_claim **at = &libs3->claims;
    while (*at != claim)
        at = &(*at)->next;
    *at = claim->next;
    pthread_cond_broadcast(&libs3->claim_released);
    pthread_mutex_unlock(&libs3->claim_mutex);
}
