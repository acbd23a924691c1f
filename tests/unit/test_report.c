#include "observe/report.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"
#include "observe/report_parts.h"

#define PATIENCE_MS 10000

/* A tracker that answers as the test says, and keeps what it was sent. */
struct tracker {
    struct http_server *server;
    pthread_mutex_t mutex;
    /* guarded by mutex */
    const char *answer; /* NULL: none, the connection is cut */
    struct buf head;    /* of the last request */
    struct buf bodies;  /* of all */
};

static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

static void serve(struct http_peer *peer)
{
    struct tracker *tracker = peer->context;
    while (http_peer_read(peer)) {
        pthread_mutex_lock(&tracker->mutex);
        const char *answer = tracker->answer;
        buf_reset(&tracker->head);
        buf_append_str(&tracker->head, buf_str(&peer->head));
        buf_append_str(&tracker->bodies, buf_str(&peer->body));
        pthread_mutex_unlock(&tracker->mutex);
        if (!answer || !http_peer_write_text(peer, answer))
            return;
    }
}

struct fixture {
    struct tracker tracker;
    struct config config;
    struct report_options options;
    struct report *report;
    char metrics_path[CONFIG_TEXT_SIZE + 16];
};

static void open_report(struct fixture *fixture)
{
    struct err err;
    CHECK_ERR(sender_open(&fixture->options.sender, &clock_system, &err), ERR_OK, &err);
    CHECK_ERR(report_open(&fixture->report, &fixture->options, &err), ERR_OK, &err);
}

static void close_report(struct fixture *fixture)
{
    sender_close(fixture->options.sender);
    report_close(fixture->report);
    fixture->options.sender = NULL;
    fixture->report = NULL;
}

static void set_folders(struct config *config)
{
    static int number;
    char path[CONFIG_TEXT_SIZE + 8];
    snprintf(config->data_dir, sizeof config->data_dir, "%s/report%d", check_temp_dir(), number++);
    snprintf(path, sizeof path, "%s/log", config->data_dir);
    mkdir(config->data_dir, 0700);
    mkdir(path, 0700);
}

static void setup(struct fixture *fixture, const char *answer)
{
    struct err err;
    *fixture = (struct fixture){.tracker.answer = answer,
                                .config.environment = "test",
                                .config.sentry_spool_bytes = 100000};
    struct tracker *tracker = &fixture->tracker;
    pthread_mutex_init(&tracker->mutex, NULL);
    buf_init(&tracker->head, 1024 * 1024);
    buf_init(&tracker->bodies, 16 * 1024 * 1024);
    tracker->server = http_server_open(serve, tracker);
    set_folders(&fixture->config);
    snprintf(fixture->config.sentry_dsn, sizeof fixture->config.sentry_dsn,
             "http://public:secret@127.0.0.1:%d/path/7", http_server_port(tracker->server));
    snprintf(fixture->metrics_path, sizeof fixture->metrics_path, "%s/metrics",
             fixture->config.data_dir);
    fixture->options = (struct report_options){
        .config = &fixture->config, .program = "files_get", .clock = &clock_system};
    CHECK_ERR(metrics_open(
                  &fixture->options.metrics,
                  &(struct metrics_options){.path = fixture->metrics_path, .program = "files_get"},
                  &err),
              ERR_OK, &err);
    open_report(fixture);
}

static void teardown(struct fixture *fixture)
{
    struct tracker *tracker = &fixture->tracker;
    close_report(fixture);
    http_server_close(tracker->server);
    metrics_close(fixture->options.metrics);
    buf_release(&tracker->head);
    buf_release(&tracker->bodies);
    pthread_mutex_destroy(&tracker->mutex);
}

static void answer_with(struct fixture *fixture, const char *answer)
{
    pthread_mutex_lock(&fixture->tracker.mutex);
    fixture->tracker.answer = answer;
    pthread_mutex_unlock(&fixture->tracker.mutex);
}

static void send_one(struct fixture *fixture, const char *operation)
{
    const struct report_event event = {
        .type = "internal", .value = STR("it failed"), .operation = operation};
    report_send(fixture->report, &event);
}

static int64_t counted(const struct fixture *fixture, const char *outcome)
{
    struct buf text;
    struct err err;
    char line[128];
    buf_init(&text, 16 * 1024 * 1024);
    CHECK_ERR(metrics_render(fixture->options.metrics, METRICS_TEXT, &text, &err), ERR_OK, &err);
    snprintf(line, sizeof line, "\nsentry_events_total{outcome=\"%s\"} ", outcome);
    const char *found = strstr(buf_text(&text), line);
    int64_t value = found ? strtoll(found + strlen(line), NULL, 10) : 0;
    buf_release(&text);
    return value;
}

static bool wait_counted(const struct fixture *fixture, const char *outcome, int64_t want)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int64_t until = http_test_now_ms() + PATIENCE_MS;
    while (counted(fixture, outcome) < want && http_test_now_ms() < until)
        nanosleep(&pause, NULL);
    CHECK_INT_ROW(outcome, counted(fixture, outcome), want);
    return counted(fixture, outcome) == want;
}

static bool tracker_saw(struct fixture *fixture, const char *text)
{
    pthread_mutex_lock(&fixture->tracker.mutex);
    bool is_found = strstr(buf_text(&fixture->tracker.head), text) ||
                    strstr(buf_text(&fixture->tracker.bodies), text);
    pthread_mutex_unlock(&fixture->tracker.mutex);
    return is_found;
}

TEST(report, is_posted_with_the_key)
{
    struct fixture f;
    setup(&f, ok);
    send_one(&f, "open");
    CHECK(wait_counted(&f, "sent", 1));
    CHECK(tracker_saw(&f, "POST /path/api/7/envelope/ HTTP/1.1\r\n"));
    CHECK(tracker_saw(&f,
                      "X-Sentry-Auth: Sentry sentry_version=7, sentry_client=coffer/" COFFER_VERSION
                      ", sentry_key=public\r\n"));
    CHECK(tracker_saw(&f, "Content-Type: application/x-sentry-envelope\r\n"));
    CHECK(tracker_saw(&f, "\"type\":\"internal\",\"value\":\"it failed\""));
    CHECK(!tracker_saw(&f, "secret"));
    CHECK_INT(http_server_requests(f.tracker.server), 1);
    teardown(&f);
}

TEST(report, without_a_dsn_is_nothing)
{
    struct config config = {.data_dir = "/nowhere"};
    struct report_options options = {.config = &config, .clock = &clock_system};
    struct report *report = (struct report *)&options;
    struct err err;
    const struct report_event event = {.type = "internal"};
    CHECK_ERR(report_open(&report, &options, &err), ERR_OK, &err);
    CHECK(report == NULL);
    report_send(report, &event);
    report_failed_start(&options, &err);
    report_close(report);
}

TEST(report, a_wrong_dsn_is_refused_without_telling_it)
{
    struct config config = {.sentry_dsn = "https://hidden@"};
    const struct report_options options = {.config = &config, .clock = &clock_system};
    struct report *report = NULL;
    struct err err;
    CHECK_ERR(report_open(&report, &options, &err), ERR_CONFIG, &err);
    CHECK(strstr(err.message, "SENTRY_DSN") && !strstr(err.message, "hidden"));
}

TEST(report, refused_by_the_tracker_is_not_sent_again)
{
    static const char *const answers[] = {
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    };
    struct fixture f;
    setup(&f, ok);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        answer_with(&f, answers[i]);
        send_one(&f, answers[i]);
        CHECK(wait_counted(&f, "dropped_failed", (int64_t)i + 1));
    }
    CHECK_INT(counted(&f, "spooled"), 0);
    CHECK_INT(http_server_requests(f.tracker.server), 4);
    teardown(&f);
}

TEST(report, kept_while_the_tracker_is_ill_and_sent_when_it_is_well)
{
    static const char *const answers[] = {
        "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        NULL,
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct fixture f;
        setup(&f, answers[i]);
        send_one(&f, "first");
        CHECK(wait_counted(&f, "spooled", 1));
        int requests = http_server_requests(f.tracker.server);
        send_one(&f, "second"); /* while backing off: not even tried */
        CHECK(wait_counted(&f, "spooled", 2));
        CHECK_INT(http_server_requests(f.tracker.server), requests);
        answer_with(&f, ok);
        CHECK(wait_counted(&f, "sent", 2));
        CHECK(tracker_saw(&f, "\"operation\":\"first\"") &&
              tracker_saw(&f, "\"operation\":\"second\""));
        CHECK_INT(counted(&f, "dropped_failed"), 0);
        teardown(&f);
    }
}

TEST(report, kept_ones_survive_the_program)
{
    struct fixture f;
    struct report_spool spool;
    setup(&f, NULL);
    send_one(&f, "first");
    CHECK(wait_counted(&f, "spooled", 1));
    close_report(&f);
    report_spool_init(&spool, &f.config);
    CHECK(!report_spool_is_empty(&spool));
    answer_with(&f, ok);
    open_report(&f);
    CHECK(wait_counted(&f, "sent", 1));
    CHECK(report_spool_is_empty(&spool));
    teardown(&f);
}

TEST(report, without_a_spool_is_dropped)
{
    struct fixture f;
    setup(&f, NULL);
    close_report(&f);
    f.config.sentry_spool_bytes = 0;
    open_report(&f);
    send_one(&f, "first");
    CHECK(wait_counted(&f, "dropped_failed", 1));
    CHECK_INT(counted(&f, "spooled"), 0);
    teardown(&f);
}

TEST(report, a_full_spool_drops_the_oldest)
{
    struct fixture f;
    char operation[32];
    setup(&f, NULL);
    close_report(&f);
    f.config.sentry_spool_bytes = 4000;
    open_report(&f);
    for (int i = 0; i < 20; i++) {
        snprintf(operation, sizeof operation, "step %d", i);
        send_one(&f, operation);
        CHECK(wait_counted(&f, "spooled", i + 1));
    }
    int64_t dropped = counted(&f, "dropped_failed");
    CHECK(dropped > 0 && dropped < 20);
    answer_with(&f, ok);
    CHECK(wait_counted(&f, "sent", 20 - dropped));
    CHECK(tracker_saw(&f, "\"operation\":\"step 19\""));
    teardown(&f);
}

TEST(report, not_sent_while_the_tracker_wants_none)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nX-Sentry-Rate-Limits: 3600:error:key\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct fixture f;
        setup(&f, answers[i]);
        send_one(&f, "first");
        CHECK(wait_counted(&f, i == 0 ? "sent" : "dropped_limit", 1));
        send_one(&f, "second");
        CHECK(wait_counted(&f, "dropped_limit", i == 0 ? 1 : 2));
        CHECK_INT(http_server_requests(f.tracker.server), 1);
        CHECK_INT(counted(&f, "spooled"), 0);
        teardown(&f);
    }
}

TEST(report, sent_again_when_the_limit_is_over)
{
    struct fixture f;
    setup(&f, "HTTP/1.1 429 Too Many\r\nX-Sentry-Rate-Limits: 1:error:key\r\n"
              "Content-Length: 0\r\n\r\n");
    send_one(&f, "first");
    CHECK(wait_counted(&f, "dropped_limit", 1));
    answer_with(&f, ok);
    const struct timespec pause = {.tv_sec = 1, .tv_nsec = 100000000};
    nanosleep(&pause, NULL);
    send_one(&f, "second");
    CHECK(wait_counted(&f, "sent", 1));
    teardown(&f);
}

TEST(report, so_many_equal_ones)
{
    struct fixture f;
    setup(&f, ok);
    for (int i = 0; i < REPORT_SAME_MAX + 7; i++)
        send_one(&f, "same");
    send_one(&f, "another");
    CHECK(wait_counted(&f, "sent", REPORT_SAME_MAX + 1));
    CHECK_INT(counted(&f, "dropped_limit"), 7);
    teardown(&f);
}

TEST(report, beyond_the_queue_is_dropped)
{
    struct fixture f;
    struct buf route;
    char operation[32];
    setup(&f, ok);
    close_report(&f);
    buf_init(&route, 200000);
    for (int i = 0; i < 100000; i++)
        buf_append_char(&route, 'r');
    open_report(&f);
    for (int i = 0; i < 40; i++) {
        snprintf(operation, sizeof operation, "step %d", i);
        const struct report_event event = {.type = "internal",
                                           .operation = operation,
                                           .value = buf_str(&route),
                                           .route = i == 0 ? buf_text(&route) : "/x"};
        report_send(f.report, &event);
    }
    CHECK(counted(&f, "dropped_failed") >= 1); /* three times its route is no report */
    close_report(&f);
    CHECK_INT(counted(&f, "sent") + counted(&f, "dropped_queue") + counted(&f, "dropped_failed") +
                  counted(&f, "spooled"),
              40);
    buf_release(&route);
    teardown(&f);
}

static const struct stack_frame frames[] = {{"main", "main.c", 1, 0x20, true},
                                            {"fails", "fails.c", 7, 0x10, true}};

static bool resolve(void *context, const uintptr_t *addresses, size_t count,
                    struct stack_trace *ret_trace)
{
    CHECK_INT((int64_t)count, 2);
    CHECK_INT((int64_t)addresses[0], 0x10);
    CHECK_INT((int64_t)addresses[1], 0x20);
    *ret_trace = (struct stack_trace){.frames = frames, .frame_count = 2};
    return *(bool *)context;
}

TEST(report, names_addresses_on_the_way_out)
{
    static const uintptr_t addresses[] = {0x10, 0x20};
    static const struct stack_trace stack = {.frames = frames, .frame_count = 1};
    bool is_known = true;
    struct fixture f;
    setup(&f, ok);
    close_report(&f);
    f.options.resolve = resolve;
    f.options.resolve_context = &is_known;
    open_report(&f);
    struct report_event event = {
        .type = "internal", .operation = "a", .addresses = addresses, .address_count = 2};
    report_send(f.report, &event);
    CHECK(wait_counted(&f, "sent", 1));
    CHECK(tracker_saw(&f, "\"function\":\"fails\",\"filename\":\"fails.c\",\"lineno\":7"));
    CHECK(tracker_saw(&f, "\"function\":\"main\""));
    event = (struct report_event){.type = "SIGSEGV", .operation = "b", .stack = &stack};
    buf_reset(&f.tracker.bodies);
    report_send(f.report, &event);
    CHECK(wait_counted(&f, "sent", 2));
    CHECK(tracker_saw(&f, "\"function\":\"main\"") && !tracker_saw(&f, "\"function\":\"fails\""));
    teardown(&f);
}

TEST(report, of_a_failed_start_is_sent_before_the_end)
{
    struct fixture f;
    struct err err = {0};
    setup(&f, ok);
    err_set_internal(&err, ERR_CONFIG, 13, "open folder", "DATA_DIR: objects: no access.");
    report_failed_start(&f.options, &err);
    CHECK_INT(counted(&f, "sent"), 1);
    CHECK(tracker_saw(&f, "\"level\":\"fatal\""));
    CHECK(tracker_saw(&f, "DATA_DIR: objects: no access."));
    CHECK(tracker_saw(&f, "\"mechanism\":{\"type\":\"start\",\"handled\":false}"));
    teardown(&f);
}

TEST(report, of_a_failed_start_is_kept_while_the_tracker_is_away)
{
    struct fixture f;
    struct err err = {0};
    setup(&f, NULL);
    err_set_internal(&err, ERR_CONFIG, 0, "open folder", "no folder");
    report_failed_start(&f.options, &err);
    CHECK_INT(counted(&f, "spooled"), 1);
    answer_with(&f, ok);
    close_report(&f);
    open_report(&f);
    CHECK(wait_counted(&f, "sent", 1));
    teardown(&f);
}
