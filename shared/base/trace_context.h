/*
 * The trace of the request that a thread works for, so that what is asked of other services on its
 * behalf carries it (W3C Trace Context, https://www.w3.org/TR/trace-context/), without a parameter
 * through every layer.
 *
 * The frame of a program sets it for the time of a request; a thread that does a piece of the
 * request's work is given it by whoever starts that piece, and is through with it before the request
 * ends. A thread without one (a sweep, a health check) sends no trace.
 *
 * Each step of a request (an operation of the store or of the metadata) may have a span of its own:
 * ids of steps are derived from the request's span and a number, so that a step's id is known to the
 * store before anybody is told of the step. Only one operation of the store is under way at a time.
 */
#ifndef COFFER_BASE_TRACE_CONTEXT_H
#define COFFER_BASE_TRACE_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TRACE_CONTEXT_HEADER_SIZE 56 /* "00-<32>-<16>-<2>" and a NUL */

struct trace_context {
    char trace_id[33]; /* 32 lower-case hex digits */
    uint64_t span;     /* the request's, never 0 */
    unsigned char flags;
    bool has_steps; /* steps have spans; else all are the request's */
    atomic_uint last_step;
    atomic_uint store_step; /* the operation of the store under way, 0: it has no number yet */
};

/* `trace_id` of 32 and `span_id` of 16 lower-case hex digits. */
void trace_context_init(struct trace_context *context, const char *trace_id, const char *span_id,
                        unsigned char flags);
/* For the calling thread from now on; borrowed until it is set to another one, or NULL. */
void trace_context_set(struct trace_context *context);
/* NULL: the thread works for no request. */
struct trace_context *trace_context_get(void);

/* The traceparent to send to the store; false: there is none. */
bool trace_context_header(char target[TRACE_CONTEXT_HEADER_SIZE]);
/* Numbers of steps, from 1. That of an operation of the store, which ends with it; and of any
 * other. */
unsigned trace_context_end_store_step(struct trace_context *context);
unsigned trace_context_step(struct trace_context *context);
/* The number behind 16 hex digits; 1 when they are none. */
uint64_t trace_context_read_span(const char *span_id);
/* The id of a span that is derived from another one; never 0. Number 0 is the gateway's. */
uint64_t trace_context_span(uint64_t span, unsigned number);

#endif
