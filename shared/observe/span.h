/*
 * Spans of requests, to a collector that takes OTLP over HTTP in JSON
 * (OTEL_EXPORTER_OTLP_ENDPOINT): one of the gateway, one of the program, one of each operation of
 * the store and of the metadata. They form one tree: gateway → program → operations.
 *
 * A request keeps its spans where it runs and copies them into a bounded buffer at its end; the
 * sender's thread makes the JSON, SPAN_BATCH_MAX spans at most in one call, and sends it. A batch
 * that the collector could not take now is kept and sent again, as the OTLP specification says;
 * what comes while the buffer is full is dropped. What became of each span is counted in
 * METRIC_OTEL_SPANS. A request whose traceparent says "not sampled" has no spans.
 *
 * Without an endpoint there is nothing: no buffer, no thread. Every function takes a NULL `spans`.
 * Thread-safe but for span_request, which is its request's.
 *
 * https://opentelemetry.io/docs/specs/otlp/, https://opentelemetry.io/docs/specs/semconv/http/
 */
#ifndef COFFER_OBSERVE_SPAN_H
#define COFFER_OBSERVE_SPAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/str.h"
#include "base/trace_context.h"
#include "observe/metrics.h"
#include "observe/sender.h"
#include "observe/trace.h"

#define SPAN_STEPS_MAX 64  /* of one request; further ones are dropped */
#define SPAN_BATCH_MAX 512 /* sent in one call, about */
#define SPAN_QUEUE_BYTES (512 * 1024)
#define SPAN_FLUSH_MS 1000 /* a span waits for others so long */

struct spans;

struct spans_options {
    const struct config *config; /* borrowed, as is all here */
    const char *program;         /* static text: "files_get", "gateway" */
    const struct clock *clock;
    struct metrics *metrics; /* or NULL */
    struct sender *sender;   /* closed before the spans are */
    bool has_gateway;        /* a gateway sends spans of the same requests: it is the parent */
};

/* *ret_spans is NULL when OTEL_EXPORTER_OTLP_ENDPOINT is empty. Caller frees with spans_close. */
enum err_code spans_open(struct spans **ret_spans, const struct spans_options *options,
                         struct err *err) ERR_MUST_CHECK;
/* After sender_close, which sends what is left. */
void spans_close(struct spans *spans);

/* ---- gateway ---- */

/* One line of the access log. All borrowed for the call; what is empty or NULL is left out. */
struct span_gateway_line {
    struct str answer_traceparent;  /* the program's; empty: lighttpd answered by itself */
    struct str request_traceparent; /* the caller's */
    struct str request_id;
    struct str method;
    const char *route; /* the template, static text */
    struct str path;
    struct str client; /* address */
    struct str user_agent;
    int status;
    int64_t received_bytes; /* body of the request; negative: not known */
    int64_t sent_bytes;     /* body of the answer; negative: not known */
    int64_t start_ns;       /* since 1970 */
    int64_t duration_ns;
};

/* The gateway's span of one answer. Not for a node behind a gateway, whose request has one. */
void span_gateway(struct spans *spans, const struct span_gateway_line *line);

/* ---- programs ---- */

struct span_step {
    unsigned number; /* of trace_context */
    enum metric operations;
    unsigned driver; /* labels of `operations` */
    unsigned operation;
    enum err_code outcome;
    int64_t end_ns; /* steady */
    int64_t duration_ns;
};

/* One request's spans while it runs; on the stack of the thread that serves it. */
struct span_request {
    struct trace_context context;
    struct spans *spans; /* NULL: nothing is kept */
    const struct trace *trace;
    int64_t wall_ns; /* since 1970, at the begin */
    int64_t start_ns;
    atomic_uint step_count;
    struct span_step steps[SPAN_STEPS_MAX];
};

/* What a program knows of its answer. All borrowed for the call. */
struct span_answer {
    struct str method;
    const char *route; /* the template, static text */
    struct str path;
    struct str client;
    struct str user_agent;
    const char *error; /* problem code, static text, or NULL */
    int status;
    bool is_cut; /* its body ended early */
    int64_t received_bytes;
    int64_t sent_bytes;
};

/* Sets the thread's trace context, also where `spans` is NULL. `trace` is borrowed until
 * span_request_end; `start_ns` is steady. */
void span_request_begin(struct span_request *request, struct spans *spans,
                        const struct trace *trace, int64_t start_ns);
/* One operation that ended now: METRIC_STORAGE_OPERATIONS or METRIC_METADATA_OPERATIONS with its
 * labels. Any thread that has a request's trace context; else nothing happens. */
void span_step(enum metric operations, const unsigned *labels, enum err_code outcome,
               int64_t duration_ns);
/* Gives the spans away and unsets the thread's trace context. */
void span_request_end(struct span_request *request, const struct span_answer *answer);

#endif
