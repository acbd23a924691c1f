/*
 * Input: X-Sentry-Rate-Limits as a tracker sent it, and the same bytes as a whole head of an answer
 * and as a message to be masked. Reports may be held back for a day at most.
 */
#include "fuzz.h"
#include "observe/log_redact.h"
#include "observe/report_parts.h"

#define DAY_S (24 * 3600)
#define NS_PER_S 1000000000LL

static int64_t steady(const struct clock *clock)
{
    (void)clock;
    return NS_PER_S;
}

static int64_t wall(const struct clock *clock)
{
    (void)clock;
    return 784111777000;
}

static const struct clock fixed_clock = {.wall_ms = wall, .steady_ns = steady};

static void check_head(struct str bytes, int status)
{
    struct http_reply reply;
    struct report_limits limits = {.until_ns = 0};
    http_reply_init(&reply);
    reply.status = status;
    buf_append_str(&reply.headers, bytes);
    report_limits_take(&limits, &reply, &fixed_clock);
    MUST(limits.until_ns >= 0 && limits.until_ns <= (DAY_S + 1) * NS_PER_S);
    http_reply_release(&reply);
}

/* A mark of a secret is one byte, and a mask has three. */
static void check_masked(struct str bytes)
{
    struct buf out;
    buf_init(&out, 4 * bytes.len + 4);
    log_redact(bytes, &out);
    MUST(!out.failed && out.len <= 4 * bytes.len);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct str text = {(const char *)bytes, size};
    int64_t seconds = report_limits_parse(text);
    MUST(seconds >= 0 && seconds <= DAY_S);
    check_head(text, 200);
    check_head(text, 429);
    check_masked(text);
    return 0;
}
