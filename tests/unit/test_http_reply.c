#include "check.h"
#include "net/http_client_connection.h"

#define NOW_MS 784111777000 /* Sun, 06 Nov 1994 08:49:37 GMT */

static void reply_with(struct http_reply *reply, const char *headers)
{
    http_reply_init(reply);
    buf_append_text(&reply->headers, headers);
}

TEST(http_reply, finds_the_first_header_of_a_name)
{
    static const struct {
        const char *label;
        const char *headers;
        const char *name;
        const char *want; /* NULL: none */
    } rows[] = {
        {"plain", "A: 1\r\nB: 2\r\n", "B", "2"},
        {"any case", "eTaG: x\r\n", "ETag", "x"},
        {"trimmed", "A: \t x y \t\r\n", "A", "x y"},
        {"empty", "A:\r\n", "A", ""},
        {"first of two", "A: 1\r\nA: 2\r\n", "A", "1"},
        {"none", "A: 1\r\n", "B", NULL},
        {"no headers", "", "A", NULL},
        {"longer name", "AB: 1\r\n", "A", NULL},
        {"shorter name", "A: 1\r\n", "AB", NULL},
        {"value with a colon", "A: b:c\r\n", "A", "b:c"},
        {"a line without a colon", "A\r\nA: 1\r\n", "A", "1"},
        {"not within a value", "X: A: 1\r\n", "A", NULL},
        {"not in a folded line", "X: 1\r\n A: 2\r\n", "A", NULL},
        {"no line end", "A: 1", "A", "1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_reply reply;
        struct str value = {NULL, 0};
        reply_with(&reply, rows[i].headers);
        bool found = http_reply_header(&reply, rows[i].name, &value);
        CHECK_ROW(rows[i].label, found == (rows[i].want != NULL));
        if (found && rows[i].want)
            CHECK_STR_ROW(rows[i].label, value, rows[i].want);
        http_reply_release(&reply);
    }
}

TEST(http_reply, reads_retry_after)
{
    static const struct {
        const char *label;
        const char *headers;
        int64_t want_ms;
    } rows[] = {
        {"none", "A: 1\r\n", -1},
        {"seconds", "Retry-After: 120\r\n", 120000},
        {"zero", "Retry-After: 0\r\n", 0},
        {"a date", "Retry-After: Sun, 06 Nov 1994 08:49:40 GMT\r\n", 3000},
        {"a date that is over", "Retry-After: Sun, 06 Nov 1994 08:49:30 GMT\r\n", 0},
        {"negative", "Retry-After: -1\r\n", -1},
        {"fraction", "Retry-After: 1.5\r\n", -1},
        {"too large", "Retry-After: 99999999999999999999\r\n", -1},
        {"empty", "Retry-After:\r\n", -1},
        {"words", "Retry-After: soon\r\n", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_reply reply;
        reply_with(&reply, rows[i].headers);
        CHECK_INT_ROW(rows[i].label, http_reply_retry_after_ms(&reply, NOW_MS), rows[i].want_ms);
        http_reply_release(&reply);
    }
}

TEST(http_reply, knows_which_statuses_are_temporary)
{
    static const int temporary[] = {429, 500, 502, 503, 504};
    static const int final[] = {200, 204, 206, 301, 304, 400, 403, 404, 409, 412, 416, 501, 505};
    for (size_t i = 0; i < sizeof temporary / sizeof *temporary; i++)
        CHECK(http_reply_is_temporary(temporary[i]));
    for (size_t i = 0; i < sizeof final / sizeof *final; i++)
        CHECK(!http_reply_is_temporary(final[i]));
}
