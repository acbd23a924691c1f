/*
 * The identity of one request in every log line, metric, report and answer: X-Request-Id and the
 * W3C trace context (https://www.w3.org/TR/trace-context/). API.md, "Every answer".
 */
#ifndef COFFER_OBSERVE_TRACE_H
#define COFFER_OBSERVE_TRACE_H

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"

#define TRACEPARENT_LENGTH 55

struct trace {
    char request_id[LIMIT_REQUEST_ID_BYTES + 1];
    char trace_id[33];   /* 32 lower-case hex digits, never all zero */
    char span_id[17];    /* ours, for this request */
    char parent_id[17];  /* the caller's span, or "" */
    unsigned char flags; /* trace-flags, 01 = sampled */
};

/* Continues the caller's traceparent when well-formed, else starts one; keeps the caller's request
 * id when it matches [A-Za-z0-9._-]{1,64}, else makes one (32 hex digits). */
void trace_start(struct trace *trace, const struct clock *clock, struct str request_id,
                 struct str traceparent);
/* "00-<trace>-<span>-<flags>" with a NUL. */
void trace_header(const struct trace *trace, char target[TRACEPARENT_LENGTH + 1]);

#endif
