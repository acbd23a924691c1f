/*
 * A bounded pool of things that are costly to make, such as connections: borrowed for one step, given
 * back, and kept for the next borrower, the last used first. The pool keeps them; its owner makes
 * them and says how one is ended. Thread-safe.
 */
#ifndef COFFER_BASE_POOL_H
#define COFFER_BASE_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/errors.h"

/* How much of a pool of connections is in use: what a driver says of its own. A value. */
struct pool_usage {
    unsigned driver; /* value of the metrics label "driver" */
    unsigned busy;   /* connections that work for a call */
    unsigned idle;   /* connections that wait for one */
};

struct pool_options {
    size_t max;                             /* borrowed at once; 0: no bound */
    size_t idle_max;                        /* kept at most */
    int64_t idle_max_ms;                    /* one that was idle for longer is ended; 0: never */
    const struct clock *clock;              /* borrowed; only where idle_max_ms is set */
    void (*end)(void *context, void *item); /* without the pool's lock */
    void *context;
};

struct pool_item;

struct pool {
    struct pool_options options;
    pthread_mutex_t mutex;
    pthread_cond_t returned;
    /* guarded by mutex */
    struct pool_item *idle; /* the last used at the end */
    size_t idle_count;
    size_t busy;
};

/* ERR_NO_MEMORY. The caller frees with pool_release. */
enum err_code pool_init(struct pool *pool, const struct pool_options *options, struct err *err)
    ERR_MUST_CHECK;
/* Ends what is idle; nothing may be borrowed. A zeroed pool is allowed. */
void pool_release(struct pool *pool);
/* Waits at most wait_ms until fewer than `max` are borrowed; false when there is no place by then.
 * *ret_item is an idle one, or NULL: the caller makes one. The caller ends with pool_give. */
bool pool_take(struct pool *pool, int64_t wait_ms, void **ret_item)
    __attribute__((warn_unused_result));
/* Takes ownership of the item; NULL: there is none any more. Wakes one that waits. */
void pool_give(struct pool *pool, void *item);
/* Sets busy and idle. */
void pool_usage(struct pool *pool, struct pool_usage *ret_usage);

#endif
