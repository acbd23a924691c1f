/*
 * What tests of spans share: a collector that answers as a test says and keeps what it was sent,
 * spans that go there, and requests that make some.
 */
#ifndef COFFER_TESTS_SPAN_COLLECTOR_H
#define COFFER_TESTS_SPAN_COLLECTOR_H

#include <pthread.h>

#include <cjson/cJSON.h>

#include "http_server.h"
#include "observe/span.h"

#define SPAN_TRACE_ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN_CALLER "00f067aa0ba902b7"
#define SPAN_SAMPLED "00-" SPAN_TRACE_ID "-" SPAN_CALLER "-01"
#define SPAN_NOT_SAMPLED "00-" SPAN_TRACE_ID "-" SPAN_CALLER "-00"

extern const char span_answer_ok[];

struct span_collector {
    struct http_server *server;
    pthread_mutex_t mutex;
    /* guarded by mutex */
    const char *answer; /* NULL: none, the connection is cut */
    int taken;          /* requests whose answer is known by now */
    struct buf heads;   /* of all requests, as the next */
    struct buf bodies;  /* a line each */
};

struct span_fixture {
    struct span_collector collector;
    struct config config;
    struct spans_options options;
    struct spans *spans;
};

/* `serve` NULL: answers with `answer`. */
void span_setup(struct span_fixture *fixture, http_serve *serve, const char *answer);
void span_teardown(struct span_fixture *fixture);
/* After span_stop. */
void span_open(struct span_fixture *fixture);
/* Sends what is left. */
void span_stop(struct span_fixture *fixture);
void span_answer_with(struct span_fixture *fixture, const char *answer);

/* otel_spans_total. */
int64_t span_counted(const struct span_fixture *fixture, const char *outcome);
void span_wait_counted(const struct span_fixture *fixture, const char *outcome, int64_t want);
/* Until an answer was chosen for so many: span_answer_with is for those that follow. */
void span_wait_taken(struct span_fixture *fixture, int want);

/* A GET that was answered with 200. */
extern const struct span_answer span_plain;
/* An operation of the running request, of 1.5 ms. */
void span_told(enum metric operations, unsigned driver, enum err_code outcome);
/* A request with two operations: three spans. Returns what it was. */
struct trace span_serve(struct span_fixture *fixture, const char *traceparent,
                        const struct span_answer *answer);
void span_serve_many(struct span_fixture *fixture, int count);

/* Of a JSON object; checks that it is there. */
const cJSON *span_at(const cJSON *parent, const char *name);
/* The spans of a document that was sent. */
const cJSON *span_list(const cJSON *document);

#endif
