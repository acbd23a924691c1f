#include "access_log/access_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "access_log/access_line.h"

#define BUFFER_SIZE (256 * 1024)

enum err_code access_reader_init(struct access_reader *reader, int fd, struct err *err)
{
    *reader = (struct access_reader){.fd = fd, .buffer = malloc(BUFFER_SIZE)};
    return reader->buffer ? ERR_OK : err_set(err, ERR_NO_MEMORY, "access_log", "Out of memory.");
}

void access_reader_release(struct access_reader *reader)
{
    free(reader->buffer);
    reader->buffer = NULL;
}

void access_reader_enlarge_pipe(int fd, int bytes)
{
    (void)fcntl(fd, F_SETPIPE_SZ, bytes);
}

bool access_reader_fill(struct access_reader *reader)
{
    size_t left = reader->end - reader->start;
    if (left > ACCESS_LINE_MAX) {
        reader->is_skipping = true;
        left = 0;
    }
    memmove(reader->buffer, reader->buffer + reader->start, left);
    reader->start = 0;
    reader->end = left;
    ssize_t len;
    do
        len = read(reader->fd, reader->buffer + left, BUFFER_SIZE - left);
    while (len < 0 && errno == EINTR);
    if (len > 0)
        reader->end += (size_t)len;
    return len > 0;
}

bool access_reader_next(struct access_reader *reader, char **ret_line, size_t *ret_len)
{
    while (reader->start < reader->end) {
        char *line = reader->buffer + reader->start;
        char *newline = memchr(line, '\n', reader->end - reader->start);
        if (!newline)
            break;
        size_t len = (size_t)(newline - line);
        bool is_whole = !reader->is_skipping && len <= ACCESS_LINE_MAX;
        reader->start += len + 1;
        reader->is_skipping = false;
        if (is_whole) {
            *ret_line = line;
            *ret_len = len;
            return true;
        }
    }
    return false;
}
