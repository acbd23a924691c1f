/*
 * Metrics of many processes in one MAP_SHARED file, so that any of them can show them all, exact
 * after kill -9. There are two files: the programs' (RUNTIME_DIR/metrics) and the gateway's
 * (RUNTIME_DIR/metrics-gateway); each has the families of its set.
 *
 * The file is a header (magic, hash of the layout, sizes) and slots of counters. A process owns one
 * slot and is its only writer (its threads use atomics; sums are CAS on double bits). When a process
 * is gone its slot keeps its counts and the next process to start adopts it, so nothing is ever
 * folded, moved or lost; a scrape sums all slots. Gauges of a dead process are not shown and are
 * cleared by the adopter. A file of another layout is replaced.
 *
 * Every metric, its labels and their values are rows of a const table in metrics_families.c: series
 * are dense arrays, cardinality is bounded by construction. Names and meaning: docs/OPERATIONS.md.
 * Counters are u64; sums are doubles; a histogram's count is the sum of its buckets, so a kill
 * between two updates never shows an impossible histogram. Thread-safe. Every call that counts
 * allows NULL metrics, without effect: that is how a service without metrics runs.
 */
#ifndef COFFER_OBSERVE_METRICS_H
#define COFFER_OBSERVE_METRICS_H

#include <stdint.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/routes.h"
#include "base/str.h"

#define METRICS_SLOTS 32        /* processes of the programs' file at once */
#define METRICS_GATEWAY_SLOTS 8 /* of the gateway's */

enum metric {
    METRIC_HTTP_REQUESTS,        /* http_requests_total{method,route,status} */
    METRIC_HTTP_DURATION,        /* http_request_duration_seconds{method,route}, histogram */
    METRIC_HTTP_REQUEST_SIZE,    /* http_request_size_bytes{method,route}, histogram */
    METRIC_HTTP_RESPONSE_SIZE,   /* http_response_size_bytes{method,route}, histogram */
    METRIC_HTTP_IN_FLIGHT,       /* http_requests_in_flight, gauge */
    METRIC_STORAGE_OPERATIONS,   /* storage_operations_total{driver,operation,outcome} */
    METRIC_STORAGE_DURATION,     /* storage_operation_duration_seconds{driver,operation} */
    METRIC_METADATA_OPERATIONS,  /* metadata_operations_total{driver,operation,outcome} */
    METRIC_METADATA_DURATION,    /* metadata_operation_duration_seconds{driver,operation} */
    METRIC_STORAGE_CONNECTIONS,  /* storage_connections{driver,state}, gauge */
    METRIC_METADATA_CONNECTIONS, /* metadata_connections{driver,state}, gauge */
    METRIC_UPLOADS_REFUSED,      /* uploads_refused, gauge: 1 while the disk is too full for them */
    METRIC_FILES_UPLOADED,       /* files_uploaded_total */
    METRIC_FILES_DELETED,        /* files_deleted_total */
    METRIC_FILES_DOWNLOADED,     /* files_downloaded_total */
    METRIC_UPLOAD_BYTES,         /* upload_bytes_total */
    METRIC_DOWNLOAD_BYTES,       /* download_bytes_total */
    METRIC_AUTH_ATTEMPTS,        /* auth_attempts_total{outcome} */
    METRIC_LOG_LINES_DROPPED,    /* log_lines_dropped_total */
    METRIC_SWEPT_OBJECTS,        /* swept_objects_total{kind} */
    METRIC_SWEEPS_HELD_BACK,     /* sweeps_held_back_total */
    METRIC_SENTRY_EVENTS,        /* sentry_events_total{outcome} */
    METRIC_OTEL_SPANS,           /* otel_spans_total{outcome} */
    METRIC_GATEWAY_LINES_LOST,   /* gateway_log_lines_lost_total */
    METRIC_GATEWAY_CONNECTIONS,  /* gateway_connections{state}, gauge */
    METRIC_GATEWAY_BUSY,         /* gateway_busy_workers, gauge */
    METRIC_GATEWAY_UPTIME,       /* gateway_uptime_seconds, gauge */
    METRIC_GATEWAY_UP,           /* gateway_up, gauge: 1 when lighttpd told its state */
    METRIC_COUNT
};

enum metric_outcome { OUTCOME_OK, OUTCOME_REFUSED, OUTCOME_ERROR, OUTCOME_COUNT };
enum metric_auth { AUTH_ACCEPTED, AUTH_ANONYMOUS, AUTH_REJECTED, AUTH_FORBIDDEN, AUTH_COUNT };
enum metric_sentry {
    METRIC_SENTRY_SENT,
    METRIC_SENTRY_SPOOLED,        /* kept on disk; counted again when it is sent or dropped */
    METRIC_SENTRY_DROPPED_QUEUE,  /* too many at once */
    METRIC_SENTRY_DROPPED_LIMIT,  /* the tracker's limit, or too many equal ones */
    METRIC_SENTRY_DROPPED_FAILED, /* refused, or neither sent nor kept */
    METRIC_SENTRY_COUNT
};
enum metric_otel {
    METRIC_OTEL_SENT,
    METRIC_OTEL_DROPPED_QUEUE,  /* too many at once */
    METRIC_OTEL_DROPPED_LIMIT,  /* too many of one request */
    METRIC_OTEL_DROPPED_FAILED, /* refused by the collector, or not taken before the stop */
    METRIC_OTEL_COUNT
};
enum metric_connections { CONNECTIONS_BUSY, CONNECTIONS_IDLE, CONNECTIONS_STATE_COUNT };
enum metric_swept { SWEPT_DELETED, SWEPT_EXPIRED, SWEPT_ORPHAN, SWEPT_COUNT };

/* Values of the labels driver and operation, in the order of the wrappers' enums. */
enum metric_storage_driver {
    METRIC_STORAGE_FS,
    METRIC_STORAGE_S3,
    METRIC_STORAGE_LIBS3,
    METRIC_STORAGE_DRIVER_COUNT
};
enum metric_metadata_driver {
    METRIC_METADATA_SQLITE,
    METRIC_METADATA_MONGODB,
    METRIC_METADATA_DRIVER_COUNT
};
/* A connection of lighttpd as its own state names it; what it does not name today is OTHER. */
enum metric_gateway_state {
    GATEWAY_CONNECT,
    GATEWAY_REQ_START,
    GATEWAY_READ,
    GATEWAY_REQ_END,
    GATEWAY_READPOST,
    GATEWAY_HANDLE_REQ,
    GATEWAY_RESP_START,
    GATEWAY_WRITE,
    GATEWAY_RESP_END,
    GATEWAY_ERROR,
    GATEWAY_CLOSE,
    GATEWAY_KEEP_ALIVE,
    GATEWAY_OTHER,
    GATEWAY_STATE_COUNT
};

struct metrics;

/* Which families a file has. */
enum metrics_set { METRICS_OF_PROGRAMS, METRICS_OF_GATEWAY };

struct metrics_options {
    const char *path;
    const char *program; /* the label of process_*; at most 31 bytes are used */
    enum metrics_set set;
    const double *duration_bounds; /* rising, positive, finite; of all *_seconds histograms */
    unsigned duration_bound_count; /* 0: those of METRICS_DURATION_BUCKETS' default; at most 31 */
    const struct clock *clock;     /* NULL: clock_system; times of exemplars */
};

/* Maps the file (made when missing, mode 0600) and takes a slot. Options are copied. ERR_INTERNAL
 * when the file can't be used or no slot is free. Caller frees with metrics_close. */
enum err_code metrics_open(struct metrics **ret_metrics, const struct metrics_options *options,
                           struct err *err) ERR_MUST_CHECK;
/* The same by the settings: the set's file in RUNTIME_DIR, METRICS_DURATION_BUCKETS. With METRICS=0
 * there are none: *ret_metrics is NULL. */
enum err_code metrics_open_configured(struct metrics **ret_metrics, const struct config *config,
                                      enum metrics_set set, const char *program, struct err *err)
    ERR_MUST_CHECK;
/* Gives the slot back (counts stay). */
void metrics_close(struct metrics *metrics);

/* A counter or gauge; labels are indices into the metric's label values, in the table's order,
 * NULL when it has none. An index out of range is counted under the label's last value.
 * `status` labels are given as the HTTP status itself. A metric of another set: no effect. */
void metrics_add(struct metrics *metrics, enum metric metric, const unsigned *labels,
                 int64_t amount);
/* A gauge: what this process says it is now. A scrape shows the sum over the living processes. */
void metrics_set(struct metrics *metrics, enum metric metric, const unsigned *labels,
                 int64_t value);
/* A histogram: seconds, or bytes. */
void metrics_observe(struct metrics *metrics, enum metric metric, const unsigned *labels,
                     double value);
/* The same, and keeps `trace_id` (32 lower-case hex digits; anything else, or NULL: none) as the
 * exemplar of the bucket, which OpenMetrics shows until the next one. Durations only have them. */
void metrics_observe_traced(struct metrics *metrics, enum metric metric, const unsigned *labels,
                            double value, const char *trace_id);
/* A counter over all its series and all processes, the dead ones' too. */
uint64_t metrics_total(const struct metrics *metrics, enum metric metric);

enum metrics_format { METRICS_TEXT, METRICS_OPENMETRICS };

/* The answer format for an Accept header: OpenMetrics 1.0 when asked for with the higher q. */
enum metrics_format metrics_negotiate(struct str accept);
/* The Content-Type of a format. */
const char *metrics_content_type(enum metrics_format format);
/* Everything, summed over all slots, with process_* per live process ({program}). */
enum err_code metrics_render(struct metrics *metrics, enum metrics_format format, struct buf *out,
                             struct err *err) ERR_MUST_CHECK;

#endif
