#include "app/fcgi.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/fcgi_body.h"
#include "app/fcgi_head.h"
#include "app/fcgi_records.h"
#include "app/proxied.h"

#define ACCEPT_TIMEOUT_SECONDS 60
#define DIRECT_BYTES (16 * 1024) /* pieces from here on don't go through libfcgi's buffer */

struct fcgi {
    struct fcgi_options options;
    int fd; /* the connection */
    FCGX_Request request;
    struct source body;
    bool has_whole_body;     /* it had arrived with the head */
    bool has_head_alone;     /* libfcgi was given the head alone; else it reads the body, too */
    struct fcgi_body direct; /* where the body comes from when it is not libfcgi's */
    bool is_proxied;         /* HTTP of mod_proxy's: libfcgi has no part in it */
    struct proxied proxied;
    int64_t body_length; /* bytes promised */
    int64_t received;
    bool sends_direct; /* pieces of the answer were written past libfcgi */
    bool is_refused;   /* the watchdog ended the sending */
};

struct fcgi_head_pipe {
    pthread_mutex_t mutex;
    int ends[2]; /* guarded by mutex; -1 when closed */
};

enum err_code fcgi_head_pipe_open(struct fcgi_head_pipe **ret_pipe, struct err *err)
{
    struct fcgi_head_pipe *pipe = calloc(1, sizeof *pipe);
    if (!pipe)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "fcgi", "out of memory");
    pthread_mutex_init(&pipe->mutex, NULL);
    pipe->ends[0] = pipe->ends[1] = -1;
    *ret_pipe = pipe;
    return ERR_OK;
}

/* With the mutex held. */
static bool open_pipe(struct fcgi_head_pipe *pipe)
{
    return pipe->ends[0] >= 0 || pipe2(pipe->ends, O_CLOEXEC) == 0;
}

/* With the mutex held. */
static void close_pipe(struct fcgi_head_pipe *pipe)
{
    for (int i = 0; i < 2; i++) {
        if (pipe->ends[i] >= 0)
            close(pipe->ends[i]);
        pipe->ends[i] = -1;
    }
}

void fcgi_head_pipe_close(struct fcgi_head_pipe *pipe)
{
    if (!pipe)
        return;
    close_pipe(pipe);
    pthread_mutex_destroy(&pipe->mutex);
    free(pipe);
}

enum err_code fcgi_listen(int listen_fd, struct err *err)
{
    int listening = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || !listening)
        return err_set(err, ERR_CONFIG, "listen",
                       "Descriptor 0 is no listening socket: this is a FastCGI program, which a "
                       "web server starts (see coffer-serve).");
    int flags = fcntl(listen_fd, F_GETFL);
    if (flags < 0 || fcntl(listen_fd, F_SETFL, flags & ~O_NONBLOCK) != 0 ||
        fcntl(listen_fd, F_SETFD, FD_CLOEXEC) != 0)
        return err_set_internal(err, ERR_CONFIG, errno, "fcntl", "cannot prepare the socket");
    /* A socket with a timeout makes accept4 return EINTR in spite of SA_RESTART (signal(7)), so
     * the wake signal ends a waiting accept and restarts every other call. */
    const struct timeval timeout = {.tv_sec = ACCEPT_TIMEOUT_SECONDS};
    if (setsockopt(listen_fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0)
        return err_set_internal(err, ERR_CONFIG, errno, "setsockopt", "cannot prepare the socket");
    if (FCGX_Init() != 0)
        return err_set_internal(err, ERR_CONFIG, 0, "FCGX_Init", "cannot start libfcgi");
    return ERR_OK;
}

enum err_code fcgi_open(struct fcgi **ret_fcgi, const struct fcgi_options *options, struct err *err)
{
    struct fcgi *fcgi = calloc(1, sizeof *fcgi);
    if (!fcgi)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "fcgi", "out of memory");
    fcgi->options = *options;
    fcgi->proxied.fd = -1;
    /* No listening socket for libfcgi: after a broken connection it must come back to us. */
    if (FCGX_InitRequest(&fcgi->request, -1, FCGI_FAIL_ACCEPT_ON_INTR) != 0) {
        free(fcgi);
        return err_set_internal(err, ERR_INTERNAL, 0, "fcgi", "cannot make a request");
    }
    *ret_fcgi = fcgi;
    return ERR_OK;
}

void fcgi_close(struct fcgi *fcgi)
{
    if (!fcgi)
        return;
    FCGX_Free(&fcgi->request, 1);
    free(fcgi);
}

enum fcgi_accepted fcgi_accept(struct fcgi *fcgi)
{
    int fd = accept4(fcgi->options.listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        bool exhausted = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
        return exhausted ? FCGI_EXHAUSTED : FCGI_NOTHING;
    }
    fcgi->fd = fd;
    return FCGI_REQUEST;
}

/* Lets libfcgi read the variables from *fd; it closes it when it refuses them: *fd is -1 then. */
static bool read_head(struct fcgi *fcgi, int *fd)
{
    fcgi->request.ipcFd = *fd;
    fcgi->request.keepConnection = 1; /* else FCGX_Accept_r closes what it is given */
    if (FCGX_Accept_r(&fcgi->request) == 0)
        return true;
    *fd = -1;
    return false;
}

/* With the pipe's mutex held. */
static bool read_through(struct fcgi *fcgi, struct fcgi_head_pipe *pipe, struct fcgi_peek *peek)
{
    size_t len = peek->head_len;
    if (recv(fcgi->fd, peek->bytes, len, MSG_WAITALL) != (ssize_t)len)
        return false;
    bool read =
        write(pipe->ends[1], peek->bytes, len) == (ssize_t)len && read_head(fcgi, &pipe->ends[0]);
    if (!read)
        close_pipe(pipe); /* whatever is in it belongs to nobody */
    fcgi->request.ipcFd = fcgi->fd;
    return read;
}

/* libfcgi reads ahead, so it gets the head alone, through the pipe, and the body stays in the
 * connection. A head fits into a pipe, so nothing here waits. Where no descriptors are left for a
 * pipe, libfcgi reads all of it, in its small steps: who sent the request is to get an answer. */
static bool read_head_alone(struct fcgi *fcgi, struct fcgi_peek *peek)
{
    struct fcgi_head_pipe *pipe = fcgi->options.head_pipe;
    pthread_mutex_lock(&pipe->mutex);
    fcgi->has_head_alone = open_pipe(pipe);
    bool read = fcgi->has_head_alone && read_through(fcgi, pipe, peek);
    pthread_mutex_unlock(&pipe->mutex);
    return fcgi->has_head_alone ? read : read_head(fcgi, &fcgi->fd);
}

/* Of a program that takes uploads alone. */
static bool read_proxied(struct fcgi *fcgi, const struct fcgi_peek *peek)
{
    if (!fcgi->options.head_pipe || !proxied_begins(peek->bytes, peek->len))
        return false;
    fcgi->is_proxied = proxied_read_head(&fcgi->proxied, fcgi->fd, &fcgi->options.watch->timed_out);
    if (!fcgi->is_proxied)
        proxied_release(&fcgi->proxied);
    return fcgi->is_proxied;
}

bool fcgi_read(struct fcgi *fcgi)
{
    struct fcgi_peek peek;
    struct watch *watch = fcgi->options.watch;
    watch_begin(watch, fcgi->options.clock, fcgi->fd);
    atomic_store(&watch->waiting, true);
    bool read = fcgi_head_peek(fcgi->fd, &watch->timed_out, &peek);
    fcgi->has_whole_body = read && peek.has_body;
    fcgi->has_head_alone = false;
    fcgi->is_proxied = false;
    if (!read)
        read = read_proxied(fcgi, &peek);
    else
        read = fcgi->options.head_pipe && !peek.has_body ? read_head_alone(fcgi, &peek)
                                                         : read_head(fcgi, &fcgi->fd);
    atomic_store(&watch->waiting, false);
    fcgi->body_length = 0;
    fcgi->received = 0;
    fcgi->sends_direct = false;
    fcgi->is_refused = false;
    if (read)
        return true;
    watch_end(watch);
    fcgi->request.ipcFd = -1;
    if (fcgi->fd >= 0)
        close(fcgi->fd);
    return false;
}

char *const *fcgi_environment(const struct fcgi *fcgi)
{
    return fcgi->is_proxied ? fcgi->proxied.variables : fcgi->request.envp;
}

bool fcgi_is_proxied(const struct fcgi *fcgi)
{
    return fcgi->is_proxied;
}

static enum err_code body_error(const struct fcgi *fcgi, struct err *err)
{
    if (atomic_load(&fcgi->options.watch->timed_out))
        return err_set(err, ERR_REQUEST_TIMEOUT, "receive", "The body came too slowly.");
    return err_set(err, ERR_CLIENT_GONE, "receive", "The client went away.");
}

static struct str next_direct(struct fcgi *fcgi)
{
    atomic_store(&fcgi->options.watch->waiting, true);
    struct str piece = fcgi_body_next(&fcgi->direct);
    atomic_store(&fcgi->options.watch->waiting, false);
    return piece;
}

/* Takes what libfcgi has buffered; refills its buffer (one read, at most one record) when empty. */
static struct str next_buffered(struct fcgi *fcgi)
{
    FCGX_Stream *in = fcgi->request.in;
    if (in->rdNext == in->stop) {
        atomic_store(&fcgi->options.watch->waiting, true);
        int byte = FCGX_GetChar(in);
        atomic_store(&fcgi->options.watch->waiting, false);
        if (byte < 0 || FCGX_UnGetChar(byte, in) < 0)
            return (struct str){0};
    }
    struct str piece = {(const char *)in->rdNext, (size_t)(in->stop - in->rdNext)};
    in->rdNext = in->stop;
    return piece;
}

static enum err_code next_piece(struct source *source, struct str *ret_piece, struct err *err)
{
    struct fcgi *fcgi = (struct fcgi *)(void *)((char *)source - offsetof(struct fcgi, body));
    struct str piece = {0};
    int64_t left = fcgi->body_length - fcgi->received;
    if (left > 0 && atomic_load(&fcgi->options.watch->timed_out))
        return body_error(fcgi, err);
    if (left > 0) {
        piece = fcgi->direct.buffer ? next_direct(fcgi) : next_buffered(fcgi);
        if (piece.len == 0 || FCGX_GetError(fcgi->request.in) != 0 || (int64_t)piece.len > left)
            return body_error(fcgi, err);
        fcgi->received += (int64_t)piece.len;
        atomic_store(&fcgi->options.watch->received, fcgi->received);
    }
    *ret_piece = piece;
    return ERR_OK;
}

static enum err_code next_proxied(struct source *source, struct str *ret_piece, struct err *err)
{
    struct fcgi *fcgi = (struct fcgi *)(void *)((char *)source - offsetof(struct fcgi, body));
    struct watch *watch = fcgi->options.watch;
    if (atomic_load(&watch->timed_out))
        return body_error(fcgi, err);
    atomic_store(&watch->waiting, true);
    struct str piece = proxied_body_next(&fcgi->proxied);
    atomic_store(&watch->waiting, false);
    if (piece.len == 0 && !fcgi->proxied.is_complete)
        return body_error(fcgi, err);
    fcgi->received += (int64_t)piece.len;
    atomic_store(&watch->received, fcgi->received);
    *ret_piece = piece;
    return ERR_OK;
}

enum err_code fcgi_begin_body(struct fcgi *fcgi, int64_t content_length, struct source **ret_body,
                              struct err *err)
{
    fcgi->body.next = fcgi->is_proxied ? next_proxied : next_piece;
    fcgi->body_length = content_length;
    *ret_body = &fcgi->body;
    if (!fcgi->has_head_alone || content_length == 0)
        return ERR_OK;
    return fcgi_body_init(&fcgi->direct, fcgi->fd, content_length, err);
}

int64_t fcgi_received(const struct fcgi *fcgi)
{
    return fcgi->received;
}

static bool send_direct(struct fcgi *fcgi, struct str piece)
{
    if (!fcgi->sends_direct)
        fcgi_records_begin(fcgi->fd);
    fcgi->sends_direct = true;
    bool is_sent =
        FCGX_FFlush(fcgi->request.out) == 0 &&
        fcgi_records_write(fcgi->fd, fcgi->request.requestId, piece, fcgi->options.watch);
    fcgi->is_refused = !is_sent && atomic_load(&fcgi->options.watch->timed_out);
    return is_sent;
}

bool fcgi_is_refused(const struct fcgi *fcgi)
{
    return fcgi->is_refused;
}

bool fcgi_send(struct fcgi *fcgi, struct str piece)
{
    if (fcgi->is_proxied)
        return proxied_send(&fcgi->proxied, piece, fcgi->options.watch);
    /* Past the first large piece the connection may be full, and libfcgi's writes are not watched. */
    if (piece.len >= DIRECT_BYTES || fcgi->sends_direct)
        return send_direct(fcgi, piece);
    while (piece.len > 0) {
        int len = piece.len > INT_MAX ? INT_MAX : (int)piece.len;
        if (FCGX_PutStr(piece.data, len, fcgi->request.out) != len)
            return false;
        piece.data += len;
        piece.len -= (size_t)len;
    }
    return true;
}

/* When nothing more can come, closing can't reset the connection under the answer, and libfcgi's
 * waiting for the other side to close is not needed. */
static bool may_close_at_once(const struct fcgi *fcgi)
{
    int unread = 0;
    return fcgi->has_whole_body && ioctl(fcgi->fd, FIONREAD, &unread) == 0 && unread == 0;
}

void fcgi_finish(struct fcgi *fcgi)
{
    if (fcgi->is_proxied) {
        watch_end(fcgi->options.watch);
        proxied_finish(&fcgi->proxied);
        proxied_release(&fcgi->proxied);
        close(fcgi->fd);
        return;
    }
    fcgi_body_release(&fcgi->direct);
    if (may_close_at_once(fcgi))
        FCGX_Detach(&fcgi->request);
    /* The last record waits for the pieces before it. */
    atomic_store(&fcgi->options.watch->writing, fcgi->sends_direct);
    FCGX_Finish_r(&fcgi->request);
    watch_end(fcgi->options.watch);
}

void fcgi_break(struct fcgi *fcgi)
{
    shutdown(fcgi->fd, SHUT_RDWR); /* what libfcgi would still write fails */
    fcgi_finish(fcgi);
}
