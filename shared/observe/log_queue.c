#include "observe/log_queue.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/condition.h"
#include "base/thread.h"
#include "observe/log.h"

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

uint64_t log_queue_lost(struct log_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    uint64_t lost = queue->lost;
    pthread_mutex_unlock(&queue->mutex);
    return lost;
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
