/*
 * A few threads that run pieces of work in the order in which they were submitted. A piece is
 * embedded in its owner, so submitting one allocates nothing and never fails. Thread-safe.
 */
#ifndef COFFER_BASE_WORK_QUEUE_H
#define COFFER_BASE_WORK_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/errors.h"
#include "base/trace_context.h"

struct work_queue;

/* Its owner waits for it before it touches what it uses. */
struct work {
    void (*run)(struct work *work);
    struct work *next;
    struct trace_context *trace_context; /* the submitter's, while it runs; set by the queue */
    bool pending;                        /* queued or running; guarded by the queue */
};

/* Starts `threads` threads with `stack_bytes` of stack (0: the system's default). ERR_NO_MEMORY.
 * The caller frees with work_queue_close. */
enum err_code work_queue_open(struct work_queue **ret_queue, int threads, size_t stack_bytes,
                              struct err *err) ERR_MUST_CHECK;
/* Runs what is queued, then ends the threads. NULL is allowed. */
void work_queue_close(struct work_queue *queue);
/* Queues a piece that is not pending. */
void work_queue_submit(struct work_queue *queue, struct work *work);
/* Returns when the piece is not pending; what it wrote is visible then. */
void work_queue_wait(struct work_queue *queue, struct work *work);

#endif
