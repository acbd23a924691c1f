#include "app/fcgi.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/fcgi_head.h"

#define ACCEPT_TIMEOUT_SECONDS 60

struct fcgi {
    int listen_fd;
    int fd; /* the connection */
    struct watch *watch;
    const struct clock *clock;
    FCGX_Request request;
    struct source body;
    int64_t body_length; /* bytes promised */
    int64_t received;
};

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

enum err_code fcgi_open(struct fcgi **ret_fcgi, int listen_fd, struct watch *watch,
                        const struct clock *clock, struct err *err)
{
    struct fcgi *fcgi = calloc(1, sizeof *fcgi);
    if (!fcgi)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "fcgi", "out of memory");
    fcgi->listen_fd = listen_fd;
    fcgi->watch = watch;
    fcgi->clock = clock;
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
    int fd = accept4(fcgi->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        bool exhausted = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
        return exhausted ? FCGI_EXHAUSTED : FCGI_NOTHING;
    }
    fcgi->fd = fd;
    return FCGI_REQUEST;
}

bool fcgi_read(struct fcgi *fcgi)
{
    watch_begin(fcgi->watch, fcgi->clock, fcgi->fd);
    atomic_store(&fcgi->watch->waiting, true);
    if (!fcgi_head_is_sound(fcgi->fd, &fcgi->watch->timed_out)) {
        atomic_store(&fcgi->watch->waiting, false);
        watch_end(fcgi->watch);
        close(fcgi->fd);
        return false;
    }
    fcgi->request.ipcFd = fcgi->fd;
    fcgi->request.keepConnection = 1; /* else FCGX_Accept_r closes what it is given */
    fcgi->body_length = 0;
    fcgi->received = 0;
    int result = FCGX_Accept_r(&fcgi->request);
    atomic_store(&fcgi->watch->waiting, false);
    if (result != 0)
        watch_end(fcgi->watch);
    return result == 0;
}

char *const *fcgi_environment(const struct fcgi *fcgi)
{
    return fcgi->request.envp;
}

static enum err_code body_error(const struct fcgi *fcgi, struct err *err)
{
    if (atomic_load(&fcgi->watch->timed_out))
        return err_set(err, ERR_REQUEST_TIMEOUT, "receive", "The body came too slowly.");
    return err_set(err, ERR_CLIENT_GONE, "receive", "The client went away.");
}

/* Takes what libfcgi has buffered; refills its buffer (one read, at most one record) when empty. */
static struct str buffered(struct fcgi *fcgi)
{
    FCGX_Stream *in = fcgi->request.in;
    if (in->rdNext == in->stop) {
        atomic_store(&fcgi->watch->waiting, true);
        int byte = FCGX_GetChar(in);
        atomic_store(&fcgi->watch->waiting, false);
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
    if (left > 0) {
        piece = buffered(fcgi);
        if (piece.len == 0 || FCGX_GetError(fcgi->request.in) != 0 || (int64_t)piece.len > left)
            return body_error(fcgi, err);
        fcgi->received += (int64_t)piece.len;
        atomic_store(&fcgi->watch->received, fcgi->received);
    }
    *ret_piece = piece;
    return ERR_OK;
}

struct source *fcgi_body(struct fcgi *fcgi, int64_t content_length)
{
    fcgi->body.next = next_piece;
    fcgi->body_length = content_length;
    return &fcgi->body;
}

int64_t fcgi_received(const struct fcgi *fcgi)
{
    return fcgi->received;
}

bool fcgi_send(struct fcgi *fcgi, struct str piece)
{
    while (piece.len > 0) {
        int len = piece.len > INT_MAX ? INT_MAX : (int)piece.len;
        if (FCGX_PutStr(piece.data, len, fcgi->request.out) != len)
            return false;
        piece.data += len;
        piece.len -= (size_t)len;
    }
    return true;
}

/* Nothing is left to read, so closing can't reset the connection under the answer, and libfcgi's
 * waiting for the other side to close is not needed. A request with a body keeps it. */
static bool may_close_at_once(const struct fcgi *fcgi)
{
    int unread = 0;
    return fcgi->body_length == 0 && ioctl(fcgi->fd, FIONREAD, &unread) == 0 && unread == 0;
}

void fcgi_finish(struct fcgi *fcgi)
{
    watch_end(fcgi->watch);
    if (may_close_at_once(fcgi))
        FCGX_Detach(&fcgi->request);
    FCGX_Finish_r(&fcgi->request);
}
