#include "observe/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

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

void log_sink_reopen(struct log_sink *sink)
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

size_t log_sink_write(struct log_sink *sink, struct str lines, unsigned *lost)
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
