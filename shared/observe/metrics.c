#include "observe/metrics.h"

#include <math.h>

#include "observe/metrics_table.h"

static bool has_metric(const struct metrics *metrics, enum metric metric)
{
    return metrics && (unsigned)metric < METRIC_COUNT &&
           metrics->layout.offset[metric] != METRIC_ABSENT;
}

/* The number of the series that the labels name. */
static size_t find_series(enum metric metric, const unsigned *labels)
{
    const struct metric_row *row = &metric_rows[metric];
    size_t series = 0;
    for (unsigned i = 0; i < row->label_count; i++) {
        const struct metric_label *label = row->labels[i];
        unsigned index = labels ? labels[i] : label->count;
        if (labels && label->index)
            index = label->index(index);
        if (index >= label->count)
            index = label->count - 1;
        series = series * label->count + index;
    }
    return series;
}

/* Of a counter or gauge. */
static _Atomic uint64_t *find_cell(const struct metrics *metrics, enum metric metric,
                                   const unsigned *labels)
{
    return &metrics->own->cells[metrics->layout.offset[metric] + find_series(metric, labels)];
}

void metrics_add(struct metrics *metrics, enum metric metric, const unsigned *labels,
                 int64_t amount)
{
    if (!has_metric(metrics, metric))
        return;
    enum metric_type type = metric_rows[metric].type;
    if (type == METRIC_HISTOGRAM || (type == METRIC_COUNTER && amount < 0))
        return;
    atomic_fetch_add_explicit(find_cell(metrics, metric, labels), (uint64_t)amount,
                              memory_order_relaxed);
}

void metrics_set(struct metrics *metrics, enum metric metric, const unsigned *labels, int64_t value)
{
    if (has_metric(metrics, metric) && metric_rows[metric].type == METRIC_GAUGE)
        atomic_store_explicit(find_cell(metrics, metric, labels), (uint64_t)value,
                              memory_order_relaxed);
}

static void add_double(_Atomic uint64_t *cell, double value)
{
    uint64_t old_bits = atomic_load_explicit(cell, memory_order_relaxed);
    uint64_t new_bits;
    do {
        double sum;
        memcpy(&sum, &old_bits, sizeof sum);
        sum += value;
        memcpy(&new_bits, &sum, sizeof new_bits);
    } while (!atomic_compare_exchange_weak_explicit(cell, &old_bits, new_bits, memory_order_relaxed,
                                                    memory_order_relaxed));
}

void metrics_observe_traced(struct metrics *metrics, enum metric metric, const unsigned *labels,
                            double value, const char *trace_id)
{
    if (!has_metric(metrics, metric) || !isfinite(value))
        return;
    const struct metric_row *row = &metric_rows[metric];
    if (row->type != METRIC_HISTOGRAM)
        return;
    if (value < 0) /* a sum that falls would be a counter that falls */
        value = 0;
    const struct metrics_layout *layout = &metrics->layout;
    struct metric_bounds bounds = metric_bounds(layout, row);
    struct exemplar_place place = {.metric = metric, .series = find_series(metric, labels)};
    while (place.bucket < bounds.count && value > bounds.values[place.bucket])
        place.bucket++;
    size_t first = layout->offset[metric] + place.series * metric_cells_per_series(layout, row);
    _Atomic uint64_t *cells = &metrics->own->cells[first];
    atomic_fetch_add_explicit(&cells[place.bucket], 1, memory_order_relaxed);
    add_double(&cells[bounds.count + 1], value);
    if (trace_id && layout->exemplar_offset[metric] != METRIC_ABSENT)
        exemplar_keep(metrics, &place, value, trace_id);
}

void metrics_observe(struct metrics *metrics, enum metric metric, const unsigned *labels,
                     double value)
{
    metrics_observe_traced(metrics, metric, labels, value, NULL);
}

uint64_t metrics_total(const struct metrics *metrics, enum metric metric)
{
    if (!has_metric(metrics, metric) || metric_rows[metric].type != METRIC_COUNTER)
        return 0;
    size_t first = metrics->layout.offset[metric];
    size_t count = metric_series_count(&metric_rows[metric]);
    uint64_t sum = 0;
    for (unsigned i = 0; i < metrics->layout.slot_count; i++) {
        struct metrics_slot *slot = metrics_slot_at(metrics, i);
        if (!metrics_slot_was_used(slot))
            continue;
        for (size_t cell = first; cell < first + count; cell++)
            sum += atomic_load_explicit(&slot->cells[cell], memory_order_relaxed);
    }
    return sum;
}
