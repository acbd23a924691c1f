#include <math.h>

#include "check.h"
#include "metadata/metadata.h"
#include "observe/metrics_table.h"
#include "scrape.h"
#include "storage/storage.h"

static struct metrics *open_metrics(void)
{
    char path[128];
    struct metrics *metrics = NULL;
    struct err err;
    snprintf(path, sizeof path, "%s/metrics", check_temp_dir());
    CHECK_ERR(
        metrics_open(&metrics, &(struct metrics_options){.path = path, .program = "test"}, &err),
        ERR_OK, &err);
    return metrics;
}

TEST(metrics, format_follows_the_accept_header)
{
    static const struct {
        const char *accept;
        enum metrics_format want;
    } rows[] = {
        {"", METRICS_TEXT},
        {"*/*", METRICS_TEXT},
        {"text/plain", METRICS_TEXT},
        {"text/html,application/xhtml+xml,*/*;q=0.8", METRICS_TEXT},
        {"application/openmetrics-text", METRICS_OPENMETRICS},
        {"application/openmetrics-text; version=1.0.0; charset=utf-8", METRICS_OPENMETRICS},
        {"Application/OpenMetrics-Text; Version=\"1.0.0\"", METRICS_OPENMETRICS},
        {"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
         METRICS_OPENMETRICS},
        {"application/openmetrics-text;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.5",
         METRICS_TEXT},
        {"text/plain;q=0.5 , application/openmetrics-text ; q=0.501", METRICS_OPENMETRICS},
        {"application/openmetrics-text;q=0.5,text/plain;q=0.5", METRICS_TEXT},
        {"application/openmetrics-text,*/*", METRICS_OPENMETRICS},
        {"application/openmetrics-text;q=0.5,*/*;q=0.6", METRICS_TEXT},
        {"application/openmetrics-text;q=0.5,text/plain;q=0.1,*/*;q=0.6", METRICS_OPENMETRICS},
        {"application/openmetrics-text;q=0", METRICS_TEXT},
        {"application/openmetrics-text;q=0,*/*;q=0", METRICS_TEXT},
        {"application/openmetrics-text;q=2", METRICS_TEXT},
        {"application/openmetrics-text;q=x", METRICS_TEXT},
        {"application/openmetrics-text;q=1.001", METRICS_TEXT},
        {"application/openmetrics-text;q=", METRICS_TEXT},
        {"application/openmetrics-text;version=0.0.1", METRICS_TEXT},
        {"application/openmetrics-text;version=2.0.0", METRICS_TEXT},
        /* Prometheus 2.42, and 3 */
        {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
         "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
         METRICS_OPENMETRICS},
        {"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
         "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,"
         "*/*;q=0.2",
         METRICS_OPENMETRICS},
        {",,;;,=", METRICS_TEXT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_INT_ROW(rows[i].accept, metrics_negotiate(str_of(rows[i].accept)), rows[i].want);
    CHECK_TEXT(metrics_content_type(METRICS_TEXT), "text/plain; version=0.0.4; charset=utf-8");
    CHECK_TEXT(metrics_content_type(METRICS_OPENMETRICS),
               "application/openmetrics-text; version=1.0.0; charset=utf-8");
}

/* The wrappers pass their enums as label values, but the table can't include them. */
TEST(metrics, operation_names_stand_in_the_order_of_the_wrappers_enums)
{
    static const struct {
        enum metric metric;
        unsigned index;
        const char *name;
    } rows[] = {
        {METRIC_STORAGE_OPERATIONS, STORAGE_PUT, "put"},
        {METRIC_STORAGE_OPERATIONS, STORAGE_GET, "get"},
        {METRIC_STORAGE_OPERATIONS, STORAGE_REMOVE, "remove"},
        {METRIC_STORAGE_OPERATIONS, STORAGE_STAT, "stat"},
        {METRIC_STORAGE_OPERATIONS, STORAGE_LIST, "list"},
        {METRIC_STORAGE_OPERATIONS, STORAGE_PING, "ping"},
        {METRIC_METADATA_OPERATIONS, METADATA_FILE_INSERT, "file_insert"},
        {METRIC_METADATA_OPERATIONS, METADATA_FILE_GET, "file_get"},
        {METRIC_METADATA_OPERATIONS, METADATA_FILE_LIST, "file_list"},
        {METRIC_METADATA_OPERATIONS, METADATA_FILE_UPDATE, "file_update"},
        {METRIC_METADATA_OPERATIONS, METADATA_FILE_MARK_DELETED, "file_mark_deleted"},
        {METRIC_METADATA_OPERATIONS, METADATA_FILE_REMOVE, "file_remove"},
        {METRIC_METADATA_OPERATIONS, METADATA_TOKEN, "token"},
        {METRIC_METADATA_OPERATIONS, METADATA_IDEMPOTENCY, "idempotency"},
        {METRIC_METADATA_OPERATIONS, METADATA_SWEEP, "sweep"},
        {METRIC_METADATA_OPERATIONS, METADATA_PING, "ping"},
    };
    const struct metric_label *storage = metric_rows[METRIC_STORAGE_OPERATIONS].labels[1];
    const struct metric_label *metadata = metric_rows[METRIC_METADATA_OPERATIONS].labels[1];
    CHECK_INT(storage->count, STORAGE_OPERATION_COUNT);
    CHECK_INT(metadata->count, METADATA_OPERATION_COUNT);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct metric_label *label = metric_rows[rows[i].metric].labels[1];
        CHECK_STR_ROW(rows[i].name, str_of(metric_label_value(label, rows[i].index)), rows[i].name);
    }
}

TEST(metrics, every_family_has_a_name_a_help_and_known_labels)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];
        REQUIRE(row->name && row->help);
        CHECK_ROW(row->name, !strstr(row->name, "_total"));
        CHECK_ROW(row->name, row->help[strlen(row->help) - 1] == '.');
        CHECK_ROW(row->name,
                  (row->type == METRIC_HISTOGRAM) == (row->durations || row->bound_count > 0));
        for (unsigned bound = 1; bound < row->bound_count; bound++)
            CHECK_ROW(row->name, row->bounds[bound - 1] < row->bounds[bound]);
        for (unsigned label = 0; label < row->label_count; label++) {
            REQUIRE(row->labels[label] != NULL);
            for (unsigned value = 0; value < row->labels[label]->count; value++)
                CHECK_ROW(row->name, metric_label_value(row->labels[label], value) != NULL);
        }
        if (row->unit) {
            struct str name = str_of(row->name);
            size_t len = strlen(row->unit);
            CHECK_STR_ROW(row->name, ((struct str){name.data + name.len - len, len}), row->unit);
        }
    }
}

TEST(metrics, a_status_is_counted_under_its_own_name_or_other)
{
    static const struct {
        unsigned status;
        const char *label;
    } rows[] = {
        {200, "200"},   {201, "201"}, {206, "206"},   {304, "304"},   {404, "404"},
        {431, "431"},   {460, "460"}, {499, "499"},   {500, "500"},   {507, "507"},
        {418, "other"}, {0, "other"}, {599, "other"}, {600, "other"}, {4000000000, "other"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char series[128];
        struct metrics *metrics = open_metrics();
        unsigned labels[] = {METHOD_GET, ROUTE_FILE, rows[i].status};
        metrics_add(metrics, METRIC_HTTP_REQUESTS, labels, 1);
        snprintf(series, sizeof series,
                 "http_requests_total{method=\"GET\",route=\"/api/files/:id\",status=\"%s\"}",
                 rows[i].label);
        CHECK_INT_ROW(rows[i].label, (int64_t)scrape_value(metrics, series), 1);
        metrics_close(metrics);
    }
}

TEST(metrics, a_label_out_of_range_is_counted_under_the_last_value)
{
    struct metrics *metrics = open_metrics();
    unsigned labels[] = {METHOD_COUNT, 4000000000, 200};
    metrics_add(metrics, METRIC_HTTP_REQUESTS, labels, 2);
    metrics_add(metrics, METRIC_AUTH_ATTEMPTS, (unsigned[]){AUTH_COUNT}, 3);
    metrics_add(metrics, METRIC_SWEPT_OBJECTS, NULL, 4);
    static const struct {
        const char *series;
        int want;
    } rows[] = {
        {"http_requests_total{method=\"OTHER\",route=\"unknown\",status=\"200\"}", 2},
        {"auth_attempts_total{outcome=\"forbidden\"}", 3},
        {"swept_objects_total{kind=\"orphan\"}", 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_INT_ROW(rows[i].series, (int64_t)scrape_value(metrics, rows[i].series), rows[i].want);
    metrics_close(metrics);
}

TEST(metrics, what_can_not_be_counted_has_no_effect)
{
    struct metrics *metrics = open_metrics();
    unsigned labels[] = {0, 0, 0};
    metrics_add(NULL, METRIC_FILES_UPLOADED, NULL, 1);
    metrics_observe(NULL, METRIC_HTTP_DURATION, labels, 1);
    metrics_close(NULL);
    struct buf before = scrape_text(metrics, METRICS_TEXT);
    metrics_add(metrics, METRIC_FILES_UPLOADED, NULL, -1);
    metrics_add(metrics, METRIC_HTTP_DURATION, labels, 1);
    metrics_add(metrics, METRIC_COUNT, labels, 1);
    metrics_observe(metrics, METRIC_HTTP_REQUESTS, labels, 1);
    metrics_observe(metrics, METRIC_COUNT, labels, 1);
    metrics_observe(metrics, METRIC_HTTP_DURATION, labels, (double)NAN);
    metrics_observe(metrics, METRIC_HTTP_DURATION, labels, (double)INFINITY);
    struct buf after = scrape_text(metrics, METRICS_TEXT);
    struct str rest_before = buf_str(&before);
    struct str rest_after = buf_str(&after);
    while (rest_before.len && !str_starts_with(rest_before, STR("# HELP process_"))) {
        struct str want = str_cut(&rest_before, '\n');
        CHECK(str_equal(str_cut(&rest_after, '\n'), want));
    }
    buf_release(&before);
    buf_release(&after);
    metrics_close(metrics);
}

TEST(metrics, a_gauge_goes_both_ways)
{
    struct metrics *metrics = open_metrics();
    CHECK_INT((int64_t)scrape_value(metrics, "http_requests_in_flight"), 0);
    metrics_add(metrics, METRIC_HTTP_IN_FLIGHT, NULL, 3);
    metrics_add(metrics, METRIC_HTTP_IN_FLIGHT, NULL, -2);
    CHECK_INT((int64_t)scrape_value(metrics, "http_requests_in_flight"), 1);
    metrics_close(metrics);
}

TEST(metrics, a_value_falls_into_the_bucket_of_the_next_bound)
{
    static const struct {
        double value;
        int at_0005, at_1, at_60;
    } rows[] = {{0, 1, 1, 1}, {-5, 1, 1, 1},  {0.0005, 1, 1, 1}, {0.00050001, 0, 1, 1},
                {1, 0, 1, 1}, {1.5, 0, 0, 1}, {60, 0, 0, 1},     {60.1, 0, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static const char *const bounds[] = {"0.0005", "1", "60", "+Inf"};
        int want[] = {rows[i].at_0005, rows[i].at_1, rows[i].at_60, 1};
        struct metrics *metrics = open_metrics();
        metrics_observe(metrics, METRIC_STORAGE_DURATION,
                        (unsigned[]){METRIC_STORAGE_FS, STORAGE_PUT}, rows[i].value);
        for (int bound = 0; bound < 4; bound++) {
            char series[128];
            snprintf(series, sizeof series,
                     "storage_operation_duration_seconds_bucket{driver=\"fs\",operation=\"put\","
                     "le=\"%s\"}",
                     bounds[bound]);
            CHECK_INT_ROW(bounds[bound], (int64_t)scrape_value(metrics, series), want[bound]);
        }
        double sum = scrape_value(
            metrics, "storage_operation_duration_seconds_sum{driver=\"fs\",operation=\"put\"}");
        CHECK(sum == (rows[i].value < 0 ? 0 : rows[i].value));
        metrics_close(metrics);
    }
}

/* From "# HELP <name>" up to the next family. */
static struct str family_of(const struct buf *text, const char *name)
{
    char head[128];
    snprintf(head, sizeof head, "# HELP %s ", name);
    const char *start = strstr(buf_text(text), head);
    if (!start)
        return STR("(no such family)");
    const char *end = strstr(start + 1, "# HELP ");
    return (struct str){start, end ? (size_t)(end - start) : strlen(start)};
}

static void count_one_of_each(struct metrics *metrics)
{
    unsigned get[] = {METHOD_GET, ROUTE_FILES, 200};
    unsigned storage[] = {METRIC_STORAGE_FS, STORAGE_GET};
    metrics_add(metrics, METRIC_HTTP_REQUESTS, get, 3);
    metrics_add(metrics, METRIC_UPLOAD_BYTES, NULL, INT64_MAX);
    metrics_observe(metrics, METRIC_STORAGE_DURATION, storage, 0.1);
    metrics_observe(metrics, METRIC_STORAGE_DURATION, storage, 0.2);
    metrics_observe(metrics, METRIC_HTTP_RESPONSE_SIZE, get, 2000000);
}

TEST(metrics, text_is_prometheus_0_0_4)
{
    struct metrics *metrics = open_metrics();
    count_one_of_each(metrics);
    struct buf text = scrape_text(metrics, METRICS_TEXT);
    CHECK_STR(family_of(&text, "http_requests_total"),
              "# HELP http_requests_total Requests answered.\n"
              "# TYPE http_requests_total counter\n"
              "http_requests_total{method=\"GET\",route=\"/api/files\",status=\"200\"} 3\n");
    CHECK_STR(family_of(&text, "upload_bytes_total"),
              "# HELP upload_bytes_total Bytes of the files stored.\n"
              "# TYPE upload_bytes_total counter\n"
              "upload_bytes_total 9223372036854775807\n");
    CHECK_STR(family_of(&text, "files_deleted_total"),
              "# HELP files_deleted_total Files deleted and acknowledged.\n"
              "# TYPE files_deleted_total counter\n"
              "files_deleted_total 0\n");
    CHECK_STR(family_of(&text, "auth_attempts_total"),
              "# HELP auth_attempts_total Requests by what became of their credentials.\n"
              "# TYPE auth_attempts_total counter\n");
    CHECK(strstr(buf_text(&text), "# EOF") == NULL && strstr(buf_text(&text), "# UNIT") == NULL);
    buf_release(&text);
    metrics_close(metrics);
}

#define STORAGE_GET_LABELS "{driver=\"fs\",operation=\"get\""
#define BUCKET(le, count) \
    "storage_operation_duration_seconds_bucket" STORAGE_GET_LABELS ",le=\"" le "\"} " count "\n"

TEST(metrics, text_is_openmetrics_1_0)
{
    struct metrics *metrics = open_metrics();
    count_one_of_each(metrics);
    struct buf text = scrape_text(metrics, METRICS_OPENMETRICS);
    CHECK_STR(family_of(&text, "upload_bytes"), "# HELP upload_bytes Bytes of the files stored.\n"
                                                "# TYPE upload_bytes counter\n"
                                                "# UNIT upload_bytes bytes\n"
                                                "upload_bytes_total 9223372036854775807\n");
    CHECK_STR(family_of(&text, "storage_operation_duration_seconds"),
              "# HELP storage_operation_duration_seconds Duration of storage operations.\n"
              "# TYPE storage_operation_duration_seconds histogram\n"
              "# UNIT storage_operation_duration_seconds seconds\n" BUCKET("0.0005", "0") BUCKET(
                  "0.001", "0") BUCKET("0.0025", "0") BUCKET("0.005", "0") BUCKET("0.01", "0")
                  BUCKET("0.025", "0") BUCKET("0.05", "0") BUCKET("0.1", "1") BUCKET(
                      "0.25", "2") BUCKET("0.5", "2") BUCKET("1.0", "2") BUCKET("2.5", "2")
                      BUCKET("5.0", "2") BUCKET("10.0", "2") BUCKET("60.0", "2") BUCKET(
                          "+Inf", "2") "storage_operation_duration_seconds_sum" STORAGE_GET_LABELS
                                       "} 0.30000000000000004\n"
                                       "storage_operation_duration_seconds_count" STORAGE_GET_LABELS
                                       "} 2\n");
    struct str sizes = family_of(&text, "http_response_size_bytes");
    static const char bound[] = ",le=\"1.048576e+06\"} 0\n";
    static const char next[] = ",le=\"4.194304e+06\"} 1\n";
    CHECK(memmem(sizes.data, sizes.len, bound, sizeof bound - 1) != NULL);
    CHECK(memmem(sizes.data, sizes.len, next, sizeof next - 1) != NULL);
    CHECK(text.len > 6 && strcmp(buf_text(&text) + text.len - 6, "# EOF\n") == 0);
    buf_release(&text);
    metrics_close(metrics);
}

TEST(metrics, an_answer_without_room_is_an_error)
{
    struct metrics *metrics = open_metrics();
    struct buf text;
    struct err err;
    buf_init(&text, 100);
    CHECK_ERR(metrics_render(metrics, METRICS_OPENMETRICS, &text, &err), ERR_INTERNAL, &err);
    buf_release(&text);
    metrics_close(metrics);
}

TEST(metrics, a_process_shows_itself)
{
    static const struct {
        const char *series;
        double min;
    } rows[] = {
        {"process_cpu_seconds_total{program=\"test\"}", 0},
        {"process_resident_memory_bytes{program=\"test\"}", 100000},
        {"process_virtual_memory_bytes{program=\"test\"}", 1000000},
        {"process_open_fds{program=\"test\"}", 3},
        {"process_max_fds{program=\"test\"}", 3},
        {"process_start_time_seconds{program=\"test\"}", 1600000000},
        {"process_threads{program=\"test\"}", 1},
    };
    struct metrics *metrics = open_metrics();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_ROW(rows[i].series, scrape_value(metrics, rows[i].series) >= rows[i].min);
    double start = scrape_value(metrics, "process_start_time_seconds{program=\"test\"}");
    CHECK(start <= (double)time(NULL) + 1 && start > (double)time(NULL) - 24 * 3600);
    CHECK(start == scrape_value(metrics, "process_start_time_seconds{program=\"test\"}"));
    metrics_close(metrics);
}

TEST(metrics, a_program_name_is_escaped_and_cut)
{
    char path[128];
    struct metrics *quoted = NULL;
    struct metrics *wide = NULL;
    struct err err;
    snprintf(path, sizeof path, "%s/metrics", check_temp_dir());
    REQUIRE(metrics_open(&quoted, &(struct metrics_options){.path = path, .program = "a\"b\\c\nd"},
                         &err) == ERR_OK);
    REQUIRE(metrics_open(&wide,
                         &(struct metrics_options){
                             .path = path, .program = "0123456789012345678901234567890123456789"},
                         &err) == ERR_OK);
    CHECK(scrape_value(quoted, "process_threads{program=\"a\\\"b\\\\c\\nd\"}") >= 1);
    CHECK(scrape_value(wide, "process_threads{program=\"0123456789012345678901234567890\"}") >= 1);
    metrics_close(quoted);
    metrics_close(wide);
}
