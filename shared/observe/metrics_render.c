/* The text of a scrape: the families of the table, summed over the slots. */
#include <locale.h>
#include <math.h>

#include "observe/metrics_process.h"
#include "observe/metrics_text.h"

#define LABELS_MAX (64 * 1024)
#define BOUND_TEXT_SIZE 32

/* ---- sums over the slots ---- */

/* A slot's cells stand side by side: so it is read in one go. */
static void sum_cells(struct render *render)
{
    size_t cells = render->metrics->layout.cells;
    for (unsigned i = 0; i < render->slot_count; i++)
        for (size_t cell = 0; cell < cells; cell++)
            render->sums[cell] +=
                atomic_load_explicit(&render->slots[i]->cells[cell], memory_order_relaxed);
}

static int64_t sum_gauge(const struct render *render, size_t cell)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < render->slot_count; i++)
        if (render->alive[i])
            sum += atomic_load_explicit(&render->slots[i]->cells[cell], memory_order_relaxed);
    return (int64_t)sum;
}

static double sum_double(const struct render *render, size_t cell)
{
    double sum = 0;
    for (unsigned i = 0; i < render->slot_count; i++) {
        uint64_t bits = atomic_load_explicit(&render->slots[i]->cells[cell], memory_order_relaxed);
        double value;
        memcpy(&value, &bits, sizeof value);
        sum += value;
    }
    return sum;
}

/* The youngest of the processes' exemplars of a bucket; time_ms is 0 when there is none. */
static struct exemplar youngest_exemplar(const struct render *render,
                                         const struct exemplar_place *place)
{
    struct exemplar youngest = {.time_ms = 0};
    for (unsigned i = 0; i < render->slot_count; i++) {
        struct exemplar exemplar = {.time_ms = 0};
        if (exemplar_read(&render->metrics->layout, render->slots[i], place, &exemplar) &&
            exemplar.time_ms > youngest.time_ms)
            youngest = exemplar;
    }
    return youngest;
}

/* ---- families ---- */

static void begin_series(struct render *render, const struct metric_row *row, size_t series)
{
    unsigned indices[METRIC_LABELS_MAX] = {0};
    for (unsigned i = row->label_count; i-- > 0;) {
        indices[i] = (unsigned)(series % row->labels[i]->count);
        series /= row->labels[i]->count;
    }
    buf_reset(&render->labels);
    for (unsigned i = 0; i < row->label_count; i++)
        metrics_append_label(&render->labels, i ? ',' : '\0', row->labels[i]->name,
                             metric_label_value(row->labels[i], indices[i]));
}

/* name, suffix, labels and a blank */
static void append_sample(struct render *render, const struct metric_row *row, const char *suffix)
{
    buf_append_text(render->out, row->name);
    buf_append_text(render->out, suffix);
    if (row->label_count) {
        buf_append_char(render->out, '{');
        buf_append_str(render->out, buf_str(&render->labels));
        buf_append_char(render->out, '}');
    }
    buf_append_char(render->out, ' ');
}

static void append_single(struct render *render, const struct metric_row *row, size_t cell,
                          size_t series)
{
    bool is_counter = row->type == METRIC_COUNTER;
    if (is_counter && render->sums[cell] == 0 && row->label_count)
        return;
    begin_series(render, row, series);
    append_sample(render, row, is_counter ? "_total" : "");
    if (is_counter)
        metrics_append_count(render->out, render->sums[cell]);
    else
        buf_append_int(render->out, sum_gauge(render, cell));
    buf_append_char(render->out, '\n');
}

/* The values of the label `le`. */
struct bucket_texts {
    char le[METRIC_BOUNDS_MAX + 1][BOUND_TEXT_SIZE];
};

static void make_bucket_texts(const struct render *render, struct metric_bounds bounds,
                              struct bucket_texts *texts)
{
    struct buf text;
    buf_init(&text, BOUND_TEXT_SIZE - 1);
    for (unsigned i = 0; i <= bounds.count; i++) {
        buf_reset(&text);
        metrics_append_bound(&text, render->format,
                             i < bounds.count ? bounds.values[i] : (double)INFINITY);
        snprintf(texts->le[i], BOUND_TEXT_SIZE, "%s", buf_text(&text));
    }
    buf_release(&text);
}

static void append_exemplar(struct render *render, const struct exemplar_place *place)
{
    struct exemplar exemplar = youngest_exemplar(render, place);
    if (exemplar.time_ms == 0)
        return;
    buf_printf(render->out, " # {trace_id=\"%016llx%016llx\"} ",
               (unsigned long long)exemplar.trace_high, (unsigned long long)exemplar.trace_low);
    metrics_append_value(render->out, exemplar.value);
    buf_printf(render->out, " %llu.%03u", (unsigned long long)(exemplar.time_ms / 1000),
               (unsigned)(exemplar.time_ms % 1000));
}

static void append_bucket(struct render *render, const struct metric_row *row, const char *le,
                          uint64_t running)
{
    buf_append_text(render->out, row->name);
    buf_append_text(render->out, "_bucket{");
    buf_append_str(render->out, buf_str(&render->labels));
    buf_append_text(render->out, row->label_count ? ",le=\"" : "le=\"");
    buf_append_text(render->out, le);
    buf_append_text(render->out, "\"} ");
    metrics_append_count(render->out, running);
}

static void append_histogram(struct render *render, enum metric metric, size_t series,
                             const struct bucket_texts *texts)
{
    const struct metrics_layout *layout = &render->metrics->layout;
    const struct metric_row *row = &metric_rows[metric];
    unsigned bounds = metric_bounds(layout, row).count;
    size_t cell = layout->offset[metric] + series * metric_cells_per_series(layout, row);
    const uint64_t *buckets = &render->sums[cell];
    uint64_t count = 0;
    for (unsigned i = 0; i <= bounds; i++)
        count += buckets[i];
    if (count == 0)
        return;
    bool has_exemplars =
        render->format == METRICS_OPENMETRICS && layout->exemplar_offset[metric] != METRIC_ABSENT;
    begin_series(render, row, series);
    uint64_t running = 0;
    for (unsigned i = 0; i <= bounds; i++) {
        running += buckets[i];
        append_bucket(render, row, texts->le[i], running);
        if (has_exemplars && buckets[i] > 0)
            append_exemplar(render, &(struct exemplar_place){metric, series, i});
        buf_append_char(render->out, '\n');
    }
    append_sample(render, row, "_sum");
    metrics_append_value(render->out, sum_double(render, cell + bounds + 1));
    buf_append_char(render->out, '\n');
    append_sample(render, row, "_count");
    metrics_append_count(render->out, count);
    buf_append_char(render->out, '\n');
}

static void append_row(struct render *render, enum metric metric)
{
    const struct metrics_layout *layout = &render->metrics->layout;
    const struct metric_row *row = &metric_rows[metric];
    size_t series_count = metric_series_count(row);
    if (layout->offset[metric] == METRIC_ABSENT)
        return;
    metrics_append_head(render,
                        &(struct metrics_family){row->name, row->unit, row->help, row->type});
    if (row->type == METRIC_HISTOGRAM) {
        struct bucket_texts texts;
        make_bucket_texts(render, metric_bounds(layout, row), &texts);
        for (size_t series = 0; series < series_count; series++)
            append_histogram(render, metric, series, &texts);
        return;
    }
    for (size_t series = 0; series < series_count; series++)
        append_single(render, row, layout->offset[metric] + series, series);
}

static void find_slots(struct render *render)
{
    for (unsigned i = 0; i < render->metrics->layout.slot_count; i++) {
        struct metrics_slot *slot = metrics_slot_at(render->metrics, i);
        if (!metrics_slot_was_used(slot))
            continue;
        render->alive[render->slot_count] = process_is_alive(atomic_load(&slot->owner));
        render->slots[render->slot_count++] = slot;
    }
}

static void append_all(struct render *render)
{
    /* Numbers are written with a point whatever locale a library has set. Never fails for "C". */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = uselocale(plain);
    find_slots(render);
    sum_cells(render);
    for (size_t metric = 0; metric < METRIC_COUNT; metric++)
        append_row(render, (enum metric)metric);
    metrics_append_programs(render);
    if (render->format == METRICS_OPENMETRICS)
        buf_append_text(render->out, "# EOF\n");
    uselocale(before);
    freelocale(plain);
}

enum err_code metrics_render(struct metrics *metrics, enum metrics_format format, struct buf *out,
                             struct err *err)
{
    struct render render = {.metrics = metrics, .format = format, .out = out};
    render.sums = calloc(metrics->layout.cells, sizeof *render.sums);
    if (!render.sums)
        return err_set(err, ERR_NO_MEMORY, "metrics_render", "Out of memory.");
    buf_init(&render.labels, LABELS_MAX);
    append_all(&render);
    bool failed = out->failed || render.labels.failed;
    buf_release(&render.labels);
    free(render.sums);
    if (failed)
        return err_set(err, ERR_INTERNAL, "metrics_render", "The metrics don't fit the answer.");
    return ERR_OK;
}
