/*
 * Lines on their way to the sink: a bounded queue, and the thread that writes them.
 *
 * Who logs copies its line into the queue, under a lock that is held for no more than that, and
 * never waits for the sink. The thread takes all there is and writes it in one go. An idle one is
 * woken by the first line, writes it, and then looks again every LINGER_MS (log_queue.c) until there
 * is nothing: so a busy program makes a few dozen writes a second, whatever it logs.
 *
 * A sink that takes nothing is tried again and again; meanwhile lines wait, and past the bound they
 * are dropped and counted. When the sink takes lines again, one line behind the last that was kept
 * tells how many are missing. A process that is killed loses what waits: the lines of the last
 * moment, when the sink is well. Private to observe/log*.c. Thread-safe.
 */
#ifndef COFFER_OBSERVE_LOG_QUEUE_H
#define COFFER_OBSERVE_LOG_QUEUE_H

#include "observe/log_sink.h"

struct log_queue;

struct log_queue_options {
    struct log_sink *sink; /* borrowed until log_queue_close; the thread's from now on */
    size_t max_bytes;      /* that may wait, lines of the longest kind at least */
    /* Both are called from any thread, with `context`. */
    void (*on_lost)(void *context, uint64_t count);
    /* Makes the line that tells of lost ones; at most LOG_LINE_MAX bytes. */
    size_t (*tell)(void *context, uint64_t count, char *target);
    void *context;
};

/* Caller frees with log_queue_close. */
enum err_code log_queue_open(struct log_queue **ret_queue, const struct log_queue_options *options,
                             struct err *err) ERR_MUST_CHECK;
/* Copies a line, newline included; a dropped one is counted. */
void log_queue_put(struct log_queue *queue, struct str line);
/* Has the sink opened again between two writes. */
void log_queue_reopen(struct log_queue *queue);
/* Waits until what was put before is written, and the sink reopened if that was asked for; false
 * when that took longer than `ms`. */
bool log_queue_flush(struct log_queue *queue, int64_t ms);
/* Lines that were dropped. */
uint64_t log_queue_lost(struct log_queue *queue);
/* Writes what waits, within about a second, and frees the queue. False when the thread hangs in a
 * write to a dead disk: then the queue and its sink stay, for ever. NULL is allowed. */
bool log_queue_close(struct log_queue *queue);

#endif
