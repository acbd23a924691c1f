/*
 * Preloaded into lighttpd (coffer-serve, docs/decisions/0029): bounds what connections may cost, those
 * that send no request and those whose body is stored slower than it comes. lighttpd 1.4.69 has neither a deadline for a whole request head nor a bound on
 * connections from one address, and takes no connection at all when MAX_CONNECTIONS are open.
 *
 * - A head that is not complete HEAD_DEADLINE_SECONDS after it began is ended.
 * - From one address (of IPv6: one /64) at most MAX_CONNECTIONS_PER_ADDRESS connections are open, but for
 *   TRUSTED_PROXIES: its oldest without a request is ended for a new one, else the new one is closed.
 * - When nearly MAX_CONNECTIONS are open, the oldest without a request is ended for a new one.
 * - Of a body that streams, lighttpd reads on only while less than AHEAD_MAX of it wait for the program:
 *   it would spool the rest.
 *
 * It stands between lighttpd and the C library: nothing of a connection is copied or delayed. lighttpd
 * has one thread. What goes wrong here leaves lighttpd as it is without it.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/address.h"
#include "base/text.h"

#define FDS 65536 /* descriptors from here on are not looked at */
#define BUCKETS 65536
#define ACCEPTS_AT_ONCE 100
#define NONE (-1)
#define AHEAD_MAX (256 * 1024)
#define API __attribute__((visibility("default")))

enum state {
    UNKNOWN, /* no client's */
    WAITING, /* for the end of a request head; in the list */
    BUSY,    /* the head is complete */
    ANSWERED /* bytes of the answer were written: what is read next begins a head */
};

struct connection {
    enum state state;
    bool has_text; /* of the head: line ends alone are none */
    bool at_line;  /* the last byte but "\r" was a line's end */
    int older;     /* descriptors of neighbours in the list, NONE at its ends */
    int younger;
    int peer; /* index into peers */
    int64_t since_ms;
    int backend;   /* descriptor that the body goes to, NONE: not known */
    int64_t ahead; /* bytes of the body that were read and not written there; some less */
    bool is_paused;
    int poll_fd; /* what lighttpd wants to know of it */
    struct epoll_event wanted;
};

struct peer {
    unsigned char address[16]; /* IPv4 as IPv6 */
    int count;                 /* of its connections; 0: free */
    int next;                  /* in its bucket, or in the list of free ones */
};

static struct {
    int (*accept4)(int, struct sockaddr *, socklen_t *, int);
    int (*close)(int);
    ssize_t (*read)(int, void *, size_t);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*sendfile64)(int, int, off64_t *, size_t);
    int (*connect)(int, const struct sockaddr *, socklen_t);
    int (*epoll_ctl)(int, int, int, struct epoll_event *);
    int (*epoll_wait)(int, struct epoll_event *, int, int);
} libc;

static struct {
    bool is_on;
    int64_t head_ms;
    int most;
    int most_of_peer;
    const char *trusted;
    int open;     /* connections that were not ended here */
    int oldest;   /* of the list of those that wait */
    int youngest; /* both NONE when it is empty */
    int free_peer;
    int fresh; /* whose head is just complete: the next connect is for it; else NONE */
} gate = {.oldest = NONE, .youngest = NONE, .free_peer = NONE, .fresh = NONE};

static struct connection connections[FDS];
static struct peer peers[FDS];
static int buckets[BUCKETS];
static int clients[FDS]; /* of a backend's descriptor, NONE: not known */

/* -- the list of connections that wait, the oldest first ---------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void begin_waiting(int fd)
{
    struct connection *connection = &connections[fd];
    connection->state = WAITING;
    connection->has_text = connection->at_line = false;
    connection->since_ms = now_ms();
    connection->older = gate.youngest;
    connection->younger = NONE;
    if (gate.youngest != NONE)
        connections[gate.youngest].younger = fd;
    else
        gate.oldest = fd;
    gate.youngest = fd;
}

static void end_waiting(int fd)
{
    const struct connection *connection = &connections[fd];
    if (connection->older != NONE)
        connections[connection->older].younger = connection->younger;
    else
        gate.oldest = connection->younger;
    if (connection->younger != NONE)
        connections[connection->younger].older = connection->older;
    else
        gate.youngest = connection->older;
}

/* -- peers -------------------------------------------------------------------------------------- */

static bool read_address(const struct sockaddr *name, unsigned char address[16])
{
    memset(address, 0, 16);
    if (name->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, name, sizeof v4);
        address[10] = address[11] = 0xFF;
        memcpy(address + 12, &v4.sin_addr, 4);
        return true;
    }
    if (name->sa_family != AF_INET6)
        return false;
    struct sockaddr_in6 v6;
    memcpy(&v6, name, sizeof v6);
    bool is_v4 = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
    memcpy(address, &v6.sin6_addr, is_v4 ? 16 : 8);
    return true;
}

static bool is_trusted(const struct sockaddr *name)
{
    char text[INET6_ADDRSTRLEN];
    const void *address =
        name->sa_family == AF_INET
            ? (const void *)&((const struct sockaddr_in *)(const void *)name)->sin_addr
            : &((const struct sockaddr_in6 *)(const void *)name)->sin6_addr;
    return inet_ntop(name->sa_family, address, text, sizeof text) &&
           address_in_list(str_of(gate.trusted), str_of(text));
}

/* FNV-1a: no peer chooses more than its own address. */
static int *bucket_of(const unsigned char address[16])
{
    uint32_t hash = 2166136261u;
    for (int i = 0; i < 16; i++)
        hash = (hash ^ address[i]) * 16777619u;
    return &buckets[(hash ^ hash >> 16) % BUCKETS];
}

/* The peer of this address; NONE when there is no room for a new one. */
static int find_peer(const unsigned char address[16])
{
    int *bucket = bucket_of(address);
    for (int each = *bucket; each != NONE; each = peers[each].next)
        if (memcmp(peers[each].address, address, 16) == 0)
            return each;
    int made = gate.free_peer;
    if (made == NONE)
        return NONE;
    gate.free_peer = peers[made].next;
    memcpy(peers[made].address, address, 16);
    peers[made].count = 0;
    peers[made].next = *bucket;
    *bucket = made;
    return made;
}

static void leave_peer(int peer)
{
    if (--peers[peer].count > 0)
        return;
    int *link = bucket_of(peers[peer].address);
    while (*link != peer)
        link = &peers[*link].next;
    *link = peers[peer].next;
    peers[peer].next = gate.free_peer;
    gate.free_peer = peer;
}

/* -- bodies ------------------------------------------------------------------------------------- */

/* Tells the kernel what lighttpd wants to know of it; of a paused one not whether it can be read. */
static int poll_client(int fd, int operation)
{
    const struct connection *connection = &connections[fd];
    struct epoll_event event = connection->wanted;
    if (connection->is_paused)
        event.events &= ~(uint32_t)EPOLLIN;
    return libc.epoll_ctl(connection->poll_fd, operation, fd, &event);
}

static void pause_or_resume(int fd)
{
    struct connection *connection = &connections[fd];
    bool pauses = connection->backend != NONE &&
                  connection->ahead > (connection->is_paused ? AHEAD_MAX / 2 : AHEAD_MAX);
    if (pauses == connection->is_paused || connection->poll_fd == NONE)
        return;
    connection->is_paused = pauses;
    (void)poll_client(fd, EPOLL_CTL_MOD);
}

static void unlink_backend(int fd)
{
    struct connection *connection = &connections[fd];
    if (connection->backend == NONE)
        return;
    clients[connection->backend] = NONE;
    connection->backend = NONE;
    pause_or_resume(fd);
}

static void link_backend(int backend)
{
    int fd = gate.fresh;
    gate.fresh = NONE;
    if (fd == NONE || backend < 0 || backend >= FDS || connections[fd].state != BUSY)
        return;
    unlink_backend(fd);
    connections[fd].backend = backend;
    clients[backend] = fd;
}

static int client_of(int backend)
{
    return backend >= 0 && backend < FDS ? clients[backend] : NONE;
}

static void count_ahead(int fd, ssize_t len)
{
    connections[fd].ahead += len;
    pause_or_resume(fd);
}

static ssize_t note_sent(int backend, ssize_t len)
{
    int fd = client_of(backend);
    if (fd != NONE && len > 0)
        count_ahead(fd, -len);
    return len;
}

/* -- connections -------------------------------------------------------------------------------- */

static void forget(int fd)
{
    struct connection *connection = &connections[fd];
    if (connection->state == WAITING)
        end_waiting(fd);
    unlink_backend(fd);
    connection->state = UNKNOWN;
    leave_peer(connection->peer);
    gate.open--;
}

/* lighttpd finds it at its end and closes it. */
static void end_connection(int fd)
{
    forget(fd);
    shutdown(fd, SHUT_RDWR);
}

/* Ends the oldest connection that waits, of this peer or (NONE) of any; false when there is none. */
static bool end_oldest(int peer)
{
    int fd = gate.oldest;
    while (fd != NONE && peer != NONE && connections[fd].peer != peer)
        fd = connections[fd].younger;
    if (fd == NONE)
        return false;
    end_connection(fd);
    return true;
}

/* False when it is one too many from its address. */
static bool let_in(int fd, const struct sockaddr *name)
{
    unsigned char address[16];
    if (fd >= FDS || !read_address(name, address))
        return true;
    if (connections[fd].state != UNKNOWN)
        forget(fd); /* closed where it was not seen */
    int peer = find_peer(address);
    if (peer == NONE)
        return true;
    peers[peer].count++; /* so that the peer stays while its oldest connection is ended */
    if (peers[peer].count > gate.most_of_peer && !is_trusted(name) && !end_oldest(peer)) {
        leave_peer(peer);
        return false;
    }
    if (gate.open >= gate.most)
        end_oldest(NONE);
    connections[fd] = (struct connection){.peer = peer, .backend = NONE, .poll_fd = NONE};
    gate.open++;
    begin_waiting(fd);
    return true;
}

static bool is_client(int fd)
{
    return fd >= 0 && fd < FDS && connections[fd].state != UNKNOWN;
}

/* An empty line ends a head (RFC 9112, section 2.1), but not before its first line. */
static void look_for_end(int fd, const char *bytes, size_t len)
{
    struct connection *connection = &connections[fd];
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '\r')
            continue;
        if (bytes[i] == '\n' && connection->at_line && connection->has_text) {
            end_waiting(fd);
            connection->state = BUSY;
            connection->ahead = 0;
            gate.fresh = fd;
            return;
        }
        connection->at_line = bytes[i] == '\n';
        connection->has_text = connection->has_text || bytes[i] != '\n';
    }
}

static void note_written(int fd, const char *bytes, size_t len)
{
    const struct str interim = STR("HTTP/1.1 1"); /* the request goes on */
    if (!is_client(fd) || connections[fd].state != BUSY ||
        (bytes && str_starts_with((struct str){bytes, len}, interim)))
        return;
    connections[fd].state = ANSWERED;
    unlink_backend(fd);
}

static void end_late_heads(void)
{
    int64_t now = gate.oldest != NONE ? now_ms() : 0;
    while (gate.oldest != NONE && now - connections[gate.oldest].since_ms >= gate.head_ms)
        end_connection(gate.oldest);
}

/* -- what lighttpd calls ------------------------------------------------------------------------ */

API int accept4(int fd, struct sockaddr *name, socklen_t *len, int flags)
{
    const socklen_t room = len ? *len : 0;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int accepted = libc.accept4(fd, name, len, flags);
        if (accepted < 0 || !gate.is_on || !name || let_in(accepted, name))
            return accepted;
        libc.close(accepted);
        if (len)
            *len = room;
    }
    errno = EAGAIN;
    return -1;
}

API int close(int fd)
{
    if (is_client(fd))
        forget(fd);
    else if (client_of(fd) != NONE)
        unlink_backend(client_of(fd));
    if (gate.fresh == fd)
        gate.fresh = NONE;
    return libc.close(fd);
}

API ssize_t read(int fd, void *bytes, size_t size)
{
    ssize_t len = libc.read(fd, bytes, size);
    if (len <= 0 || !is_client(fd))
        return len;
    gate.fresh = NONE;
    if (connections[fd].state == BUSY) {
        count_ahead(fd, len);
        return len;
    }
    if (connections[fd].state == ANSWERED)
        begin_waiting(fd);
    look_for_end(fd, bytes, (size_t)len);
    return len;
}

API ssize_t write(int fd, const void *bytes, size_t len)
{
    note_written(fd, bytes, len);
    return note_sent(fd, libc.write(fd, bytes, len));
}

API ssize_t writev(int fd, const struct iovec *parts, int count)
{
    note_written(fd, count > 0 ? parts->iov_base : NULL, count > 0 ? parts->iov_len : 0);
    return note_sent(fd, libc.writev(fd, parts, count));
}

API ssize_t sendfile64(int out, int in, off64_t *offset, size_t len)
{
    note_written(out, NULL, 0);
    return note_sent(out, libc.sendfile64(out, in, offset, len));
}

API int connect(int fd, const struct sockaddr *name, socklen_t len)
{
    link_backend(fd);
    return libc.connect(fd, name, len);
}

API int epoll_ctl(int poll_fd, int operation, int fd, struct epoll_event *event)
{
    if (!is_client(fd) || !event || operation == EPOLL_CTL_DEL)
        return libc.epoll_ctl(poll_fd, operation, fd, event);
    connections[fd].poll_fd = poll_fd;
    connections[fd].wanted = *event;
    return poll_client(fd, operation);
}

API int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
    gate.fresh = NONE;
    if (gate.is_on)
        end_late_heads();
    return libc.epoll_wait(fd, events, max, timeout);
}

/* -- the start ---------------------------------------------------------------------------------- */

static int setting(const char *name)
{
    int64_t value = 0;
    (void)text_parse_int(str_of(getenv(name)), 1, FDS, &value);
    return (int)value;
}

/* The programs that lighttpd starts are to begin without this file; a gateway's lighttpd starts
 * itself anew. */
static void leave_environment(void)
{
    const char *list = getenv("LD_PRELOAD");
    const char *others = list ? strchr(list, ':') : NULL;
    if (getenv("COFFER_GATE_STAYS"))
        return;
    if (others)
        setenv("LD_PRELOAD", others + 1, 1);
    else
        unsetenv("LD_PRELOAD");
}

#define FIND(name) (*(void **)&libc.name = dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    bool found = FIND(accept4) && FIND(close) && FIND(read) && FIND(write) && FIND(writev) &&
                 FIND(sendfile64) && FIND(connect) && FIND(epoll_ctl) && FIND(epoll_wait);
    int most = setting("MAX_CONNECTIONS");
    int fds = setting("COFFER_MAX_FDS");
    const char *trusted = getenv("TRUSTED_PROXIES");
    if (fds / 2 < most) /* as lighttpd does */
        most = fds / 2;
    gate.most = most - most / 16 - 1;
    gate.most_of_peer = setting("MAX_CONNECTIONS_PER_ADDRESS");
    gate.head_ms = setting("HEAD_DEADLINE_SECONDS") * INT64_C(1000);
    gate.trusted = trusted ? trusted : "";
    gate.is_on = found && gate.most > 0 && gate.most_of_peer > 0 && gate.head_ms > 0 &&
                 strcmp(program_invocation_short_name, "lighttpd") == 0;
    for (int i = 0; i < BUCKETS; i++)
        buckets[i] = NONE;
    for (int i = 0; i < FDS; i++)
        clients[i] = NONE;
    for (int i = FDS - 1; i >= 0 && gate.is_on; i--) {
        peers[i].next = gate.free_peer;
        gate.free_peer = i;
    }
    leave_environment();
}
