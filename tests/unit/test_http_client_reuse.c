/* Connections that are kept open, threads, signals, descriptors. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"
#include "store.h"

#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static struct http_request request_to(struct http_fixture *fixture, const char *method,
                                      struct str body, unsigned attempts)
{
    struct http_request request = http_test_get(fixture->url);
    request.method = method;
    request.body = body;
    request.attempts = attempts;
    return request;
}

static void serve_ok(struct http_peer *peer)
{
    while (http_peer_read(peer) && http_peer_write_text(peer, OK_EMPTY))
        continue;
}

TEST(http_reuse, keeps_connections_open_up_to_its_number)
{
    static const struct {
        size_t idle;
        int connections;
    } rows[] = {{8, 1}, {1, 1}, {0, 5}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_fixture fixture;
        struct http_client_options options = http_test_options();
        options.idle_connections = rows[i].idle;
        http_fixture_open(&fixture, serve_ok, NULL, &options);
        const struct http_request request = request_to(&fixture, "GET", STR(""), 1);
        for (int k = 0; k < 5; k++)
            CHECK_ERR(http_fixture_send(&fixture, &request), ERR_OK, &fixture.err);
        CHECK_INT(http_server_connections(fixture.server), rows[i].connections);
        http_fixture_close(&fixture);
    }
}

/* Answers as if it kept the connection open, and closes it then. */
static void serve_and_close(struct http_peer *peer)
{
    if (http_peer_read(peer))
        http_peer_write_text(peer, OK_EMPTY);
}

/* Likewise, with words that nobody asked for. */
static void serve_too_much(struct http_peer *peer)
{
    if (!http_peer_read(peer))
        return;
    http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    http_peer_pause(peer, 20);
    http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    http_peer_pause(peer, 20000);
}

static void serve_too_much_at_once(struct http_peer *peer)
{
    if (!http_peer_read(peer))
        return;
    http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                               "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    http_peer_pause(peer, 20000);
}

static void serve_too_much_behind_chunks(struct http_peer *peer)
{
    while (http_peer_read(peer))
        if (!http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                        "2\r\nok\r\n0\r\n\r\n"
                                        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
            return;
}

TEST(http_reuse, a_connection_closed_meanwhile_is_not_used)
{
    struct http_fixture fixture;
    http_fixture_open(&fixture, serve_and_close, NULL, NULL);
    const struct http_request request = request_to(&fixture, "POST", STR("x"), 1);
    for (int i = 0; i < 3; i++) {
        CHECK_ERR(http_fixture_send(&fixture, &request), ERR_OK, &fixture.err);
        usleep(50000); /* for the end of the connection to arrive */
    }
    CHECK_INT(fixture.retries, 0);
    CHECK_INT(http_server_requests(fixture.server), 3);
    http_fixture_close(&fixture);
}

TEST(http_reuse, bytes_nobody_asked_for_are_no_answer)
{
    static const struct {
        const char *name;
        http_serve *serve;
    } rows[] = {{"later", serve_too_much},
                {"at once", serve_too_much_at_once},
                {"behind chunks", serve_too_much_behind_chunks}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_fixture fixture;
        http_fixture_open(&fixture, rows[i].serve, NULL, NULL);
        const struct http_request request = request_to(&fixture, "GET", STR(""), 2);
        for (int k = 0; k < 3; k++) {
            CHECK_ERR_ROW(rows[i].name, http_fixture_send(&fixture, &request), ERR_OK,
                          &fixture.err);
            CHECK_STR_ROW(rows[i].name, buf_str(&fixture.reply.body), "ok");
            usleep(100000);
        }
        http_fixture_close(&fixture);
    }
}

/* The first connection answers once, takes the head of another request, and dies: as a server does
 * that closes what was idle at the moment a request comes. */
static void serve_dying(struct http_peer *peer)
{
    if (peer->number > 0) {
        serve_ok(peer);
        return;
    }
    if (http_peer_read(peer) && http_peer_write_text(peer, OK_EMPTY) && http_peer_read_head(peer))
        http_peer_reset(peer);
}

/* The same without a reset. */
static void serve_leaving(struct http_peer *peer)
{
    if (peer->number > 0) {
        serve_ok(peer);
        return;
    }
    if (http_peer_read(peer) && http_peer_write_text(peer, OK_EMPTY) && http_peer_read_head(peer))
        shutdown(peer->fd, SHUT_RDWR);
}

TEST(http_reuse, a_connection_that_dies_fails_no_exchange_that_may_be_repeated)
{
    static const struct {
        const char *name;
        const char *method;
        http_serve *serve;
        size_t body;
        unsigned attempts;
        enum err_code want;
    } rows[] = {
        {"GET, reset", "GET", serve_dying, 0, 2, ERR_OK},
        {"GET, closed", "GET", serve_leaving, 0, 2, ERR_OK},
        {"PUT, reset", "PUT", serve_dying, 5 * 1024 * 1024, 2, ERR_OK},
        {"PUT, closed", "PUT", serve_leaving, 5 * 1024 * 1024, 2, ERR_OK},
        {"small PUT, reset", "PUT", serve_dying, 10, 2, ERR_OK},
        {"small PUT, closed", "PUT", serve_leaving, 10, 2, ERR_OK},
        {"GET once, reset", "GET", serve_dying, 0, 1, ERR_UPSTREAM_UNAVAILABLE},
        {"GET once, closed", "GET", serve_leaving, 0, 1, ERR_UPSTREAM_UNAVAILABLE},
        {"POST once, reset", "POST", serve_dying, 10, 1, ERR_UPSTREAM_UNAVAILABLE},
        {"POST once, closed", "POST", serve_leaving, 10, 1, ERR_UPSTREAM_UNAVAILABLE},
        {"large POST once, reset", "POST", serve_dying, 5 * 1024 * 1024, 1,
         ERR_UPSTREAM_UNAVAILABLE},
        {"large POST once, closed", "POST", serve_leaving, 5 * 1024 * 1024, 1,
         ERR_UPSTREAM_UNAVAILABLE},
    };
    char *bytes = malloc(5 * 1024 * 1024);
    REQUIRE(bytes != NULL);
    for (int64_t i = 0; i < 5 * 1024 * 1024; i++)
        bytes[i] = http_pattern(i);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_fixture fixture;
        http_fixture_open(&fixture, rows[i].serve, NULL, NULL);
        const struct http_request first = request_to(&fixture, "GET", STR(""), 1);
        const struct http_request request = request_to(
            &fixture, rows[i].method, (struct str){bytes, rows[i].body}, rows[i].attempts);
        CHECK_ERR_ROW(rows[i].name, http_fixture_send(&fixture, &first), ERR_OK, &fixture.err);
        CHECK_ERR_ROW(rows[i].name, http_fixture_send(&fixture, &request), rows[i].want,
                      &fixture.err);
        CHECK_INT_ROW(rows[i].name, fixture.retries, rows[i].want == ERR_OK ? 1 : 0);
        CHECK_INT_ROW(rows[i].name, http_server_requests(fixture.server),
                      rows[i].want == ERR_OK ? 3 : 2);
        http_fixture_close(&fixture);
    }
    free(bytes);
}

/* The server says which request it was, so that answers that change places are seen. */
static void serve_mirror(struct http_peer *peer)
{
    char head[64];
    while (http_peer_read(peer)) {
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                 peer->body.len);
        if (!http_peer_write_text(peer, head) || !http_peer_write(peer, buf_str(&peer->body)))
            return;
    }
}

#define THREADS 16
#define ROUNDS 50

struct crowd {
    struct http_client *client;
    const char *url;
    _Atomic int right;
};

static void run_exchanges(void *context, int index)
{
    struct crowd *crowd = context;
    struct http_reply reply;
    char body[64];
    http_reply_init(&reply);
    for (int i = 0; i < ROUNDS; i++) {
        struct http_request request = http_test_get(crowd->url);
        struct err err = {0};
        snprintf(body, sizeof body, "thread %d round %d", index, i);
        request.method = "POST";
        request.body = str_of(body);
        if (http_exchange(crowd->client, &request, &reply, &err) == ERR_OK &&
            str_equal(buf_str(&reply.body), str_of(body)))
            crowd->right++;
    }
    http_reply_release(&reply);
}

TEST(http_reuse, serves_many_threads)
{
    struct http_fixture fixture;
    struct http_client_options options = http_test_options();
    options.idle_connections = 4;
    http_fixture_open(&fixture, serve_mirror, NULL, &options);
    struct crowd crowd = {.client = fixture.client, .url = fixture.url};
    store_threads(THREADS, run_exchanges, &crowd);
    CHECK_INT(crowd.right, THREADS * ROUNDS);
    CHECK(http_server_connections(fixture.server) < THREADS * ROUNDS);
    http_fixture_close(&fixture);
}

static void serve_by_number(struct http_peer *peer)
{
    while (http_peer_read(peer)) {
        switch (peer->number % 4) {
        case 0:
            if (!http_peer_write_text(peer, OK_EMPTY))
                return;
            break;
        case 1:
            http_peer_reset(peer);
            return;
        case 2:
            http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
            return;
        default:
            http_peer_pause(peer, 10000);
            return;
        }
    }
}

TEST(http_reuse, leaks_no_descriptors)
{
    const int before = http_test_open_files();
    struct http_fixture fixture;
    struct http_request request;
    struct http_client_options options = http_test_options();
    options.idle_connections = 2;
    http_fixture_open(&fixture, serve_by_number, NULL, &options);
    request = request_to(&fixture, "GET", STR(""), 1);
    request.deadline_ms = 50;
    for (int i = 0; i < 40; i++) {
        enum err_code code = http_fixture_send(&fixture, &request);
        CHECK(code == ERR_OK || code == ERR_UPSTREAM_UNAVAILABLE || code == ERR_UPSTREAM_TIMEOUT);
        /* A connection that answers is kept: another one must come up. */
        if (code == ERR_OK) {
            struct http_stream *stream = NULL;
            if (http_stream_open(fixture.client, &request, &fixture.reply, &stream, &fixture.err) ==
                ERR_OK)
                http_stream_close(stream);
        }
    }
    CHECK(http_server_connections(fixture.server) > 20);
    http_fixture_close(&fixture);
    CHECK_INT(http_test_open_files(), before);
}

/* The system's clock, put forward. */
static _Atomic int64_t ahead_ns;

static int64_t steady_ahead_ns(const struct clock *clock)
{
    return clock_system.steady_ns(clock) + ahead_ns;
}

TEST(http_reuse, closes_what_nobody_needed_for_a_minute)
{
    struct clock clock = clock_system;
    struct http_client_options options = http_test_options();
    struct http_server *server = http_server_open(serve_ok, NULL);
    struct http_stream *streams[4] = {NULL};
    struct http_reply reply;
    struct err err = {0};
    char url[HTTP_URL_SIZE];
    char byte = 0;
    size_t len = 0;
    clock.steady_ns = steady_ahead_ns;
    options.clock = &clock;
    ahead_ns = 0;
    struct http_client *client = http_test_client(&options);
    const struct http_request request = http_test_get(http_server_url(server, "/", url));
    http_reply_init(&reply);
    for (size_t i = 0; i < 4; i++)
        REQUIRE(http_stream_open(client, &request, &reply, &streams[i], &err) == ERR_OK);
    for (size_t i = 0; i < 4; i++) {
        CHECK_ERR(http_stream_read(streams[i], &byte, 1, &len, &err), ERR_OK, &err);
        http_stream_close(streams[i]);
    }
    const int before = http_test_open_files();
    CHECK_ERR(http_exchange(client, &request, &reply, &err), ERR_OK, &err);
    ahead_ns = 59000 * 1000000LL;
    CHECK_ERR(http_exchange(client, &request, &reply, &err), ERR_OK, &err);
    CHECK_INT(http_test_open_files(), before);
    ahead_ns = 62000 * 1000000LL;
    CHECK_ERR(http_exchange(client, &request, &reply, &err), ERR_OK, &err);
    CHECK(http_test_open_files() <= before - 3);
    CHECK_INT(http_server_connections(server), 4);
    http_client_close(client);
    http_server_close(server);
    http_reply_release(&reply);
}

static void ignore_signal(int number)
{
    (void)number;
}

static void serve_with_pauses(struct http_peer *peer)
{
    if (!http_peer_read(peer) ||
        !http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n"))
        return;
    for (int64_t i = 0; i < 16; i++) {
        http_peer_pause(peer, 10);
        if (!http_peer_write_pattern(peer, i * 65536, 65536))
            return;
    }
}

struct signalled {
    struct http_fixture *fixture;
    _Atomic bool done;
    enum err_code code;
};

static void *run_signalled(void *context)
{
    struct signalled *signalled = context;
    const struct http_request request = request_to(signalled->fixture, "GET", STR(""), 1);
    signalled->code = http_fixture_send(signalled->fixture, &request);
    signalled->done = true;
    return NULL;
}

TEST(http_reuse, goes_on_when_signals_interrupt)
{
    struct sigaction action = {.sa_handler = ignore_signal};
    struct sigaction before;
    struct http_fixture fixture;
    pthread_t thread;
    http_fixture_open(&fixture, serve_with_pauses, NULL, NULL);
    struct signalled signalled = {.fixture = &fixture};
    REQUIRE(sigaction(SIGUSR2, &action, &before) == 0);
    REQUIRE(pthread_create(&thread, NULL, run_signalled, &signalled) == 0);
    int sent = 0;
    while (!signalled.done) {
        pthread_kill(thread, SIGUSR2);
        sent++;
        usleep(500);
    }
    pthread_join(thread, NULL);
    sigaction(SIGUSR2, &before, NULL);
    CHECK(sent > 10);
    CHECK_ERR(signalled.code, ERR_OK, &fixture.err);
    CHECK_INT((int64_t)fixture.reply.body.len, 1048576);
    CHECK(http_is_pattern(buf_str(&fixture.reply.body), 0));
    http_fixture_close(&fixture);
}
