#include "observe/log_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "observe/log.h"

#define TORN_LOOKS 10
#define TORN_LOOK_NS 1000000L
/* Of one write to a file: a process that is killed meanwhile may leave half a line. */
#define FILE_WRITE_MAX ((size_t)64 * 1024)

/* ---- open and close ---- */

/* Never waits, also where the name is a FIFO; reading is for the look at the last byte. */
static int open_file(const char *path)
{
    int flags = O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int fd = open(path, O_RDWR | flags, 0640);
    if (fd < 0 && errno == EACCES)
        fd = open(path, O_WRONLY | flags, 0640);
    return fd;
}

static int open_socket(struct log_sink *sink, struct str path)
{
    sink->address.sun_family = AF_UNIX;
    if (!str_copy(sink->address.sun_path, sizeof sink->address.sun_path, path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return -1;
    int failed = connect(probe, (struct sockaddr *)&sink->address, sizeof sink->address);
    int reason = errno;
    close(probe);
    errno = reason;
    /* Not connected itself, but sent with the address: so a receiver may restart, also while a program
     * starts: then the socket is there and nobody reads it. */
    return failed && reason != ECONNREFUSED ? -1 : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static void take_file(struct log_sink *sink, int fd)
{
    struct stat stat;
    sink->fd = fd;
    sink->kind = fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) ? LOG_SINK_FILE : LOG_SINK_STREAM;
    sink->is_torn = false;
}

enum err_code log_sink_open(struct log_sink *sink, const char *target, struct err *err)
{
    const struct str scheme = STR("unix:");
    int fd = -1;
    *sink = (struct log_sink){.fd = -1};
    if (str_starts_with(str_of(target), scheme)) {
        fd = open_socket(sink, str_of(target + scheme.len));
        sink->kind = LOG_SINK_SOCKET;
        sink->fd = fd;
    } else if (str_copy(sink->path, sizeof sink->path, str_of(target))) {
        fd = open_file(sink->path);
        if (fd >= 0)
            take_file(sink, fd);
    }
    if (fd >= 0)
        return ERR_OK;
    int reason = errno;
    return err_set_internal(err, ERR_CONFIG, reason, "open", "LOG_FILE=%s can't be opened: %s.",
                            target, strerrordesc_np(reason));
}

void log_sink_close(struct log_sink *sink)
{
    close(sink->fd);
    sink->fd = -1;
}

/* Opens the file again by its name; keeps the old one when that fails. */
static void log_sink_reopen(struct log_sink *sink)
{
    if (sink->kind == LOG_SINK_SOCKET)
        return;
    int fd = open_file(sink->path);
    if (fd < 0)
        return;
    close(sink->fd);
    take_file(sink, fd);
}

/* ---- pieces of lines ---- */

/* How many bytes the whole lines have that end within `max`; the first line when none does. */
static size_t whole_lines(struct str lines, size_t max)
{
    size_t within = lines.len < max ? lines.len : max;
    const char *end = memrchr(lines.data, '\n', within);
    if (!end)
        end = memchr(lines.data + within, '\n', lines.len - within);
    return end ? (size_t)(end - lines.data) + 1 : lines.len;
}

/* ---- a file ---- */

/* Size of the file and its last byte; false when that can't be told. */
static bool look_at_end(const struct log_sink *sink, off_t *ret_size, char *ret_last)
{
    struct stat stat;
    *ret_last = '\n';
    if (fstat(sink->fd, &stat) != 0)
        return false;
    lseek(sink->fd, stat.st_size, SEEK_HOLE); /* waits for an append that is under way */
    if (fstat(sink->fd, &stat) != 0)
        return false;
    *ret_size = stat.st_size;
    return stat.st_size == 0 || pread(sink->fd, ret_last, 1, stat.st_size - 1) == 1;
}

/* A line that another program is writing right now looks torn for a moment: it is torn when the
 * file's end stays as it is. */
static bool file_ends_in_half_a_line(const struct log_sink *sink)
{
    const struct timespec pause = {.tv_nsec = TORN_LOOK_NS};
    off_t size = 0;
    off_t before = -1;
    char last;
    for (int look = 0; look < TORN_LOOKS; look++) {
        if (!look_at_end(sink, &size, &last))
            return sink->is_torn;
        if (last == '\n')
            return false;
        if (size == before)
            return true;
        before = size;
        nanosleep(&pause, NULL);
    }
    return false;
}

/* Returns how many bytes of `lines` are there as whole lines: all, or fewer when the disk is full. */
static size_t append(struct log_sink *sink, struct str lines)
{
    static char newline = '\n';
    size_t extra = file_ends_in_half_a_line(sink) ? 1 : 0;
    struct iovec pieces[] = {{&newline, extra}, {NULL, lines.len}};
    memcpy(&pieces[1].iov_base, &lines.data, sizeof lines.data); /* which writev only reads */
    ssize_t written;
    do
        written = writev(sink->fd, pieces, 2);
    while (written < 0 && errno == EINTR);
    if (written < (ssize_t)extra)
        return 0;
    size_t taken = (size_t)written - extra;
    const char *end = memrchr(lines.data, '\n', taken);
    size_t whole = end ? (size_t)(end - lines.data) + 1 : 0;
    sink->is_torn = taken > whole;
    return whole;
}

static size_t write_to_file(struct log_sink *sink, struct str lines)
{
    size_t done = 0;
    while (done < lines.len) {
        struct str rest = {lines.data + done, lines.len - done};
        rest.len = whole_lines(rest, FILE_WRITE_MAX);
        size_t written = append(sink, rest);
        done += written;
        if (written < rest.len)
            break;
    }
    return done;
}

/* ---- a pipe, a socket ---- */

/* Whole lines in at most PIPE_BUF bytes are taken together or not at all, so lines of programs that
 * share the pipe don't mix. A longer one may be taken in parts: the caller goes on where it ended. */
static size_t write_to_stream(struct log_sink *sink, struct str lines)
{
    size_t done = 0;
    while (done < lines.len) {
        struct str rest = {lines.data + done, lines.len - done};
        ssize_t written = write(sink->fd, rest.data, whole_lines(rest, PIPE_BUF));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            break;
        done += (size_t)written;
    }
    return done;
}

static size_t send_to_socket(struct log_sink *sink, struct str lines, unsigned *lost)
{
    size_t done = 0;
    while (done < lines.len) {
        struct str rest = {lines.data + done, lines.len - done};
        size_t len = whole_lines(rest, 1);
        ssize_t sent = sendto(sink->fd, rest.data, len, MSG_DONTWAIT | MSG_NOSIGNAL,
                              (const struct sockaddr *)&sink->address, sizeof sink->address);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EMSGSIZE)
            break;
        if (sent < 0)
            ++*lost;
        done += len;
    }
    return done;
}

/* Writes of `lines`, each with its newline, what is taken now. Returns how many bytes are dealt with:
 * written, or (counted in *lost) such as this sink never takes. The rest is to be offered again. */
static size_t log_sink_write(struct log_sink *sink, struct str lines, unsigned *lost)
{
    switch (sink->kind) {
    case LOG_SINK_FILE:
        return write_to_file(sink, lines);
    case LOG_SINK_STREAM:
        return write_to_stream(sink, lines);
    case LOG_SINK_SOCKET:
        break;
    }
    return send_to_socket(sink, lines, lost);
}

#define LINGER_MS 20        /* between two writes of a busy program */
#define RETRY_MS 100        /* of a sink that takes nothing */
#define CLOSING_RETRY_MS 10 /* the same at the end */
#define CLOSE_MS 500        /* for what waits at the end; then again for a write under way */
#define THREAD_STACK (256 * 1024)
#define KEPT_BYTES ((size_t)1024 * 1024) /* of memory, after a burst */

/* Lines one behind the other. Untouched pages of it cost nothing. */
struct lines {
    char *text;
    size_t len;
    size_t at; /* written so far */
    uint64_t count;
};

struct log_queue {
    struct log_queue_options options;
    size_t size; /* of each of the two */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;  /* for the thread */
    pthread_cond_t progress; /* of the thread */
    struct lines back;       /* the thread's */
    /* guarded by mutex */
    struct lines front; /* where lines are put */
    size_t waiting;     /* bytes in both */
    uint64_t taken;     /* lines ever put */
    uint64_t settled;   /* of them written, or given up */
    uint64_t lost;
    uint64_t lost_at_swap; /* those that are missing behind the lines in `back` */
    uint64_t told;         /* of the lost */
    bool is_idle;          /* the thread waits for a line */
    bool is_kicked;        /* the thread is to wait no longer */
    bool is_reopening;
    bool is_closing;
    bool is_over; /* closing took too long */
    bool is_finished;
};

enum step { STEP_NOTHING, STEP_WRITTEN, STEP_STUCK };

/* ---- the thread; all with the mutex held, but for the work on the sink ---- */

static void count_lost(struct log_queue *queue, uint64_t count)
{
    queue->lost += count;
    queue->options.on_lost(queue->options.context, count);
}

static void kick(struct log_queue *queue)
{
    queue->is_idle = false;
    queue->is_kicked = true;
    pthread_cond_signal(&queue->changed);
}

static void reopen_sink(struct log_queue *queue)
{
    pthread_mutex_unlock(&queue->mutex);
    log_sink_reopen(queue->options.sink);
    pthread_mutex_lock(&queue->mutex);
    queue->is_reopening = false;
    pthread_cond_broadcast(&queue->progress);
}

/* The line that tells of lost ones stands where they would have stood. */
static void tell_of_lost(struct log_queue *queue)
{
    uint64_t count = queue->lost_at_swap - queue->told;
    queue->back.at = 0;
    queue->back.count = 0;
    queue->back.len = queue->options.tell(queue->options.context, count, queue->back.text);
    queue->waiting += queue->back.len;
    queue->told = queue->lost_at_swap;
}

/* Gives `back` something to write; false when there is nothing. */
static bool refill(struct log_queue *queue)
{
    if (queue->front.len == 0) /* nothing stands between those that were lost */
        queue->lost_at_swap = queue->lost;
    if (queue->lost_at_swap > queue->told) {
        tell_of_lost(queue);
        return true;
    }
    if (queue->front.len == 0)
        return false;
    struct lines empty = queue->back;
    empty.len = empty.at = 0;
    empty.count = 0;
    queue->back = queue->front;
    queue->front = empty;
    queue->lost_at_swap = queue->lost;
    return true;
}

static void settle(struct log_queue *queue)
{
    queue->waiting -= queue->back.len;
    queue->settled += queue->back.count;
    if (queue->back.len > KEPT_BYTES)
        madvise(queue->back.text, queue->size, MADV_DONTNEED);
    queue->back.len = queue->back.at = 0;
    queue->back.count = 0;
    pthread_cond_broadcast(&queue->progress);
}

static enum step write_lines(struct log_queue *queue)
{
    unsigned lost = 0;
    if (queue->is_reopening)
        reopen_sink(queue);
    if (queue->back.len == 0 && !refill(queue))
        return STEP_NOTHING;
    struct str rest = {queue->back.text + queue->back.at, queue->back.len - queue->back.at};
    pthread_mutex_unlock(&queue->mutex);
    size_t done = log_sink_write(queue->options.sink, rest, &lost);
    pthread_mutex_lock(&queue->mutex);
    if (lost > 0)
        count_lost(queue, lost);
    queue->back.at += done;
    if (done < rest.len)
        return STEP_STUCK;
    settle(queue);
    return STEP_WRITTEN;
}

static void wait_for_line(struct log_queue *queue)
{
    queue->is_idle = true;
    while (!queue->is_kicked)
        pthread_cond_wait(&queue->changed, &queue->mutex);
    queue->is_idle = false;
}

static void pause_for(struct log_queue *queue, int64_t ms)
{
    const struct timespec until = condition_deadline(ms);
    bool in_time = true;
    while (in_time && !queue->is_kicked)
        in_time = condition_wait(&queue->changed, &queue->mutex, &until);
}

static void rest_after(struct log_queue *queue, enum step step)
{
    if (queue->is_closing)
        pause_for(queue, step == STEP_STUCK ? CLOSING_RETRY_MS : 0);
    else if (step == STEP_NOTHING)
        wait_for_line(queue);
    else
        pause_for(queue, step == STEP_STUCK ? RETRY_MS : LINGER_MS);
    queue->is_kicked = false;
}

static uint64_t count_lines(const struct lines *lines)
{
    uint64_t count = 0;
    for (size_t at = lines->at; at < lines->len; at++)
        count += lines->text[at] == '\n';
    return count;
}

static void *run(void *argument)
{
    struct log_queue *queue = argument;
    pthread_mutex_lock(&queue->mutex);
    for (;;) {
        enum step step = write_lines(queue);
        if (queue->is_closing && (step == STEP_NOTHING || queue->is_over))
            break;
        rest_after(queue, step);
    }
    uint64_t left = count_lines(&queue->back) + count_lines(&queue->front);
    if (left > 0)
        count_lost(queue, left);
    queue->is_finished = true;
    pthread_cond_broadcast(&queue->progress);
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

/* ---- for the log ---- */

static bool map_lines(struct lines *lines, size_t size)
{
    void *text = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (text == MAP_FAILED)
        return false;
    lines->text = text;
    return true;
}

static void unmap_lines(struct lines *lines, size_t size)
{
    if (lines->text)
        munmap(lines->text, size);
}

static void release(struct log_queue *queue)
{
    unmap_lines(&queue->front, queue->size);
    unmap_lines(&queue->back, queue->size);
    pthread_cond_destroy(&queue->progress);
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->mutex);
    free(queue);
}

enum err_code log_queue_open(struct log_queue **ret_queue, const struct log_queue_options *options,
                             struct err *err)
{
    struct log_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "log", "out of memory");
    queue->options = *options;
    queue->size = options->max_bytes + LOG_LINE_MAX; /* the telling line waits besides */
    pthread_mutex_init(&queue->mutex, NULL);
    condition_init(&queue->changed);
    condition_init(&queue->progress);
    if (!map_lines(&queue->front, queue->size) || !map_lines(&queue->back, queue->size) ||
        !thread_start(&queue->thread, THREAD_STACK, run, queue)) {
        release(queue);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "log", "no memory or thread for the log");
    }
    *ret_queue = queue;
    return ERR_OK;
}

void log_queue_put(struct log_queue *queue, struct str line)
{
    const size_t half = queue->options.max_bytes / 2;
    bool wakes = false;
    pthread_mutex_lock(&queue->mutex);
    struct lines *front = &queue->front;
    if (queue->waiting + line.len > queue->options.max_bytes || queue->is_finished) {
        count_lost(queue, 1);
    } else {
        bool was_below = front->len < half;
        memcpy(front->text + front->len, line.data, line.len);
        front->len += line.len;
        front->count++;
        queue->waiting += line.len;
        queue->taken++;
        wakes = queue->is_idle || (was_below && front->len >= half);
    }
    if (wakes)
        queue->is_idle = !(queue->is_kicked = true);
    pthread_mutex_unlock(&queue->mutex);
    if (wakes)
        pthread_cond_signal(&queue->changed);
}

void log_queue_reopen(struct log_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->is_reopening = true;
    kick(queue);
    pthread_mutex_unlock(&queue->mutex);
}

bool log_queue_flush(struct log_queue *queue, int64_t ms)
{
    const struct timespec until = condition_deadline(ms);
    bool in_time = true;
    pthread_mutex_lock(&queue->mutex);
    uint64_t wanted = queue->taken;
    kick(queue);
    while (in_time && !queue->is_finished && (queue->settled < wanted || queue->is_reopening))
        in_time = condition_wait(&queue->progress, &queue->mutex, &until);
    bool is_done = queue->settled >= wanted && !queue->is_reopening;
    pthread_mutex_unlock(&queue->mutex);
    return is_done;
}

/* With the mutex held. */
static bool wait_for_end(struct log_queue *queue)
{
    const struct timespec until = condition_deadline(CLOSE_MS);
    bool in_time = true;
    kick(queue);
    while (in_time && !queue->is_finished)
        in_time = condition_wait(&queue->progress, &queue->mutex, &until);
    return queue->is_finished;
}

bool log_queue_close(struct log_queue *queue)
{
    if (!queue)
        return true;
    pthread_mutex_lock(&queue->mutex);
    queue->is_closing = true;
    bool is_finished = wait_for_end(queue);
    queue->is_over = true;
    if (!is_finished)
        is_finished = wait_for_end(queue);
    pthread_mutex_unlock(&queue->mutex);
    if (!is_finished)
        return false;
    pthread_join(queue->thread, NULL);
    release(queue);
    return true;
}
