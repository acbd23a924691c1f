#include "observe/metrics.h"

#include <assert.h>
#include <math.h>

#include "observe/metrics_table.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- labels ---- */

/* The statuses of API.md and those lighttpd makes itself; all others are "other". */
/* clang-format never comes to rest on a list like this. */
/* clang-format off */
#define STATUSES(ROW)                                                                             \
    ROW(200) ROW(201) ROW(204) ROW(206) ROW(302) ROW(304) ROW(400) ROW(401) ROW(403) ROW(404)     \
    ROW(405) ROW(406) ROW(408) ROW(409) ROW(410) ROW(411) ROW(412) ROW(413) ROW(415) ROW(416)     \
    ROW(422) ROW(423) ROW(429) ROW(431) ROW(460) ROW(499) ROW(500) ROW(501) ROW(502) ROW(503)     \
    ROW(504) ROW(505) ROW(507)
/* clang-format on */

#define STATUS_ENUM(status) STATUS_##status,
enum status_index { STATUSES(STATUS_ENUM) STATUS_OTHER, STATUS_COUNT };

#define STATUS_TEXT(status) #status,
static const char *const status_values[] = {STATUSES(STATUS_TEXT) "other"};

#define STATUS_MAX 599
#define STATUS_PLUS_ONE(status) [status] = STATUS_##status + 1,
/* 0: not in the list */
static const unsigned char status_plus_one[STATUS_MAX + 1] = {STATUSES(STATUS_PLUS_ONE)};

static unsigned status_index(unsigned status)
{
    if (status > STATUS_MAX || status_plus_one[status] == 0)
        return STATUS_OTHER;
    return status_plus_one[status] - 1u;
}

static const char *method_value(unsigned index)
{
    return method_name((enum http_method)index);
}

static const char *route_value(unsigned index)
{
    return route_info((enum route)index)->template;
}

/* The names of enum storage_operation and enum metadata_operation, which stand to our right and
 * can't be included; tests/unit/test_metrics.c holds the two together. */
static const char *const storage_operations[] = {"put",  "get",  "remove", "stat",
                                                 "list", "ping", "copy",   "retry"};
static const char *const metadata_operations[] = {
    "file_insert", "file_get", "file_list",   "file_update", "file_mark_deleted",
    "file_remove", "token",    "idempotency", "sweep",       "ping"};
static const char *const storage_drivers[] = {"fs", "s3", "libs3"};
static const char *const metadata_drivers[] = {"sqlite", "mongodb"};
static const char *const outcomes[] = {"ok", "refused", "error"};
static const char *const auth_outcomes[] = {"accepted", "anonymous", "rejected", "forbidden"};
static const char *const sentry_outcomes[] = {"sent", "spooled", "dropped_queue", "dropped_limit",
                                              "dropped_failed"};
static const char *const swept_kinds[] = {"deleted", "expired", "orphan"};

static_assert(COUNT_OF(status_values) == STATUS_COUNT, "a name for each status");
static_assert(STATUS_COUNT <= 255, "status_plus_one is made of bytes");
static_assert(COUNT_OF(storage_drivers) == METRIC_STORAGE_DRIVER_COUNT, "a name for each driver");
static_assert(COUNT_OF(metadata_drivers) == METRIC_METADATA_DRIVER_COUNT, "a name for each driver");
static_assert(COUNT_OF(outcomes) == OUTCOME_COUNT, "a name for each outcome");
static_assert(COUNT_OF(auth_outcomes) == AUTH_COUNT, "a name for each outcome");
static_assert(COUNT_OF(sentry_outcomes) == METRIC_SENTRY_COUNT, "a name for each outcome");
static_assert(COUNT_OF(swept_kinds) == SWEPT_COUNT, "a name for each kind");

#define LIST_LABEL(label, list)                                    \
    {                                                              \
        .name = (label), .count = COUNT_OF(list), .values = (list) \
    }

static const struct metric_label label_method = {
    .name = "method", .count = METHOD_COUNT, .value = method_value};
static const struct metric_label label_route = {
    .name = "route", .count = ROUTE_COUNT, .value = route_value};
static const struct metric_label label_status = {
    .name = "status", .count = STATUS_COUNT, .values = status_values, .index = status_index};
static const struct metric_label label_storage_driver = LIST_LABEL("driver", storage_drivers);
static const struct metric_label label_metadata_driver = LIST_LABEL("driver", metadata_drivers);
static const struct metric_label label_storage_operation =
    LIST_LABEL("operation", storage_operations);
static const struct metric_label label_metadata_operation =
    LIST_LABEL("operation", metadata_operations);
static const struct metric_label label_outcome = LIST_LABEL("outcome", outcomes);
static const struct metric_label label_auth = LIST_LABEL("outcome", auth_outcomes);
static const struct metric_label label_sentry = LIST_LABEL("outcome", sentry_outcomes);
static const struct metric_label label_swept = LIST_LABEL("kind", swept_kinds);

/* ---- families ---- */

static const double seconds_bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                        0.25,   0.5,   1,      2.5,   5,    10,    60};
static const double bytes_bounds[] = {256,    1024,    4096,    16384,    65536,
                                      262144, 1048576, 4194304, 16777216, 67108864};

static_assert(COUNT_OF(seconds_bounds) <= METRIC_BOUNDS_MAX, "a scrape has room for them");
static_assert(COUNT_OF(bytes_bounds) <= METRIC_BOUNDS_MAX, "a scrape has room for them");

#define SECONDS .unit = "seconds", .bounds = seconds_bounds, .bound_count = COUNT_OF(seconds_bounds)
#define BYTES .unit = "bytes", .bounds = bytes_bounds, .bound_count = COUNT_OF(bytes_bounds)
#define LABELS(count, ...) .label_count = (count), .labels = {__VA_ARGS__}

const struct metric_row metric_rows[METRIC_COUNT] = {
    [METRIC_HTTP_REQUESTS] = {.name = "http_requests",
                              .help = "Requests answered.",
                              .type = METRIC_COUNTER,
                              LABELS(3, &label_method, &label_route, &label_status)},
    [METRIC_HTTP_DURATION] = {.name = "http_request_duration_seconds",
                              .help = "Time from the first byte of a request to the end of its "
                                      "answer.",
                              .type = METRIC_HISTOGRAM,
                              SECONDS,
                              LABELS(2, &label_method, &label_route)},
    [METRIC_HTTP_REQUEST_SIZE] = {.name = "http_request_size_bytes",
                                  .help = "Size of request bodies.",
                                  .type = METRIC_HISTOGRAM,
                                  BYTES,
                                  LABELS(2, &label_method, &label_route)},
    [METRIC_HTTP_RESPONSE_SIZE] = {.name = "http_response_size_bytes",
                                   .help = "Size of response bodies.",
                                   .type = METRIC_HISTOGRAM,
                                   BYTES,
                                   LABELS(2, &label_method, &label_route)},
    [METRIC_HTTP_IN_FLIGHT] = {.name = "http_requests_in_flight",
                               .help = "Requests being worked on.",
                               .type = METRIC_GAUGE},
    [METRIC_STORAGE_OPERATIONS] = {.name = "storage_operations",
                                   .help = "Storage operations; refused: by the state of the "
                                           "object, error: by a fault.",
                                   .type = METRIC_COUNTER,
                                   LABELS(3, &label_storage_driver, &label_storage_operation,
                                          &label_outcome)},
    [METRIC_STORAGE_DURATION] = {.name = "storage_operation_duration_seconds",
                                 .help = "Duration of storage operations.",
                                 .type = METRIC_HISTOGRAM,
                                 SECONDS,
                                 LABELS(2, &label_storage_driver, &label_storage_operation)},
    [METRIC_METADATA_OPERATIONS] = {.name = "metadata_operations",
                                    .help = "Metadata operations; refused: by the state of the "
                                            "row, error: by a fault.",
                                    .type = METRIC_COUNTER,
                                    LABELS(3, &label_metadata_driver, &label_metadata_operation,
                                           &label_outcome)},
    [METRIC_METADATA_DURATION] = {.name = "metadata_operation_duration_seconds",
                                  .help = "Duration of metadata operations.",
                                  .type = METRIC_HISTOGRAM,
                                  SECONDS,
                                  LABELS(2, &label_metadata_driver, &label_metadata_operation)},
    [METRIC_FILES_UPLOADED] = {.name = "files_uploaded",
                               .help = "Files stored and acknowledged.",
                               .type = METRIC_COUNTER},
    [METRIC_FILES_DELETED] = {.name = "files_deleted",
                              .help = "Files deleted and acknowledged.",
                              .type = METRIC_COUNTER},
    [METRIC_FILES_DOWNLOADED] = {.name = "files_downloaded",
                                 .help = "Answers that carried bytes of a file.",
                                 .type = METRIC_COUNTER},
    [METRIC_UPLOAD_BYTES] = {.name = "upload_bytes",
                             .unit = "bytes",
                             .help = "Bytes of the files stored.",
                             .type = METRIC_COUNTER},
    [METRIC_DOWNLOAD_BYTES] = {.name = "download_bytes",
                               .unit = "bytes",
                               .help = "Bytes of files in answers.",
                               .type = METRIC_COUNTER},
    [METRIC_AUTH_ATTEMPTS] = {.name = "auth_attempts",
                              .help = "Requests by what became of their credentials.",
                              .type = METRIC_COUNTER,
                              LABELS(1, &label_auth)},
    [METRIC_LOG_LINES_DROPPED] = {.name = "log_lines_dropped",
                                  .help = "Log lines that could not be written.",
                                  .type = METRIC_COUNTER},
    [METRIC_SWEPT_OBJECTS] = {.name = "swept_objects",
                              .help = "Objects that the sweep removed.",
                              .type = METRIC_COUNTER,
                              LABELS(1, &label_swept)},
    [METRIC_SENTRY_EVENTS] = {.name = "sentry_events",
                              .help = "Error reports by what became of them; a spooled one is "
                                      "counted again when it is sent or dropped.",
                              .type = METRIC_COUNTER,
                              LABELS(1, &label_sentry)},
};

const char *metric_label_value(const struct metric_label *label, unsigned index)
{
    return label->values ? label->values[index] : label->value(index);
}

size_t metric_series_count(const struct metric_row *row)
{
    size_t count = 1;
    for (unsigned i = 0; i < row->label_count; i++)
        count *= row->labels[i]->count;
    return count;
}

size_t metric_cells_per_series(const struct metric_row *row)
{
    return row->type == METRIC_HISTOGRAM ? row->bound_count + 2u : 1u;
}

/* ---- layout ---- */

#define FORMAT_VERSION "1"
#define CACHE_LINE 64u

static void hash_bytes(uint64_t *hash, const void *data, size_t len) /* FNV-1a */
{
    for (size_t i = 0; i < len; i++)
        *hash = (*hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
}

static void hash_number(uint64_t *hash, uint64_t value)
{
    for (int shift = 0; shift < 64; shift += 8)
        *hash = (*hash ^ (value >> shift & 0xff)) * 0x100000001b3u;
}

static void hash_text(uint64_t *hash, const char *text)
{
    hash_bytes(hash, text, strlen(text) + 1);
}

static void hash_row(uint64_t *hash, const struct metric_row *row)
{
    hash_number(hash, row->type);
    hash_number(hash, row->label_count);
    hash_number(hash, row->bound_count);
    hash_text(hash, row->name);
    for (unsigned i = 0; i < row->label_count; i++) {
        hash_text(hash, row->labels[i]->name);
        for (unsigned value = 0; value < row->labels[i]->count; value++)
            hash_text(hash, metric_label_value(row->labels[i], value));
    }
    if (row->bound_count)
        hash_bytes(hash, row->bounds, row->bound_count * sizeof row->bounds[0]);
}

void metrics_layout_make(struct metrics_layout *layout)
{
    uint64_t hash = 0xcbf29ce484222325u;
    hash_text(&hash, FORMAT_VERSION);
    layout->cells = 0;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];
        hash_row(&hash, row);
        layout->offset[i] = layout->cells;
        layout->cells += metric_series_count(row) * metric_cells_per_series(row);
    }
    size_t bytes = sizeof(struct metrics_slot) + layout->cells * sizeof(uint64_t);
    layout->slot_size = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    layout->file_size = sizeof(struct metrics_header) + METRICS_SLOTS * layout->slot_size;
    hash_number(&hash, layout->file_size);
    layout->hash = hash;
}

/* ---- update ---- */

/* The first cell of the series that the labels name; NULL when there is nothing to count. */
static _Atomic uint64_t *find_series(struct metrics *metrics, enum metric metric,
                                     const unsigned *labels)
{
    const struct metric_row *row = &metric_rows[metric];
    size_t series = 0;
    for (unsigned i = 0; i < row->label_count; i++) {
        const struct metric_label *label = row->labels[i];
        unsigned index = labels ? labels[i] : label->count;
        if (labels && label->index)
            index = label->index(index);
        if (index >= label->count)
            index = label->count - 1;
        series = series * label->count + index;
    }
    size_t cell = metrics->layout.offset[metric] + series * metric_cells_per_series(row);
    return &metrics->own->cells[cell];
}

void metrics_add(struct metrics *metrics, enum metric metric, const unsigned *labels,
                 int64_t amount)
{
    if (!metrics || (unsigned)metric >= METRIC_COUNT)
        return;
    enum metric_type type = metric_rows[metric].type;
    if (type == METRIC_HISTOGRAM || (type == METRIC_COUNTER && amount < 0))
        return;
    atomic_fetch_add_explicit(find_series(metrics, metric, labels), (uint64_t)amount,
                              memory_order_relaxed);
}

static void add_double(_Atomic uint64_t *cell, double value)
{
    uint64_t old_bits = atomic_load_explicit(cell, memory_order_relaxed);
    uint64_t new_bits;
    do {
        double sum;
        memcpy(&sum, &old_bits, sizeof sum);
        sum += value;
        memcpy(&new_bits, &sum, sizeof new_bits);
    } while (!atomic_compare_exchange_weak_explicit(cell, &old_bits, new_bits, memory_order_relaxed,
                                                    memory_order_relaxed));
}

void metrics_observe(struct metrics *metrics, enum metric metric, const unsigned *labels,
                     double value)
{
    if (!metrics || (unsigned)metric >= METRIC_COUNT || !isfinite(value))
        return;
    const struct metric_row *row = &metric_rows[metric];
    if (row->type != METRIC_HISTOGRAM)
        return;
    if (value < 0) /* a sum that falls would be a counter that falls */
        value = 0;
    unsigned bucket = 0;
    while (bucket < row->bound_count && value > row->bounds[bucket])
        bucket++;
    _Atomic uint64_t *cells = find_series(metrics, metric, labels);
    atomic_fetch_add_explicit(&cells[bucket], 1, memory_order_relaxed);
    add_double(&cells[row->bound_count + 1], value);
}
