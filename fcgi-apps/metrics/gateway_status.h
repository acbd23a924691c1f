/*
 * How lighttpd is, by its mod_status: asked over a socket of its own (lighttpd/access.conf) that
 * nobody else reaches, at each scrape.
 */
#ifndef COFFER_METRICS_GATEWAY_STATUS_H
#define COFFER_METRICS_GATEWAY_STATUS_H

#include "base/clock.h"
#include "base/config.h"
#include "base/errors.h"
#include "observe/metrics.h"

struct gateway_status {
    uint64_t total;         /* requests answered until some moment of the last second */
    int64_t uptime_seconds; /* of this lighttpd */
    int64_t busy;           /* connection slots in use */
    int64_t connections[GATEWAY_STATE_COUNT];
};

/* Reads mod_status' text ("?auto"); false when it is none. */
bool gateway_status_parse(struct str text, struct gateway_status *ret_status);

/* The gateway's metrics and what they need to be up to date. Thread-safe. */
struct gateway_probe;

/* Everything is borrowed. Without METRICS, *ret_probe is NULL. Caller frees with
 * gateway_probe_close. */
enum err_code gateway_probe_open(struct gateway_probe **ret_probe, const struct config *config,
                                 const struct clock *clock, struct err *err) ERR_MUST_CHECK;
/* NULL is allowed. */
void gateway_probe_close(struct gateway_probe *probe);
/* Asks lighttpd, sets the gauges and raises the count of lost lines; waits until all lines before
 * the question are counted. When lighttpd or the reader of its log says nothing for a moment, it
 * goes on without: METRIC_GATEWAY_UP tells. */
void gateway_probe_update(struct gateway_probe *probe);
/* Borrowed until the probe is closed. */
struct metrics *gateway_probe_metrics(struct gateway_probe *probe);

#endif
