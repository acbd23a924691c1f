#include <sys/socket.h>
#include <unistd.h>

#include "app/fcgi.h"
#include "check.h"

#define STDIN_RECORD(high, low, padding) "\1\5\0\1" high low padding "\0"

/* What comes out of `wire` when it arrives in pieces of `step` bytes. */
static void read_all(const char *wire, size_t len, size_t step, struct buf *out)
{
    struct fcgi_body body;
    struct err err = {0};
    struct str piece;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK_ERR(fcgi_body_init(&body, fds[0], 10, &err), ERR_OK, &err);
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t at = 0; at < len; at += step) {
            size_t size = len - at < step ? len - at : step;
            if (write(fds[1], wire + at, size) != (ssize_t)size)
                break;
        }
        _exit(0);
    }
    close(fds[1]);
    while ((piece = fcgi_body_next(&body)).len > 0)
        buf_append_str(out, piece);
    fcgi_body_release(&body);
    close(fds[0]);
}

TEST(fcgi_body, gives_the_content_however_it_arrives)
{
    static const struct {
        const char *name;
        const char *wire;
        size_t len;
        const char *want;
    } rows[] = {
#define ROW(label, text, want) {label, text, sizeof(text) - 1, want}
        ROW("one record", STDIN_RECORD("\0", "\5", "\0") "hello" STDIN_RECORD("\0", "\0", "\0"),
            "hello"),
        ROW("padding",
            STDIN_RECORD("\0", "\2", "\3") "hexyz" STDIN_RECORD(
                "\0", "\3", "\1") "lloz" STDIN_RECORD("\0", "\0", "\0"),
            "hello"),
        ROW("cut off", STDIN_RECORD("\0", "\5", "\0") "hel", "hel"),
        ROW("another type", "\1\2\0\1\0\1\0\0x", ""),
        ROW("another version", "\2\5\0\1\0\1\0\0x", ""),
        ROW("nothing", "", ""),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t step = 1; step < 30; step++) {
            struct buf out;
            buf_init(&out, 1000);
            read_all(rows[i].wire, rows[i].len, step, &out);
            CHECK_STR_ROW(rows[i].name, buf_str(&out), rows[i].want);
            buf_release(&out);
        }
}

TEST(fcgi_body, gives_a_large_body_in_large_pieces)
{
    enum { RECORD = 0xfff8, RECORDS = 40 };
    static char record[8 + RECORD];
    struct fcgi_body body;
    struct err err = {0};
    struct str piece;
    int64_t bytes = 0;
    int pieces = 0;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK_ERR(fcgi_body_init(&body, fds[0], (int64_t)RECORD * RECORDS, &err), ERR_OK, &err);
    memcpy(record, "\1\5\0\1\xff\xf8\0\0", 8);
    memset(record + 8, 'x', RECORD);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < RECORDS; i++)
            if (write(fds[1], record, sizeof record) != (ssize_t)sizeof record)
                break;
        _exit(0);
    }
    close(fds[1]);
    while ((piece = fcgi_body_next(&body)).len > 0) {
        for (size_t i = 0; i < piece.len; i++)
            if (piece.data[i] != 'x')
                bytes = -1;
        bytes += (int64_t)piece.len;
        pieces++;
    }
    CHECK_INT(bytes, (int64_t)RECORD * RECORDS);
    CHECK(pieces < RECORDS * 4);
    fcgi_body_release(&body);
    close(fds[0]);
}
