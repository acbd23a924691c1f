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

#include <sys/un.h>

#include "base/config.h"
#include "base/errors.h"
#include "base/str.h"
#include "observe/log.h"

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
/* Writes what waits, within about a second, and frees the queue. False when the thread hangs in a
 * write to a dead disk: then the queue and its sink stay, for ever. NULL is allowed. */
bool log_queue_close(struct log_queue *queue);

/*
 * Where log lines go: a file (O_APPEND, shared by all programs), a FIFO, a terminal, or a Unix
 * datagram socket. Never waits for a reader; a disk that hangs does hold the caller. Used by the
 * log's thread alone once it runs.
 *
 * A full disk or a killed process may leave half a line in a file. The next line then starts with a
 * newline of its own, so that only the cut line is lost. Private to observe/log*.c.
 */

enum log_sink_kind { LOG_SINK_FILE, LOG_SINK_STREAM, LOG_SINK_SOCKET };

struct log_sink {
    int fd;
    enum log_sink_kind kind;
    bool is_torn; /* our last write ended within a line */
    struct sockaddr_un address;
    char path[CONFIG_TEXT_SIZE];
};

/* `target` as in LOG_FILE. ERR_CONFIG when it can't be opened. */
enum err_code log_sink_open(struct log_sink *sink, const char *target, struct err *err)
    ERR_MUST_CHECK;
void log_sink_close(struct log_sink *sink);

/*
 * One log line while it is written: a JSON object in a fixed buffer on the stack, no allocation.
 *
 * A line is valid JSON whatever it is given: strings become valid UTF-8, are escaped, and are cut
 * on a code point when the line is full. `reserved` bytes stay free for what must still come, so
 * a long string never pushes out the members after it. Names of members are constants of the
 * program and are not escaped. Private to observe/; used by one thread.
 */

/* What a string that comes later is sure to have, in escaped bytes. */
#define LOG_STRING_RESERVE 128

struct log_line {
    size_t len;      /* bytes of the line so far */
    size_t reserved; /* bytes kept free for later members */
    char text[LOG_LINE_MAX];
};

void log_line_init(struct log_line *line);
/* Appends bytes as they are, all or nothing. */
void log_line_raw(struct log_line *line, const char *data, size_t len);
/* Appends the text of a JSON string without its quotes and secrets, cut to the room there is. */
void log_line_escaped(struct log_line *line, struct str text);
/* Keeps room for the field, which log_line_field then uses; false when there is none. */
bool log_line_reserve(struct log_line *line, const struct log_field *field);
/* Appends `,"name":value`; room for the field was reserved. */
void log_line_field(struct log_line *line, const struct log_field *field);
/* Appends "}\n", for which there is always room. */
void log_line_finish(struct log_line *line);

#endif
