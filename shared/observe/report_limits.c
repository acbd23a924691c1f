#include "base/text.h"
#include "observe/report_parts.h"

#define NS_PER_MS 1000000LL
#define MS_PER_S 1000LL
#define DEFAULT_S 60
#define LONGEST_S (24 * 3600) /* so that a slip of the tracker is not for ever */

/* Whole seconds, a fraction counts as one more; false when it is no number. */
static bool parse_seconds(struct str text, int64_t *ret_seconds)
{
    text = str_trim(text);
    bool has_fraction = str_find(text, '.') < text.len;
    int64_t seconds;
    int64_t fraction = 0;
    struct str whole = str_cut(&text, '.');
    if (!text_parse_int(whole, 0, INT64_MAX, &seconds))
        return false;
    if (has_fraction && !text_parse_int(text, 0, INT64_MAX, &fraction))
        return false;
    if (seconds >= LONGEST_S)
        seconds = LONGEST_S;
    else if (fraction > 0)
        seconds++;
    *ret_seconds = seconds;
    return true;
}

/* "error;transaction", or nothing for all; "default" is what has no name of its own. */
static bool is_for_errors(struct str categories)
{
    if (str_trim(categories).len == 0)
        return true;
    while (categories.len > 0)
        if (str_equal(str_trim(str_cut(&categories, ';')), STR("error")))
            return true;
    return false;
}

/* https://develop.sentry.dev/sdk/expected-features/rate-limiting/: limits and commas, each
 * "seconds:categories:scope:reason"; what can't be read is passed over. */
int64_t report_limits_parse(struct str header)
{
    int64_t longest = 0;
    while (header.len > 0) {
        struct str limit = str_cut(&header, ',');
        bool has_categories = str_find(limit, ':') < limit.len;
        int64_t seconds;
        if (!parse_seconds(str_cut(&limit, ':'), &seconds) || !has_categories)
            continue;
        if (is_for_errors(str_cut(&limit, ':')) && seconds > longest)
            longest = seconds;
    }
    return longest;
}

static int64_t retry_after(const struct http_reply *reply, const struct clock *clock)
{
    struct str value;
    int64_t seconds;
    if (!http_reply_header(reply, "Retry-After", &value))
        return DEFAULT_S;
    if (parse_seconds(value, &seconds))
        return seconds;
    if (!text_parse_http_date(value, &seconds))
        return DEFAULT_S;
    seconds -= clock_wall_ms(clock) / MS_PER_S;
    if (seconds < 0)
        return 0;
    return seconds < LONGEST_S ? seconds : LONGEST_S;
}

void report_limits_take(struct report_limits *limits, const struct http_reply *reply,
                        const struct clock *clock)
{
    struct str value;
    int64_t seconds = 0;
    if (http_reply_header(reply, "X-Sentry-Rate-Limits", &value))
        seconds = report_limits_parse(value);
    if (seconds == 0 && reply->status == 429)
        seconds = retry_after(reply, clock);
    int64_t until_ns = clock_steady_ns(clock) + seconds * MS_PER_S * NS_PER_MS;
    if (seconds > 0 && until_ns > limits->until_ns)
        limits->until_ns = until_ns;
}
