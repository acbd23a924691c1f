/* Bodies that come from a source. */
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"

#define MIB (1024 * 1024LL)

static void setup(struct http_fixture *fixture, http_serve *serve, void *context, int64_t stall_ms)
{
    struct http_client_options options = http_test_options();
    options.stall_ms = stall_ms;
    http_fixture_open(fixture, serve, context, &options);
}

static void serve_counting(struct http_peer *peer)
{
    char bytes[256 * 1024];
    char answer[128];
    if (!http_peer_read_head(peer))
        return;
    int64_t got = (int64_t)peer->unread.len;
    bool right = http_is_pattern(buf_str(&peer->unread), 0);
    while (got < *(const int64_t *)peer->context) {
        ssize_t len = read(peer->fd, bytes, sizeof bytes);
        if (len <= 0)
            return;
        right = right && http_is_pattern((struct str){bytes, (size_t)len}, got);
        got += len;
    }
    snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Right: %d\r\n\r\n",
             right);
    http_peer_write_text(peer, answer);
}

/* The pattern without memory of its own: a sanitizer keeps what is freed for a while. */
struct endless_source {
    struct source source;
    int64_t left;
};

static enum err_code next_endless(struct source *base, struct str *ret_piece, struct err *err)
{
    struct endless_source *source = (struct endless_source *)base;
    const int64_t size = HTTP_PATTERN_PERIOD;
    (void)err;
    *ret_piece =
        (struct str){http_pattern_at(0), (size_t)(source->left < size ? source->left : size)};
    source->left -= (int64_t)ret_piece->len;
    return ERR_OK;
}

TEST(http_source, memory_does_not_grow_with_the_body)
{
    struct http_fixture fixture;
    struct endless_source source = {.source = {next_endless}, .left = 256 * MIB};
    struct str value = {NULL, 0};
    int64_t len = 256 * MIB;
    setup(&fixture, serve_counting, &len, 20000);
    http_test_reset_peak_memory();
    const long before = http_test_peak_memory_kib();
    struct http_request request = http_test_get(fixture.url);
    request.method = "PUT";
    request.source = &source.source;
    request.body_length = len;
    request.deadline_ms = 120000;
    CHECK_ERR(http_fixture_send(&fixture, &request), ERR_OK, &fixture.err);
    CHECK(http_reply_header(&fixture.reply, "X-Right", &value));
    CHECK_STR(value, "1");
    http_fixture_close(&fixture);
    CHECK(http_test_peak_memory_kib() - before < 8 * 1024);
}

struct uploads {
    _Atomic int count; /* a body that is not the pattern counts for 1000 */
};

static void serve_upload(struct http_peer *peer)
{
    while (http_peer_read(peer)) {
        struct uploads *uploads = peer->context;
        uploads->count += http_is_pattern(buf_str(&peer->body), 0) ? 1 : 1000;
        http_peer_write_text(peer, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    }
}

TEST(http_source, sends_a_body_from_a_source)
{
    static const struct {
        const char *name;
        int64_t len;
        int64_t step;
    } rows[] = {
        {"empty", 0, 10},
        {"one byte", 1, 10},
        {"tiny pieces", 10000, 1},
        {"odd pieces", 700000, 777},
        {"large pieces", 6 * MIB, MIB},
        {"one piece", 5 * MIB, 5 * MIB},
    };
    struct http_fixture fixture;
    struct uploads uploads = {0};
    setup(&fixture, serve_upload, &uploads, 10000);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pattern_source source;
        struct http_request request = http_test_get(fixture.url);
        pattern_source_init(&source, rows[i].len, rows[i].step);
        request.method = "PUT";
        request.source = &source.source;
        request.body_length = rows[i].len;
        CHECK_ERR_ROW(rows[i].name,
                      http_exchange(fixture.client, &request, &fixture.reply, &fixture.err), ERR_OK,
                      &fixture.err);
        CHECK_INT_ROW(rows[i].name, fixture.reply.status, 201);
        CHECK_INT_ROW(rows[i].name, uploads.count, (int)i + 1);
        pattern_source_release(&source);
    }
    CHECK_INT(http_server_connections(fixture.server), 1);
    http_fixture_close(&fixture);
}

TEST(http_source, a_source_that_fails_never_looks_whole)
{
    static const struct {
        const char *name;
        int64_t len; /* what the source has */
        int64_t promised;
        enum err_code code; /* of the source */
        int64_t fail_at;
        enum err_code want;
    } rows[] = {
        {"at once", 1000, 1000, ERR_CLIENT_GONE, 0, ERR_CLIENT_GONE},
        {"in the middle", 3 * MIB, 3 * MIB, ERR_REQUEST_TIMEOUT, MIB, ERR_REQUEST_TIMEOUT},
        {"behind the last byte", 1000, 1000, ERR_BAD_MULTIPART, 1000, ERR_BAD_MULTIPART},
        {"behind the last byte of many", 3 * MIB, 3 * MIB, ERR_DIGEST_MISMATCH, 3 * MIB,
         ERR_DIGEST_MISMATCH},
        {"shorter than promised", 999, 1000, ERR_OK, 0, ERR_INTERNAL},
        {"longer than promised", 1001, 1000, ERR_OK, 0, ERR_INTERNAL},
        {"not empty as promised", 1, 0, ERR_OK, 0, ERR_INTERNAL},
        {"failing instead of empty", 0, 0, ERR_CLIENT_GONE, 0, ERR_CLIENT_GONE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_fixture fixture;
        struct pattern_source source;
        struct uploads uploads = {0};
        setup(&fixture, serve_upload, &uploads, 10000);
        struct http_request request = http_test_get(fixture.url);
        pattern_source_init(&source, rows[i].len, 1000);
        source.code = rows[i].code;
        source.fail_at = rows[i].fail_at;
        request.method = "PUT";
        request.source = &source.source;
        request.body_length = rows[i].promised;
        request.attempts = 3;
        CHECK_ERR_ROW(rows[i].name,
                      http_exchange(fixture.client, &request, &fixture.reply, &fixture.err),
                      rows[i].want, &fixture.err);
        pattern_source_release(&source);
        http_fixture_close(&fixture);
        CHECK_INT_ROW(rows[i].name, uploads.count, 0);
    }
}

TEST(http_source, a_slow_source_is_not_the_server_s_silence)
{
    struct http_fixture fixture;
    struct pattern_source source;
    struct uploads uploads = {0};
    setup(&fixture, serve_upload, &uploads, 400);
    struct http_request request = http_test_get(fixture.url);
    pattern_source_init(&source, 3 * MIB, MIB);
    source.pause_ms = 700;
    request.method = "PUT";
    request.source = &source.source;
    request.body_length = 3 * MIB;
    CHECK_ERR(http_exchange(fixture.client, &request, &fixture.reply, &fixture.err), ERR_OK,
              &fixture.err);
    CHECK_INT(uploads.count, 1);
    pattern_source_release(&source);
    http_fixture_close(&fixture);
}

static void serve_unavailable(struct http_peer *peer)
{
    while (http_peer_read(peer))
        http_peer_write_text(peer, "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n");
}

TEST(http_source, a_body_from_a_source_is_sent_once)
{
    struct http_fixture fixture;
    struct pattern_source source;
    setup(&fixture, serve_unavailable, NULL, 10000);
    struct http_request request = http_test_get(fixture.url);
    pattern_source_init(&source, 1000, 100);
    request.method = "PUT";
    request.source = &source.source;
    request.body_length = 1000;
    request.attempts = 3;
    CHECK_ERR(http_exchange(fixture.client, &request, &fixture.reply, &fixture.err), ERR_OK,
              &fixture.err);
    CHECK_INT(fixture.reply.status, 503);
    CHECK_INT(http_server_requests(fixture.server), 1);
    pattern_source_release(&source);
    http_fixture_close(&fixture);
}

/* Gives its head before it has read the body. */
struct early {
    int status;
    bool reads;
    _Atomic bool whole; /* the body came, and was right */
};

static void serve_early(struct http_peer *peer)
{
    struct early *early = peer->context;
    char head[64];
    if (!http_peer_read_head(peer))
        return;
    snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n", early->status);
    http_peer_write_text(peer, head);
    if (early->reads)
        early->whole = http_peer_read_body(peer) && http_is_pattern(buf_str(&peer->body), 0);
    http_peer_write_text(peer, "ok");
    http_peer_pause(peer, 10000);
}

TEST(http_source, a_stream_s_request_is_sent_to_its_end_unless_it_is_refused)
{
    static const struct {
        int status;
        bool reads;
    } rows[] = {{200, true}, {403, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_fixture fixture;
        struct http_stream *stream = NULL;
        struct pattern_source source;
        struct early early = {.status = rows[i].status, .reads = rows[i].reads};
        char bytes[10];
        size_t len = 0;
        http_fixture_open(&fixture, serve_early, &early, NULL);
        struct http_request request = http_test_get(fixture.url);
        pattern_source_init(&source, 32 * MIB, MIB);
        request.method = "PUT";
        request.source = &source.source;
        request.body_length = 32 * MIB;
        REQUIRE(http_stream_open(fixture.client, &request, &fixture.reply, &stream, &fixture.err) ==
                ERR_OK);
        pattern_source_release(&source);
        CHECK_INT(fixture.reply.status, rows[i].status);
        CHECK_ERR(http_stream_read(stream, bytes, sizeof bytes, &len, &fixture.err), ERR_OK,
                  &fixture.err);
        CHECK_STR(((struct str){bytes, len}), "ok");
        CHECK(early.whole == rows[i].reads);
        http_stream_close(stream);
        http_fixture_close(&fixture);
    }
}
