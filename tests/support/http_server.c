#include "http_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_MAX (64 * 1024 * 1024)
#define STEP (64 * 1024)

struct peer_thread {
    struct http_peer peer;
    pthread_t thread;
    struct peer_thread *next;
};

struct http_server {
    http_serve *serve;
    void *context;
    int fd;
    int stop_fd; /* readable when the server closes */
    int port;
    pthread_t thread;
    struct peer_thread *peers; /* the accepting thread's, until it is joined */
    _Atomic int connections;
    _Atomic int requests;
};

static void fail(const char *what)
{
    perror(what);
    abort();
}

/* One period of the pattern, twice, so that a step from anywhere in it is one piece. */
#define PERIOD HTTP_PATTERN_PERIOD
static char pattern[2 * PERIOD];

__attribute__((constructor)) static void fill_pattern(void)
{
    for (int i = 0; i < 2 * PERIOD; i++)
        pattern[i] = (char)(i % PERIOD * 31 + i % PERIOD / 251);
}

const char *http_pattern_at(int64_t offset)
{
    return pattern + offset % PERIOD;
}

char http_pattern(int64_t offset)
{
    return *http_pattern_at(offset);
}

static void *run_peer(void *context)
{
    struct peer_thread *thread = context;
    struct http_peer *peer = &thread->peer;
    peer->server->serve(peer);
    if (peer->fd >= 0)
        close(peer->fd);
    buf_release(&peer->head);
    buf_release(&peer->body);
    buf_release(&peer->unread);
    return NULL;
}

static void start_peer(struct http_server *server, int fd)
{
    struct peer_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        fail("calloc");
    thread->peer = (struct http_peer){
        .server = server, .context = server->context, .fd = fd, .number = server->connections++};
    buf_init(&thread->peer.head, BUFFER_MAX);
    buf_init(&thread->peer.body, BUFFER_MAX);
    buf_init(&thread->peer.unread, BUFFER_MAX);
    thread->next = server->peers;
    server->peers = thread;
    if (pthread_create(&thread->thread, NULL, run_peer, thread) != 0)
        fail("pthread_create");
}

/* False when the server closes, or nothing comes in time. */
static bool wait_readable(const struct http_server *server, int fd, int timeout_ms)
{
    struct pollfd fds[] = {{server->stop_fd, POLLIN, 0}, {fd, POLLIN, 0}};
    int ready = 0;
    do
        ready = poll(fds, 2, timeout_ms);
    while (ready < 0 && errno == EINTR);
    return ready > 0 && fds[0].revents == 0;
}

static void *run_server(void *context)
{
    struct http_server *server = context;
    while (wait_readable(server, server->fd, -1)) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            start_peer(server, fd);
    }
    return NULL;
}

struct http_server *http_server_open(http_serve *serve, void *context)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    struct http_server *server = calloc(1, sizeof *server);
    if (!server)
        fail("calloc");
    server->serve = serve;
    server->context = context;
    server->stop_fd = eventfd(0, EFD_CLOEXEC);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->stop_fd < 0 || server->fd < 0 ||
        bind(server->fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(server->fd, 128) != 0 ||
        getsockname(server->fd, (struct sockaddr *)&address, &len) != 0)
        fail("listen");
    server->port = ntohs(address.sin_port);
    if (pthread_create(&server->thread, NULL, run_server, server) != 0)
        fail("pthread_create");
    return server;
}

void http_server_close(struct http_server *server)
{
    const uint64_t one = 1;
    if (write(server->stop_fd, &one, sizeof one) != sizeof one)
        fail("eventfd");
    pthread_join(server->thread, NULL);
    while (server->peers) {
        struct peer_thread *thread = server->peers;
        server->peers = thread->next;
        pthread_join(thread->thread, NULL);
        free(thread);
    }
    close(server->fd);
    close(server->stop_fd);
    free(server);
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

int http_server_connections(const struct http_server *server)
{
    return server->connections;
}

int http_server_requests(const struct http_server *server)
{
    return server->requests;
}

const char *http_server_url(const struct http_server *server, const char *target,
                            char url[HTTP_URL_SIZE])
{
    snprintf(url, HTTP_URL_SIZE, "http://127.0.0.1:%d%s", server->port, target);
    return url;
}

static bool receive(struct http_peer *peer)
{
    char bytes[STEP];
    if (peer->fd < 0 || !wait_readable(peer->server, peer->fd, -1))
        return false;
    ssize_t len = recv(peer->fd, bytes, sizeof bytes, 0);
    if (len <= 0)
        return false;
    buf_append(&peer->unread, bytes, (size_t)len);
    return true;
}

static void take(struct http_peer *peer, struct buf *into, size_t len)
{
    struct buf *unread = &peer->unread;
    buf_reset(into);
    buf_append(into, unread->data, len);
    memmove(unread->data, unread->data + len, unread->len - len);
    unread->len -= len;
    unread->data[unread->len] = '\0';
}

bool http_peer_read_head(struct http_peer *peer)
{
    const char *end = NULL;
    while (!(end = peer->unread.data ? memmem(peer->unread.data, peer->unread.len, "\r\n\r\n", 4)
                                     : NULL))
        if (!receive(peer))
            return false;
    take(peer, &peer->head, (size_t)(end + 4 - peer->unread.data));
    buf_reset(&peer->body);
    peer->requests++;
    peer->server->requests++;
    return true;
}

bool http_peer_read_body(struct http_peer *peer)
{
    const char *header = strcasestr(buf_text(&peer->head), "\r\nContent-Length:");
    size_t len = header ? strtoul(header + strlen("\r\nContent-Length:"), NULL, 10) : 0;
    while (peer->unread.len < len)
        if (!receive(peer))
            return false;
    if (len > 0)
        take(peer, &peer->body, len);
    return true;
}

bool http_peer_read(struct http_peer *peer)
{
    return http_peer_read_head(peer) && http_peer_read_body(peer);
}

bool http_peer_saw(const struct http_peer *peer, const char *text)
{
    return strstr(buf_text(&peer->head), text) != NULL;
}

bool http_peer_write(struct http_peer *peer, struct str bytes)
{
    while (bytes.len > 0) {
        struct pollfd fds[] = {{peer->server->stop_fd, POLLIN, 0}, {peer->fd, POLLOUT, 0}};
        if (poll(fds, 2, -1) < 0 && errno == EINTR)
            continue;
        if (fds[0].revents != 0)
            return false;
        ssize_t sent = send(peer->fd, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (sent > 0) {
            bytes.data += sent;
            bytes.len -= (size_t)sent;
        }
    }
    return true;
}

bool http_peer_write_text(struct http_peer *peer, const char *text)
{
    return http_peer_write(peer, str_of(text));
}

bool http_peer_write_pattern(struct http_peer *peer, int64_t offset, int64_t len)
{
    const int64_t end = offset + len;
    while (offset < end) {
        int64_t step = end - offset < PERIOD ? end - offset : PERIOD;
        if (!http_peer_write(peer, (struct str){http_pattern_at(offset), (size_t)step}))
            return false;
        offset += step;
    }
    return true;
}

void http_peer_pause(struct http_peer *peer, int64_t duration_ms)
{
    struct pollfd fds[] = {{peer->server->stop_fd, POLLIN, 0}, {peer->fd, POLLRDHUP, 0}};
    while (poll(fds, 2, (int)duration_ms) < 0 && errno == EINTR)
        continue;
}

void http_peer_reset(struct http_peer *peer)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(peer->fd);
    peer->fd = -1;
}
