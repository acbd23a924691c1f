/*
 * Whole lines out of a pipe. Each read takes all that is there; between two reads nothing waits, and
 * what is not read yet stays in the pipe for the next reader, should this one be killed. Used by one
 * thread.
 */
#ifndef COFFER_ACCESS_LOG_ACCESS_READER_H
#define COFFER_ACCESS_LOG_ACCESS_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/errors.h"

struct access_reader {
    int fd;       /* borrowed */
    char *buffer; /* unread bytes are buffer[start…end) */
    size_t start;
    size_t end;
    bool is_skipping; /* in a line that is too long */
};

/* ERR_NO_MEMORY. Caller frees with access_reader_release. */
enum err_code access_reader_init(struct access_reader *reader, int fd, struct err *err)
    ERR_MUST_CHECK;
void access_reader_release(struct access_reader *reader);
/* Asks for a pipe that holds this many bytes; the kernel may refuse. */
void access_reader_enlarge_pipe(int fd, int bytes);
/* One read, which waits while nothing is there; after it all lines must be taken. False at the end
 * of the pipe. */
bool access_reader_fill(struct access_reader *reader);
/* The next line without its newline, to be changed at will, borrowed until the next fill; false when
 * there is none. A line above ACCESS_LINE_MAX is left out. */
bool access_reader_next(struct access_reader *reader, char **ret_line, size_t *ret_len);

#endif
