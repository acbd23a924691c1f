/* Answers read piece by piece. */
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"
#include "store.h"

#define MIB (1024 * 1024LL)

/* How the server answers every request. */
struct body {
    int64_t len;
    bool chunked;
    int64_t sent;     /* really sent, when fewer */
    int64_t pause_at; /* silent there for pause_ms */
    int64_t pause_ms;
    int status;
};

static bool write_chunks(struct http_peer *peer, int64_t offset, int64_t len)
{
    char line[32];
    while (len > 0) {
        int64_t step = len < 100000 ? len : 100000;
        snprintf(line, sizeof line, "%llx\r\n", (unsigned long long)step);
        if (!http_peer_write_text(peer, line) || !http_peer_write_pattern(peer, offset, step) ||
            !http_peer_write_text(peer, "\r\n"))
            return false;
        offset += step;
        len -= step;
    }
    return true;
}

static bool write_body(struct http_peer *peer, const struct body *body)
{
    bool (*write)(struct http_peer *, int64_t, int64_t) =
        body->chunked ? write_chunks : http_peer_write_pattern;
    const int64_t first = body->pause_ms > 0 ? body->pause_at : body->sent;
    if (!write(peer, 0, first))
        return false;
    if (body->pause_ms > 0) {
        http_peer_pause(peer, body->pause_ms);
        if (!write(peer, first, body->sent - first))
            return false;
    }
    return body->sent == body->len && (!body->chunked || http_peer_write_text(peer, "0\r\n\r\n"));
}

static void serve_body(struct http_peer *peer)
{
    const struct body *body = peer->context;
    char head[128];
    snprintf(head, sizeof head,
             body->chunked ? "HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n"
                           : "HTTP/1.1 %d X\r\nContent-Length: %lld\r\n\r\n",
             body->status, (long long)body->len);
    while (http_peer_read(peer) && http_peer_write_text(peer, head) && write_body(peer, body))
        continue;
}

static void setup(struct http_fixture *fixture, http_serve *serve, void *context, int64_t stall_ms)
{
    struct http_client_options options = http_test_options();
    options.stall_ms = stall_ms;
    http_fixture_open(fixture, serve, context, &options);
}

static enum err_code open_stream(struct http_fixture *fixture, int64_t deadline_ms,
                                 struct http_stream **ret_stream)
{
    struct http_request request = http_test_get(fixture->url);
    request.deadline_ms = deadline_ms;
    return http_stream_open(fixture->client, &request, &fixture->reply, ret_stream, &fixture->err);
}

/* Reads to the end, `step` bytes at a time, and compares; the bytes that came before the end or the
 * error that *ret_code says. */
static int64_t read_all(struct http_stream *stream, size_t step, enum err_code *ret_code,
                        struct err *err)
{
    int64_t total = 0;
    size_t len = 0;
    bool right = true;
    char *bytes = malloc(step);
    if (!bytes)
        abort();
    for (;;) {
        *ret_code = http_stream_read(stream, bytes, step, &len, err);
        if (*ret_code != ERR_OK || len == 0)
            break;
        right = right && len <= step && http_is_pattern((struct str){bytes, len}, total);
        total += (int64_t)len;
    }
    CHECK(right);
    free(bytes);
    return total;
}

TEST(http_stream, reads_every_byte_in_pieces_of_any_size)
{
    static const struct {
        const char *name;
        struct body body;
        size_t step;
    } rows[] = {
        {"empty", {.len = 0}, 100},
        {"one byte", {.len = 1}, 100},
        {"small pieces", {.len = 300000}, 7},
        {"pieces of the buffer's size", {.len = 20 * MIB + 5}, LIMIT_STREAM_STEP},
        {"pieces of more buffers", {.len = 20 * MIB + 5}, 256 * 1024},
        {"large pieces", {.len = 20 * MIB + 5}, 4 * MIB},
        {"chunked, empty", {.len = 0, .chunked = true}, 100},
        {"chunked", {.len = 5 * MIB + 3, .chunked = true}, 10000},
        {"chunked, large pieces", {.len = 5 * MIB + 3, .chunked = true}, MIB},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_fixture fixture;
        struct body body = rows[i].body;
        body.status = 200;
        body.sent = body.len;
        setup(&fixture, serve_body, &body, 10000);
        /* Twice: what was read to its end leaves the connection usable. */
        for (int k = 0; k < 2; k++) {
            struct http_stream *stream = NULL;
            enum err_code code = open_stream(&fixture, 20000, &stream);
            CHECK_ERR_ROW(rows[i].name, code, ERR_OK, &fixture.err);
            CHECK_INT_ROW(rows[i].name, fixture.reply.status, 200);
            CHECK_INT_ROW(rows[i].name, (int64_t)fixture.reply.body.len, 0);
            if (code != ERR_OK)
                break;
            CHECK_INT_ROW(rows[i].name, read_all(stream, rows[i].step, &code, &fixture.err),
                          body.len);
            CHECK_ERR_ROW(rows[i].name, code, ERR_OK, &fixture.err);
            http_stream_close(stream);
        }
        CHECK_INT_ROW(rows[i].name, http_server_connections(fixture.server), 1);
        http_fixture_close(&fixture);
    }
}

TEST(http_stream, an_error_s_body_can_be_read)
{
    struct http_fixture fixture;
    struct http_stream *stream = NULL;
    struct body body = {.len = 1000, .sent = 1000, .status = 404};
    enum err_code code = ERR_OK;
    setup(&fixture, serve_body, &body, 10000);
    REQUIRE(open_stream(&fixture, 20000, &stream) == ERR_OK);
    CHECK_INT(fixture.reply.status, 404);
    CHECK_INT(read_all(stream, 64, &code, &fixture.err), 1000);
    CHECK_ERR(code, ERR_OK, &fixture.err);
    http_stream_close(stream);
    http_fixture_close(&fixture);
}

TEST(http_stream, a_body_that_is_cut_never_ends_well)
{
    static const struct {
        const char *name;
        struct body body;
    } rows[] = {
        {"one byte short", {.len = 1000, .sent = 999}},
        {"nothing", {.len = 1000, .sent = 0}},
        {"large", {.len = 3 * MIB, .sent = 2 * MIB}},
        {"chunked", {.len = 1000, .sent = 999, .chunked = true}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_fixture fixture;
        struct http_stream *stream = NULL;
        struct body body = rows[i].body;
        enum err_code code = ERR_OK;
        char byte = 0;
        size_t len = 0;
        body.status = 200;
        setup(&fixture, serve_body, &body, 10000);
        code = open_stream(&fixture, 20000, &stream);
        CHECK_ERR_ROW(rows[i].name, code, ERR_OK, &fixture.err);
        if (code == ERR_OK) {
            CHECK_INT_ROW(rows[i].name, read_all(stream, 4096, &code, &fixture.err), body.sent);
            CHECK_ERR_ROW(rows[i].name, code, ERR_UPSTREAM_UNAVAILABLE, &fixture.err);
            /* And it stays so. */
            CHECK_ERR_ROW(rows[i].name, http_stream_read(stream, &byte, 1, &len, &fixture.err),
                          ERR_UPSTREAM_UNAVAILABLE, &fixture.err);
            http_stream_close(stream);
        }
        http_fixture_close(&fixture);
    }
}

TEST(http_stream, silence_ends_a_read)
{
    static const struct {
        const char *name;
        int64_t stall_ms;
        int64_t deadline_ms;
    } rows[] = {{"stall", 200, 20000}, {"deadline", 20000, 300}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_fixture fixture;
        struct http_stream *stream = NULL;
        struct body body = {
            .len = 1000, .sent = 1000, .pause_at = 100, .pause_ms = 20000, .status = 200};
        enum err_code code = ERR_OK;
        const int64_t start_ms = http_test_now_ms();
        setup(&fixture, serve_body, &body, rows[i].stall_ms);
        REQUIRE(open_stream(&fixture, rows[i].deadline_ms, &stream) == ERR_OK);
        CHECK_INT_ROW(rows[i].name, read_all(stream, 4096, &code, &fixture.err), 100);
        CHECK_ERR_ROW(rows[i].name, code, ERR_UPSTREAM_TIMEOUT, &fixture.err);
        CHECK_ROW(rows[i].name, http_test_now_ms() - start_ms < 4000);
        http_stream_close(stream);
        http_fixture_close(&fixture);
    }
}

TEST(http_stream, time_between_reads_does_not_count)
{
    struct http_fixture fixture;
    struct http_stream *stream = NULL;
    struct body body = {
        .len = 1000, .sent = 1000, .pause_at = 100, .pause_ms = 2500, .status = 200};
    char bytes[1000];
    size_t len = 0;
    /* The second read waits for half a second, two seconds after the first. */
    setup(&fixture, serve_body, &body, 1500);
    REQUIRE(open_stream(&fixture, 1700, &stream) == ERR_OK);
    CHECK_ERR(http_stream_read(stream, bytes, sizeof bytes, &len, &fixture.err), ERR_OK,
              &fixture.err);
    CHECK_INT((int64_t)len, 100);
    usleep(2000000);
    CHECK_ERR(http_stream_read(stream, bytes, sizeof bytes, &len, &fixture.err), ERR_OK,
              &fixture.err);
    CHECK_INT((int64_t)len, 900);
    CHECK(http_is_pattern((struct str){bytes, len}, 100));
    http_stream_close(stream);
    http_fixture_close(&fixture);
}

/* A byte every 20 ms, for ever. */
static void serve_drops(struct http_peer *peer)
{
    if (!http_peer_read(peer) ||
        !http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"))
        return;
    for (int64_t i = 0; http_peer_write_pattern(peer, i, 1); i++)
        http_peer_pause(peer, 20);
}

TEST(http_stream, drops_end_at_the_deadline)
{
    struct http_fixture fixture;
    struct http_stream *stream = NULL;
    enum err_code code = ERR_OK;
    setup(&fixture, serve_drops, NULL, 10000);
    const int64_t start_ms = http_test_now_ms();
    REQUIRE(open_stream(&fixture, 500, &stream) == ERR_OK);
    CHECK(read_all(stream, 100, &code, &fixture.err) > 0);
    CHECK_ERR(code, ERR_UPSTREAM_TIMEOUT, &fixture.err);
    const int64_t took_ms = http_test_now_ms() - start_ms;
    CHECK(took_ms >= 400 && took_ms < 5000);
    http_stream_close(stream);
    http_fixture_close(&fixture);
}

TEST(http_stream, what_was_not_read_to_its_end_is_cut)
{
    struct http_fixture fixture;
    struct body body = {.len = 20 * MIB, .sent = 20 * MIB, .status = 200};
    char bytes[100];
    size_t len = 0;
    const int before = http_test_open_files();
    setup(&fixture, serve_body, &body, 10000);
    for (int i = 0; i < 5; i++) {
        struct http_stream *stream = NULL;
        REQUIRE(open_stream(&fixture, 20000, &stream) == ERR_OK);
        CHECK_ERR(http_stream_read(stream, bytes, sizeof bytes, &len, &fixture.err), ERR_OK,
                  &fixture.err);
        CHECK(http_is_pattern((struct str){bytes, len}, 0));
        http_stream_close(stream);
    }
    http_stream_close(NULL);
    CHECK_INT(http_server_connections(fixture.server), 5);
    http_fixture_close(&fixture);
    CHECK_INT(http_test_open_files(), before);
}

static void serve_second_time(struct http_peer *peer)
{
    while (http_peer_read(peer)) {
        bool first = http_server_requests(peer->server) == 1;
        http_peer_write_text(peer,
                             first ? "HTTP/1.1 503 X\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nbad"
                                   : "HTTP/1.1 200 X\r\nX-B: 1\r\nContent-Length: 3\r\n\r\nabc");
    }
}

TEST(http_stream, opening_is_repeated)
{
    struct http_fixture fixture;
    struct http_stream *stream = NULL;
    char bytes[100];
    size_t len = 0;
    struct str value = {NULL, 0};
    setup(&fixture, serve_second_time, NULL, 10000);
    struct http_request request = http_test_get(fixture.url);
    request.attempts = 2;
    REQUIRE(http_stream_open(fixture.client, &request, &fixture.reply, &stream, &fixture.err) ==
            ERR_OK);
    CHECK_INT(fixture.reply.status, 200);
    CHECK(!http_reply_header(&fixture.reply, "X-A", &value));
    CHECK(http_reply_header(&fixture.reply, "X-B", &value));
    CHECK_ERR(http_stream_read(stream, bytes, sizeof bytes, &len, &fixture.err), ERR_OK,
              &fixture.err);
    CHECK_STR(((struct str){bytes, len}), "abc");
    http_stream_close(stream);
    http_fixture_close(&fixture);
}

/* The caller's request and reply may go as soon as the stream is open. */
TEST(http_stream, needs_the_request_only_to_be_opened)
{
    struct http_fixture fixture;
    struct http_stream *stream = NULL;
    struct body body = {.len = 2 * MIB, .sent = MIB, .status = 200};
    enum err_code code = ERR_OK;
    setup(&fixture, serve_body, &body, 10000);
    char *url = strdup(fixture.url);
    struct http_request *request = malloc(sizeof *request);
    struct http_reply *reply = malloc(sizeof *reply);
    REQUIRE(url && request && reply);
    *request = http_test_get(url);
    http_reply_init(reply);
    REQUIRE(http_stream_open(fixture.client, request, reply, &stream, &fixture.err) == ERR_OK);
    http_reply_release(reply);
    free(reply);
    free(request);
    free(url);
    CHECK_INT(read_all(stream, 65536, &code, &fixture.err), MIB);
    CHECK_ERR(code, ERR_UPSTREAM_UNAVAILABLE, &fixture.err);
    CHECK(strstr(fixture.err.message, "127.0.0.1:") == fixture.err.message);
    http_stream_close(stream);
    http_fixture_close(&fixture);
}

TEST(http_stream, memory_does_not_grow_with_the_body)
{
    struct http_fixture fixture;
    struct http_stream *stream = NULL;
    struct body body = {.len = 256 * MIB, .sent = 256 * MIB, .status = 200};
    enum err_code code = ERR_OK;
    setup(&fixture, serve_body, &body, 20000);
    http_test_reset_peak_memory();
    const long before = http_test_peak_memory_kib();
    REQUIRE(open_stream(&fixture, 120000, &stream) == ERR_OK);
    CHECK_INT(read_all(stream, 256 * 1024, &code, &fixture.err), body.len);
    CHECK_ERR(code, ERR_OK, &fixture.err);
    http_stream_close(stream);
    http_fixture_close(&fixture);
    CHECK(http_test_peak_memory_kib() - before < 8 * 1024);
}

struct readers {
    struct http_fixture *fixture;
    int64_t len;
    _Atomic int right;
};

static void run_reader(void *context, int index)
{
    struct readers *readers = context;
    struct http_reply reply;
    struct err err = {0};
    enum err_code code = ERR_OK;
    (void)index;
    http_reply_init(&reply);
    for (int i = 0; i < 10; i++) {
        struct http_stream *stream = NULL;
        const struct http_request request = http_test_get(readers->fixture->url);
        if (http_stream_open(readers->fixture->client, &request, &reply, &stream, &err) != ERR_OK)
            continue;
        if (read_all(stream, 50000, &code, &err) == readers->len && code == ERR_OK)
            readers->right++;
        http_stream_close(stream);
    }
    http_reply_release(&reply);
}

TEST(http_stream, serves_many_threads)
{
    struct http_fixture fixture;
    struct body body = {.len = 300000, .sent = 300000, .status = 200};
    setup(&fixture, serve_body, &body, 20000);
    struct readers readers = {.fixture = &fixture, .len = body.len};
    store_threads(16, run_reader, &readers);
    CHECK_INT(readers.right, 160);
    http_fixture_close(&fixture);
}
