#include "mongodb_proxy.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_BYTES 16
#define MESSAGE_MAX (48 << 20)
#define OP_MSG 2013
#define NAME_AT (HEADER_BYTES + 4 + 1 + 4 + 1) /* flags, section kind, length, type */
#define CONNECTIONS_MAX 1024

struct connection {
    struct mongodb_proxy *proxy;
    pthread_t thread;
    int client;
    int server;
};

struct mongodb_proxy {
    char host[256];
    char port[16];
    uint16_t own_port;
    int listener;
    bool accepts;
    pthread_t acceptor;
    mongodb_proxy_callback *told;
    void *context;
    atomic_int cut;
    atomic_int first;
    atomic_int last;
    atomic_int seen;
    atomic_int broken;
    pthread_mutex_t mutex;
    struct connection connections[CONNECTIONS_MAX];
    int count;
};

/* ---- messages ---- */

struct message {
    uint8_t *bytes;
    size_t len;
};

static bool read_whole(int fd, uint8_t *target, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = recv(fd, target + done, len - done, 0);
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static bool write_whole(int fd, const uint8_t *bytes, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t put = send(fd, bytes + done, len - done, MSG_NOSIGNAL);
        if (put <= 0)
            return false;
        done += (size_t)put;
    }
    return true;
}

static uint32_t number_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static bool read_message(int fd, struct message *message)
{
    uint8_t header[HEADER_BYTES];
    if (!read_whole(fd, header, sizeof header))
        return false;
    size_t len = number_at(header);
    if (len < HEADER_BYTES || len > MESSAGE_MAX)
        return false;
    uint8_t *bytes = realloc(message->bytes, len + 1);
    if (!bytes)
        abort();
    message->bytes = bytes;
    message->len = len;
    memcpy(bytes, header, sizeof header);
    bytes[len] = '\0';
    return read_whole(fd, bytes + HEADER_BYTES, len - HEADER_BYTES);
}

static bool is_command(const struct message *message)
{
    static const char *const others[] = {"hello",        "isMaster",    "ismaster",   "saslStart",
                                         "saslContinue", "endSessions", "killCursors"};
    if (number_at(message->bytes + 12) != OP_MSG || message->len <= NAME_AT)
        return false;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp((const char *)message->bytes + NAME_AT, others[i]) == 0)
            return false;
    return true;
}

/* ---- a connection ---- */

static bool is_broken(struct mongodb_proxy *proxy, const struct message *message)
{
    if (!is_command(message))
        return false;
    if (proxy->told)
        proxy->told(proxy->context, message->bytes, message->len);
    int number = atomic_fetch_add(&proxy->seen, 1) + 1;
    bool broken = number >= atomic_load(&proxy->first) && number <= atomic_load(&proxy->last);
    if (broken)
        atomic_fetch_add(&proxy->broken, 1);
    return broken;
}

/* A message of the client; false ends the connection. */
static bool pass_request(struct connection *connection, struct message *message)
{
    if (!read_message(connection->client, message))
        return false;
    bool broken = is_broken(connection->proxy, message);
    enum mongodb_cut cut = (enum mongodb_cut)atomic_load(&connection->proxy->cut);
    if (broken && cut == CUT_REQUEST)
        return false;
    if (!write_whole(connection->server, message->bytes, message->len))
        return false;
    return !broken || (read_message(connection->server, message) && false);
}

static bool pass_reply(struct connection *connection, struct message *message)
{
    return read_message(connection->server, message) &&
           write_whole(connection->client, message->bytes, message->len);
}

static void *serve(void *argument)
{
    struct connection *connection = argument;
    struct message message = {NULL, 0};
    bool goes_on = true;
    while (goes_on) {
        struct pollfd ready[2] = {{.fd = connection->client, .events = POLLIN},
                                  {.fd = connection->server, .events = POLLIN}};
        if (poll(ready, 2, -1) < 0)
            break;
        if (ready[0].revents)
            goes_on = pass_request(connection, &message);
        if (goes_on && ready[1].revents)
            goes_on = pass_reply(connection, &message);
    }
    free(message.bytes);
    shutdown(connection->client, SHUT_RDWR);
    shutdown(connection->server, SHUT_RDWR);
    return NULL;
}

static int connect_to_server(const struct mongodb_proxy *proxy)
{
    struct addrinfo *found = NULL;
    const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM};
    if (getaddrinfo(proxy->host, proxy->port, &wanted, &found) != 0)
        return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static void *accept_all(void *argument)
{
    struct mongodb_proxy *proxy = argument;
    for (;;) {
        int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            return NULL;
        int server = connect_to_server(proxy);
        pthread_mutex_lock(&proxy->mutex);
        struct connection *connection = &proxy->connections[proxy->count];
        *connection = (struct connection){.proxy = proxy, .client = client, .server = server};
        bool serves = server >= 0 && proxy->count < CONNECTIONS_MAX - 1 &&
                      pthread_create(&connection->thread, NULL, serve, connection) == 0;
        if (serves)
            proxy->count++;
        pthread_mutex_unlock(&proxy->mutex);
        if (!serves) {
            close(client);
            if (server >= 0)
                close(server);
        }
    }
}

/* ---- the proxy ---- */

static bool parse_address(const char *uri, struct mongodb_proxy *proxy, const char **ret_start,
                          const char **ret_end)
{
    const char *start = strstr(uri, "://");
    if (!start || strncmp(uri, "mongodb://", 10) != 0)
        return false;
    start += 3;
    const char *end = start + strcspn(start, "/?");
    for (const char *at = start; at < end; at++)
        if (*at == '@')
            start = at + 1;
    const char *colon = memchr(start, ':', (size_t)(end - start));
    if (memchr(start, ',', (size_t)(end - start)) || end - start > 255)
        return false;
    snprintf(proxy->host, sizeof proxy->host, "%.*s", (int)((colon ? colon : end) - start), start);
    snprintf(proxy->port, sizeof proxy->port, "%.*s", colon ? (int)(end - colon - 1) : 5,
             colon ? colon + 1 : "27017");
    *ret_start = start;
    *ret_end = end;
    return true;
}

bool mongodb_proxy_start(struct mongodb_proxy *proxy)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(proxy->own_port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int on = 1;
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(proxy->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(proxy->listener, (struct sockaddr *)&address, len) != 0 ||
        listen(proxy->listener, 128) != 0 ||
        getsockname(proxy->listener, (struct sockaddr *)&address, &len) != 0)
        return false;
    proxy->own_port = ntohs(address.sin_port);
    proxy->accepts = pthread_create(&proxy->acceptor, NULL, accept_all, proxy) == 0;
    return proxy->accepts;
}

void mongodb_proxy_stop(struct mongodb_proxy *proxy)
{
    if (!proxy->accepts)
        return;
    shutdown(proxy->listener, SHUT_RDWR);
    pthread_join(proxy->acceptor, NULL);
    close(proxy->listener);
    proxy->accepts = false;
    for (int i = 0; i < proxy->count; i++) {
        shutdown(proxy->connections[i].client, SHUT_RDWR);
        shutdown(proxy->connections[i].server, SHUT_RDWR);
        pthread_join(proxy->connections[i].thread, NULL);
        close(proxy->connections[i].client);
        close(proxy->connections[i].server);
    }
    proxy->count = 0;
}

struct mongodb_proxy *mongodb_proxy_open(const char *uri, char *ret_uri, size_t uri_size)
{
    const char *start = NULL;
    const char *end = NULL;
    struct mongodb_proxy *proxy = calloc(1, sizeof *proxy);
    if (!proxy)
        abort();
    pthread_mutex_init(&proxy->mutex, NULL);
    if (!parse_address(uri, proxy, &start, &end) || !mongodb_proxy_start(proxy)) {
        fprintf(stderr, "mongodb_proxy: needs a URI with one address.\n");
        free(proxy);
        return NULL;
    }
    snprintf(ret_uri, uri_size, "%.*s127.0.0.1:%u%s", (int)(start - uri), uri,
             (unsigned)proxy->own_port, end);
    return proxy;
}

void mongodb_proxy_close(struct mongodb_proxy *proxy)
{
    mongodb_proxy_stop(proxy);
    pthread_mutex_destroy(&proxy->mutex);
    free(proxy);
}

void mongodb_proxy_cut(struct mongodb_proxy *proxy, enum mongodb_cut cut, int nth, int times)
{
    atomic_store(&proxy->last, 0);
    atomic_store(&proxy->cut, (int)cut);
    atomic_store(&proxy->seen, 0);
    atomic_store(&proxy->broken, 0);
    atomic_store(&proxy->first, nth);
    atomic_store(&proxy->last, nth + times - 1);
}

int mongodb_proxy_broken(const struct mongodb_proxy *proxy)
{
    return atomic_load(&proxy->broken);
}

const char *mongodb_proxy_text(const uint8_t *message, size_t len, const char *name)
{
    size_t name_len = strlen(name) + 1;
    for (size_t at = 0; at + name_len + 5 < len; at++)
        if (message[at] == 2 && memcmp(message + at + 1, name, name_len) == 0)
            return (const char *)message + at + 1 + name_len + 4;
    return NULL;
}

void mongodb_proxy_tell(struct mongodb_proxy *proxy, mongodb_proxy_callback *callback,
                        void *context)
{
    proxy->told = callback;
    proxy->context = context;
}
