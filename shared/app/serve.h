/*
 * One request from its variables to its answer: parse → authorize → handler → answer → log line and
 * metrics. Knows no sockets beyond struct fcgi.
 */
#ifndef COFFER_APP_SERVE_H
#define COFFER_APP_SERVE_H

#include "app/app.h"
#include "app/fcgi.h"

/* What all requests of a process share; borrowed. */
struct service {
    const struct app *app;
    struct log *log;
    struct report *report; /* or NULL */
    struct spans *spans;   /* or NULL */
    struct files files;
    void *own;             /* what app->open made, or NULL */
    struct slots *slots;   /* of downloads from a store, or NULL */
    bool takes_turns;      /* requests are short and wait for nobody: workers take turns */
    int64_t started_ns;    /* steady time */
};

/* Serves the request that `fcgi` has accepted. */
void serve_request(const struct service *service, struct fcgi *fcgi, struct watch *watch);

#endif
