/* The metrics: every family, its labels and their values. */
#include "observe/metrics_table.h"

#include <assert.h>
#include <math.h>

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
                                                 "list", "ping", "retry"};
static const char *const metadata_operations[] = {
    "file_insert", "file_get", "file_list",   "file_update", "file_mark_deleted",
    "file_remove", "token",    "idempotency", "sweep",       "ping"};
static const char *const storage_drivers[] = {"fs", "s3", "libs3"};
static const char *const metadata_drivers[] = {"sqlite", "mongodb"};
static const char *const outcomes[] = {"ok", "refused", "error"};
static const char *const auth_outcomes[] = {"accepted", "anonymous", "rejected", "forbidden"};
static const char *const sentry_outcomes[] = {"sent", "spooled", "dropped_queue", "dropped_limit",
                                              "dropped_failed"};
static const char *const otel_outcomes[] = {"sent", "dropped_queue", "dropped_limit",
                                            "dropped_failed"};
static const char *const connection_states[] = {"busy", "idle"};
static const char *const gateway_states[] = {[GATEWAY_CONNECT] = "connect",
                                             [GATEWAY_REQ_START] = "req-start",
                                             [GATEWAY_READ] = "read",
                                             [GATEWAY_REQ_END] = "req-end",
                                             [GATEWAY_READPOST] = "readpost",
                                             [GATEWAY_HANDLE_REQ] = "handle-req",
                                             [GATEWAY_RESP_START] = "resp-start",
                                             [GATEWAY_WRITE] = "write",
                                             [GATEWAY_RESP_END] = "resp-end",
                                             [GATEWAY_ERROR] = "error",
                                             [GATEWAY_CLOSE] = "close",
                                             [GATEWAY_KEEP_ALIVE] = "keep-alive",
                                             [GATEWAY_OTHER] = "other"};
static const char *const swept_kinds[] = {"deleted", "expired", "orphan"};

static_assert(COUNT_OF(status_values) == STATUS_COUNT, "a name for each status");
static_assert(STATUS_COUNT <= 255, "status_plus_one is made of bytes");
static_assert(COUNT_OF(storage_drivers) == METRIC_STORAGE_DRIVER_COUNT, "a name for each driver");
static_assert(COUNT_OF(metadata_drivers) == METRIC_METADATA_DRIVER_COUNT, "a name for each driver");
static_assert(COUNT_OF(outcomes) == OUTCOME_COUNT, "a name for each outcome");
static_assert(COUNT_OF(auth_outcomes) == AUTH_COUNT, "a name for each outcome");
static_assert(COUNT_OF(sentry_outcomes) == METRIC_SENTRY_COUNT, "a name for each outcome");
static_assert(COUNT_OF(otel_outcomes) == METRIC_OTEL_COUNT, "a name for each outcome");
static_assert(COUNT_OF(connection_states) == CONNECTIONS_STATE_COUNT, "a name for each state");
static_assert(COUNT_OF(gateway_states) == GATEWAY_STATE_COUNT, "a name for each state");
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
static const struct metric_label label_otel = LIST_LABEL("outcome", otel_outcomes);
static const struct metric_label label_connections = LIST_LABEL("state", connection_states);
static const struct metric_label label_gateway_state = LIST_LABEL("state", gateway_states);
static const struct metric_label label_swept = LIST_LABEL("kind", swept_kinds);

/* ---- families ---- */

static const double bytes_bounds[] = {256,    1024,    4096,    16384,    65536,
                                      262144, 1048576, 4194304, 16777216, 67108864};

static_assert(COUNT_OF(bytes_bounds) <= METRIC_BOUNDS_MAX, "a scrape has room for them");

#define SECONDS .unit = "seconds", .durations = true
#define BYTES .unit = "bytes", .bounds = bytes_bounds, .bound_count = COUNT_OF(bytes_bounds)
#define PROGRAMS .sets = METRICS_SET_BIT(METRICS_OF_PROGRAMS)
#define GATEWAY .sets = METRICS_SET_BIT(METRICS_OF_GATEWAY)
#define IN_BOTH (METRICS_SET_BIT(METRICS_OF_PROGRAMS) | METRICS_SET_BIT(METRICS_OF_GATEWAY))
#define BOTH .sets = IN_BOTH
#define LABELS(count, ...) .label_count = (count), .labels = {__VA_ARGS__}

const struct metric_row metric_rows[METRIC_COUNT] = {
    [METRIC_HTTP_REQUESTS] = {BOTH, .name = "http_requests", .help = "Requests answered.",
                              .type = METRIC_COUNTER,
                              LABELS(3, &label_method, &label_route, &label_status)},
    [METRIC_HTTP_DURATION] = {BOTH, .name = "http_request_duration_seconds",
                              .help = "Time from the first byte of a request to the end of its "
                                      "answer.",
                              .type = METRIC_HISTOGRAM, SECONDS,
                              LABELS(2, &label_method, &label_route)},
    [METRIC_HTTP_REQUEST_SIZE] = {BOTH, .name = "http_request_size_bytes",
                                  .help = "Size of request bodies.", .type = METRIC_HISTOGRAM,
                                  BYTES, LABELS(2, &label_method, &label_route)},
    [METRIC_HTTP_RESPONSE_SIZE] = {BOTH, .name = "http_response_size_bytes",
                                   .help = "Size of response bodies.", .type = METRIC_HISTOGRAM,
                                   BYTES, LABELS(2, &label_method, &label_route)},
    [METRIC_HTTP_IN_FLIGHT] = {PROGRAMS, .name = "http_requests_in_flight",
                               .help = "Requests being worked on.", .type = METRIC_GAUGE},
    [METRIC_STORAGE_OPERATIONS] = {PROGRAMS, .name = "storage_operations",
                                   .help = "Storage operations; refused: by the state of the "
                                           "object, error: by a fault.",
                                   .type = METRIC_COUNTER,
                                   LABELS(3, &label_storage_driver, &label_storage_operation,
                                          &label_outcome)},
    [METRIC_STORAGE_DURATION] = {PROGRAMS, .name = "storage_operation_duration_seconds",
                                 .help = "Duration of storage operations.",
                                 .type = METRIC_HISTOGRAM, SECONDS,
                                 LABELS(2, &label_storage_driver, &label_storage_operation)},
    [METRIC_METADATA_OPERATIONS] = {PROGRAMS, .name = "metadata_operations",
                                    .help = "Metadata operations; refused: by the state of the "
                                            "row, error: by a fault.",
                                    .type = METRIC_COUNTER,
                                    LABELS(3, &label_metadata_driver, &label_metadata_operation,
                                           &label_outcome)},
    [METRIC_METADATA_DURATION] = {PROGRAMS, .name = "metadata_operation_duration_seconds",
                                  .help = "Duration of metadata operations.",
                                  .type = METRIC_HISTOGRAM, SECONDS,
                                  LABELS(2, &label_metadata_driver, &label_metadata_operation)},
    [METRIC_STORAGE_CONNECTIONS] = {PROGRAMS, .name = "storage_connections",
                                    .help = "Connections to the store that are kept open.",
                                    .type = METRIC_GAUGE,
                                    LABELS(2, &label_storage_driver, &label_connections)},
    [METRIC_METADATA_CONNECTIONS] = {PROGRAMS, .name = "metadata_connections",
                                     .help = "Connections to the database that are kept open.",
                                     .type = METRIC_GAUGE,
                                     LABELS(2, &label_metadata_driver, &label_connections)},
    [METRIC_UPLOADS_REFUSED] = {PROGRAMS, .name = "uploads_refused",
                                .help = "1 while the disk of DATA_DIR has less than "
                                        "MIN_FREE_BYTES left.",
                                .type = METRIC_GAUGE},
    [METRIC_FILES_UPLOADED] = {PROGRAMS, .name = "files_uploaded",
                               .help = "Files stored and acknowledged.", .type = METRIC_COUNTER},
    [METRIC_FILES_DELETED] = {PROGRAMS, .name = "files_deleted",
                              .help = "Files deleted and acknowledged.", .type = METRIC_COUNTER},
    [METRIC_FILES_DOWNLOADED] = {PROGRAMS, .name = "files_downloaded",
                                 .help = "Answers that carried bytes of a file.",
                                 .type = METRIC_COUNTER},
    [METRIC_UPLOAD_BYTES] = {PROGRAMS, .name = "upload_bytes", .unit = "bytes",
                             .help = "Bytes of the files stored.", .type = METRIC_COUNTER},
    [METRIC_DOWNLOAD_BYTES] = {PROGRAMS, .name = "download_bytes", .unit = "bytes",
                               .help = "Bytes of files in answers.", .type = METRIC_COUNTER},
    [METRIC_AUTH_ATTEMPTS] = {PROGRAMS, .name = "auth_attempts",
                              .help = "Requests by what became of their credentials.",
                              .type = METRIC_COUNTER, LABELS(1, &label_auth)},
    [METRIC_LOG_LINES_DROPPED] = {BOTH, .name = "log_lines_dropped",
                                  .help = "Log lines that could not be written.",
                                  .type = METRIC_COUNTER},
    [METRIC_SWEPT_OBJECTS] = {PROGRAMS, .name = "swept_objects",
                              .help = "Objects that the sweep removed.", .type = METRIC_COUNTER,
                              LABELS(1, &label_swept)},
    [METRIC_ORPHANS_HELD_BACK] = {PROGRAMS, .name = "orphans_held_back",
                                  .help = "Objects without a row that the last listing of the "
                                          "store found and left, as they were more than "
                                          "SWEEP_MAX_ORPHANS.",
                                  .type = METRIC_GAUGE},
    [METRIC_SENTRY_EVENTS] = {BOTH, .name = "sentry_events",
                              .help = "Error reports by what became of them; a spooled one is "
                                      "counted again when it is sent or dropped.",
                              .type = METRIC_COUNTER, LABELS(1, &label_sentry)},
    [METRIC_OTEL_SPANS] = {BOTH, .name = "otel_spans", .help = "Spans by what became of them.",
                           .type = METRIC_COUNTER, LABELS(1, &label_otel)},
    [METRIC_GATEWAY_LINES_LOST] = {GATEWAY, .name = "gateway_log_lines_lost",
                                   .help = "Answers of the gateway that were neither logged nor "
                                           "counted here.",
                                   .type = METRIC_COUNTER},
    [METRIC_GATEWAY_CONNECTIONS] = {GATEWAY, .name = "gateway_connections",
                                    .help = "Connections of lighttpd by its own state of each.",
                                    .type = METRIC_GAUGE, LABELS(1, &label_gateway_state)},
    [METRIC_GATEWAY_BUSY] = {GATEWAY, .name = "gateway_busy_workers",
                             .help = "Connection slots of lighttpd in use.", .type = METRIC_GAUGE},
    [METRIC_GATEWAY_UPTIME] = {GATEWAY, .name = "gateway_uptime_seconds", .unit = "seconds",
                               .help = "Time since lighttpd started.", .type = METRIC_GAUGE},
    [METRIC_GATEWAY_UP] = {GATEWAY, .name = "gateway_up",
                           .help = "1 when lighttpd told its state for this scrape.",
                           .type = METRIC_GAUGE},
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

/* What the options make of the table: where cells stand, and the hash that tells layouts apart. */

#define FORMAT_VERSION "2"
#define CACHE_LINE 64u

/* The default of METRICS_DURATION_BUCKETS (base/config_table.c). */
static const double default_bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                        0.25,   0.5,   1,      2.5,   5,    10,    60};

struct metric_bounds metric_bounds(const struct metrics_layout *layout,
                                   const struct metric_row *row)
{
    if (row->durations)
        return (struct metric_bounds){layout->duration_bounds, layout->duration_bound_count};
    return (struct metric_bounds){row->bounds, row->bound_count};
}

size_t metric_cells_per_series(const struct metrics_layout *layout, const struct metric_row *row)
{
    return row->type == METRIC_HISTOGRAM ? metric_bounds(layout, row).count + 2u : 1u;
}

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

static void hash_row(uint64_t *hash, const struct metrics_layout *layout,
                     const struct metric_row *row)
{
    struct metric_bounds bounds = metric_bounds(layout, row);
    hash_number(hash, row->type);
    hash_number(hash, row->label_count);
    hash_number(hash, bounds.count);
    hash_text(hash, row->name);
    for (unsigned i = 0; i < row->label_count; i++) {
        hash_text(hash, row->labels[i]->name);
        for (unsigned value = 0; value < row->labels[i]->count; value++)
            hash_text(hash, metric_label_value(row->labels[i], value));
    }
    if (bounds.count)
        hash_bytes(hash, bounds.values, bounds.count * sizeof bounds.values[0]);
}

static bool set_bounds(struct metrics_layout *layout, const double *bounds, unsigned count)
{
    if (count == 0) {
        bounds = default_bounds;
        count = COUNT_OF(default_bounds);
    }
    if (count > METRIC_BOUNDS_MAX)
        return false;
    double before = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!(bounds[i] > before) || !isfinite(bounds[i]))
            return false;
        before = layout->duration_bounds[i] = bounds[i];
    }
    layout->duration_bound_count = count;
    return true;
}

static void place_cells(struct metrics_layout *layout, uint64_t *hash)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];
        layout->offset[i] = METRIC_ABSENT;
        if (!(row->sets & METRICS_SET_BIT(layout->set)))
            continue;
        hash_row(hash, layout, row);
        layout->offset[i] = layout->cells;
        layout->cells += metric_series_count(row) * metric_cells_per_series(layout, row);
    }
}

static void place_exemplars(struct metrics_layout *layout)
{
    layout->words = layout->cells;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];
        layout->exemplar_offset[i] = METRIC_ABSENT;
        if (!row->durations || layout->offset[i] == METRIC_ABSENT)
            continue;
        layout->exemplar_offset[i] = layout->words;
        size_t buckets = metric_bounds(layout, row).count + 1u;
        layout->words += metric_series_count(row) * buckets * EXEMPLAR_WORDS;
    }
}

bool metrics_layout_make(struct metrics_layout *layout, const struct metrics_options *options)
{
    uint64_t hash = 0xcbf29ce484222325u;
    *layout = (struct metrics_layout){
        .set = options->set,
        .slot_count = options->set == METRICS_OF_GATEWAY ? METRICS_GATEWAY_SLOTS : METRICS_SLOTS};
    if (!set_bounds(layout, options->duration_bounds, options->duration_bound_count))
        return false;
    hash_text(&hash, FORMAT_VERSION);
    place_cells(layout, &hash);
    place_exemplars(layout);
    size_t bytes = sizeof(struct metrics_slot) + layout->words * sizeof(uint64_t);
    layout->slot_size = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    layout->file_size = sizeof(struct metrics_header) + layout->slot_count * layout->slot_size;
    hash_number(&hash, layout->file_size);
    layout->hash = hash;
    return true;
}
