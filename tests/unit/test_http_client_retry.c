/* Which exchanges are tried again, and when. */
#include "check.h"
#include "http_tools.h"

/* Fails as often as the context says, then answers. */
struct failing {
    _Atomic int left;
    const char *answer; /* "": the connection is cut */
};

static void serve_failing(struct http_peer *peer)
{
    struct failing *failing = peer->context;
    while (http_peer_read(peer)) {
        if (failing->left-- <= 0) {
            http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        } else if (failing->answer[0] == '\0') {
            http_peer_reset(peer);
            return;
        } else {
            http_peer_write_text(peer, failing->answer);
        }
    }
}

TEST(http_faults, repeats_what_may_be_repeated)
{
    static const char error_500[] = "HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\nx";
    static const struct {
        const char *name;
        const char *answer;
        int fails;
        unsigned attempts;
        enum err_code want;
        int status;
        int requests;
    } rows[] = {
        {"500 once", error_500, 1, 3, ERR_OK, 200, 2},
        {"500 twice", error_500, 2, 3, ERR_OK, 200, 3},
        {"500 always", error_500, 100, 3, ERR_OK, 500, 3},
        {"500, one attempt", error_500, 1, 1, ERR_OK, 500, 1},
        {"502", "HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n", 1, 2, ERR_OK, 200, 2},
        {"503", "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", 1, 2, ERR_OK, 200, 2},
        {"504", "HTTP/1.1 504 X\r\nContent-Length: 0\r\n\r\n", 1, 2, ERR_OK, 200, 2},
        {"429", "HTTP/1.1 429 X\r\nContent-Length: 0\r\n\r\n", 1, 2, ERR_OK, 200, 2},
        {"501 is final", "HTTP/1.1 501 X\r\nContent-Length: 0\r\n\r\n", 1, 2, ERR_OK, 501, 1},
        {"404 is final", "HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", 1, 2, ERR_OK, 404, 1},
        {"no HTTP is final", "hello\r\n\r\n", 1, 2, ERR_UPSTREAM, 0, 1},
        {"cut once", "", 1, 2, ERR_OK, 200, 2},
        {"cut always", "", 100, 3, ERR_UPSTREAM_UNAVAILABLE, 0, 3},
        {"cut, one attempt", "", 1, 1, ERR_UPSTREAM_UNAVAILABLE, 0, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct failing failing = {.left = rows[i].fails, .answer = rows[i].answer};
        struct http_trial trial = {
            .serve = serve_failing, .context = &failing, .attempts = rows[i].attempts};
        http_trial_run(&trial);
        CHECK_ERR_ROW(rows[i].name, trial.code, rows[i].want, &trial.err);
        CHECK_INT_ROW(rows[i].name, trial.status, rows[i].status);
        CHECK_INT_ROW(rows[i].name, trial.requests, rows[i].requests);
        CHECK_INT_ROW(rows[i].name, trial.sends, rows[i].requests);
        CHECK_INT_ROW(rows[i].name, trial.retries, rows[i].requests - 1);
    }
}

static bool says_error(const struct http_reply *reply)
{
    return reply->status == 200 && str_equal(buf_str(&reply->body), STR("error"));
}

TEST(http_faults, repeats_a_failure_that_the_status_hides)
{
    static const struct {
        const char *name;
        const char *answer;
        int fails;
        const char *want;
        int requests;
    } rows[] = {
        {"once", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nerror", 1, "ok", 2},
        {"always", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nerror", 100, "error", 3},
        {"another status", "HTTP/1.1 400 X\r\nContent-Length: 5\r\n\r\nerror", 1, "error", 1},
        {"another body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine", 1, "fine", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct failing failing = {.left = rows[i].fails, .answer = rows[i].answer};
        struct http_fixture fixture;
        http_fixture_open(&fixture, serve_failing, &failing, NULL);
        struct http_request request = http_test_get(fixture.url);
        request.attempts = 3;
        request.hides_failure = says_error;
        CHECK_ERR_ROW(rows[i].name, http_fixture_send(&fixture, &request), ERR_OK, &fixture.err);
        CHECK_STR_ROW(rows[i].name, buf_str(&fixture.reply.body), rows[i].want);
        CHECK_INT_ROW(rows[i].name, http_server_requests(fixture.server), rows[i].requests);
        http_fixture_close(&fixture);
    }
}

TEST(http_faults, waits_as_long_as_it_is_asked_to_if_the_deadline_allows)
{
    static const struct {
        const char *name;
        const char *answer;
        int64_t deadline_ms;
        int status;
        int64_t at_least_ms;
        int64_t less_than_ms;
    } rows[] = {
        {"a second", "HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n", 20000, 200,
         1000, 4000},
        {"none", "HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", 20000, 200, 0,
         1000},
        {"a date that is over",
         "HTTP/1.1 503 X\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: "
         "0\r\n\r\n",
         20000, 200, 0, 1000},
        {"not understood", "HTTP/1.1 503 X\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n",
         20000, 200, 0, 1000},
        {"beyond the deadline", "HTTP/1.1 503 X\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
         2000, 503, 0, 1000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct failing failing = {.left = 1, .answer = rows[i].answer};
        struct http_trial trial = {.serve = serve_failing,
                                   .context = &failing,
                                   .attempts = 2,
                                   .deadline_ms = rows[i].deadline_ms};
        http_trial_run(&trial);
        CHECK_ERR_ROW(rows[i].name, trial.code, ERR_OK, &trial.err);
        CHECK_INT_ROW(rows[i].name, trial.status, rows[i].status);
        CHECK_ROW(rows[i].name, trial.took_ms >= rows[i].at_least_ms);
        CHECK_ROW(rows[i].name, trial.took_ms < rows[i].less_than_ms);
    }
}

/* Pauses of 400 modulo what they may be (51, 101, 201, 401): 43, 97, 199 and 400 ms. */
static void draw_400(const struct clock *clock, void *target, size_t len)
{
    const uint32_t drawn = 400;
    (void)clock;
    CHECK_INT((int64_t)len, sizeof drawn);
    memcpy(target, &drawn, sizeof drawn);
}

/* The last begins long before the deadline, and the next would be after it. */
TEST(http_faults, attempts_end_by_the_deadline)
{
    struct clock clock = clock_system;
    struct failing failing = {.left = 1000,
                              .answer = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"};
    struct http_trial trial = {.serve = serve_failing,
                               .context = &failing,
                               .clock = &clock,
                               .attempts = 1000,
                               .deadline_ms = 700};
    clock.random = draw_400;
    http_trial_run(&trial);
    CHECK_ERR(trial.code, ERR_OK, &trial.err);
    CHECK_INT(trial.status, 500);
    CHECK_INT(trial.requests, 4);
    CHECK(trial.took_ms < 3000);
    CHECK_INT(trial.retries, trial.requests - 1);
}
