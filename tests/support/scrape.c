#include "scrape.h"

struct buf scrape_text(struct metrics *metrics, enum metrics_format format)
{
    struct buf text;
    struct err err;
    buf_init(&text, 1 << 24);
    if (metrics_render(metrics, format, &text, &err) != ERR_OK) {
        fprintf(stderr, "metrics_render: %s\n", err.message);
        abort();
    }
    return text;
}

double scrape_value(struct metrics *metrics, const char *series)
{
    double value = SCRAPE_ABSENT;
    struct buf text = scrape_text(metrics, METRICS_TEXT);
    struct str rest = buf_str(&text);
    size_t len = strlen(series);
    while (rest.len) {
        struct str line = str_cut(&rest, '\n');
        if (str_starts_with(line, str_of(series)) && line.len > len && line.data[len] == ' ')
            value = strtod(line.data + len, NULL);
    }
    buf_release(&text);
    return value;
}
