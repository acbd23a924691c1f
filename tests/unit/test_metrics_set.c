/* Metrics by their options: sets of families, bounds, settings; gauges and totals over processes. */
#include <stdio.h>
#include <unistd.h>

#include "check.h"
#include "observe/metrics_table.h"
#include "scrape.h"
#include "storage/storage.h"

TEST(metrics_set, a_gauge_that_is_set_shows_what_each_living_process_says)
{
    char path[128];
    struct metrics *gateway = NULL;
    struct metrics *other = NULL;
    struct err err;
    const unsigned write_state = GATEWAY_WRITE;
    snprintf(path, sizeof path, "%s/metrics", check_temp_dir());
    const struct metrics_options options = {
        .path = path, .program = "metrics", .set = METRICS_OF_GATEWAY};
    REQUIRE(metrics_open(&gateway, &options, &err) == ERR_OK);
    REQUIRE(metrics_open(&other, &options, &err) == ERR_OK);
    metrics_set(gateway, METRIC_GATEWAY_CONNECTIONS, &write_state, 12);
    metrics_set(gateway, METRIC_GATEWAY_CONNECTIONS, &write_state, 5);
    CHECK_INT((int64_t)scrape_value(other, "gateway_connections{state=\"write\"}"), 5);
    metrics_set(other, METRIC_GATEWAY_CONNECTIONS, &write_state, 2);
    CHECK_INT((int64_t)scrape_value(other, "gateway_connections{state=\"write\"}"), 7);
    metrics_close(other);
    CHECK_INT((int64_t)scrape_value(gateway, "gateway_connections{state=\"write\"}"), 5);
    metrics_set(gateway, METRIC_GATEWAY_LINES_LOST, NULL, 9); /* a counter is never set */
    CHECK_INT((int64_t)scrape_value(gateway, "gateway_log_lines_lost_total"), 0);
    metrics_close(gateway);
}

TEST(metrics_set, a_set_has_its_own_families_only)
{
    static const struct {
        const char *series;
        bool programs, gateway;
    } rows[] = {
        {"http_requests_total{method=\"GET\",route=\"/api/files\",status=\"200\"}", true, true},
        {"http_requests_in_flight", true, false},
        {"files_uploaded_total", true, false},
        {"log_lines_dropped_total", true, true},
        {"gateway_up", false, true},
        {"gateway_log_lines_lost_total", false, true},
        {"process_threads{program=\"test\"}", true, true},
    };
    for (int set = METRICS_OF_PROGRAMS; set <= METRICS_OF_GATEWAY; set++) {
        char path[128];
        struct metrics *metrics = NULL;
        struct err err;
        snprintf(path, sizeof path, "%s/metrics", check_temp_dir());
        const struct metrics_options options = {
            .path = path, .program = "test", .set = (enum metrics_set)set};
        REQUIRE(metrics_open(&metrics, &options, &err) == ERR_OK);
        metrics_add(metrics, METRIC_HTTP_REQUESTS, (unsigned[]){METHOD_GET, ROUTE_FILES, 200}, 1);
        metrics_add(metrics, METRIC_FILES_UPLOADED, NULL, 1);
        metrics_add(metrics, METRIC_GATEWAY_LINES_LOST, NULL, 1);
        metrics_set(metrics, METRIC_GATEWAY_UP, NULL, 1);
        metrics_observe(metrics, METRIC_STORAGE_DURATION, (unsigned[]){0, 0}, 1);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            bool want = set == METRICS_OF_GATEWAY ? rows[i].gateway : rows[i].programs;
            CHECK_ROW(rows[i].series,
                      (scrape_value(metrics, rows[i].series) != SCRAPE_ABSENT) == want);
        }
        metrics_close(metrics);
    }
}

TEST(metrics_set, the_total_is_over_series_and_processes)
{
    char path[128];
    struct metrics *first = NULL;
    struct metrics *second = NULL;
    struct err err;
    snprintf(path, sizeof path, "%s/metrics", check_temp_dir());
    const struct metrics_options options = {.path = path, .program = "test"};
    REQUIRE(metrics_open(&first, &options, &err) == ERR_OK);
    REQUIRE(metrics_open(&second, &options, &err) == ERR_OK);
    metrics_add(first, METRIC_HTTP_REQUESTS, (unsigned[]){METHOD_GET, ROUTE_FILES, 200}, 3);
    metrics_add(second, METRIC_HTTP_REQUESTS, (unsigned[]){METHOD_OTHER, ROUTE_UNKNOWN, 999}, 4);
    metrics_close(first);
    CHECK_INT((int64_t)metrics_total(second, METRIC_HTTP_REQUESTS), 7);
    CHECK_INT((int64_t)metrics_total(second, METRIC_HTTP_DURATION), 0);
    CHECK_INT((int64_t)metrics_total(second, METRIC_GATEWAY_LINES_LOST), 0);
    CHECK_INT((int64_t)metrics_total(NULL, METRIC_HTTP_REQUESTS), 0);
    metrics_close(second);
}

TEST(metrics_set, bounds_of_durations_are_given)
{
    static const double bounds[] = {0.1, 30};
    char path[128];
    struct metrics *metrics = NULL;
    struct err err;
    snprintf(path, sizeof path, "%s/metrics", check_temp_dir());
    struct metrics_options options = {
        .path = path, .program = "test", .duration_bounds = bounds, .duration_bound_count = 2};
    REQUIRE(metrics_open(&metrics, &options, &err) == ERR_OK);
    metrics_observe(metrics, METRIC_STORAGE_DURATION, (unsigned[]){METRIC_STORAGE_FS, STORAGE_PUT},
                    20);
    metrics_add(metrics, METRIC_FILES_UPLOADED, NULL, 1);
#define PUT "storage_operation_duration_seconds_bucket{driver=\"fs\",operation=\"put\",le="
    CHECK_INT((int64_t)scrape_value(metrics, PUT "\"0.1\"}"), 0);
    CHECK_INT((int64_t)scrape_value(metrics, PUT "\"30\"}"), 1);
    CHECK_INT((int64_t)scrape_value(metrics, PUT "\"+Inf\"}"), 1);
    CHECK(scrape_value(metrics, PUT "\"1\"}") == SCRAPE_ABSENT);
    metrics_close(metrics);
    /* Other bounds are another layout: a new file, no count under a wrong bound. */
    options.duration_bound_count = 1;
    REQUIRE(metrics_open(&metrics, &options, &err) == ERR_OK);
    CHECK_INT((int64_t)scrape_value(metrics, "files_uploaded_total"), 0);
    metrics_close(metrics);
    static const double falling[] = {2, 1};
    options.duration_bounds = falling;
    options.duration_bound_count = 2;
    metrics = NULL;
    CHECK_ERR(metrics_open(&metrics, &options, &err), ERR_INTERNAL, &err);
    CHECK(metrics == NULL);
}

TEST(metrics_set, settings_say_where_and_whether)
{
    struct config config = {.metrics = true, .metrics_duration_buckets = "0.5,5"};
    struct metrics *metrics = NULL;
    struct err err;
    char path[128];
    snprintf(config.runtime_dir, sizeof config.runtime_dir, "%s", check_temp_dir());
    REQUIRE(metrics_open_configured(&metrics, &config, METRICS_OF_GATEWAY, "test", &err) == ERR_OK);
    CHECK_INT(metrics->layout.duration_bound_count, 2);
    metrics_close(metrics);
    snprintf(path, sizeof path, "%.100s/metrics-gateway", config.runtime_dir);
    CHECK(access(path, F_OK) == 0);
    config.metrics = false;
    REQUIRE(metrics_open_configured(&metrics, &config, METRICS_OF_PROGRAMS, "test", &err) ==
            ERR_OK);
    CHECK(metrics == NULL);
    snprintf(path, sizeof path, "%.100s/metrics", config.runtime_dir);
    CHECK(access(path, F_OK) != 0);
}
