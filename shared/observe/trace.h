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
/* What a traceparent says. */
struct trace_caller {
    char trace_id[33];
    char span_id[17];
    unsigned char flags; /* 01 = sampled; nothing else is known */
};
/* False when it is not well-formed. */
bool trace_read(struct str traceparent, struct trace_caller *ret_caller);
/* The span of the gateway in front of a program, from the program's (the one its answer's traceparent
 * names): the program calls it its parent, the gateway's log reader sends it. */
void trace_gateway_span(const char span_id[17], char target[17]);
/* "00-<trace>-<span>-<flags>" with a NUL. */
void trace_header(const struct trace *trace, char target[TRACEPARENT_LENGTH + 1]);

#endif
