/*
 * The text of a scrape. Prometheus text 0.0.4:
 * https://prometheus.io/docs/instrumenting/exposition_formats/, OpenMetrics 1.0:
 * https://prometheus.io/docs/specs/om/open_metrics_spec/.
 */
#include <float.h>
#include <locale.h>
#include <math.h>

#include "observe/metrics_process.h"
#include "observe/metrics_table.h"

#define WHOLE_MAX 9007199254740992.0 /* 2^53: above it a double is no longer exact */

struct render {
    const struct metrics *metrics;
    enum metrics_format format;
    struct buf *out;
    unsigned slot_count;
    struct metrics_slot *slots[METRICS_SLOTS]; /* that were ever used */
    bool alive[METRICS_SLOTS];
};

struct family {
    const char *name; /* without _total */
    const char *unit; /* or NULL */
    const char *help;
    enum metric_type type;
};

/* ---- numbers and labels ---- */

/* The shortest text that reads back as the same number, as Go prints it: OpenMetrics asks for that
 * form in `le`, so that the same bound is the same label whoever exposes it. */
static void append_shortest(struct buf *out, double value)
{
    char text[40];
    int digits = 0;
    do
        snprintf(text, sizeof text, "%.*e", digits, value);
    while (strtod(text, NULL) != value && ++digits < DBL_DECIMAL_DIG);
    const char *exponent_text = strchr(text, 'e');
    int exponent = exponent_text ? (int)strtol(exponent_text + 1, NULL, 10) : 0;
    if (exponent < -4 || exponent >= 6)
        buf_append_text(out, text);
    else
        buf_printf(out, "%.*f", digits > exponent ? digits - exponent : 0, value);
}

static void append_value(struct buf *out, double value)
{
    if (isinf(value)) /* a sum that left the range of a double */
        buf_append_text(out, value > 0 ? "+Inf" : "-Inf");
    else if (fabs(value) < WHOLE_MAX && value == (double)(int64_t)value)
        buf_append_int(out, (int64_t)value);
    else
        append_shortest(out, value);
}

static void append_bound(struct render *render, double bound)
{
    size_t start = render->out->len;
    append_shortest(render->out, bound);
    if (render->format != METRICS_OPENMETRICS || render->out->failed)
        return;
    struct str text = {render->out->data + start, render->out->len - start};
    if (str_find(text, '.') == text.len && str_find(text, 'e') == text.len)
        buf_append_text(render->out, ".0");
}

static void append_label(struct buf *out, char before, const char *name, const char *value)
{
    buf_printf(out, "%c%s=\"", before, name);
    for (; *value; value++) {
        if (*value == '\n') {
            buf_append_text(out, "\\n");
            continue;
        }
        if (*value == '"' || *value == '\\')
            buf_append_char(out, '\\');
        buf_append_char(out, *value);
    }
    buf_append_char(out, '"');
}

static void append_labels(struct render *render, const struct metric_row *row, size_t series,
                          const double *bound)
{
    unsigned indices[METRIC_LABELS_MAX];
    for (unsigned i = row->label_count; i-- > 0;) {
        indices[i] = (unsigned)(series % row->labels[i]->count);
        series /= row->labels[i]->count;
    }
    char before = '{';
    for (unsigned i = 0; i < row->label_count; i++) {
        append_label(render->out, before, row->labels[i]->name,
                     metric_label_value(row->labels[i], indices[i]));
        before = ',';
    }
    if (bound) {
        buf_printf(render->out, "%cle=\"", before);
        if (isinf(*bound))
            buf_append_text(render->out, "+Inf");
        else
            append_bound(render, *bound);
        buf_append_char(render->out, '"');
    }
    if (row->label_count || bound)
        buf_append_char(render->out, '}');
    buf_append_char(render->out, ' ');
}

/* OpenMetrics names the family of a counter without the _total of its samples. */
static void append_head(struct render *render, const struct family *family)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    bool openmetrics = render->format == METRICS_OPENMETRICS;
    const char *suffix = family->type == METRIC_COUNTER && !openmetrics ? "_total" : "";
    buf_printf(render->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", family->name, suffix, family->help,
               family->name, suffix, types[family->type]);
    if (openmetrics && family->unit)
        buf_printf(render->out, "# UNIT %s %s\n", family->name, family->unit);
}

/* ---- sums over the slots ---- */

static uint64_t sum_cell(const struct render *render, size_t cell)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < render->slot_count; i++)
        sum += atomic_load_explicit(&render->slots[i]->cells[cell], memory_order_relaxed);
    return sum;
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

/* ---- families of the table ---- */

static void append_single(struct render *render, const struct metric_row *row, size_t cell,
                          size_t series)
{
    uint64_t count = row->type == METRIC_COUNTER ? sum_cell(render, cell) : 0;
    if (row->type == METRIC_COUNTER && count == 0 && row->label_count)
        return;
    buf_append_text(render->out, row->name);
    if (row->type == METRIC_COUNTER)
        buf_append_text(render->out, "_total");
    append_labels(render, row, series, NULL);
    if (row->type == METRIC_COUNTER)
        buf_printf(render->out, "%llu\n", (unsigned long long)count);
    else
        buf_printf(render->out, "%lld\n", (long long)sum_gauge(render, cell));
}

static void append_histogram(struct render *render, const struct metric_row *row, size_t cell,
                             size_t series)
{
    uint64_t buckets[METRIC_BOUNDS_MAX + 1] = {0};
    uint64_t count = 0;
    for (unsigned i = 0; i <= row->bound_count; i++)
        count += buckets[i] = sum_cell(render, cell + i);
    if (count == 0)
        return;
    uint64_t running = 0;
    for (unsigned i = 0; i <= row->bound_count; i++) {
        double bound = i < row->bound_count ? row->bounds[i] : (double)INFINITY;
        running += buckets[i];
        buf_printf(render->out, "%s_bucket", row->name);
        append_labels(render, row, series, &bound);
        buf_printf(render->out, "%llu\n", (unsigned long long)running);
    }
    buf_printf(render->out, "%s_sum", row->name);
    append_labels(render, row, series, NULL);
    append_value(render->out, sum_double(render, cell + row->bound_count + 1));
    buf_printf(render->out, "\n%s_count", row->name);
    append_labels(render, row, series, NULL);
    buf_printf(render->out, "%llu\n", (unsigned long long)count);
}

static void append_row(struct render *render, enum metric metric)
{
    const struct metric_row *row = &metric_rows[metric];
    size_t series_count = metric_series_count(row);
    size_t cells = metric_cells_per_series(row);
    size_t cell = render->metrics->layout.offset[metric];
    append_head(render, &(struct family){row->name, row->unit, row->help, row->type});
    for (size_t series = 0; series < series_count; series++, cell += cells) {
        if (row->type == METRIC_HISTOGRAM)
            append_histogram(render, row, cell, series);
        else
            append_single(render, row, cell, series);
    }
}

/* ---- process_* ---- */

enum process_metric {
    PROCESS_CPU,
    PROCESS_MEMORY,
    PROCESS_VIRTUAL_MEMORY,
    PROCESS_OPEN_FDS,
    PROCESS_MAX_FDS,
    PROCESS_START,
    PROCESS_THREADS,
    PROCESS_METRIC_COUNT
};

static const struct family process_families[PROCESS_METRIC_COUNT] = {
    [PROCESS_CPU] = {"process_cpu_seconds", "seconds",
                     "CPU time of a program, over all its processes.", METRIC_COUNTER},
    [PROCESS_MEMORY] = {"process_resident_memory_bytes", "bytes", "Memory in RAM.", METRIC_GAUGE},
    [PROCESS_VIRTUAL_MEMORY] = {"process_virtual_memory_bytes", "bytes", "Address space.",
                                METRIC_GAUGE},
    [PROCESS_OPEN_FDS] = {"process_open_fds", NULL, "Open file descriptors.", METRIC_GAUGE},
    [PROCESS_MAX_FDS] = {"process_max_fds", NULL, "File descriptors it may open.", METRIC_GAUGE},
    [PROCESS_START] = {"process_start_time_seconds", "seconds",
                       "Start of the youngest process, seconds since 1970.", METRIC_GAUGE},
    [PROCESS_THREADS] = {"process_threads", NULL, "Threads.", METRIC_GAUGE},
};

/* A program may have several processes: while one drains and the next runs already. */
struct program {
    char name[METRIC_PROGRAM_SIZE];
    double values[PROCESS_METRIC_COUNT];
    bool known[PROCESS_METRIC_COUNT];
};

static void program_add(struct program *program, enum process_metric metric, double value)
{
    program->values[metric] += value;
    program->known[metric] = true;
}

/* CPU time that was shown once is never taken back, also when the process is gone; what a killed
 * process used after the last scrape is not known. The base is read before the process' own time:
 * it can only have been changed when that process was gone, and then there is no time to read. */
static double slot_cpu_seconds(struct metrics_slot *slot, uint64_t base, uint64_t used)
{
    uint64_t shown = atomic_load(&slot->cpu_total_us);
    while (base + used > shown &&
           !atomic_compare_exchange_weak(&slot->cpu_total_us, &shown, base + used))
        ;
    return (double)(base + used > shown ? base + used : shown) / 1e6;
}

static void program_add_slot(struct program *program, struct metrics_slot *slot, bool alive)
{
    struct process_usage usage = {0};
    uint64_t base = atomic_load(&slot->cpu_base_us);
    bool read = alive && process_read_usage(atomic_load(&slot->owner), &usage);
    program_add(program, PROCESS_CPU, slot_cpu_seconds(slot, base, usage.cpu_us));
    if (!read)
        return;
    program_add(program, PROCESS_MEMORY, (double)usage.memory);
    program_add(program, PROCESS_VIRTUAL_MEMORY, (double)usage.virtual_memory);
    program_add(program, PROCESS_THREADS, (double)usage.threads);
    if (usage.has_fds)
        program_add(program, PROCESS_OPEN_FDS, (double)usage.open_fds);
    if (usage.has_max_fds)
        program_add(program, PROCESS_MAX_FDS, (double)usage.max_fds);
    double start = (double)atomic_load(&slot->start_ms) / 1000;
    if (start > program->values[PROCESS_START])
        program->values[PROCESS_START] = start;
    program->known[PROCESS_START] = program->values[PROCESS_START] > 0;
}

static unsigned read_programs(const struct render *render, struct program *programs)
{
    unsigned count = 0;
    for (unsigned i = 0; i < render->slot_count; i++) {
        char name[METRIC_PROGRAM_SIZE];
        metrics_slot_program(render->slots[i], name);
        if (name[0] == '\0')
            continue;
        unsigned at = 0;
        while (at < count && strcmp(programs[at].name, name) != 0)
            at++;
        if (at == count)
            memcpy(programs[count++].name, name, sizeof name);
        program_add_slot(&programs[at], render->slots[i], render->alive[i]);
    }
    return count;
}

static void append_processes(struct render *render)
{
    struct program programs[METRICS_SLOTS] = {0};
    unsigned count = read_programs(render, programs);
    for (size_t metric = 0; metric < PROCESS_METRIC_COUNT; metric++) {
        const struct family *family = &process_families[metric];
        append_head(render, family);
        for (unsigned i = 0; i < count; i++) {
            if (!programs[i].known[metric])
                continue;
            buf_printf(render->out, "%s%s", family->name,
                       family->type == METRIC_COUNTER ? "_total" : "");
            append_label(render->out, '{', "program", programs[i].name);
            buf_append_text(render->out, "} ");
            append_value(render->out, programs[i].values[metric]);
            buf_append_char(render->out, '\n');
        }
    }
}

static void find_slots(struct render *render)
{
    for (unsigned i = 0; i < METRICS_SLOTS; i++) {
        struct metrics_slot *slot = metrics_slot_at(render->metrics, i);
        if (!metrics_slot_was_used(slot))
            continue;
        render->alive[render->slot_count] = process_is_alive(atomic_load(&slot->owner));
        render->slots[render->slot_count++] = slot;
    }
}

enum err_code metrics_render(struct metrics *metrics, enum metrics_format format, struct buf *out,
                             struct err *err)
{
    struct render render = {.metrics = metrics, .format = format, .out = out};
    /* Numbers are written with a point whatever locale a library has set. Never fails for "C". */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = uselocale(plain);
    find_slots(&render);
    for (size_t metric = 0; metric < METRIC_COUNT; metric++)
        append_row(&render, (enum metric)metric);
    append_processes(&render);
    if (format == METRICS_OPENMETRICS)
        buf_append_text(out, "# EOF\n");
    uselocale(before);
    freelocale(plain);
    if (out->failed)
        return err_set(err, ERR_INTERNAL, "metrics_render", "The metrics don't fit the answer.");
    return ERR_OK;
}
