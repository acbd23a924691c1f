#include "access_log/access_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define TRACE "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
/* Between the bytes that came in and the request line. */
#define MIDDLE "\t+\t127.0.0.1\tid-1\t" TRACE "\t-\t"
#define LINE(status, request) \
    "answer1\t" status "\t1500\t1795260833865855\t3000000\t81\t-" MIDDLE request "\tcurl/7.88.1"

/* The parser changes its text; the copy has no byte too many, so that a sanitizer sees a read
 * beyond it. *ret_text is freed by the caller. */
static bool parse(const char *text, size_t len, struct access_line *ret_line, char **ret_text)
{
    *ret_text = malloc(len ? len : 1);
    memcpy(*ret_text, text, len);
    return access_line_parse(*ret_text, len, ret_line);
}

static bool is_line(const char *text, size_t len)
{
    struct access_line line;
    char *copy;
    bool parsed = parse(text, len, &line, &copy);
    free(copy);
    return parsed;
}

TEST(access_line, an_answer_has_all_its_fields)
{
    static const char text[] =
        "answer1\t206\t1500\t1795260833865855\t95\t220\t100\tX\t::1\tid-1\t" TRACE
        "\t00-1\tPUT /api/files/upload/a?b=c HTTP/1.1\tcurl/7.88.1";
    struct access_line line;
    char *copy;
    CHECK(parse(text, sizeof text - 1, &line, &copy));
    CHECK_INT(line.kind, ACCESS_ANSWER);
    CHECK_INT(line.status, 206);
    CHECK_INT(line.duration_us, 1500);
    CHECK_INT(line.begun_us, 1795260833865855);
    CHECK_INT(line.sent_bytes, 95);
    CHECK_INT(line.body_bytes, 100);
    CHECK(line.is_cut);
    CHECK_STR(line.client, "::1");
    CHECK_STR(line.request_id, "id-1");
    CHECK_STR(line.traceparent, TRACE);
    CHECK_STR(line.caller_traceparent, "00-1");
    CHECK_STR(line.method, "PUT");
    CHECK_STR(line.target, "/api/files/upload/a?b=c");
    CHECK_STR(line.user_agent, "curl/7.88.1");
    CHECK_STR(access_line_path(&line), "/api/files/upload/a");
    CHECK_INT(access_line_method(&line), METHOD_PUT);
    CHECK_INT(access_line_route(&line), ROUTE_UPLOAD_NAME);
    free(copy);
}

TEST(access_line, what_was_not_there_is_empty)
{
    static const char text[] = "answer1\t501\t-1\t0\t-\t-\t-\t-\t127.0.0.1\t-\t-\t-\t  HTTP/1.1\t-";
    struct access_line line;
    char *copy;
    CHECK(parse(text, sizeof text - 1, &line, &copy));
    CHECK_INT(line.duration_us, 0);
    CHECK_INT(line.sent_bytes, 0);
    CHECK_INT(line.body_bytes, 0);
    CHECK(!line.is_cut);
    CHECK(line.request_id.len + line.traceparent.len + line.user_agent.len == 0);
    CHECK(line.method.len + line.target.len == 0);
    CHECK_INT(access_line_method(&line), METHOD_OTHER);
    CHECK_INT(access_line_route(&line), ROUTE_UNKNOWN);
    free(copy);
}

TEST(access_line, no_more_of_a_body_counts_than_was_read)
{
    static const struct {
        const char *read_bytes;
        const char *announced;
        int64_t want;
    } rows[] = {{"300", "200", 200}, {"300", "300", 300}, {"300", "99999", 300},
                {"300", "-", 0},     {"300", "12x", 0},   {"-", "200", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        struct access_line line = {.body_bytes = -1};
        int len =
            snprintf(text, sizeof text, "answer1\t200\t1\t1\t1\t%s\t%s" MIDDLE "GET / HTTP/1.0\t-",
                     rows[i].read_bytes, rows[i].announced);
        CHECK_ROW(rows[i].announced, access_line_parse(text, (size_t)len, &line));
        CHECK_INT_ROW(rows[i].announced, line.body_bytes, rows[i].want);
    }
}

TEST(access_line, escapes_are_resolved)
{
    static const struct {
        const char *escaped;
        const char *want;
    } rows[] = {{"a\\\"b\\\\c", "a\"b\\c"},
                {"\\a\\b\\t\\n\\v\\f\\r", "\a\b\t\n\v\f\r"},
                {"\\xC3\\xA9\\x7F", "\xc3\xa9\x7f"},
                {"\\xc3", "\xc3"},
                {"\\\\x41", "\\x41"},
                {"\\\\\\\\", "\\\\"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        struct access_line line = {.user_agent = STR("")};
        int len =
            snprintf(text, sizeof text, "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\t%s",
                     rows[i].escaped);
        CHECK_ROW(rows[i].escaped, access_line_parse(text, (size_t)len, &line));
        CHECK_STR_ROW(rows[i].escaped, line.user_agent, rows[i].want);
    }
}

TEST(access_line, what_is_no_line_is_none)
{
    static const char *const rows[] = {
        "",
        "answer1",
        "answer1\t",
        "status1",
        "status1\t1\t2",
        "answer2\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "xanswer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1",
        "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx\ty",
        "answer1\t\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "answer1\t-\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "answer1\t99\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "answer1\t1000\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "answer1\t200\t-2\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "answer1\t200\t1x\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "answer1\t200\t1\t1\t99999999999999999999\t1\t-" MIDDLE "GET / HTTP/1.1\tx",
        "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET /\tx",
        "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1status1\t7",
        "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\t\\",
        "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\t\\q",
        "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\t\\x4",
        "answer1\t200\t1\t1\t1\t1\t-" MIDDLE "GET / HTTP/1.1\t\\xzz",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_ROW(rows[i], !is_line(rows[i], strlen(rows[i])));
}

TEST(access_line, a_piece_of_a_line_is_none)
{
    static const char text[] = LINE("200", "GET /status1 HTTP/1.1");
    char glued[sizeof text + sizeof text];
    CHECK(is_line(text, sizeof text - 1));
    for (size_t i = 1; i < sizeof text; i++)
        CHECK(!is_line(text + i, sizeof text - 1 - i));
    for (size_t i = 1; i < sizeof text; i++) {
        memcpy(glued, text, i);
        memcpy(glued + i, text, sizeof text - 1);
        CHECK(!is_line(glued, i + sizeof text - 1));
        memcpy(glued + i, "status1\t12", 10);
        CHECK(!is_line(glued, i + 10));
    }
}

TEST(access_line, an_answer_to_the_service_brings_a_mark)
{
    static const struct {
        const char *text;
        uint64_t mark;
    } rows[] = {{"status1\t17", 17}, {"status1\t-", 0}, {"status1\t0", 0},
                {"status1\tx", 0},   {"status1\t", 0},  {"status1\t9223372036854775808", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct access_line line = {.kind = ACCESS_ANSWER};
        char *copy;
        CHECK_ROW(rows[i].text, parse(rows[i].text, strlen(rows[i].text), &line, &copy));
        CHECK_INT_ROW(rows[i].text, line.kind, ACCESS_STATUS);
        CHECK_INT_ROW(rows[i].text, (int64_t)line.mark, (int64_t)rows[i].mark);
        free(copy);
    }
}

TEST(access_line, routes_are_of_the_path_as_lighttpd_understands_it)
{
    static const struct {
        const char *target;
        enum route want;
    } rows[] = {
        {"/live", ROUTE_LIVE},
        {"/live?x=/ready", ROUTE_LIVE},
        {"/live/", ROUTE_UNKNOWN},
        {"//api/./files", ROUTE_FILES},
        {"/x/../live", ROUTE_LIVE},
        {"/../../live", ROUTE_LIVE},
        {"/%6cive", ROUTE_LIVE},
        {"/x%2f%2e%2e%2flive", ROUTE_LIVE},
        {"/api/files/0199c0de", ROUTE_FILE},
        {"/api/files/%00", ROUTE_FILE},
        {"/api/files/a/meta", ROUTE_FILE_META},
        {"/api/files/upload/", ROUTE_UPLOAD_NAME},
        {"/api/files/upload", ROUTE_UPLOAD},
        {"/api/files/upload/a%2Fb", ROUTE_UPLOAD_NAME},
        {"/api/files/upload/a/b", ROUTE_UNKNOWN},
        {"/api/health/live", ROUTE_LIVE},
        {"http://host:80/live?x", ROUTE_LIVE},
        {"HTTPS://host/api/files", ROUTE_FILES},
        {"http://host", ROUTE_UNKNOWN},
        {"ftp://host/live", ROUTE_UNKNOWN},
        {"/%zzlive", ROUTE_UNKNOWN},
        {"*", ROUTE_UNKNOWN},
        {"", ROUTE_UNKNOWN},
        {"/", ROUTE_UNKNOWN},
        {"/..", ROUTE_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct access_line line = {.target = str_of(rows[i].target)};
        CHECK_INT_ROW(rows[i].target, access_line_route(&line), rows[i].want);
    }
}

TEST(access_line, methods_are_the_known_ones)
{
    CHECK_INT(access_line_method(&(struct access_line){.method = STR("GET")}), METHOD_GET);
    CHECK_INT(access_line_method(&(struct access_line){.method = STR("OPTIONS")}), METHOD_OPTIONS);
    CHECK_INT(access_line_method(&(struct access_line){.method = STR("TRACE")}), METHOD_OTHER);
    CHECK_INT(access_line_method(&(struct access_line){.method = STR("get")}), METHOD_OTHER);
    CHECK_INT(access_line_method(&(struct access_line){.method = STR("")}), METHOD_OTHER);
}
