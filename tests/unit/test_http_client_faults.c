/* What comes of servers that misbehave. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"

/* Writes the context's text once, and closes. */
static void serve_text(struct http_peer *peer)
{
    if (http_peer_read(peer))
        http_peer_write_text(peer, peer->context);
}

TEST(http_faults, tells_broken_answers_apart)
{
    static const struct {
        const char *name;
        const char *answer;
        enum err_code want;
    } rows[] = {
        {"closed without a word", "", ERR_UPSTREAM_UNAVAILABLE},
        {"closed in the head", "HTTP/1.1 200 OK\r\nContent-Le", ERR_UPSTREAM_UNAVAILABLE},
        {"closed in the body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
         ERR_UPSTREAM_UNAVAILABLE},
        {"closed in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
         ERR_UPSTREAM_UNAVAILABLE},
        {"closed before the last chunk",
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
         ERR_UPSTREAM_UNAVAILABLE},
        {"closed after 100", "HTTP/1.1 100 Continue\r\n\r\n", ERR_UPSTREAM_UNAVAILABLE},
        {"a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
         ERR_UPSTREAM},
        {"HTTP/0.9", "hello, this is no HTTP\r\n", ERR_UPSTREAM},
        {"another protocol", "SSH-2.0-OpenSSH_9.2\r\n", ERR_UPSTREAM},
        {"HTTP/7", "HTTP/7.1 200 OK\r\nContent-Length: 0\r\n\r\n", ERR_UPSTREAM},
        {"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ERR_UPSTREAM},
        {"bad status", "HTTP/1.1 xyz OK\r\nContent-Length: 0\r\n\r\n", ERR_UPSTREAM},
        {"unasked upgrade", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nabc", ERR_UPSTREAM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char answer[256];
        struct http_trial trial = {.serve = serve_text, .context = answer};
        snprintf(answer, sizeof answer, "%s", rows[i].answer);
        http_trial_run(&trial);
        CHECK_ERR_ROW(rows[i].name, trial.code, rows[i].want, &trial.err);
        CHECK_INT_ROW(rows[i].name, trial.requests, 1);
        CHECK_ROW(rows[i].name, strstr(trial.err.message, "127.0.0.1:") == trial.err.message);
        CHECK_ROW(rows[i].name, !strstr(trial.err.message, "secret"));
        CHECK_ROW(rows[i].name, trial.err.internal);
    }
}

static void serve_nul(struct http_peer *peer)
{
    if (http_peer_read(peer))
        http_peer_write(peer, STR("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"));
}

TEST(http_faults, takes_no_head_with_a_nul)
{
    struct http_trial trial = {.serve = serve_nul};
    http_trial_run(&trial);
    CHECK_ERR(trial.code, ERR_UPSTREAM, &trial.err);
}

/* A head of `context` bytes: of one line, or of many. */
static void serve_long_line(struct http_peer *peer)
{
    if (!http_peer_read(peer) || !http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nX-Long: "))
        return;
    for (int left = *(const int *)peer->context; left > 0; left -= 10)
        if (!http_peer_write_text(peer, "0123456789"))
            return;
    http_peer_write_text(peer, "\r\nContent-Length: 0\r\n\r\n");
}

static void serve_many_lines(struct http_peer *peer)
{
    if (!http_peer_read(peer) || !http_peer_write_text(peer, "HTTP/1.1 200 OK\r\n"))
        return;
    for (int left = *(const int *)peer->context; left > 0; left -= 10)
        if (!http_peer_write_text(peer, "X-A: 345\r\n"))
            return;
    http_peer_write_text(peer, "Content-Length: 0\r\n\r\n");
}

TEST(http_faults, bounds_the_head)
{
    static const struct {
        const char *name;
        http_serve *serve;
        int size;
        enum err_code want;
    } rows[] = {
        {"a long line that fits", serve_long_line, 60000, ERR_OK},
        {"many lines that fit", serve_many_lines, 60000, ERR_OK},
        {"a long line", serve_long_line, 66000, ERR_UPSTREAM},
        {"many lines", serve_many_lines, 66000, ERR_UPSTREAM},
        {"a line without end", serve_long_line, 4000000, ERR_UPSTREAM},
        {"lines without end", serve_many_lines, 4000000, ERR_UPSTREAM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int size = rows[i].size;
        struct http_trial trial = {.serve = rows[i].serve, .context = &size};
        http_trial_run(&trial);
        CHECK_ERR_ROW(rows[i].name, trial.code, rows[i].want, &trial.err);
    }
}

TEST(http_faults, bounds_the_body)
{
    static const struct {
        const char *name;
        const char *answer;
        size_t max;
        enum err_code want;
    } rows[] = {
        {"fits", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", 5, ERR_OK},
        {"one more", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", 4, ERR_UPSTREAM},
        {"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
         4, ERR_UPSTREAM},
        {"until the end", "HTTP/1.1 200 OK\r\n\r\nabcde", 4, ERR_UPSTREAM},
        {"an error's body too", "HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nabcde", 4,
         ERR_UPSTREAM},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char answer[256];
        struct http_trial trial = {.serve = serve_text, .context = answer, .max_body = rows[i].max};
        snprintf(answer, sizeof answer, "%s", rows[i].answer);
        http_trial_run(&trial);
        CHECK_ERR_ROW(rows[i].name, trial.code, rows[i].want, &trial.err);
    }
}

static void serve_reset(struct http_peer *peer)
{
    if (http_peer_read(peer))
        http_peer_reset(peer);
}

static void serve_reset_in_body(struct http_peer *peer)
{
    if (!http_peer_read(peer))
        return;
    http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc");
    http_peer_pause(peer, 100);
    http_peer_reset(peer);
}

static void serve_reset_in_request(struct http_peer *peer)
{
    if (http_peer_read_head(peer))
        http_peer_reset(peer);
}

TEST(http_faults, a_reset_is_unavailable)
{
    static const struct {
        const char *name;
        http_serve *serve;
        size_t body;
    } rows[] = {
        {"before the answer", serve_reset, 0},
        {"in the answer", serve_reset_in_body, 0},
        {"in the request", serve_reset_in_request, 8 * 1024 * 1024},
    };
    char *bytes = calloc(1, rows[2].body);
    REQUIRE(bytes != NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_trial trial = {
            .serve = rows[i].serve, .method = "PUT", .body = {bytes, rows[i].body}};
        http_trial_run(&trial);
        CHECK_ERR_ROW(rows[i].name, trial.code, ERR_UPSTREAM_UNAVAILABLE, &trial.err);
        CHECK_INT_ROW(rows[i].name, trial.connections, 1);
    }
    free(bytes);
}

TEST(http_faults, nobody_listening_is_unavailable_at_once)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    const struct http_client_options options = http_test_options();
    struct http_client *client = http_test_client(&options);
    struct http_reply reply;
    struct err err = {0};
    char url[HTTP_URL_SIZE];
    /* Bound, not listening: nobody else gets the port. */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(fd >= 0);
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(address.sin_port));
    struct http_request request = http_test_get(url);
    http_reply_init(&reply);
    const int64_t start_ms = http_test_now_ms();
    CHECK_ERR(http_exchange(client, &request, &reply, &err), ERR_UPSTREAM_UNAVAILABLE, &err);
    CHECK(http_test_now_ms() - start_ms < 2000);
    CHECK_INT(err.os_errno, ECONNREFUSED);
    http_reply_release(&reply);
    http_client_close(client);
    close(fd);
}

/* Reads, and says nothing. */
static void serve_silence(struct http_peer *peer)
{
    if (http_peer_read(peer))
        http_peer_pause(peer, 60000);
}

/* Does not even read. */
static void serve_deaf(struct http_peer *peer)
{
    http_peer_pause(peer, 60000);
}

static void serve_silence_in_body(struct http_peer *peer)
{
    if (http_peer_read(peer) &&
        http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"))
        http_peer_pause(peer, 60000);
}

/* A byte every 20 ms, for ever. */
static void serve_drops(struct http_peer *peer)
{
    if (!http_peer_read(peer) ||
        !http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"))
        return;
    while (http_peer_write_text(peer, "x"))
        http_peer_pause(peer, 20);
}

TEST(http_faults, silence_ends_at_the_stall_time_and_drops_at_the_deadline)
{
    static const struct {
        const char *name;
        http_serve *serve;
        size_t body;
        int64_t stall_ms;
        int64_t deadline_ms;
        int64_t at_least_ms;
    } rows[] = {
        {"silent", serve_silence, 0, 200, 20000, 200},
        {"silent in the body", serve_silence_in_body, 0, 200, 20000, 200},
        {"deaf", serve_deaf, 32 * 1024 * 1024, 200, 20000, 200},
        {"silent, deadline first", serve_silence, 0, 20000, 200, 200},
        {"drops", serve_drops, 0, 5000, 300, 300},
    };
    char *bytes = calloc(1, rows[2].body);
    REQUIRE(bytes != NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_trial trial = {.serve = rows[i].serve,
                                   .method = rows[i].body > 0 ? "PUT" : "GET",
                                   .body = {bytes, rows[i].body},
                                   .stall_ms = rows[i].stall_ms,
                                   .deadline_ms = rows[i].deadline_ms};
        http_trial_run(&trial);
        CHECK_ERR_ROW(rows[i].name, trial.code, ERR_UPSTREAM_TIMEOUT, &trial.err);
        CHECK_ROW(rows[i].name, trial.took_ms >= rows[i].at_least_ms && trial.took_ms < 4000);
        CHECK_ROW(rows[i].name, !strstr(trial.err.message, "secret"));
    }
    free(bytes);
}

/* Slower than the stall time all in all, never silent for that long: it is waited for. */
static void serve_slowly(struct http_peer *peer)
{
    if (!http_peer_read(peer) ||
        !http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"))
        return;
    for (int i = 0; i < 10; i++) {
        http_peer_pause(peer, 100);
        http_peer_write_text(peer, "x");
    }
}

TEST(http_faults, a_slow_answer_is_waited_for)
{
    struct http_trial trial = {.serve = serve_slowly, .stall_ms = 800};
    http_trial_run(&trial);
    CHECK_ERR(trial.code, ERR_OK, &trial.err);
    CHECK(trial.took_ms >= 1000);
}

/* Makes the server's buffer small, but not less than loopback's segments of 64 KiB: the kernel would
 * say late then that there is room again. */
static void limit_buffer(const struct http_peer *peer)
{
    int size = 256 * 1024;
    setsockopt(peer->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

/* Takes a large body bit by bit. */
static void serve_reading_slowly(struct http_peer *peer)
{
    char bytes[256 * 1024];
    limit_buffer(peer);
    if (!http_peer_read_head(peer))
        return;
    size_t got = peer->unread.len;
    while (got < 12 * 1024 * 1024) {
        ssize_t len = recv(peer->fd, bytes, sizeof bytes, 0);
        if (len <= 0)
            return;
        if (got / (1024 * 1024) != (got + (size_t)len) / (1024 * 1024))
            http_peer_pause(peer, 100);
        got += (size_t)len;
    }
    http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

TEST(http_faults, a_slow_reader_is_waited_for)
{
    const size_t size = 12 * 1024 * 1024;
    char *bytes = calloc(1, size);
    REQUIRE(bytes != NULL);
    struct http_trial trial = {
        .serve = serve_reading_slowly, .method = "PUT", .stall_ms = 800, .body = {bytes, size}};
    http_trial_run(&trial);
    CHECK_ERR(trial.code, ERR_OK, &trial.err);
    CHECK(trial.took_ms >= 1000);
    free(bytes);
}

#define DRAINED (2 * 1024 * 1024)

/* Takes bit by bit what the client's kernel has taken at once. */
static void serve_draining(struct http_peer *peer)
{
    char bytes[128 * 1024];
    limit_buffer(peer);
    if (!http_peer_read_head(peer))
        return;
    for (size_t got = peer->unread.len; got < DRAINED;) {
        ssize_t len = recv(peer->fd, bytes, sizeof bytes, 0);
        if (len <= 0)
            return;
        if (got / sizeof bytes != (got + (size_t)len) / sizeof bytes)
            http_peer_pause(peer, 150);
        got += (size_t)len;
    }
    http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

TEST(http_faults, what_drains_from_the_kernel_is_not_silence)
{
    char *bytes = calloc(1, DRAINED);
    REQUIRE(bytes != NULL);
    struct http_trial trial = {
        .serve = serve_draining, .method = "PUT", .stall_ms = 1000, .body = {bytes, DRAINED}};
    http_trial_run(&trial);
    CHECK_ERR(trial.code, ERR_OK, &trial.err);
    CHECK(trial.took_ms >= 2000);
    free(bytes);
}

/* A port whose queue of connections is full: a further one is not answered. */
TEST(http_faults, connecting_ends_at_its_time)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    struct http_client_options options = http_test_options();
    struct http_reply reply;
    struct err err = {0};
    char url[HTTP_URL_SIZE];
    int waiting[8];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(fd >= 0);
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(fd, 0) == 0);
    REQUIRE(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(waiting[i], (struct sockaddr *)&address, sizeof address);
    }
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(address.sin_port));
    options.connect_ms = 300;
    struct http_client *client = http_test_client(&options);
    struct http_request request = http_test_get(url);
    http_reply_init(&reply);
    const int64_t start_ms = http_test_now_ms();
    CHECK_ERR(http_exchange(client, &request, &reply, &err), ERR_UPSTREAM_TIMEOUT, &err);
    const int64_t took_ms = http_test_now_ms() - start_ms;
    CHECK(took_ms >= 250 && took_ms < 4000);
    http_reply_release(&reply);
    http_client_close(client);
    for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++)
        close(waiting[i]);
    close(fd);
}

/* Refuses before it has read the body. */
static void serve_early_refusal(struct http_peer *peer)
{
    if (!http_peer_read_head(peer))
        return;
    http_peer_write_text(peer, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
    http_peer_pause(peer, 10000);
}

TEST(http_faults, an_early_refusal_ends_the_sending)
{
    const size_t size = 32 * 1024 * 1024;
    char *bytes = calloc(1, size);
    REQUIRE(bytes != NULL);
    struct http_trial trial = {
        .serve = serve_early_refusal, .method = "PUT", .body = {bytes, size}};
    http_trial_run(&trial);
    CHECK_ERR(trial.code, ERR_OK, &trial.err);
    CHECK_INT(trial.status, 403);
    CHECK(trial.took_ms < 5000);
    free(bytes);
}
