/*
 * A few threads that run one step of an upload (hash and write a buffer) while the worker that owns
 * it receives the next: receiving, hashing and writing overlap, and a thousand uploads still need
 * only as many threads as there are cores. Thread-safe.
 */
#ifndef COFFER_FILES_STEP_POOL_H
#define COFFER_FILES_STEP_POOL_H

#include <stdbool.h>

#include "base/errors.h"
#include "base/trace_context.h"

struct step_pool;

/* One step; embedded in its owner, which waits for it before it touches what the step uses. */
struct step {
    void (*run)(struct step *step);
    struct step *next;
    struct trace_context *trace_context; /* of who submitted it; set by the pool */
    bool pending;                        /* queued or running; guarded by the pool */
};

/* `threads` of them, with all signals blocked. Caller frees with step_pool_close when no step is
 * pending. */
enum err_code step_pool_open(struct step_pool **ret_pool, int threads, struct err *err)
    ERR_MUST_CHECK;
void step_pool_close(struct step_pool *pool);
/* Queues a step that is not pending. */
void step_submit(struct step_pool *pool, struct step *step);
/* Returns when the step is not pending; what it wrote is visible. */
void step_wait(struct step_pool *pool, struct step *step);

#endif
