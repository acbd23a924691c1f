/* What goes out and what comes back when nothing fails. */
#include "net/http_client.h"

#include <stdlib.h>

#include "check.h"
#include "http_tools.h"

/* Answers each request with what the test wants, and keeps what was asked. */
struct echo {
    const char *answer;
    struct buf head;
    struct buf body;
};

static void serve_echo(struct http_peer *peer)
{
    struct echo *echo = peer->context;
    while (http_peer_read(peer)) {
        buf_reset(&echo->head);
        buf_append_str(&echo->head, buf_str(&peer->head));
        buf_reset(&echo->body);
        buf_append_str(&echo->body, buf_str(&peer->body));
        if (!http_peer_write_text(peer, echo->answer))
            return;
    }
}

struct fixture {
    struct echo echo;
    struct http_server *server;
    struct http_client *client;
    struct http_reply reply;
    struct err err;
    char url[HTTP_URL_SIZE];
};

static void setup(struct fixture *fixture, const char *answer)
{
    const struct http_client_options options = http_test_options();
    *fixture = (struct fixture){.echo.answer = answer};
    buf_init(&fixture->echo.head, 1024 * 1024);
    buf_init(&fixture->echo.body, 64 * 1024 * 1024);
    http_reply_init(&fixture->reply);
    fixture->server = http_server_open(serve_echo, &fixture->echo);
    fixture->client = http_test_client(&options);
}

static void teardown(struct fixture *fixture)
{
    http_client_close(fixture->client);
    http_server_close(fixture->server);
    http_reply_release(&fixture->reply);
    buf_release(&fixture->echo.head);
    buf_release(&fixture->echo.body);
}

static enum err_code exchange(struct fixture *fixture, const char *method, const char *target,
                              const char *headers)
{
    struct http_request request =
        http_test_get(http_server_url(fixture->server, target, fixture->url));
    request.method = method;
    request.headers = str_of(headers);
    return http_exchange(fixture->client, &request, &fixture->reply, &fixture->err);
}

TEST(http_client, brings_status_headers_and_body)
{
    struct fixture fixture;
    struct str value = {NULL, 0};
    setup(&fixture,
          "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nETag:  \"a\" \r\nX-Empty:\r\n\r\nhello");
    CHECK_ERR(exchange(&fixture, "GET", "/", ""), ERR_OK, &fixture.err);
    CHECK_INT(fixture.reply.status, 200);
    CHECK_STR(buf_str(&fixture.reply.body), "hello");
    CHECK(http_reply_header(&fixture.reply, "etag", &value));
    CHECK_STR(value, "\"a\"");
    CHECK(http_reply_header(&fixture.reply, "X-EMPTY", &value));
    CHECK_STR(value, "");
    CHECK(!http_reply_header(&fixture.reply, "X-None", &value));
    CHECK_STR(buf_str(&fixture.reply.headers),
              "Content-Length: 5\r\nETag:  \"a\" \r\nX-Empty:\r\n");
    teardown(&fixture);
}

TEST(http_client, sends_method_target_and_headers_as_they_stand)
{
    static const char *const targets[] = {
        "/",
        "/a/../b/./c",
        "//x//",
        "/%2e%2E/%7e~",
        "/?",
        "/?a=&b",
        "/k%20+%2B?x=%2f&y=a+b",
        "/a:b@c!$&'()*,;=",
        "?q=1",
    };
    static const char *const methods[] = {"GET", "DELETE", "POST", "PUT", "OPTIONS"};
    struct fixture fixture;
    char line[HTTP_URL_SIZE + 32];
    setup(&fixture, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        CHECK_ERR_ROW(targets[i], exchange(&fixture, "GET", targets[i], ""), ERR_OK, &fixture.err);
        snprintf(line, sizeof line, "GET %s%s HTTP/1.1\r\n", targets[i][0] == '?' ? "/" : "",
                 targets[i]);
        CHECK_ROW(targets[i], str_starts_with(buf_str(&fixture.echo.head), str_of(line)));
    }
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        CHECK_ERR_ROW(
            methods[i],
            exchange(&fixture, methods[i], "/x", "X-A: 1\r\nx-b:  two  words \r\nX-C:\r\n"), ERR_OK,
            &fixture.err);
        snprintf(line, sizeof line, "%s /x HTTP/1.1\r\n", methods[i]);
        CHECK_ROW(methods[i], str_starts_with(buf_str(&fixture.echo.head), str_of(line)));
        CHECK_ROW(methods[i], strstr(buf_text(&fixture.echo.head), "\r\nX-A: 1\r\n") != NULL);
        CHECK_ROW(methods[i],
                  strstr(buf_text(&fixture.echo.head), "\r\nx-b: two  words\r\n") != NULL);
        CHECK_ROW(methods[i], strstr(buf_text(&fixture.echo.head), "\r\nX-C:\r\n") != NULL);
        CHECK_ROW(methods[i], strstr(buf_text(&fixture.echo.head), "Expect:") == NULL);
        CHECK_ROW(methods[i], strstr(buf_text(&fixture.echo.head), "Transfer-Encoding:") == NULL);
    }
    CHECK_INT(http_server_connections(fixture.server), 1);
    teardown(&fixture);
}

TEST(http_client, sends_a_body_from_memory)
{
    static const size_t sizes[] = {0, 1, 65536, 5 * 1024 * 1024 + 1};
    static const char *const methods[] = {"PUT", "POST", "DELETE"};
    struct fixture fixture;
    char *bytes = malloc(sizes[3]);
    char length[64];
    REQUIRE(bytes != NULL);
    for (size_t i = 0; i < sizes[3]; i++)
        bytes[i] = http_pattern((int64_t)i);
    setup(&fixture, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t k = 0; k < sizeof methods / sizeof *methods; k++) {
            struct http_request request =
                http_test_get(http_server_url(fixture.server, "/", fixture.url));
            request.method = methods[k];
            request.body = (struct str){bytes, sizes[i]};
            CHECK_ERR_ROW(methods[k],
                          http_exchange(fixture.client, &request, &fixture.reply, &fixture.err),
                          ERR_OK, &fixture.err);
            snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", sizes[i]);
            if (sizes[i] > 0 || k < 2)
                CHECK_ROW(methods[k], strstr(buf_text(&fixture.echo.head), length) != NULL);
            CHECK_INT_ROW(methods[k], (int64_t)fixture.echo.body.len, (int64_t)sizes[i]);
            CHECK_ROW(methods[k], http_is_pattern(buf_str(&fixture.echo.body), 0));
        }
    }
    CHECK_INT(http_server_connections(fixture.server), 1);
    free(bytes);
    teardown(&fixture);
}

TEST(http_client, understands_answers_of_every_form)
{
    static const struct {
        const char *name;
        const char *method;
        const char *answer;
        int status;
        const char *body;
    } rows[] = {
        {"chunked", "GET",
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n"
         "X-Trailer: t\r\n\r\n",
         200, "abcde"},
        {"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 200, ""},
        {"204", "DELETE", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
        {"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, ""},
        {"continue first", "PUT",
         "HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
         "2\r\n\r\nok",
         200, "ok"},
        {"early hints first", "GET",
         "HTTP/1.1 103 Early Hints\r\nX-Interim: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
         "2\r\n\r\nok",
         200, "ok"},
        {"redirect", "GET",
         "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nno", 302,
         "no"},
        {"unauthorized", "GET",
         "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: "
         "1\r\n\r\nx",
         401, "x"},
        {"server error", "GET", "HTTP/1.1 503 Away\r\nContent-Length: 1\r\n\r\nx", 503, "x"},
        {"not decoded", "GET",
         "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw", 200, "raw"},
        {"no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", 200, "x"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fixture fixture;
        struct str value = {NULL, 0};
        setup(&fixture, rows[i].answer);
        /* Twice: the connection must be in step. */
        for (int k = 0; k < 2; k++) {
            CHECK_ERR_ROW(rows[i].name, exchange(&fixture, rows[i].method, "/", ""), ERR_OK,
                          &fixture.err);
            CHECK_INT_ROW(rows[i].name, fixture.reply.status, rows[i].status);
            CHECK_STR_ROW(rows[i].name, buf_str(&fixture.reply.body), rows[i].body);
            CHECK_ROW(rows[i].name, !http_reply_header(&fixture.reply, "X-Interim", &value));
            CHECK_ROW(rows[i].name, !http_reply_header(&fixture.reply, "X-Trailer", &value));
        }
        CHECK_INT_ROW(rows[i].name, http_server_connections(fixture.server), 1);
        teardown(&fixture);
    }
}

TEST(http_client, keeps_no_cookies)
{
    struct fixture fixture;
    setup(&fixture, "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n");
    for (int i = 0; i < 2; i++)
        CHECK_ERR(exchange(&fixture, "GET", "/", ""), ERR_OK, &fixture.err);
    CHECK(strstr(buf_text(&fixture.echo.head), "Cookie") == NULL);
    teardown(&fixture);
}

TEST(http_client, uses_no_proxy_of_the_environment)
{
    static const char *const names[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    struct fixture fixture;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        setenv(names[i], "http://127.0.0.1:1/", 1);
    setup(&fixture, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK_ERR(exchange(&fixture, "GET", "/", ""), ERR_OK, &fixture.err);
    teardown(&fixture);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

TEST(http_client, refuses_what_must_not_be_sent)
{
    static const struct {
        const char *name;
        const char *url; /* NULL: a good one */
        struct str headers;
    } rows[] = {
        {"file", "file:///etc/passwd", {"", 0}},
        {"ftp", "ftp://127.0.0.1/x", {"", 0}},
        {"no scheme", "127.0.0.1/x", {"", 0}},
        {"no host", "http:///x", {"", 0}},
        {"user in the URL", "http://user:secret@127.0.0.1:1/", {"", 0}},
        {"space in the URL", "http://127.0.0.1:1/a b", {"", 0}},
        {"newline in the URL", "http://127.0.0.1:1/a\r\nX: y", {"", 0}},
        {"fragment", "http://127.0.0.1:1/a#b", {"", 0}},
        {"not ASCII", "http://127.0.0.1:1/\xC3\xA4", {"", 0}},
        {"no line end", NULL, {"X: a", 4}},
        {"newline in a value", NULL, {"X: a\nY: b\r\n", 11}},
        {"carriage return in a value", NULL, {"X: a\rb\r\n", 8}},
        {"NUL in a value", NULL, {"X: a\0b\r\n", 8}},
        {"tab in a value", NULL, {"X: a\tb\r\n", 8}},
        {"empty line", NULL, {"\r\n", 2}},
        {"no colon", NULL, {"X\r\n", 3}},
        {"no name", NULL, {": x\r\n", 5}},
        {"space before the colon", NULL, {"X : x\r\n", 7}},
        {"folded", NULL, {"X: a\r\n b\r\n", 10}},
        {"Content-Length", NULL, {"content-length: 3\r\n", 19}},
        {"Transfer-Encoding", NULL, {"Transfer-Encoding: chunked\r\n", 28}},
    };
    struct fixture fixture;
    setup(&fixture, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_request request = http_test_get(
            rows[i].url ? rows[i].url : http_server_url(fixture.server, "/", fixture.url));
        request.headers = rows[i].headers;
        CHECK_ERR_ROW(rows[i].name,
                      http_exchange(fixture.client, &request, &fixture.reply, &fixture.err),
                      ERR_INTERNAL, &fixture.err);
        CHECK_ROW(rows[i].name, !strstr(fixture.err.message, "secret"));
    }
    CHECK_INT(http_server_connections(fixture.server), 0);
    teardown(&fixture);
}
