#include "observe/log.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/text.h"
#include "observe/log_line.h"
#include "observe/log_queue.h"

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
