/*
 * Metrics of all programs of a node in one MAP_SHARED file (RUNTIME_DIR/metrics), so that any
 * program's scrape shows them all, exact after kill -9.
 *
 * The file is a header (magic, hash of the metric table, sizes) and METRICS_SLOTS slots of
 * counters. A process owns one slot and is its only writer (its threads use atomics; sums are CAS
 * on double bits). When a process is gone its slot keeps its counts and the next process to start
 * adopts it, so nothing is ever folded, moved or lost; a scrape sums all slots. Gauges of a dead
 * process are not shown and are cleared by the adopter. A file of another layout is replaced.
 *
 * Every metric, its labels and their values are rows of a const table in metrics.c: series are
 * dense arrays, cardinality is bounded by construction. Names and meaning: API.md, "Operations".
 * Counters are u64; sums are doubles; a histogram's count is the sum of its buckets, so a kill
 * between two updates never shows an impossible histogram. Thread-safe.
 */
#ifndef COFFER_OBSERVE_METRICS_H
#define COFFER_OBSERVE_METRICS_H

#include <stdint.h>

#include "base/errors.h"
#include "base/routes.h"
#include "base/str.h"

#define METRICS_SLOTS 32

enum metric {
    METRIC_HTTP_REQUESTS,       /* http_requests_total{method,route,status} */
    METRIC_HTTP_DURATION,       /* http_request_duration_seconds{method,route}, histogram */
    METRIC_HTTP_REQUEST_SIZE,   /* http_request_size_bytes{method,route}, histogram */
    METRIC_HTTP_RESPONSE_SIZE,  /* http_response_size_bytes{method,route}, histogram */
    METRIC_HTTP_IN_FLIGHT,      /* http_requests_in_flight, gauge */
    METRIC_STORAGE_OPERATIONS,  /* storage_operations_total{driver,operation,outcome} */
    METRIC_STORAGE_DURATION,    /* storage_operation_duration_seconds{driver,operation} */
    METRIC_METADATA_OPERATIONS, /* metadata_operations_total{driver,operation,outcome} */
    METRIC_METADATA_DURATION,   /* metadata_operation_duration_seconds{driver,operation} */
    METRIC_FILES_UPLOADED,      /* files_uploaded_total */
    METRIC_FILES_DELETED,       /* files_deleted_total */
    METRIC_FILES_DOWNLOADED,    /* files_downloaded_total */
    METRIC_UPLOAD_BYTES,        /* upload_bytes_total */
    METRIC_DOWNLOAD_BYTES,      /* download_bytes_total */
    METRIC_AUTH_ATTEMPTS,       /* auth_attempts_total{outcome} */
    METRIC_LOG_LINES_DROPPED,   /* log_lines_dropped_total */
    METRIC_SWEPT_OBJECTS,       /* swept_objects_total{kind} */
    METRIC_SENTRY_EVENTS,       /* sentry_events_total{outcome} */
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

struct metrics;

/* Maps the file `path` (made when missing, mode 0600) and takes a slot for `program` (static text,
 * the label of process_*). ERR_INTERNAL when the file can't be used or no slot is free.
 * Caller frees with metrics_close. */
enum err_code metrics_open(struct metrics **ret_metrics, const char *path, const char *program,
                           struct err *err) ERR_MUST_CHECK;
/* Gives the slot back (counts stay). */
void metrics_close(struct metrics *metrics);

/* A counter or gauge; labels are indices into the metric's label values, in the table's order,
 * NULL when it has none. An index out of range is counted under the label's last value.
 * `status` labels are given as the HTTP status itself. A NULL `metrics` is allowed: no effect. */
void metrics_add(struct metrics *metrics, enum metric metric, const unsigned *labels,
                 int64_t amount);
/* A histogram: seconds, or bytes. */
void metrics_observe(struct metrics *metrics, enum metric metric, const unsigned *labels,
                     double value);

enum metrics_format { METRICS_TEXT, METRICS_OPENMETRICS };

/* The answer format for an Accept header: OpenMetrics 1.0 when asked for with the higher q. */
enum metrics_format metrics_negotiate(struct str accept);
/* The Content-Type of a format. */
const char *metrics_content_type(enum metrics_format format);
/* Everything, summed over all slots, with process_* per live process ({program}). */
enum err_code metrics_render(struct metrics *metrics, enum metrics_format format, struct buf *out,
                             struct err *err) ERR_MUST_CHECK;

#endif
