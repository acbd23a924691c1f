#include "span_collector.h"

#include <stdlib.h>
#include <time.h>

#include "check.h"
#include "http_tools.h"
#include "metrics_file.h"

#define PATIENCE_MS 15000

const char span_answer_ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

static void serve(struct http_peer *peer)
{
    struct span_collector *collector = peer->context;
    while (http_peer_read(peer)) {
        pthread_mutex_lock(&collector->mutex);
        const char *answer = collector->answer;
        collector->taken++;
        buf_append_str(&collector->heads, buf_str(&peer->head));
        buf_append_str(&collector->bodies, buf_str(&peer->body));
        buf_append_char(&collector->bodies, '\n');
        pthread_mutex_unlock(&collector->mutex);
        if (!answer || !http_peer_write_text(peer, answer))
            return;
    }
}

void span_open(struct span_fixture *fixture)
{
    struct err err;
    CHECK_ERR(sender_open(&fixture->options.sender, &clock_system, &err), ERR_OK, &err);
    CHECK_ERR(spans_open(&fixture->spans, &fixture->options, &err), ERR_OK, &err);
}

void span_setup(struct span_fixture *fixture, http_serve *behaviour, const char *answer)
{
    char path[METRICS_FILE_PATH_SIZE];
    *fixture =
        (struct span_fixture){.collector.answer = answer, .config.environment = "unit \"test\""};
    struct span_collector *collector = &fixture->collector;
    pthread_mutex_init(&collector->mutex, NULL);
    buf_init(&collector->heads, 1024 * 1024);
    buf_init(&collector->bodies, 64 * 1024 * 1024);
    collector->server = http_server_open(behaviour ? behaviour : serve, collector);
    snprintf(fixture->config.otlp_endpoint, sizeof fixture->config.otlp_endpoint,
             "http://127.0.0.1:%d/otlp/", http_server_port(collector->server));
    fixture->options = (struct spans_options){
        .config = &fixture->config, .program = "files_get", .clock = &clock_system};
    metrics_file_path(path);
    fixture->options.metrics = metrics_file_open(path, "files_get");
    REQUIRE(fixture->options.metrics != NULL);
    span_open(fixture);
}

/* Sends what is left. */
void span_stop(struct span_fixture *fixture)
{
    sender_close(fixture->options.sender);
    spans_close(fixture->spans);
    fixture->options.sender = NULL;
    fixture->spans = NULL;
}

void span_teardown(struct span_fixture *fixture)
{
    struct span_collector *collector = &fixture->collector;
    span_stop(fixture);
    http_server_close(collector->server);
    metrics_close(fixture->options.metrics);
    buf_release(&collector->heads);
    buf_release(&collector->bodies);
    pthread_mutex_destroy(&collector->mutex);
}

void span_answer_with(struct span_fixture *fixture, const char *answer)
{
    pthread_mutex_lock(&fixture->collector.mutex);
    fixture->collector.answer = answer;
    pthread_mutex_unlock(&fixture->collector.mutex);
}

int64_t span_counted(const struct span_fixture *fixture, const char *outcome)
{
    struct buf text;
    struct err err;
    char line[128];
    buf_init(&text, 16 * 1024 * 1024);
    CHECK_ERR(metrics_render(fixture->options.metrics, METRICS_TEXT, &text, &err), ERR_OK, &err);
    snprintf(line, sizeof line, "\notel_spans_total{outcome=\"%s\"} ", outcome);
    const char *found = strstr(buf_text(&text), line);
    int64_t value = found ? strtoll(found + strlen(line), NULL, 10) : 0;
    buf_release(&text);
    return value;
}

static int taken(struct span_fixture *fixture)
{
    pthread_mutex_lock(&fixture->collector.mutex);
    int count = fixture->collector.taken;
    pthread_mutex_unlock(&fixture->collector.mutex);
    return count;
}

void span_wait_taken(struct span_fixture *fixture, int want)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int64_t until = http_test_now_ms() + PATIENCE_MS;
    while (taken(fixture) < want && http_test_now_ms() < until)
        nanosleep(&pause, NULL);
    CHECK(taken(fixture) >= want);
}

void span_wait_counted(const struct span_fixture *fixture, const char *outcome, int64_t want)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int64_t until = http_test_now_ms() + PATIENCE_MS;
    while (span_counted(fixture, outcome) < want && http_test_now_ms() < until)
        nanosleep(&pause, NULL);
    CHECK_INT_ROW(outcome, span_counted(fixture, outcome), want);
}

const struct span_answer span_plain = {.method = {"GET", 3},
                                       .route = "/api/files/:id",
                                       .path = {"/api/files/abc", 14},
                                       .client = {"192.0.2.1", 9},
                                       .user_agent = {"a \"client\"\n", 11},
                                       .status = 200,
                                       .received_bytes = 0,
                                       .sent_bytes = 48213};

void span_told(enum metric operations, unsigned driver, enum err_code outcome)
{
    const unsigned labels[] = {driver, 0, OUTCOME_OK};
    span_step(operations, labels, outcome, 1500000);
}

struct trace span_serve(struct span_fixture *fixture, const char *traceparent,
                        const struct span_answer *answer)
{
    struct trace trace;
    struct span_request request;
    trace_start(&trace, &clock_system, STR("request-1"), str_of(traceparent));
    span_request_begin(&request, fixture->spans, &trace, clock_steady_ns(&clock_system));
    span_told(METRIC_METADATA_OPERATIONS, METRIC_METADATA_MONGODB, ERR_OK);
    span_told(METRIC_STORAGE_OPERATIONS, METRIC_STORAGE_FS, ERR_STORAGE);
    span_request_end(&request, answer);
    CHECK(trace_context_get() == NULL);
    return trace;
}

void span_serve_many(struct span_fixture *fixture, int count)
{
    for (int i = 0; i < count; i++)
        span_serve(fixture, "", &span_plain);
}

const cJSON *span_at(const cJSON *parent, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(parent, name);
    CHECK_ROW(name, found != NULL);
    return found;
}

const cJSON *span_list(const cJSON *document)
{
    const cJSON *resource = cJSON_GetArrayItem(span_at(document, "resourceSpans"), 0);
    const cJSON *scope = cJSON_GetArrayItem(span_at(resource, "scopeSpans"), 0);
    CHECK_TEXT(span_at(span_at(scope, "scope"), "name")->valuestring, "coffer");
    CHECK_TEXT(span_at(span_at(scope, "scope"), "version")->valuestring, COFFER_VERSION);
    return span_at(scope, "spans");
}
