/*
 * One request from its variables to its answer: parse → authorize → handler → answer → log line and
 * metrics. Knows no sockets beyond struct fcgi.
 */
#ifndef COFFER_APP_SERVE_H
#define COFFER_APP_SERVE_H

#include "app/app.h"
#include "app/fcgi.h"
#include "observe/span.h"

/* What all requests of a process share; borrowed. */
struct service {
    const struct app *app;
    struct log *log;
    struct report *report; /* or NULL */
    struct spans *spans;   /* or NULL */
    struct files files;
    void *own;           /* what app->open made, or NULL */
    struct slots *slots; /* of downloads from a store, or NULL */
    bool takes_turns;    /* requests are short and wait for nobody: workers take turns */
    int64_t started_ns;  /* steady time */
};

/* Serves the request that `fcgi` has accepted. */
void serve_request(const struct service *service, struct fcgi *fcgi, struct watch *watch);

/*
 * What is told of a finished request: its metrics and its one log line.
 */

/* The request's log line: level of its error (info when none), ECS fields. A success that is not in
 * the sample (LOG_SUCCESS_SAMPLE) has none. */
void request_log_write(const struct app_ctx *ctx);

#endif
