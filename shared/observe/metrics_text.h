/*
 * How a scrape is written: numbers, labels and heads of families, in both formats. Prometheus text
 * 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/, OpenMetrics 1.0:
 * https://prometheus.io/docs/specs/om/open_metrics_spec/. Private to observe/.
 *
 * Doubles are written in the calling thread's locale, which must have a decimal point.
 */
#ifndef COFFER_OBSERVE_METRICS_TEXT_H
#define COFFER_OBSERVE_METRICS_TEXT_H

#include "observe/metrics_table.h"

struct metrics_family {
    const char *name; /* without _total */
    const char *unit; /* or NULL */
    const char *help;
    enum metric_type type;
};

/* A scrape under way. */
struct render {
    const struct metrics *metrics;
    enum metrics_format format;
    struct buf *out;
    struct buf labels; /* of the series under way: a="b",c="d" */
    unsigned slot_count;
    struct metrics_slot *slots[METRICS_SLOTS]; /* that were ever used */
    bool alive[METRICS_SLOTS];
    uint64_t *sums; /* of each cell over the slots; means something for counts only */
};

void metrics_append_head(struct render *render, const struct metrics_family *family);
/* before, then name="value" with what must be escaped; `before` 0: nothing. */
void metrics_append_label(struct buf *out, char before, const char *name, const char *value);
void metrics_append_count(struct buf *out, uint64_t count);
/* The shortest text that reads back as the same number. */
void metrics_append_value(struct buf *out, double value);
/* The value of a label `le`. */
void metrics_append_bound(struct buf *out, enum metrics_format format, double bound);

/* process_*{program} (metrics_programs.c). */
void metrics_append_programs(struct render *render);

#endif
