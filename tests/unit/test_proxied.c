#include "app/proxied.h"

#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static atomic_bool never;

/* A connection on which `wire` arrives in pieces of `step` bytes, one a read, and then ends. */
static int connect_to(const char *wire, size_t len, size_t step)
{
    int fds[2] = {-1, -1};
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
    for (size_t at = 0; at < len; at += step) {
        size_t size = len - at < step ? len - at : step;
        CHECK(write(fds[1], wire + at, size) == (ssize_t)size);
    }
    close(fds[1]);
    return fds[0];
}

static const char *variable(const struct proxied *proxied, const char *name)
{
    for (char *const *each = proxied->variables; *each; each++)
        if (strncmp(*each, name, strlen(name)) == 0 && (*each)[strlen(name)] == '=')
            return *each + strlen(name) + 1;
    return "(none)";
}

#define HEAD                                                                                  \
    "PUT /api/files/pipe/a%20b/c?x=1/2 HTTP/1.1\r\nHost: h:1\r\nContent-Type: text/plain\r\n" \
    "X-Forwarded-For: 8.8.8.8, 127.0.0.1\r\nX-Host: h\r\nX-Forwarded-Host: h\r\n"             \
    "X_request-Id: abc\r\nConnection: close\r\n"

TEST(proxied, a_head_becomes_the_variables_of_cgi)
{
    static const char wire[] = HEAD "Content-Length: 5\r\n\r\nhello";
    static const struct {
        const char *name, *want;
    } rows[] = {
        {"REQUEST_METHOD", "PUT"},
        {"REQUEST_URI", "/api/files/pipe/a%20b%2Fc?x=1/2"},
        {"SCRIPT_NAME", ""},
        {"PATH_INFO", "/api/files/pipe/a b/c"},
        {"REMOTE_ADDR", "127.0.0.1"},
        {"HTTP_X_FORWARDED_FOR", "8.8.8.8"},
        {"CONTENT_TYPE", "text/plain"},
        {"CONTENT_LENGTH", "5"},
        {"HTTP_X_REQUEST_ID", "abc"},
        {"HTTP_HOST", "h:1"},
        {"HTTP_X_HOST", "(none)"},
        {"HTTP_X_FORWARDED_HOST", "(none)"},
        {"HTTP_CONNECTION", "(none)"},
    };
    struct proxied proxied;
    int fd = connect_to(wire, sizeof wire - 1, 7);
    CHECK(proxied_read_head(&proxied, fd, &never));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_STR_ROW(rows[i].name, str_of(variable(&proxied, rows[i].name)), rows[i].want);
    proxied_release(&proxied);
    close(fd);
}

TEST(proxied, a_body_is_complete_only_at_its_end)
{
    static const struct {
        const char *name, *framing, *wire, *want;
        bool complete;
    } rows[] = {
        {"length", "Content-Length: 5", "hello", "hello", true},
        {"no body", "Content-Length: 0", "", "", true},
        {"cut off", "Content-Length: 5", "hel", "hel", false},
        {"more", "Content-Length: 3", "hello", "hel", true},
        {"chunks", "Transfer-Encoding: chunked", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello", true},
        {"none", "Transfer-Encoding: chunked", "0\r\n\r\n", "", true},
        {"hexadecimal", "Transfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789",
         true},
        {"no last chunk", "Transfer-Encoding: chunked", "5\r\nhello\r\n", "hello", false},
        {"half of the last", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n", "hello", false},
        {"cut in a chunk", "Transfer-Encoding: chunked", "5\r\nhel", "hel", false},
        {"no number", "Transfer-Encoding: chunked", "x\r\nhello\r\n0\r\n\r\n", "", false},
        {"too large a number", "Transfer-Encoding: chunked", "8000000000000000\r\nx", "", false},
        {"a longer chunk", "Transfer-Encoding: chunked", "2\r\nhello\r\n0\r\n\r\n", "he", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t step = 3; step < 40; step += 4) {
            char wire[512];
            struct proxied proxied;
            struct str piece;
            struct buf out;
            int len =
                snprintf(wire, sizeof wire, "%s%s\r\n\r\n%s", HEAD, rows[i].framing, rows[i].wire);
            int fd = connect_to(wire, (size_t)len, step);
            buf_init(&out, 100);
            CHECK_ROW(rows[i].name, proxied_read_head(&proxied, fd, &never));
            while ((piece = proxied_body_next(&proxied)).len > 0)
                buf_append_str(&out, piece);
            CHECK_STR_ROW(rows[i].name, buf_str(&out), rows[i].want);
            CHECK_INT_ROW(rows[i].name, proxied.is_complete, rows[i].complete);
            buf_release(&out);
            proxied_release(&proxied);
            close(fd);
        }
}

TEST(proxied, what_is_no_request_is_refused)
{
    static const char *const rows[] = {
        "PUT /x HTTP/1.1\r\nHost: h\r\n",
        "PUT\r\n\r\n",
        "PUT x HTTP/1.1\r\n\r\n",
        "PUT /x HTTP/2\r\n\r\n",
        "PUT /x HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "PUT /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct proxied proxied;
        int fd = connect_to(rows[i], strlen(rows[i]), 100);
        CHECK_ROW(rows[i], !proxied_read_head(&proxied, fd, &never));
        proxied_release(&proxied);
        close(fd);
    }
    CHECK(!proxied_begins((const unsigned char *)"\1", 1));
    CHECK(!proxied_begins((const unsigned char *)"", 0));
    CHECK(proxied_begins((const unsigned char *)"P", 1));
}

TEST(proxied, more_headers_than_fit_are_refused)
{
    struct proxied proxied;
    struct buf wire;
    buf_init(&wire, 16384);
    buf_append_text(&wire, HEAD);
    for (int i = 0; i < PROXIED_VARIABLES; i++)
        buf_printf(&wire, "X-%d: y\r\n", i);
    buf_append_text(&wire, "\r\n");
    int fd = connect_to(wire.data, wire.len, wire.len);
    CHECK(!proxied_read_head(&proxied, fd, &never));
    proxied_release(&proxied);
    buf_release(&wire);
    close(fd);
}
