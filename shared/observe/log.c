#include "observe/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "observe/log_line.h"

#define ECS_VERSION "8.11.0"
#define PROGRAM_MAX 32
#define ENVIRONMENT_MAX 64
#define PREFIX_BYTES 8
#define TORN_LOOKS 10
#define TORN_LOOK_NS 1000000L

/* What a failed write left behind: nothing is known, or we know that half a line is there. */
enum tail_state { TAIL_WHOLE, TAIL_UNKNOWN, TAIL_TORN };

/* From the end of the message to the event id's own digits; the same in every line of a level. */
struct line_middle {
    char text[384];
    size_t len;
};

struct log {
    int fd; /* keeps its number for life; log_reopen exchanges what it stands for */
    bool is_socket;
    struct sockaddr_un address;
    char path[CONFIG_TEXT_SIZE];
    enum err_level level;
    const struct clock *clock;
    struct line_middle middles[ERR_LEVEL_ERROR + 1];
    _Atomic uint64_t next_event;
    _Atomic uint64_t dropped;
    struct metrics *metrics; /* borrowed, or NULL */
    _Atomic int tail;        /* enum tail_state */
};

static const char *const level_names[] = {
    [ERR_LEVEL_DEBUG] = "debug",
    [ERR_LEVEL_INFO] = "info",
    [ERR_LEVEL_WARN] = "warn",
    [ERR_LEVEL_ERROR] = "error",
};

/* ---- the sink ---- */

/* Never waits, also where the name is a FIFO; reading is for the look at the last byte. */
static int open_file(const char *path)
{
    int flags = O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int fd = open(path, O_RDWR | flags, 0640);
    if (fd < 0 && errno == EACCES)
        fd = open(path, O_WRONLY | flags, 0640);
    return fd;
}

static int open_socket(struct log *log, struct str path)
{
    log->address.sun_family = AF_UNIX;
    if (!str_copy(log->address.sun_path, sizeof log->address.sun_path, path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return -1;
    int failed = connect(probe, (struct sockaddr *)&log->address, sizeof log->address);
    int reason = errno;
    close(probe);
    errno = reason;
    /* Not connected itself, but sent with the address: so a receiver may restart. */
    return failed ? -1 : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/* Size of the file and its last byte; false when that can't be told. */
static bool look_at_end(const struct log *log, off_t *ret_size, char *ret_last)
{
    struct stat stat;
    *ret_last = '\n';
    lseek(log->fd, 0, SEEK_HOLE); /* waits for an append that is under way */
    if (fstat(log->fd, &stat) != 0 || !S_ISREG(stat.st_mode))
        return false;
    *ret_size = stat.st_size;
    return stat.st_size == 0 || pread(log->fd, ret_last, 1, stat.st_size - 1) == 1;
}

/* A line that another program is writing right now looks torn for a moment: it is torn when the
 * file's end stays as it is. */
static bool file_ends_in_half_a_line(const struct log *log, enum tail_state tail)
{
    const struct timespec pause = {.tv_nsec = TORN_LOOK_NS};
    off_t size = 0;
    off_t before = -1;
    char last;
    for (int look = 0; look < TORN_LOOKS; look++) {
        if (!look_at_end(log, &size, &last))
            return tail == TAIL_TORN;
        if (last == '\n')
            return false;
        if (size == before)
            return true;
        before = size;
        nanosleep(&pause, NULL);
    }
    return false;
}

/* A full disk may have cut a line, ours or another program's. The next line then starts with a
 * newline, so that only the cut line is lost. */
static bool write_to_file(struct log *log, const struct log_line *line)
{
    enum tail_state tail = (enum tail_state)atomic_load(&log->tail);
    bool newline = tail != TAIL_WHOLE && file_ends_in_half_a_line(log, tail);
    const char *data = line->text + (newline ? 0 : 1);
    size_t len = line->len + (newline ? 1 : 0);
    ssize_t written;
    do
        written = write(log->fd, data, len);
    while (written < 0 && errno == EINTR);
    if (written == (ssize_t)len) {
        if (tail != TAIL_WHOLE)
            atomic_store(&log->tail, TAIL_WHOLE);
        return true;
    }
    if (written > 0)
        atomic_store(&log->tail, TAIL_TORN);
    else if (tail == TAIL_WHOLE)
        atomic_store(&log->tail, TAIL_UNKNOWN);
    return false;
}

static bool send_to_socket(struct log *log, const struct log_line *line)
{
    ssize_t sent;
    do
        sent = sendto(log->fd, line->text + 1, line->len, MSG_DONTWAIT | MSG_NOSIGNAL,
                      (const struct sockaddr *)&log->address, sizeof log->address);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)line->len;
}

/* ---- open and close ---- */

static void make_middles(struct log *log, const char *program, const char *environment)
{
    unsigned char random[PREFIX_BYTES];
    char prefix[2 * PREFIX_BYTES + 1];
    clock_random(log->clock, random, sizeof random);
    text_hex(random, sizeof random, prefix);
    for (size_t level = 0; level <= ERR_LEVEL_ERROR; level++) {
        struct line_middle *middle = &log->middles[level];
        int len =
            snprintf(middle->text, sizeof middle->text,
                     "\",\"ecs.version\":\"" ECS_VERSION "\",\"service.name\":\"coffer-%.*s\","
                     "\"service.environment\":\"%.*s\",\"level\":\"%s\","
                     "\"service\":\"coffer-%.*s\",\"event.id\":\"%s",
                     PROGRAM_MAX, program, ENVIRONMENT_MAX, environment, level_names[level],
                     PROGRAM_MAX, program, prefix);
        middle->len = (size_t)len;
    }
}

enum err_code log_open(struct log **ret_log, const struct config *config, const char *program,
                       const struct clock *clock, struct err *err)
{
    struct log *log = calloc(1, sizeof *log);
    if (!log)
        return err_set(err, ERR_NO_MEMORY, "log_open", "Out of memory.");
    struct str target = str_of(config->log_file);
    struct str scheme = STR("unix:");
    log->level = config->log_level;
    log->clock = clock;
    log->is_socket = str_starts_with(target, scheme);
    make_middles(log, program, config->environment);
    if (log->is_socket)
        log->fd = open_socket(log, str_of(config->log_file + scheme.len));
    else
        log->fd = str_copy(log->path, sizeof log->path, target) ? open_file(log->path) : -1;
    if (log->fd < 0) {
        int reason = errno;
        free(log);
        return err_set_internal(err, ERR_CONFIG, reason, "open", "LOG_FILE=%s can't be opened: %s.",
                                config->log_file, strerrordesc_np(reason));
    }
    atomic_store(&log->tail, TAIL_UNKNOWN);
    *ret_log = log;
    return ERR_OK;
}

void log_close(struct log *log)
{
    if (!log)
        return;
    close(log->fd);
    free(log);
}

void log_reopen(struct log *log)
{
    if (!log || log->is_socket)
        return;
    int fd = open_file(log->path);
    if (fd < 0)
        return;
    /* One step for the kernel: a line being written goes to the old file or to the new one. */
    while (dup3(fd, log->fd, O_CLOEXEC) < 0 && (errno == EINTR || errno == EBUSY))
        ;
    close(fd);
    atomic_store(&log->tail, TAIL_UNKNOWN);
}

bool log_enabled(const struct log *log, enum err_level level)
{
    return log && level >= log->level;
}

void log_count_drops(struct log *log, struct metrics *metrics)
{
    log->metrics = metrics;
}

uint64_t log_dropped(const struct log *log)
{
    return log ? atomic_load(&log->dropped) : 0;
}

/* ---- a line ---- */

static void put_hex(char *target, uint64_t value)
{
    for (int i = 15; i >= 0; i--, value >>= 4)
        target[i] = "0123456789abcdef"[value & 15];
}

/* Everything after the message that is in every line: the middle, the event id, the trace. */
static size_t make_fixed(struct log *log, enum err_level level, const struct trace *trace,
                         char target[512])
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

void log_write(struct log *log, enum err_level level, const struct trace *trace,
               const char *message, struct log_fields fields)
{
    if (!log_enabled(log, level) || level > ERR_LEVEL_ERROR)
        return;
    struct log_line line;
    char fixed[512];
    size_t fixed_len = make_fixed(log, level, trace, fixed);
    log_line_init(&line);
    start_line(log, &line, level);
    line.reserved = fixed_len;
    size_t fitting = 0;
    while (fitting < fields.count && log_line_reserve(&line, &fields.all[fitting]))
        fitting++;
    log_line_escaped(&line, str_of(message));
    line.reserved -= fixed_len;
    log_line_raw(&line, fixed, fixed_len);
    for (size_t i = 0; i < fitting; i++)
        log_line_field(&line, &fields.all[i]);
    log_line_finish(&line);
    bool written = log->is_socket ? send_to_socket(log, &line) : write_to_file(log, &line);
    if (!written) {
        atomic_fetch_add_explicit(&log->dropped, 1, memory_order_relaxed);
        metrics_add(log->metrics, METRIC_LOG_LINES_DROPPED, NULL, 1);
    }
}
