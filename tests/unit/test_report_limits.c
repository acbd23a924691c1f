#include "check.h"
#include "observe/report_parts.h"

#define NS_PER_S 1000000000LL
#define NOW_S 1000
#define WALL_MS 784111777000 /* Sun, 06 Nov 1994 08:49:37 GMT */

static int64_t steady(const struct clock *clock)
{
    (void)clock;
    return NOW_S * NS_PER_S;
}

static int64_t wall(const struct clock *clock)
{
    (void)clock;
    return WALL_MS;
}

static const struct clock fixed_clock = {.wall_ms = wall, .steady_ns = steady};

TEST(report_limits, of_errors_are_read)
{
    static const struct {
        const char *header;
        int64_t seconds;
    } rows[] = {
        {"", 0},
        {"60::organization", 60},
        {"60:error:organization", 60},
        {"60:error:organization:quota_exceeded", 60},
        {"60:transaction;error;session:key", 60},
        {"86400:transaction;span:organization", 0},
        {"60::key, 86400:transaction;span:organization", 60},
        {"86400:transaction:organization,30:error:project,10::key", 30},
        {"10::key,2700:error:organization", 2700},
        {"60:default;error;security:organization", 60},
        {"60:errors:organization", 0},
        {"60:Error:organization", 0},
        {" 60 : error : organization ", 60},
        {"1.2:error:key", 2},
        {"0::key", 0},
        {"60", 0},
        {"60:", 60},
        {":error:key", 0},
        {"-60:error:key", 0},
        {"abc:error:key, 5::key", 5},
        {"99999999999999999999:error:key", 0},
        {"999999999:error:key", 86400},
        {",,,:::,", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_INT_ROW(rows[i].header, report_limits_parse(str_of(rows[i].header)), rows[i].seconds);
}

static int64_t taken(int status, const char *headers)
{
    struct http_reply reply;
    struct report_limits limits = {0};
    http_reply_init(&reply);
    reply.status = status;
    buf_append_text(&reply.headers, headers);
    report_limits_take(&limits, &reply, &fixed_clock);
    http_reply_release(&reply);
    return limits.until_ns ? limits.until_ns / NS_PER_S - NOW_S : 0;
}

TEST(report_limits, are_taken_from_every_answer)
{
    static const struct {
        int status;
        const char *headers;
        int64_t seconds;
    } rows[] = {
        {200, "", 0},
        {200, "X-Sentry-Rate-Limits: 7:error:key\r\n", 7},
        {500, "x-sentry-rate-limits: 7::key\r\n", 7},
        {200, "Retry-After: 30\r\n", 0},
        {503, "Retry-After: 30\r\n", 0},
        {429, "", 60},
        {429, "Retry-After: 30\r\n", 30},
        {429, "Retry-After: 2.5\r\n", 3},
        {429, "Retry-After: Sun, 06 Nov 1994 08:50:07 GMT\r\n", 30},
        {429, "Retry-After: Sun, 06 Nov 1994 08:49:07 GMT\r\n", 0},
        {429, "Retry-After: soon\r\n", 60},
        {429, "Retry-After: 999999999\r\n", 86400},
        {429, "Retry-After: 30\r\nX-Sentry-Rate-Limits: 7:error:key\r\n", 7},
        {429, "Retry-After: 30\r\nX-Sentry-Rate-Limits: 7:transaction:key\r\n", 30},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_INT_ROW(rows[i].headers, taken(rows[i].status, rows[i].headers), rows[i].seconds);
}

TEST(report_limits, a_shorter_one_does_not_end_a_longer)
{
    struct http_reply reply;
    struct report_limits limits = {.until_ns = (NOW_S + 100) * NS_PER_S};
    http_reply_init(&reply);
    reply.status = 200;
    buf_append_text(&reply.headers, "X-Sentry-Rate-Limits: 7:error:key\r\n");
    report_limits_take(&limits, &reply, &fixed_clock);
    CHECK_INT(limits.until_ns, (NOW_S + 100) * NS_PER_S);
    http_reply_release(&reply);
}
