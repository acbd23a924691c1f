#include "observe/sender.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "check.h"
#include "http_tools.h"

#define PATIENCE_MS 10000

/* A receiver that keeps what its calls were told. */
struct probe {
    struct sender *sender;
    struct sender_lane *lane;
    char url[HTTP_URL_SIZE];
    pthread_mutex_t mutex;
    /* guarded by mutex */
    struct buf judged; /* "body=STATUS;", STATUS 0: no answer */
    int pulls;         /* that may still give something */
    int64_t pull_wait_ms;
    int asked;
    bool asked_while_stopping;
    bool is_refused; /* prepare says no */
};

static void judge(void *context, struct str body, const struct http_reply *reply,
                  const struct err *err)
{
    struct probe *probe = context;
    CHECK((reply != NULL) == (err->code == ERR_OK));
    pthread_mutex_lock(&probe->mutex);
    buf_printf(&probe->judged, "%.*s=%d;", (int)body.len, body.data, reply ? reply->status : 0);
    pthread_mutex_unlock(&probe->mutex);
}

static bool prepare(void *context, struct str offered, struct buf *body)
{
    struct probe *probe = context;
    pthread_mutex_lock(&probe->mutex);
    bool is_refused = probe->is_refused;
    pthread_mutex_unlock(&probe->mutex);
    buf_printf(body, "<%.*s>", (int)offered.len, offered.data);
    return !is_refused;
}

static bool pull(void *context, bool stopping, struct buf *body, int64_t *ret_wait_ms)
{
    struct probe *probe = context;
    pthread_mutex_lock(&probe->mutex);
    bool has_more = probe->pulls > 0;
    if (has_more)
        buf_printf(body, "pulled %d", probe->pulls--);
    probe->asked++;
    probe->asked_while_stopping = probe->asked_while_stopping || stopping;
    *ret_wait_ms = probe->pull_wait_ms;
    pthread_mutex_unlock(&probe->mutex);
    return has_more;
}

static void open_probe(struct probe *probe, const struct sender_receiver *form, size_t queue_bytes)
{
    struct err err;
    struct sender_receiver receiver = *form;
    receiver.url = probe->url;
    receiver.header = "X-Test: yes\r\n";
    receiver.queue_bytes = queue_bytes;
    receiver.judge = judge;
    receiver.context = probe;
    pthread_mutex_init(&probe->mutex, NULL);
    buf_init(&probe->judged, 1024 * 1024);
    if (!probe->sender)
        CHECK_ERR(sender_open(&probe->sender, &clock_system, &err), ERR_OK, &err);
    CHECK_ERR(sender_add(probe->sender, &receiver, &probe->lane, &err), ERR_OK, &err);
}

static void close_probe(struct probe *probe)
{
    buf_release(&probe->judged);
    pthread_mutex_destroy(&probe->mutex);
}

static bool offer(struct probe *probe, const char *text)
{
    return sender_offer(probe->lane, str_of(text));
}

static bool was_judged(struct probe *probe, const char *want)
{
    pthread_mutex_lock(&probe->mutex);
    bool is_found = strstr(buf_text(&probe->judged), want) != NULL;
    pthread_mutex_unlock(&probe->mutex);
    return is_found;
}

static int asked(struct probe *probe)
{
    pthread_mutex_lock(&probe->mutex);
    int count = probe->asked;
    pthread_mutex_unlock(&probe->mutex);
    return count;
}

static void pause_ms(int64_t duration_ms)
{
    const struct timespec pause = {.tv_sec = duration_ms / 1000,
                                   .tv_nsec = duration_ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static bool wait_judged(struct probe *probe, const char *want)
{
    int64_t until = http_test_now_ms() + PATIENCE_MS;
    while (!was_judged(probe, want) && http_test_now_ms() < until)
        pause_ms(2);
    return was_judged(probe, want);
}

static int threads(void)
{
    int count = -2; /* "." and ".." */
    DIR *dir = opendir("/proc/self/task");
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

/* ---- servers ---- */

static void serve_ok(struct http_peer *peer)
{
    while (http_peer_read(peer)) {
        CHECK(http_peer_saw(peer, "X-Test: yes\r\n") && http_peer_saw(peer, "POST / "));
        http_peer_write_text(peer, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

static void serve_silence(struct http_peer *peer)
{
    http_peer_read(peer);
    http_peer_pause(peer, 60000);
}

/* ---- tests ---- */

TEST(sender, without_an_offer_has_neither_thread_nor_socket)
{
    struct probe probe = {.url = "http://127.0.0.1:1/"};
    const struct sender_receiver form = {.pull = pull};
    int threads_before = threads();
    int files_before = http_test_open_files();
    open_probe(&probe, &form, 1000);
    CHECK_INT(threads(), threads_before);
    CHECK_INT(http_test_open_files(), files_before);
    sender_close(probe.sender);
    CHECK_INT(asked(&probe), 0);
    close_probe(&probe);
    sender_close(NULL);
}

TEST(sender, sends_what_is_offered_in_its_order)
{
    struct probe probe = {.sender = NULL};
    const struct sender_receiver form = {.prepare = NULL};
    struct http_server *server = http_server_open(serve_ok, NULL);
    http_server_url(server, "/", probe.url);
    open_probe(&probe, &form, 1000);
    CHECK(offer(&probe, "one"));
    CHECK(offer(&probe, "two"));
    CHECK(wait_judged(&probe, "one=200;two=200;"));
    pause_ms(20);
    CHECK(offer(&probe, "three"));
    sender_close(probe.sender);
    CHECK_STR(buf_str(&probe.judged), "one=200;two=200;three=200;");
    CHECK_INT(http_server_connections(server), 1);
    http_server_close(server);
    close_probe(&probe);
}

TEST(sender, prepares_on_its_thread_and_may_leave_out)
{
    struct probe probe = {.is_refused = true};
    const struct sender_receiver form = {.prepare = prepare};
    struct http_server *server = http_server_open(serve_ok, NULL);
    http_server_url(server, "/", probe.url);
    open_probe(&probe, &form, 1000);
    CHECK(offer(&probe, "left out"));
    pause_ms(50);
    pthread_mutex_lock(&probe.mutex);
    probe.is_refused = false;
    pthread_mutex_unlock(&probe.mutex);
    CHECK(offer(&probe, "sent"));
    CHECK(wait_judged(&probe, "<sent>=200;"));
    sender_close(probe.sender);
    CHECK_INT(http_server_requests(server), 1);
    http_server_close(server);
    close_probe(&probe);
}

TEST(sender, a_full_queue_refuses_at_once_and_a_stop_gives_back_what_is_left)
{
    struct probe probe = {.sender = NULL};
    const struct sender_receiver form = {.prepare = NULL};
    struct http_server *server = http_server_open(serve_silence, NULL);
    http_server_url(server, "/", probe.url);
    open_probe(&probe, &form, 10);
    CHECK(offer(&probe, "taken"));
    while (http_server_requests(server) == 0)
        pause_ms(2);
    int64_t before = http_test_now_ms();
    CHECK(offer(&probe, "12345"));
    CHECK(offer(&probe, "6789a"));
    CHECK(!offer(&probe, "b"));
    CHECK(!offer(&probe, "longer than the queue"));
    CHECK(offer(&probe, ""));
    CHECK(http_test_now_ms() - before < 1000); /* the server takes a minute */
    before = http_test_now_ms();
    sender_close(probe.sender);
    CHECK(http_test_now_ms() - before < 5000); /* two seconds, on a busy machine */
    CHECK_STR(buf_str(&probe.judged), "taken=0;12345=0;6789a=0;=0;");
    CHECK_INT(http_server_requests(server), 1);
    http_server_close(server);
    close_probe(&probe);
}

TEST(sender, a_stop_sends_what_is_queued)
{
    struct probe probe = {.sender = NULL};
    const struct sender_receiver form = {.pull = pull};
    struct http_server *server = http_server_open(serve_ok, NULL);
    http_server_url(server, "/", probe.url);
    probe.pull_wait_ms = -1;
    open_probe(&probe, &form, 1000);
    CHECK(offer(&probe, "queued"));
    pthread_mutex_lock(&probe.mutex);
    probe.pulls = 2;
    pthread_mutex_unlock(&probe.mutex);
    sender_close(probe.sender);
    CHECK_STR(buf_str(&probe.judged), "queued=200;pulled 2=200;pulled 1=200;");
    CHECK(probe.asked_while_stopping);
    http_server_close(server);
    close_probe(&probe);
}

/* Has something only when the end has come, which it waits for in its first call. */
static bool pull_at_the_end(void *context, bool stopping, struct buf *body, int64_t *ret_wait_ms)
{
    struct probe *probe = context;
    pthread_mutex_lock(&probe->mutex);
    bool is_first = probe->asked++ == 0;
    bool has_more = stopping && probe->pulls > 0;
    if (has_more)
        buf_printf(body, "pulled %d", probe->pulls--);
    pthread_mutex_unlock(&probe->mutex);
    if (is_first)
        pause_ms(100);
    *ret_wait_ms = 60000;
    return has_more;
}

TEST(sender, a_stop_during_a_pull_asks_again)
{
    struct probe probe = {.pulls = 1};
    const struct sender_receiver form = {.pull = pull_at_the_end};
    struct http_server *server = http_server_open(serve_ok, NULL);
    http_server_url(server, "/", probe.url);
    open_probe(&probe, &form, 0);
    sender_wake(probe.sender);
    int64_t until = http_test_now_ms() + PATIENCE_MS;
    while (asked(&probe) == 0 && http_test_now_ms() < until)
        pause_ms(1);
    sender_close(probe.sender);
    CHECK_STR(buf_str(&probe.judged), "pulled 1=200;");
    http_server_close(server);
    close_probe(&probe);
}

TEST(sender, stopped_takes_nothing_more)
{
    struct probe probe = {.pull_wait_ms = -1};
    const struct sender_receiver form = {.pull = pull};
    struct http_server *server = http_server_open(serve_ok, NULL);
    http_server_url(server, "/", probe.url);
    open_probe(&probe, &form, 1000);
    CHECK(offer(&probe, "before"));
    sender_stop(probe.sender);
    CHECK_STR(buf_str(&probe.judged), "before=200;");
    int before = asked(&probe);
    CHECK(!offer(&probe, "after"));
    sender_wake(probe.sender);
    sender_stop(probe.sender);
    sender_close(probe.sender);
    CHECK_INT(asked(&probe), before);
    CHECK_INT(http_server_requests(server), 1);
    http_server_close(server);
    close_probe(&probe);
}

TEST(sender, pulls_when_woken_and_when_the_time_has_come)
{
    struct probe probe = {.pulls = 1, .pull_wait_ms = -1};
    const struct sender_receiver form = {.pull = pull};
    struct http_server *server = http_server_open(serve_ok, NULL);
    http_server_url(server, "/", probe.url);
    open_probe(&probe, &form, 1000);
    sender_wake(probe.sender);
    CHECK(wait_judged(&probe, "pulled 1=200;"));
    pause_ms(100);
    int before = asked(&probe);
    CHECK_INT(before, 2); /* once with something, once without */
    pause_ms(100);
    CHECK_INT(asked(&probe), before);
    pthread_mutex_lock(&probe.mutex);
    probe.pull_wait_ms = 10;
    pthread_mutex_unlock(&probe.mutex);
    sender_wake(probe.sender);
    int64_t until = http_test_now_ms() + PATIENCE_MS;
    while (asked(&probe) < before + 4 && http_test_now_ms() < until)
        pause_ms(2);
    CHECK(asked(&probe) >= before + 4);
    sender_close(probe.sender);
    http_server_close(server);
    close_probe(&probe);
}

TEST(sender, tells_of_a_receiver_that_is_not_there)
{
    struct probe probe = {.url = "http://127.0.0.1:1/"};
    const struct sender_receiver form = {.prepare = NULL};
    open_probe(&probe, &form, 1000);
    CHECK(offer(&probe, "x"));
    CHECK(wait_judged(&probe, "x=0;"));
    sender_close(probe.sender);
    close_probe(&probe);
}

TEST(sender, a_lane_that_is_full_takes_no_room_from_another)
{
    struct probe slow = {.sender = NULL};
    struct probe other = {.url = "http://127.0.0.1:1/"};
    const struct sender_receiver form = {.prepare = NULL};
    struct http_server *server = http_server_open(serve_silence, NULL);
    http_server_url(server, "/", slow.url);
    open_probe(&slow, &form, 4);
    other.sender = slow.sender;
    open_probe(&other, &form, 4);
    CHECK(offer(&slow, "held"));
    while (http_server_requests(server) == 0)
        pause_ms(2);
    CHECK(offer(&slow, "full"));
    CHECK(!offer(&slow, "more"));
    CHECK(offer(&other, "free"));
    sender_close(slow.sender);
    CHECK(was_judged(&other, "free=0;"));
    http_server_close(server);
    close_probe(&slow);
    close_probe(&other);
}

TEST(sender, has_so_many_lanes)
{
    struct sender *sender = NULL;
    struct sender_lane *lane = NULL;
    struct err err;
    const struct sender_receiver receiver = {.url = "http://127.0.0.1:1/", .judge = judge};
    REQUIRE(sender_open(&sender, &clock_system, &err) == ERR_OK);
    for (int i = 0; i < SENDER_LANES; i++)
        CHECK_ERR(sender_add(sender, &receiver, &lane, &err), ERR_OK, &err);
    CHECK_ERR(sender_add(sender, &receiver, &lane, &err), ERR_INTERNAL, &err);
    sender_close(sender);
}

static void *offer_many(void *argument)
{
    struct probe *probe = argument;
    for (int i = 0; i < 50; i++)
        while (!offer(probe, "x"))
            pause_ms(1);
    return NULL;
}

TEST(sender, many_threads_offer)
{
    struct probe probe = {.sender = NULL};
    pthread_t offering[4];
    const struct sender_receiver form = {.prepare = NULL};
    struct http_server *server = http_server_open(serve_ok, NULL);
    http_server_url(server, "/", probe.url);
    open_probe(&probe, &form, 16);
    for (int i = 0; i < 4; i++)
        REQUIRE(pthread_create(&offering[i], NULL, offer_many, &probe) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(offering[i], NULL);
    sender_close(probe.sender);
    CHECK_INT(http_server_requests(server), 200);
    CHECK_INT((int64_t)probe.judged.len, 200 * (int64_t)strlen("x=200;"));
    http_server_close(server);
    close_probe(&probe);
}
