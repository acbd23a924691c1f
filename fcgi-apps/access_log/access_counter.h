/*
 * What becomes of a line of the access log: the gateway's metrics and one log line, of every answer
 * lighttpd gave, whoever made it. Used by one thread.
 */
#ifndef COFFER_ACCESS_LOG_ACCESS_COUNTER_H
#define COFFER_ACCESS_LOG_ACCESS_COUNTER_H

#include "observe/gateway_runs.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "observe/span.h"

/* Borrowed; any may be NULL. */
struct access_counter {
    struct log *log;
    struct metrics *metrics;
    struct gateway_runs *runs;
    struct spans *spans;
};

/* The line's text is changed. What is no whole line has no effect: it is missing from the counted
 * ones, and so it is known to be lost. */
void access_counter_take(const struct access_counter *counter, char *line, size_t len);

#endif
