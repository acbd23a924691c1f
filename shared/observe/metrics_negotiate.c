/* Which of the two formats an Accept header asks for (RFC 9110 §12.5.1). */
#include "observe/metrics.h"

#define Q_ONE 1000

/* RFC 9110 §12.4.2: "0", "0.5", "1.000"; anything else is no weight: -1. In thousandths. */
static int parse_q(struct str text)
{
    if (text.len == 0 || text.len > 5 || (text.data[0] != '0' && text.data[0] != '1'))
        return -1;
    if (text.len > 1 && text.data[1] != '.')
        return -1;
    int q = (text.data[0] - '0') * Q_ONE;
    int digit_value = Q_ONE / 10;
    for (size_t i = 2; i < text.len; i++, digit_value /= 10) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return -1;
        q += (text.data[i] - '0') * digit_value;
    }
    return q <= Q_ONE ? q : -1;
}

struct media_range {
    struct str type;
    struct str version; /* empty: any */
    int q;              /* thousandths */
};

static struct media_range parse_range(struct str text)
{
    struct media_range range = {.q = Q_ONE};
    range.type = str_trim(str_cut(&text, ';'));
    while (text.len) {
        struct str value = str_cut(&text, ';');
        struct str name = str_trim(str_cut(&value, '='));
        value = str_trim(value);
        if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"')
            value = (struct str){value.data + 1, value.len - 2};
        if (str_equal_nocase(name, STR("q")))
            range.q = parse_q(value);
        else if (str_equal_nocase(name, STR("version")))
            range.version = value;
    }
    return range;
}

static bool range_names(const struct media_range *range, struct str type, struct str version)
{
    return str_equal_nocase(range->type, type) &&
           (range->version.len == 0 || str_equal(range->version, version));
}

static void raise_to(int *q, int other)
{
    if (other > *q)
        *q = other;
}

enum metrics_format metrics_negotiate(struct str accept)
{
    int openmetrics = -1; /* only when named: a wildcard gets the older format */
    int text = -1;
    int any = -1;
    while (accept.len) {
        struct media_range range = parse_range(str_cut(&accept, ','));
        if (range_names(&range, STR("application/openmetrics-text"), STR("1.0.0")))
            raise_to(&openmetrics, range.q);
        else if (range_names(&range, STR("text/plain"), STR("0.0.4")))
            raise_to(&text, range.q);
        else if (str_equal(range.type, STR("*/*")) || str_equal_nocase(range.type, STR("text/*")))
            raise_to(&any, range.q);
    }
    if (openmetrics <= 0)
        return METRICS_TEXT;
    if (text >= 0)
        return openmetrics > text ? METRICS_OPENMETRICS : METRICS_TEXT;
    return openmetrics >= any ? METRICS_OPENMETRICS : METRICS_TEXT;
}

const char *metrics_content_type(enum metrics_format format)
{
    return format == METRICS_OPENMETRICS
               ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
               : "text/plain; version=0.0.4; charset=utf-8";
}
