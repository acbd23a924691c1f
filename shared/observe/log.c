#include "observe/log.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "observe/log_queue.h"
#include "observe/log_redact.h"

#define TAIL 2        /* "}\n" */
#define INT_DIGITS 20 /* of INT64_MIN, with its sign */

void log_line_init(struct log_line *line)
{
    line->len = 0;
    line->reserved = 0;
}

static size_t room(const struct log_line *line)
{
    size_t taken = line->len + line->reserved + TAIL;
    return taken < LOG_LINE_MAX ? LOG_LINE_MAX - taken : 0;
}

static void put(struct log_line *line, const char *data, size_t len)
{
    memcpy(line->text + line->len, data, len);
    line->len += len;
}

void log_line_raw(struct log_line *line, const char *data, size_t len)
{
    if (len <= room(line))
        put(line, data, len);
}

/* Not for themselves stand in a JSON string, or need a look at their neighbours: controls, quote,
 * backslash, DEL, and all beyond ASCII. */
static bool is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte != '"' && byte != '\\' && byte < 0x7f;
}

static size_t escape_ascii(unsigned char c, char target[8])
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *form = short_forms; *form; form += 2) {
        if (c == (unsigned char)form[0]) {
            target[0] = '\\';
            target[1] = form[1];
            return 2;
        }
    }
    return (size_t)snprintf(target, 8, "\\u%04x", c);
}

/* C1 controls steer terminals; U+2028 and U+2029 end a line for some readers. */
static bool is_wide_control(uint32_t code_point)
{
    return (code_point >= 0x80 && code_point < 0xa0) || code_point == 0x2028 ||
           code_point == 0x2029;
}

/* What stands for the character at text.data[*at], which is_plain refused; moves *at past it. */
static size_t escape_next(struct str text, size_t *at, char target[8])
{
    size_t start = *at;
    unsigned char first = (unsigned char)text.data[start];
    *at = start + 1;
    if (first < 0x80)
        return escape_ascii(first, target);
    uint32_t code_point = 0;
    size_t next = start;
    if (!text_utf8_next(text, &next, &code_point)) {
        memcpy(target, "\xef\xbf\xbd", 3); /* U+FFFD for each byte that belongs nowhere */
        return 3;
    }
    *at = next;
    if (is_wide_control(code_point))
        return (size_t)snprintf(target, 8, "\\u%04x", (unsigned)code_point);
    memcpy(target, text.data + start, next - start);
    return next - start;
}

/* False when the line is full. */
static bool put_escaped(struct log_line *line, struct str text)
{
    size_t left = room(line);
    for (size_t at = 0; at < text.len;) {
        size_t run = at;
        while (run < text.len && is_plain((unsigned char)text.data[run]))
            run++;
        size_t plain = run - at < left ? run - at : left;
        put(line, text.data + at, plain);
        left -= plain;
        at += plain;
        if (at == text.len || at < run)
            return at == text.len;
        char escaped[8];
        size_t len = escape_next(text, &at, escaped);
        if (len > left)
            return false;
        put(line, escaped, len);
        left -= len;
    }
    return true;
}

void log_line_escaped(struct log_line *line, struct str text)
{
    for (size_t at = 0; at < text.len;) {
        struct log_secret secret = log_redact_next(text, at);
        if (!put_escaped(line, (struct str){text.data + at, secret.from - at}))
            return;
        if (secret.to > secret.from)
            log_line_raw(line, LOG_REDACTED, sizeof LOG_REDACTED - 1);
        at = secret.to;
    }
}

/* `,"name":` and the quotes of a string. */
static size_t frame_size(const struct log_field *field)
{
    return strlen(field->name) + 4 + (field->type == LOG_STRING ? 2 : 0);
}

static size_t reserve_size(const struct log_field *field)
{
    size_t value = INT_DIGITS;
    if (field->type == LOG_STRING)
        value = field->text.len < LOG_STRING_RESERVE ? field->text.len : LOG_STRING_RESERVE;
    return frame_size(field) + value;
}

bool log_line_reserve(struct log_line *line, const struct log_field *field)
{
    if (room(line) < reserve_size(field) + LOG_STRING_RESERVE) /* the message is a string, too */
        return false;
    line->reserved += reserve_size(field);
    return true;
}

static void put_int(struct log_line *line, int64_t value)
{
    char digits[INT_DIGITS];
    size_t at = sizeof digits;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        digits[--at] = '-';
    put(line, digits + at, sizeof digits - at);
}

void log_line_field(struct log_line *line, const struct log_field *field)
{
    bool is_string = field->type == LOG_STRING;
    line->reserved -= reserve_size(field);
    put(line, ",\"", 2);
    put(line, field->name, strlen(field->name));
    put(line, is_string ? "\":\"" : "\":", is_string ? 3 : 2);
    if (!is_string) {
        put_int(line, field->number);
        return;
    }
    line->reserved++; /* the closing quote */
    log_line_escaped(line, field->text);
    line->reserved--;
    put(line, "\"", 1);
}

void log_line_finish(struct log_line *line)
{
    put(line, "}\n", TAIL);
}

#define ECS_VERSION "8.11.0"
#define PROGRAM_MAX 32
#define ENVIRONMENT_MAX 64
#define HOST_MAX 64
#define PREFIX_BYTES 8
#define QUEUE_MIN ((size_t)64 * 1024)
#define FIXED_MAX 768 /* the middle, the event id, the trace */

/* From the end of the message to the event id's own digits; the same in every line of a level. */
struct line_middle {
    char text[FIXED_MAX - 128];
    size_t len;
};

struct log {
    struct log_sink sink; /* the queue's */
    struct log_queue *queue;
    enum err_level level;
    uint64_t success_sample; /* 1 in so many */
    const struct clock *clock;
    struct line_middle middles[ERR_LEVEL_ERROR + 1];
    _Atomic uint64_t next_event;
    _Atomic uint64_t dropped;
    struct metrics *_Atomic metrics; /* borrowed, or NULL */
};

static const char *const level_names[] = {
    [ERR_LEVEL_DEBUG] = "debug",
    [ERR_LEVEL_INFO] = "info",
    [ERR_LEVEL_WARN] = "warn",
    [ERR_LEVEL_ERROR] = "error",
};

/* ---- a line ---- */

static void put_hex(char *target, uint64_t value)
{
    for (int i = 15; i >= 0; i--, value >>= 4)
        target[i] = "0123456789abcdef"[value & 15];
}

/* Everything after the message that is in every line: the middle, the event id, the trace. */
static size_t make_fixed(struct log *log, enum err_level level, const struct trace *trace,
                         char target[FIXED_MAX])
{
    const struct line_middle *middle = &log->middles[level];
    char *at = target;
    memcpy(at, middle->text, middle->len);
    at += middle->len;
    put_hex(at, atomic_fetch_add_explicit(&log->next_event, 1, memory_order_relaxed));
    at += 16;
    *at++ = '"';
    if (trace && trace->trace_id[0]) {
        static const char first[] = ",\"trace.id\":\"";
        static const char second[] = "\",\"trace_id\":\"";
        memcpy(at, first, sizeof first - 1);
        at += sizeof first - 1;
        memcpy(at, trace->trace_id, 32);
        at += 32;
        memcpy(at, second, sizeof second - 1);
        at += sizeof second - 1;
        memcpy(at, trace->trace_id, 32);
        at += 32;
        *at++ = '"';
    }
    return (size_t)(at - target);
}

static void start_line(struct log *log, struct log_line *line, enum err_level level)
{
    static const char first[] = "{\"@timestamp\":\"";
    static const char second[] = "\",\"log.level\":\"";
    static const char third[] = "\",\"message\":\"";
    char time_text[TEXT_TIME_SIZE];
    text_time(clock_wall_ms(log->clock), time_text);
    log_line_raw(line, first, sizeof first - 1);
    log_line_raw(line, time_text, strlen(time_text));
    log_line_raw(line, second, sizeof second - 1);
    log_line_raw(line, level_names[level], strlen(level_names[level]));
    log_line_raw(line, third, sizeof third - 1);
}

struct entry {
    enum err_level level;
    const struct trace *trace; /* or NULL */
    const char *message;
    struct log_fields fields;
};

static void make_line(struct log *log, const struct entry *entry, struct log_line *line)
{
    char fixed[FIXED_MAX];
    size_t fixed_len = make_fixed(log, entry->level, entry->trace, fixed);
    log_line_init(line);
    start_line(log, line, entry->level);
    line->reserved = fixed_len;
    size_t fitting = 0;
    while (fitting < entry->fields.count && log_line_reserve(line, &entry->fields.all[fitting]))
        fitting++;
    log_line_escaped(line, str_of(entry->message));
    line->reserved -= fixed_len;
    log_line_raw(line, fixed, fixed_len);
    for (size_t i = 0; i < fitting; i++)
        log_line_field(line, &entry->fields.all[i]);
    log_line_finish(line);
}

/* ---- for the queue ---- */

static void count_dropped(void *context, uint64_t count)
{
    struct log *log = context;
    atomic_fetch_add(&log->dropped, count);
    metrics_add(atomic_load(&log->metrics), METRIC_LOG_LINES_DROPPED, NULL, (int64_t)count);
}

static size_t tell_of_dropped(void *context, uint64_t count, char *target)
{
    struct log_line line;
    const struct log_field fields[] = {LOG_FIELD_INT("coffer.log.dropped", (int64_t)count)};
    const struct entry entry = {
        .level = ERR_LEVEL_WARN, .message = "log lines were dropped", .fields = {fields, 1}};
    make_line(context, &entry, &line);
    memcpy(target, line.text, line.len);
    return line.len;
}

/* ---- open and close ---- */

/* The machine's name, of what names are made of. */
static void host_name(char target[HOST_MAX + 1])
{
    if (gethostname(target, HOST_MAX) != 0)
        target[0] = '\0';
    target[HOST_MAX] = '\0';
    for (char *at = target; *at; at++)
        if (*at < '-' || *at > 'z' || *at == '\\')
            *at = '_';
}

static void make_middles(struct log *log, const char *program, const char *environment)
{
    unsigned char random[PREFIX_BYTES];
    char prefix[2 * PREFIX_BYTES + 1];
    char host[HOST_MAX + 1];
    host_name(host);
    clock_random(log->clock, random, sizeof random);
    text_hex(random, sizeof random, prefix);
    for (size_t level = 0; level <= ERR_LEVEL_ERROR; level++) {
        struct line_middle *middle = &log->middles[level];
        int len = snprintf(
            middle->text, sizeof middle->text,
            "\",\"ecs.version\":\"" ECS_VERSION "\",\"service.name\":\"coffer-%.*s\","
            "\"service.environment\":\"%.*s\",\"level\":\"%s\",\"service\":\"coffer-%.*s\","
            "\"host.name\":\"%s\",\"process.pid\":%ld,\"event.id\":\"%s",
            PROGRAM_MAX, program, ENVIRONMENT_MAX, environment, level_names[level], PROGRAM_MAX,
            program, host, (long)getpid(), prefix);
        middle->len = (size_t)len;
    }
}

static enum err_code open_queue(struct log *log, int64_t bytes, struct err *err)
{
    const struct log_queue_options options = {
        .sink = &log->sink,
        .max_bytes = bytes > (int64_t)QUEUE_MIN ? (size_t)bytes : QUEUE_MIN,
        .on_lost = count_dropped,
        .tell = tell_of_dropped,
        .context = log};
    enum err_code code = log_queue_open(&log->queue, &options, err);
    if (code != ERR_OK)
        log_sink_close(&log->sink);
    return code;
}

enum err_code log_open(struct log **ret_log, const struct config *config, const char *program,
                       const struct clock *clock, struct err *err)
{
    struct log *log = calloc(1, sizeof *log);
    if (!log)
        return err_set(err, ERR_NO_MEMORY, "log_open", "Out of memory.");
    log->level = config->log_level;
    log->success_sample = config->log_success_sample > 1 ? (uint64_t)config->log_success_sample : 1;
    log->clock = clock;
    make_middles(log, program, config->environment);
    enum err_code code = log_sink_open(&log->sink, config->log_file, err);
    if (code == ERR_OK)
        code = open_queue(log, config->log_queue_bytes, err);
    if (code != ERR_OK) {
        free(log);
        return code;
    }
    *ret_log = log;
    return ERR_OK;
}

void log_close(struct log *log)
{
    if (!log || !log_queue_close(log->queue))
        return;
    log_sink_close(&log->sink);
    free(log);
}

void log_reopen(struct log *log)
{
    if (log)
        log_queue_reopen(log->queue);
}

bool log_flush(struct log *log, int64_t ms)
{
    return !log || log_queue_flush(log->queue, ms);
}

bool log_enabled(const struct log *log, enum err_level level)
{
    return log && level >= log->level;
}

/* FNV-1a, and the mixing of splitmix64: callers may count their trace ids up. */
static uint64_t hash_of(const char *trace_id)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const char *at = trace_id; *at; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(1099511628211);
    hash = (hash ^ (hash >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ (hash >> 27)) * UINT64_C(0x94d049bb133111eb);
    return hash ^ (hash >> 31);
}

bool log_keeps_success(const struct log *log, const char *trace_id)
{
    return log && (log->success_sample == 1 || hash_of(trace_id) % log->success_sample == 0);
}

void log_count_drops(struct log *log, struct metrics *metrics)
{
    uint64_t before = log_dropped(log);
    atomic_store(&log->metrics, metrics);
    metrics_add(metrics, METRIC_LOG_LINES_DROPPED, NULL, (int64_t)before);
}

uint64_t log_dropped(const struct log *log)
{
    return log ? atomic_load(&log->dropped) : 0;
}

void log_write(struct log *log, enum err_level level, const struct trace *trace,
               const char *message, struct log_fields fields)
{
    if (!log_enabled(log, level) || level > ERR_LEVEL_ERROR)
        return;
    struct log_line line;
    const struct entry entry = {level, trace, message, fields};
    make_line(log, &entry, &line);
    log_queue_put(log->queue, (struct str){line.text, line.len});
}

static void add(struct log_list *list, struct log_field field)
{
    if (list->count < LOG_LIST_MAX)
        list->fields[list->count++] = field;
}

void log_list_text(struct log_list *list, const char *name, struct str value)
{
    if (value.len > 0)
        log_list_required(list, name, value);
}

void log_list_required(struct log_list *list, const char *name, struct str value)
{
    add(list, LOG_FIELD_STR(name, value));
}

void log_list_number(struct log_list *list, const char *name, int64_t value)
{
    add(list, LOG_FIELD_INT(name, value));
}

struct log_fields log_list_all(const struct log_list *list)
{
    return (struct log_fields){list->fields, list->count};
}
