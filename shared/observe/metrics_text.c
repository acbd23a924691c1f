#include "observe/metrics_text.h"

#include <float.h>
#include <math.h>

#define WHOLE_MAX 9007199254740992.0 /* 2^53: above it a double is no longer exact */
#define COUNT_DIGITS 20

/* In exponent form, with as few digits as read back as the same number. Any decimal of up to DBL_DIG
 * digits does so, so that one is found at once, but for the zeros at its end. */
static int print_shortest(char *text, size_t size, double value)
{
    int digits = DBL_DIG - 1;
    do
        snprintf(text, size, "%.*e", digits, value);
    while (strtod(text, NULL) != value && ++digits < DBL_DECIMAL_DIG);
    const char *end = strchr(text, 'e');
    if (!end)
        return 0;
    while (digits > 0 && *--end == '0')
        digits--;
    snprintf(text, size, "%.*e", digits, value);
    return digits;
}

/* As Go prints it: OpenMetrics asks for that form in `le`, so that the same bound is the same label
 * whoever exposes it. */
static void append_shortest(struct buf *out, double value)
{
    char text[40];
    int digits = print_shortest(text, sizeof text, value);
    const char *exponent_text = strchr(text, 'e');
    int exponent = exponent_text ? (int)strtol(exponent_text + 1, NULL, 10) : 0;
    if (exponent < -4 || exponent >= 6)
        buf_append_text(out, text);
    else
        buf_printf(out, "%.*f", digits > exponent ? digits - exponent : 0, value);
}

void metrics_append_count(struct buf *out, uint64_t count)
{
    char digits[COUNT_DIGITS];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + count % 10);
    while ((count /= 10) > 0);
    buf_append(out, digits + at, sizeof digits - at);
}

void metrics_append_value(struct buf *out, double value)
{
    if (isinf(value)) { /* a sum that left the range of a double */
        buf_append_text(out, value > 0 ? "+Inf" : "-Inf");
    } else if (fabs(value) < WHOLE_MAX && value == (double)(int64_t)value) {
        if (value < 0)
            buf_append_char(out, '-');
        metrics_append_count(out, (uint64_t)fabs(value));
    } else {
        append_shortest(out, value);
    }
}

void metrics_append_bound(struct buf *out, enum metrics_format format, double bound)
{
    size_t start = out->len;
    if (isinf(bound)) {
        buf_append_text(out, "+Inf");
        return;
    }
    append_shortest(out, bound);
    if (format != METRICS_OPENMETRICS || out->failed)
        return;
    struct str text = {out->data + start, out->len - start};
    if (str_find(text, '.') == text.len && str_find(text, 'e') == text.len)
        buf_append_text(out, ".0");
}

void metrics_append_label(struct buf *out, char before, const char *name, const char *value)
{
    if (before)
        buf_append_char(out, before);
    buf_append_text(out, name);
    buf_append_text(out, "=\"");
    for (; *value; value++) {
        size_t plain = strcspn(value, "\n\"\\");
        buf_append(out, value, plain);
        value += plain;
        if (!*value)
            break;
        buf_append_char(out, '\\');
        buf_append_char(out, *value == '\n' ? 'n' : *value);
    }
    buf_append_char(out, '"');
}

/* OpenMetrics names the family of a counter without the _total of its samples. */
void metrics_append_head(struct render *render, const struct metrics_family *family)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    bool openmetrics = render->format == METRICS_OPENMETRICS;
    const char *suffix = family->type == METRIC_COUNTER && !openmetrics ? "_total" : "";
    buf_printf(render->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", family->name, suffix, family->help,
               family->name, suffix, types[family->type]);
    if (openmetrics && family->unit)
        buf_printf(render->out, "# UNIT %s %s\n", family->name, family->unit);
}
