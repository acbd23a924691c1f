#include "contract_storage_s3_proxy.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "http_server.h"

#define SILENT_MS 60000
#define REPLY_BYTES (64 * 1024 * 1024)

const char *const s3_fault_names[S3_FAULT_COUNT] = {
    [S3_FAULT_RESET] = "reset", [S3_FAULT_LOST_REPLY] = "lost reply", [S3_FAULT_500] = "500",
    [S3_FAULT_CUT] = "cut",     [S3_FAULT_SILENT] = "silent",
};

struct s3_proxy {
    struct http_server *server;
    int store_port;
    atomic_int requests;
    atomic_int fault;
    atomic_int number;
    atomic_bool and_all_later;
};

static int connect_store(const struct s3_proxy *proxy)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)proxy->store_port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool send_all(int fd, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t sent = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes.data += sent;
        bytes.len -= (size_t)sent;
    }
    return true;
}

/* The whole answer; the store is asked to close after it, so its end is known. */
static void exchange(const struct s3_proxy *proxy, const struct http_peer *peer, struct buf *reply)
{
    char bytes[16384];
    struct str head = buf_str(&peer->head);
    struct str line = {head.data, str_find(head, '\n') + 1};
    int fd = connect_store(proxy);
    if (fd < 0)
        return;
    ssize_t len = 0;
    if (send_all(fd, line) && send_all(fd, STR("Connection: close\r\n")) &&
        send_all(fd, (struct str){head.data + line.len, head.len - line.len}))
        len = send_all(fd, buf_str(&peer->body)) ? 1 : 0;
    while (len > 0 && (len = recv(fd, bytes, sizeof bytes, 0)) > 0)
        buf_append(reply, bytes, (size_t)len);
    close(fd);
}

static bool is_spoiled(struct s3_proxy *proxy)
{
    int number = ++proxy->requests;
    int spoiled = proxy->number;
    return spoiled > 0 && (number == spoiled || (proxy->and_all_later && number > spoiled));
}

static void answer(struct s3_proxy *proxy, struct http_peer *peer, bool spoiled)
{
    int fault = proxy->fault;
    struct buf reply;
    buf_init(&reply, REPLY_BYTES);
    if (spoiled && fault == S3_FAULT_500)
        http_peer_write_text(peer, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n"
                                   "Connection: close\r\n\r\n");
    if (spoiled && fault == S3_FAULT_SILENT)
        http_peer_pause(peer, SILENT_MS);
    if (!spoiled || fault == S3_FAULT_LOST_REPLY || fault == S3_FAULT_CUT)
        exchange(proxy, peer, &reply);
    if (!spoiled || fault == S3_FAULT_CUT)
        http_peer_write(peer, (struct str){reply.data, spoiled ? reply.len / 2 : reply.len});
    if (spoiled && fault == S3_FAULT_CUT)
        http_peer_pause(peer, 50); /* so that what was sent arrives */
    if (spoiled && fault != S3_FAULT_500)
        http_peer_reset(peer);
    buf_release(&reply);
}

static void serve(struct http_peer *peer)
{
    struct s3_proxy *proxy = peer->context;
    if (http_peer_read(peer))
        answer(proxy, peer, is_spoiled(proxy));
}

struct s3_proxy *s3_proxy_open(const struct config *config, struct config *ret_config)
{
    struct str endpoint = str_of(config->s3_endpoint);
    int64_t port = 0;
    struct s3_proxy *proxy = calloc(1, sizeof *proxy);
    if (!proxy)
        abort();
    str_cut(&endpoint, ':');
    str_cut(&endpoint, ':');
    if (!text_parse_int(endpoint, 1, 65535, &port)) {
        fprintf(stderr, "s3_proxy: %s has no port\n", config->s3_endpoint);
        abort();
    }
    proxy->store_port = (int)port;
    proxy->server = http_server_open(serve, proxy);
    *ret_config = *config;
    snprintf(ret_config->s3_endpoint, CONFIG_TEXT_SIZE, "http://127.0.0.1:%d",
             http_server_port(proxy->server));
    return proxy;
}

void s3_proxy_close(struct s3_proxy *proxy)
{
    http_server_close(proxy->server);
    free(proxy);
}

void s3_proxy_set(struct s3_proxy *proxy, enum s3_fault fault, int number, bool and_all_later)
{
    proxy->fault = (int)fault;
    proxy->number = number;
    proxy->and_all_later = and_all_later;
    proxy->requests = 0;
}

int s3_proxy_requests(const struct s3_proxy *proxy)
{
    return proxy->requests;
}
