#include <stdlib.h>
#include <time.h>

#include "check.h"
#include "http_tools.h"
#include "observe/span_parts.h"
#include "span_collector.h"

static const char busy[] = "HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";

static void serve_silence(struct http_peer *peer)
{
    http_peer_read(peer);
    http_peer_pause(peer, 60000);
}

TEST(span_send, goes_out_by_itself_after_a_while)
{
    struct span_fixture f;
    span_setup(&f, NULL, span_answer_ok);
    span_serve(&f, "", &span_plain);
    CHECK_INT(http_server_requests(f.collector.server), 0);
    span_wait_counted(&f, "sent", 3);
    span_teardown(&f);
}

/* Until what is left fits into one batch: a stop has two seconds, which a busy machine exceeds. */
static void wait_for_last_batch(const struct span_fixture *fixture, int64_t all)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int64_t until = http_test_now_ms() + 60000;
    while (span_counted(fixture, "sent") + span_counted(fixture, "dropped_queue") <
               all - SPAN_BATCH_MAX &&
           http_test_now_ms() < until)
        nanosleep(&pause, NULL);
}

TEST(span_send, many_go_in_batches_and_none_is_lost)
{
    struct span_fixture f;
    span_setup(&f, NULL, span_answer_ok);
    span_serve_many(&f, 700);
    wait_for_last_batch(&f, 3 * 700);
    span_stop(&f);
    int batches = http_server_requests(f.collector.server);
    int64_t spans = 0;
    struct str left = buf_str(&f.collector.bodies);
    while (left.len > 0) {
        struct str body = str_cut(&left, '\n');
        cJSON *document = cJSON_ParseWithLength(body.data, body.len);
        int count = cJSON_GetArraySize(span_list(document));
        CHECK(count > 0 && count < SPAN_BATCH_MAX + SPAN_STEPS_MAX + 1);
        spans += count;
        cJSON_Delete(document);
    }
    CHECK_INT(spans, 3 * 700);
    CHECK_INT(span_counted(&f, "sent"), 3 * 700);
    CHECK(batches >= 5 && batches < 100);
    span_teardown(&f);
}

TEST(span_send, a_full_buffer_drops_what_comes_and_counts_it)
{
    struct span_fixture f;
    span_setup(&f, serve_silence, NULL);
    span_serve_many(&f, 5000);
    int64_t dropped = span_counted(&f, "dropped_queue");
    CHECK(dropped > 0 && dropped < 3 * 5000 && dropped % 3 == 0);
    int64_t before = http_test_now_ms();
    span_stop(&f);
    CHECK(http_test_now_ms() - before < 6000); /* two seconds, on a busy machine */
    CHECK_INT(dropped + span_counted(&f, "dropped_failed"), 3 * 5000);
    span_teardown(&f);
}

TEST(span_send, kept_while_the_collector_can_not_take_it)
{
    static const char *const answers[] = {
        "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        NULL,
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct span_fixture f;
        span_setup(&f, NULL, answers[i]);
        span_serve(&f, "", &span_plain);
        span_wait_taken(&f, 1);
        span_answer_with(&f, span_answer_ok);
        span_wait_counted(&f, "sent", 3);
        CHECK_INT(http_server_requests(f.collector.server), 2);
        CHECK_INT(span_counted(&f, "dropped_failed"), 0);
        span_teardown(&f);
    }
}

TEST(span_send, not_sent_before_the_collector_wants_it)
{
    struct span_fixture f;
    span_setup(&f, NULL, busy);
    span_serve(&f, "", &span_plain);
    span_wait_taken(&f, 1);
    span_serve_many(&f, 400); /* more than is sent without waiting */
    const struct timespec pause = {.tv_sec = 1, .tv_nsec = 500000000};
    nanosleep(&pause, NULL);
    CHECK_INT(http_server_requests(f.collector.server), 1);
    CHECK_INT(span_counted(&f, "dropped_queue"), 0);
    span_stop(&f);
    CHECK_INT(http_server_requests(f.collector.server), 1);
    CHECK_INT(span_counted(&f, "dropped_failed"), 3 * 401);
    span_teardown(&f);
}

TEST(span_send, refused_by_the_collector_is_not_sent_again)
{
    static const char *const answers[] = {
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 Failed\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct span_fixture f;
        span_setup(&f, NULL, answers[i]);
        span_serve(&f, "", &span_plain);
        span_stop(&f);
        CHECK_INT(span_counted(&f, "dropped_failed"), 3);
        CHECK_INT(http_server_requests(f.collector.server), 1);
        span_teardown(&f);
    }
}

TEST(span_send, what_the_collector_rejects_of_a_batch_is_counted)
{
    static const struct {
        const char *body;
        int rejected;
    } rows[] = {
        {"{\"partialSuccess\":{\"rejectedSpans\":\"2\",\"errorMessage\":\"x\"}}", 2},
        {"{\"partialSuccess\":{\"rejectedSpans\":1}}", 1},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"99\"}}", 3},
        {"{\"partialSuccess\":{\"rejectedSpans\":-1}}", 0},
        {"{\"partialSuccess\":{}}", 0},
        {"nonsense", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span_fixture f;
        char answer[256];
        snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(rows[i].body), rows[i].body);
        span_setup(&f, NULL, answer);
        span_serve(&f, "", &span_plain);
        span_stop(&f);
        CHECK_INT_ROW(rows[i].body, span_counted(&f, "dropped_failed"), rows[i].rejected);
        CHECK_INT_ROW(rows[i].body, span_counted(&f, "sent"), 3 - rows[i].rejected);
        span_teardown(&f);
    }
}

static void *serve_on_thread(void *argument)
{
    span_serve_many(argument, 100);
    return NULL;
}

TEST(span_send, many_threads)
{
    struct span_fixture f;
    pthread_t threads[8];
    span_setup(&f, NULL, span_answer_ok);
    for (int i = 0; i < 8; i++)
        REQUIRE(pthread_create(&threads[i], NULL, serve_on_thread, &f) == 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    wait_for_last_batch(&f, 3 * 800);
    span_stop(&f);
    CHECK_INT(span_counted(&f, "sent") + span_counted(&f, "dropped_queue"), 3 * 800);
    CHECK_INT(span_counted(&f, "dropped_failed"), 0);
    span_teardown(&f);
}
