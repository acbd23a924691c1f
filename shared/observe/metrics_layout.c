/* What the options make of the table: where cells stand, and the hash that tells layouts apart. */
#include <math.h>

#include "observe/metrics_table.h"

#define FORMAT_VERSION "2"
#define CACHE_LINE 64u
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The default of METRICS_DURATION_BUCKETS (base/config_table.c). */
static const double default_bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                        0.25,   0.5,   1,      2.5,   5,    10,    60};

struct metric_bounds metric_bounds(const struct metrics_layout *layout,
                                   const struct metric_row *row)
{
    if (row->durations)
        return (struct metric_bounds){layout->duration_bounds, layout->duration_bound_count};
    return (struct metric_bounds){row->bounds, row->bound_count};
}

size_t metric_cells_per_series(const struct metrics_layout *layout, const struct metric_row *row)
{
    return row->type == METRIC_HISTOGRAM ? metric_bounds(layout, row).count + 2u : 1u;
}

static void hash_bytes(uint64_t *hash, const void *data, size_t len) /* FNV-1a */
{
    for (size_t i = 0; i < len; i++)
        *hash = (*hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
}

static void hash_number(uint64_t *hash, uint64_t value)
{
    for (int shift = 0; shift < 64; shift += 8)
        *hash = (*hash ^ (value >> shift & 0xff)) * 0x100000001b3u;
}

static void hash_text(uint64_t *hash, const char *text)
{
    hash_bytes(hash, text, strlen(text) + 1);
}

static void hash_row(uint64_t *hash, const struct metrics_layout *layout,
                     const struct metric_row *row)
{
    struct metric_bounds bounds = metric_bounds(layout, row);
    hash_number(hash, row->type);
    hash_number(hash, row->label_count);
    hash_number(hash, bounds.count);
    hash_text(hash, row->name);
    for (unsigned i = 0; i < row->label_count; i++) {
        hash_text(hash, row->labels[i]->name);
        for (unsigned value = 0; value < row->labels[i]->count; value++)
            hash_text(hash, metric_label_value(row->labels[i], value));
    }
    if (bounds.count)
        hash_bytes(hash, bounds.values, bounds.count * sizeof bounds.values[0]);
}

static bool set_bounds(struct metrics_layout *layout, const double *bounds, unsigned count)
{
    if (count == 0) {
        bounds = default_bounds;
        count = COUNT_OF(default_bounds);
    }
    if (count > METRIC_BOUNDS_MAX)
        return false;
    double before = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!(bounds[i] > before) || !isfinite(bounds[i]))
            return false;
        before = layout->duration_bounds[i] = bounds[i];
    }
    layout->duration_bound_count = count;
    return true;
}

static void place_cells(struct metrics_layout *layout, uint64_t *hash)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];
        layout->offset[i] = METRIC_ABSENT;
        if (!(row->sets & METRICS_SET_BIT(layout->set)))
            continue;
        hash_row(hash, layout, row);
        layout->offset[i] = layout->cells;
        layout->cells += metric_series_count(row) * metric_cells_per_series(layout, row);
    }
}

static void place_exemplars(struct metrics_layout *layout)
{
    layout->words = layout->cells;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];
        layout->exemplar_offset[i] = METRIC_ABSENT;
        if (!row->durations || layout->offset[i] == METRIC_ABSENT)
            continue;
        layout->exemplar_offset[i] = layout->words;
        size_t buckets = metric_bounds(layout, row).count + 1u;
        layout->words += metric_series_count(row) * buckets * EXEMPLAR_WORDS;
    }
}

bool metrics_layout_make(struct metrics_layout *layout, const struct metrics_options *options)
{
    uint64_t hash = 0xcbf29ce484222325u;
    *layout = (struct metrics_layout){
        .set = options->set,
        .slot_count = options->set == METRICS_OF_GATEWAY ? METRICS_GATEWAY_SLOTS : METRICS_SLOTS};
    if (!set_bounds(layout, options->duration_bounds, options->duration_bound_count))
        return false;
    hash_text(&hash, FORMAT_VERSION);
    place_cells(layout, &hash);
    place_exemplars(layout);
    size_t bytes = sizeof(struct metrics_slot) + layout->words * sizeof(uint64_t);
    layout->slot_size = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    layout->file_size = sizeof(struct metrics_header) + layout->slot_count * layout->slot_size;
    hash_number(&hash, layout->file_size);
    layout->hash = hash;
    return true;
}
