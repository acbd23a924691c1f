/*
 * Where log lines go: a file (O_APPEND, shared by all programs), a FIFO, a terminal, or a Unix
 * datagram socket. Never waits for a reader; a disk that hangs does hold the caller. Used by the
 * log's thread alone once it runs.
 *
 * A full disk or a killed process may leave half a line in a file. The next line then starts with a
 * newline of its own, so that only the cut line is lost. Private to observe/log*.c.
 */
#ifndef COFFER_OBSERVE_LOG_SINK_H
#define COFFER_OBSERVE_LOG_SINK_H

#include <sys/un.h>

#include "base/config.h"
#include "base/errors.h"
#include "base/str.h"

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
/* Opens the file again by its name; keeps the old one when that fails. */
void log_sink_reopen(struct log_sink *sink);
/* Writes of `lines`, each with its newline, what is taken now. Returns how many bytes are dealt with:
 * written, or (counted in *lost) such as this sink never takes. The rest is to be offered again. */
size_t log_sink_write(struct log_sink *sink, struct str lines, unsigned *lost);

#endif
