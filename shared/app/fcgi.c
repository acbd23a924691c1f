#include "app/fcgi.h"

#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "app/proxied.h"
#include "app/watchdog.h"
#include "base/limits.h"
#include "base/str.h"

/* https://fastcgi-archives.github.io/FastCGI_Specification.html §3.3, §3.4, §8 */
enum {
    VERSION = 1,
    TYPE_BEGIN = 1,
    TYPE_PARAMS = 4,
    TYPE_STDIN = 5,
    TYPE_STDOUT = 6,
    ROLE_RESPONDER = 1,
    HEADER_BYTES = 8,
    BEGIN_BYTES = 8,
    LONG_LENGTH = 0x80
};

#define SMALL_BODY_BUFFER (16UL * 1024)
#define LARGE_BODY_BUFFER (128UL * 1024)

enum err_code fcgi_body_init(struct fcgi_body *body, int fd, int64_t length, struct err *err)
{
    size_t size = length + HEADER_BYTES * 2 > (int64_t)SMALL_BODY_BUFFER ? LARGE_BODY_BUFFER
                                                                         : SMALL_BODY_BUFFER;
    *body = (struct fcgi_body){.fd = fd, .size = size, .buffer = malloc(size)};
    return body->buffer ? ERR_OK
                        : err_set_internal(err, ERR_NO_MEMORY, 0, "receive", "out of memory");
}

void fcgi_body_release(struct fcgi_body *body)
{
    free(body->buffer);
    *body = (struct fcgi_body){.fd = -1};
}

static bool fill(struct fcgi_body *body)
{
    if (body->start > 0) { /* at most a part of a header is left */
        memmove(body->buffer, body->buffer + body->start, body->end - body->start);
        body->end -= body->start;
        body->start = 0;
    }
    ssize_t len = read(body->fd, body->buffer + body->end, body->size - body->end);
    if (len <= 0)
        return false;
    body->end += (size_t)len;
    return true;
}

static size_t skip(struct fcgi_body *body, size_t wanted)
{
    size_t here = body->end - body->start;
    size_t len = wanted < here ? wanted : here;
    body->start += len;
    return len;
}

static bool read_header(struct fcgi_body *body)
{
    while (body->end - body->start < HEADER_BYTES)
        if (!fill(body))
            return false;
    const unsigned char *header = body->buffer + body->start;
    if (header[0] != VERSION || header[1] != TYPE_STDIN)
        return false;
    body->record_left = (size_t)header[4] << 8 | header[5];
    body->padding_left = header[6];
    body->start += HEADER_BYTES;
    return body->record_left > 0; /* an empty record is the end */
}

static struct str take_content(struct fcgi_body *body)
{
    struct str piece = {(const char *)body->buffer + body->start, 0};
    piece.len = skip(body, body->record_left);
    body->record_left -= piece.len;
    return piece;
}

struct str fcgi_body_next(struct fcgi_body *body)
{
    for (;;) {
        if (body->record_left > 0 && body->end > body->start)
            return take_content(body);
        if (body->record_left == 0 && body->padding_left > 0 && body->end > body->start)
            body->padding_left -= skip(body, body->padding_left);
        else if (body->record_left > 0 || body->padding_left > 0) {
            if (!fill(body))
                return (struct str){0};
        } else if (!read_header(body)) {
            return (struct str){0};
        }
    }
}

#define RETRY_MS 1

struct reader {
    const unsigned char *at;
    size_t left;
};

struct record {
    int type;
    struct reader content;
};

static bool take(struct reader *reader, size_t len, const unsigned char **ret_bytes)
{
    if (reader->left < len)
        return false;
    *ret_bytes = reader->at;
    reader->at += len;
    reader->left -= len;
    return true;
}

/* A record that has not arrived whole is incomplete, another version is bad. */
static enum fcgi_head take_record(struct reader *reader, struct record *ret_record)
{
    const unsigned char *header;
    const unsigned char *padding;
    if (!take(reader, HEADER_BYTES, &header))
        return FCGI_HEAD_INCOMPLETE;
    if (header[0] != VERSION)
        return FCGI_HEAD_BAD;
    struct reader content = {NULL, (size_t)header[4] << 8 | header[5]};
    if (!take(reader, content.left, &content.at) || !take(reader, header[6], &padding))
        return FCGI_HEAD_INCOMPLETE;
    *ret_record = (struct record){header[1], content};
    return FCGI_HEAD_SOUND;
}

/* One byte, or four when its high bit is set. */
static bool take_length(struct reader *reader, size_t *ret_length)
{
    const unsigned char *bytes;
    if (!take(reader, 1, &bytes))
        return false;
    *ret_length = bytes[0];
    if (bytes[0] < LONG_LENGTH)
        return true;
    size_t high = bytes[0] & (LONG_LENGTH - 1);
    if (!take(reader, 3, &bytes))
        return false;
    *ret_length = high << 24 | (size_t)bytes[0] << 16 | (size_t)bytes[1] << 8 | bytes[2];
    return true;
}

static bool pairs_are_sound(struct reader pairs)
{
    const unsigned char *unused;
    size_t name_len;
    size_t value_len;
    while (pairs.left > 0)
        if (!take_length(&pairs, &name_len) || !take_length(&pairs, &value_len) ||
            !take(&pairs, name_len, &unused) || !take(&pairs, value_len, &unused))
            return false;
    return true;
}

static bool is_begin(const struct record *record)
{
    return record->type == TYPE_BEGIN && record->content.left == BEGIN_BYTES &&
           record->content.at[0] == 0 && record->content.at[1] == ROLE_RESPONDER;
}

enum fcgi_head fcgi_head_check(const unsigned char *head, size_t len, size_t *ret_head_len)
{
    struct reader reader = {head, len};
    struct record record;
    enum fcgi_head judgement = take_record(&reader, &record);
    if (judgement == FCGI_HEAD_SOUND && !is_begin(&record))
        return FCGI_HEAD_BAD;
    while (judgement == FCGI_HEAD_SOUND) {
        judgement = take_record(&reader, &record);
        if (judgement != FCGI_HEAD_SOUND)
            break;
        if (record.type != TYPE_PARAMS || !pairs_are_sound(record.content))
            return FCGI_HEAD_BAD;
        if (record.content.left == 0) {
            *ret_head_len = len - reader.left;
            break;
        }
    }
    return judgement;
}

/* Waits a moment, as there is no wait for "more than is there"; true when no more can come. */
static bool has_ended(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
    return poll(&poll_fd, 1, RETRY_MS) > 0;
}

/* Do these bytes behind a head hold the whole body, its empty last record included? */
static bool is_whole_body(const unsigned char *bytes, size_t len)
{
    struct reader reader = {bytes, len};
    struct record record;
    while (take_record(&reader, &record) == FCGI_HEAD_SOUND && record.type == TYPE_STDIN)
        if (record.content.left == 0)
            return true;
    return false;
}

/* Waits for the head and judges it without taking it; false when it is bad, the connection ended,
 * or *timed_out was set. */
static bool fcgi_head_peek(int fd, const atomic_bool *timed_out, struct fcgi_peek *ret_peek)
{
    struct fcgi_peek *peek = ret_peek;
    bool ended = false;
    peek->len = 0;
    while (!atomic_load(timed_out)) {
        ssize_t len = recv(fd, peek->bytes, sizeof peek->bytes, MSG_PEEK);
        if (len <= 0)
            return false;
        peek->len = (size_t)len;
        enum fcgi_head judgement = fcgi_head_check(peek->bytes, (size_t)len, &peek->head_len);
        if (judgement == FCGI_HEAD_SOUND) {
            peek->has_body =
                is_whole_body(peek->bytes + peek->head_len, (size_t)len - peek->head_len);
            return true;
        }
        if (judgement == FCGI_HEAD_BAD || len == FCGI_HEAD_MAX || ended)
            return false;
        ended = has_ended(fd);
    }
    return false;
}

/*
 * Large pieces of an answer as FastCGI STDOUT records (FastCGI 1.0, section 3.3), written straight to
 * the connection: libfcgi copies every byte and writes 8 KiB at a time. Used by one thread.
 */

/* lighttpd 1.4.69 reads about 64 KiB at once while it has nothing left to send, and writes what is more
 * than 64 KiB of whole records to a temporary file: with one record a read, a body stays in memory. Some
 * more wait in the socket, so that neither side stands still. No padding is needed. */
#define CONTENT_MAX LIMIT_STREAM_STEP
#define SOCKET_BUFFER (128 * 1024) /* the kernel doubles it */
#define RECORDS_AT_ONCE 8

struct batch {
    unsigned char headers[RECORDS_AT_ONCE][HEADER_BYTES];
    struct iovec parts[2 * RECORDS_AT_ONCE];
    int count; /* of parts */
};

static void add_record(struct batch *batch, int request_id, const char *data, size_t len)
{
    unsigned char *header = batch->headers[batch->count / 2];
    header[0] = VERSION;
    header[1] = TYPE_STDOUT;
    header[2] = (unsigned char)((unsigned)request_id >> 8);
    header[3] = (unsigned char)request_id;
    header[4] = (unsigned char)(len >> 8);
    header[5] = (unsigned char)len;
    header[6] = 0; /* no padding */
    header[7] = 0;
    batch->parts[batch->count++] = (struct iovec){header, HEADER_BYTES};
    /* writev only reads, but iovec has no const. */
    const union {
        const void *read;
        void *base;
    } content = {data};
    batch->parts[batch->count++] = (struct iovec){content.base, len};
}

static void advance(struct iovec **parts, int *count, size_t written)
{
    while (*count > 0 && written >= (*parts)->iov_len) {
        written -= (*parts)->iov_len;
        ++*parts;
        --*count;
    }
    if (*count > 0) {
        (*parts)->iov_base = (char *)(*parts)->iov_base + written;
        (*parts)->iov_len -= written;
    }
}

static bool write_batch(int fd, struct batch *batch, struct watch *watch)
{
    struct iovec *parts = batch->parts;
    int count = batch->count;
    while (count > 0) {
        if (atomic_load(&watch->timed_out))
            return false;
        ssize_t written = writev(fd, parts, count);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            advance(&parts, &count, (size_t)written);
            atomic_fetch_add(&watch->sent, written);
        }
    }
    return true;
}

/* Once, before the first piece. */
static void fcgi_records_begin(int fd)
{
    const int size = SOCKET_BUFFER;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* a matter of speed only */
}

/* Blocks while the gateway takes nothing. False when it is gone or the watch was ended. */
static bool fcgi_records_write(int fd, int request_id, struct str piece, struct watch *watch)
{
    bool is_written = true;
    atomic_store(&watch->writing, true);
    while (is_written && piece.len > 0) {
        struct batch batch;
        batch.count = 0;
        while (piece.len > 0 && batch.count < 2 * RECORDS_AT_ONCE) {
            size_t len = piece.len < CONTENT_MAX ? piece.len : CONTENT_MAX;
            add_record(&batch, request_id, piece.data, len);
            piece.data += len;
            piece.len -= len;
        }
        is_written = write_batch(fd, &batch, watch);
    }
    atomic_store(&watch->writing, false);
    return is_written;
}

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
