/*
 * How a scrape is written: numbers, labels and heads of families, in both formats. Prometheus text
 * 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/, OpenMetrics 1.0:
 * https://prometheus.io/docs/specs/om/open_metrics_spec/. Private to observe/.
 *
 * Doubles are written in the calling thread's locale, which must have a decimal point.
 */
#include <float.h>
#include <locale.h>
#include <math.h>

#include "observe/metrics.h"
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

static void metrics_append_count(struct buf *out, uint64_t count)
{
    char digits[COUNT_DIGITS];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + count % 10);
    while ((count /= 10) > 0);
    buf_append(out, digits + at, sizeof digits - at);
}

/* The shortest text that reads back as the same number. */
static void metrics_append_value(struct buf *out, double value)
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

/* The value of a label `le`. */
static void metrics_append_bound(struct buf *out, enum metrics_format format, double bound)
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

/* before, then name="value" with what must be escaped; `before` 0: nothing. */
static void metrics_append_label(struct buf *out, char before, const char *name, const char *value)
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
static void metrics_append_head(struct render *render, const struct metrics_family *family)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    bool openmetrics = render->format == METRICS_OPENMETRICS;
    const char *suffix = family->type == METRIC_COUNTER && !openmetrics ? "_total" : "";
    buf_printf(render->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", family->name, suffix, family->help,
               family->name, suffix, types[family->type]);
    if (openmetrics && family->unit)
        buf_printf(render->out, "# UNIT %s %s\n", family->name, family->unit);
}

/* process_*{program}: what /proc says of the processes behind the slots. */

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

static const struct metrics_family process_families[PROCESS_METRIC_COUNT] = {
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

/* process_*{program} */
static void metrics_append_programs(struct render *render)
{
    struct program programs[METRICS_SLOTS] = {0};
    unsigned count = read_programs(render, programs);
    for (size_t metric = 0; metric < PROCESS_METRIC_COUNT; metric++) {
        const struct metrics_family *family = &process_families[metric];
        metrics_append_head(render, family);
        for (unsigned i = 0; i < count; i++) {
            if (!programs[i].known[metric])
                continue;
            buf_printf(render->out, "%s%s", family->name,
                       family->type == METRIC_COUNTER ? "_total" : "");
            metrics_append_label(render->out, '{', "program", programs[i].name);
            buf_append_text(render->out, "} ");
            metrics_append_value(render->out, programs[i].values[metric]);
            buf_append_char(render->out, '\n');
        }
    }
}

/* The text of a scrape: the families of the table, summed over the slots. */

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

/* Which of the two formats an Accept header asks for (RFC 9110 §12.5.1). */

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
