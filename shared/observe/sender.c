#include "observe/sender.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/thread.h"

#define NS_PER_MS 1000000LL
#define THREAD_STACK (512 * 1024) /* TLS and symbols want some */
#define GRACE_MS 1000             /* at a stop, for what is queued */
#define CONNECT_MS 3000
#define STALL_MS 10000
#define DEADLINE_MS 10000
#define ANSWER_MAX (64 * 1024)
#define NEVER INT64_MAX

struct item {
    struct item *next;
    size_t len;
    char body[];
};

struct sender_lane {
    struct sender *sender;
    struct sender_receiver receiver;
    /* guarded by the sender's mutex */
    struct item *first;
    struct item **end;
    size_t bytes;
    int64_t pull_at_ns;
};

/* The client's clock: for it, time is over when the stop's grace is, so that a deadline ends the
 * exchange under way. */
struct patience {
    struct clock clock; /* first: functions of a clock get no more than this */
    const struct clock *real;
    atomic_bool is_over;
};

struct sender {
    struct patience patience;
    struct sender_lane lanes[SENDER_LANES];
    size_t lane_count;
    struct http_client *client; /* the thread's; opened when it first sends */
    struct buf body;            /* the thread's */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_cond_t finished;
    /* guarded by mutex */
    bool is_running;
    bool is_closing;
    bool is_finished;
    unsigned wakes; /* how often pulls were asked for */
};

/* ---- the client's clock ---- */

static const struct patience *patience_of(const struct clock *clock)
{
    return (const struct patience *)(const void *)clock;
}

static int64_t patience_wall_ms(const struct clock *clock)
{
    return clock_wall_ms(patience_of(clock)->real);
}

static int64_t patience_steady_ns(const struct clock *clock)
{
    const struct patience *patience = patience_of(clock);
    bool is_over = atomic_load(&patience->is_over);
    return clock_steady_ns(patience->real) + (is_over ? DEADLINE_MS * NS_PER_MS : 0);
}

static void patience_random(const struct clock *clock, void *target, size_t len)
{
    clock_random(patience_of(clock)->real, target, len);
}

static bool is_over(const struct sender *sender)
{
    return atomic_load(&sender->patience.is_over);
}

/* ---- the thread ---- */

static enum err_code open_client(struct sender *sender, struct err *err)
{
    if (sender->client)
        return ERR_OK;
    const struct http_client_options options = {.clock = &sender->patience.clock,
                                                .connect_ms = CONNECT_MS,
                                                .stall_ms = STALL_MS,
                                                .idle_connections = SENDER_LANES};
    return http_client_open(&sender->client, &options, err);
}

static enum err_code exchange(struct sender *sender, const struct sender_receiver *receiver,
                              struct http_reply *reply, struct err *err)
{
    if (is_over(sender))
        return err_set_internal(err, ERR_UPSTREAM_UNAVAILABLE, 0, "send", "stopped before");
    enum err_code code = open_client(sender, err);
    if (code != ERR_OK)
        return code;
    const struct http_request request = {.method = "POST",
                                         .url = receiver->url,
                                         .headers = str_of(receiver->header),
                                         .body = buf_str(&sender->body),
                                         .deadline_ms = DEADLINE_MS,
                                         .attempts = 1,
                                         .max_body = ANSWER_MAX};
    return http_exchange(sender->client, &request, reply, err);
}

static void send_body(struct sender *sender, const struct sender_receiver *receiver)
{
    struct http_reply reply;
    struct err err = {0};
    http_reply_init(&reply);
    enum err_code code = exchange(sender, receiver, &reply, &err);
    receiver->judge(receiver->context, buf_str(&sender->body), code == ERR_OK ? &reply : NULL,
                    &err);
    http_reply_release(&reply);
}

static bool prepare(const struct sender_receiver *receiver, struct str offered, struct buf *body)
{
    if (receiver->prepare)
        return receiver->prepare(receiver->context, offered, body);
    buf_append_str(body, offered);
    return !body->failed;
}

/* With the mutex held, as are the following; it is let go meanwhile. */
static void send_item(struct sender_lane *lane)
{
    struct sender *sender = lane->sender;
    struct item *item = lane->first;
    lane->first = item->next;
    lane->bytes -= item->len;
    if (!lane->first)
        lane->end = &lane->first;
    pthread_mutex_unlock(&sender->mutex);
    buf_reset(&sender->body);
    if (prepare(&lane->receiver, (struct str){item->body, item->len}, &sender->body))
        send_body(sender, &lane->receiver);
    free(item);
    pthread_mutex_lock(&sender->mutex);
}

static void send_pulled(struct sender_lane *lane)
{
    struct sender *sender = lane->sender;
    const struct sender_receiver *receiver = &lane->receiver;
    unsigned wakes = sender->wakes;
    bool stopping = sender->is_closing;
    int64_t wait_ms = -1;
    pthread_mutex_unlock(&sender->mutex);
    buf_reset(&sender->body);
    bool pulled = receiver->pull(receiver->context, stopping, &sender->body, &wait_ms);
    if (pulled)
        send_body(sender, receiver);
    pthread_mutex_lock(&sender->mutex);
    bool is_asked = sender->wakes != wakes || sender->is_closing;
    if (pulled || (is_asked && !stopping))
        return; /* asked again at once */
    lane->pull_at_ns = NEVER;
    if (wait_ms >= 0 && !stopping)
        lane->pull_at_ns = clock_steady_ns(sender->patience.real) + wait_ms * NS_PER_MS;
}

static bool is_pull_due(const struct sender_lane *lane)
{
    return lane->receiver.pull && !is_over(lane->sender) &&
           lane->pull_at_ns <= clock_steady_ns(lane->sender->patience.real);
}

/* One item of each lane; false when there was none. */
static bool take_turns(struct sender *sender)
{
    bool was_busy = false;
    for (size_t i = 0; i < sender->lane_count; i++) {
        struct sender_lane *lane = &sender->lanes[i];
        if (lane->first)
            send_item(lane);
        else if (is_pull_due(lane))
            send_pulled(lane);
        else
            continue;
        was_busy = true;
    }
    return was_busy;
}

static void sleep_until_due(struct sender *sender)
{
    int64_t at_ns = NEVER;
    for (size_t i = 0; i < sender->lane_count; i++)
        if (sender->lanes[i].receiver.pull && sender->lanes[i].pull_at_ns < at_ns)
            at_ns = sender->lanes[i].pull_at_ns;
    if (at_ns == NEVER) {
        pthread_cond_wait(&sender->changed, &sender->mutex);
        return;
    }
    int64_t left_ns = at_ns - clock_steady_ns(sender->patience.real);
    const struct timespec until = condition_deadline(left_ns > 0 ? left_ns / NS_PER_MS + 1 : 0);
    condition_wait(&sender->changed, &sender->mutex, &until);
}

static void *run(void *argument)
{
    struct sender *sender = argument;
    pthread_mutex_lock(&sender->mutex);
    for (;;) {
        if (take_turns(sender))
            continue;
        if (sender->is_closing)
            break;
        sleep_until_due(sender);
    }
    sender->is_finished = true;
    pthread_cond_signal(&sender->finished);
    pthread_mutex_unlock(&sender->mutex);
    return NULL;
}

/* ---- for the program ---- */

enum err_code sender_open(struct sender **ret_sender, const struct clock *clock, struct err *err)
{
    struct sender *sender = calloc(1, sizeof *sender);
    if (!sender)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "sender", "out of memory");
    sender->patience.clock = (struct clock){patience_wall_ms, patience_steady_ns, patience_random};
    sender->patience.real = clock;
    buf_init(&sender->body, SENDER_BODY_MAX);
    pthread_mutex_init(&sender->mutex, NULL);
    condition_init(&sender->changed);
    condition_init(&sender->finished);
    *ret_sender = sender;
    return ERR_OK;
}

enum err_code sender_add(struct sender *sender, const struct sender_receiver *receiver,
                         struct sender_lane **ret_lane, struct err *err)
{
    if (sender->lane_count == SENDER_LANES)
        return err_set_internal(err, ERR_INTERNAL, 0, "sender", "too many receivers");
    struct sender_lane *lane = &sender->lanes[sender->lane_count++];
    *lane = (struct sender_lane){.sender = sender, .receiver = *receiver};
    lane->end = &lane->first;
    *ret_lane = lane;
    return ERR_OK;
}

/* With the mutex held. */
static bool has_thread(struct sender *sender)
{
    if (!sender->is_running && !sender->is_closing)
        sender->is_running = thread_start(&sender->thread, THREAD_STACK, run, sender);
    return sender->is_running && !sender->is_closing;
}

bool sender_offer(struct sender_lane *lane, struct str body)
{
    struct sender *sender = lane->sender;
    struct item *item = malloc(sizeof *item + body.len);
    if (!item)
        return false;
    item->next = NULL;
    item->len = body.len;
    memcpy(item->body, body.data, body.len);
    pthread_mutex_lock(&sender->mutex);
    bool is_taken = body.len <= lane->receiver.queue_bytes &&
                    lane->bytes <= lane->receiver.queue_bytes - body.len && has_thread(sender);
    if (is_taken) {
        *lane->end = item;
        lane->end = &item->next;
        lane->bytes += body.len;
        pthread_cond_signal(&sender->changed);
    }
    pthread_mutex_unlock(&sender->mutex);
    if (!is_taken)
        free(item);
    return is_taken;
}

void sender_wake(struct sender *sender)
{
    pthread_mutex_lock(&sender->mutex);
    if (has_thread(sender)) {
        sender->wakes++;
        for (size_t i = 0; i < sender->lane_count; i++)
            sender->lanes[i].pull_at_ns = 0;
        pthread_cond_signal(&sender->changed);
    }
    pthread_mutex_unlock(&sender->mutex);
}

/* With the mutex held. */
static void wait_for_thread(struct sender *sender)
{
    const struct timespec until = condition_deadline(GRACE_MS);
    bool in_time = true;
    for (size_t i = 0; i < sender->lane_count; i++)
        sender->lanes[i].pull_at_ns = 0;
    pthread_cond_signal(&sender->changed);
    while (in_time && !sender->is_finished)
        in_time = condition_wait(&sender->finished, &sender->mutex, &until);
    atomic_store(&sender->patience.is_over, true);
}

void sender_stop(struct sender *sender)
{
    if (!sender)
        return;
    pthread_mutex_lock(&sender->mutex);
    bool is_running = sender->is_running;
    sender->is_closing = true;
    sender->is_running = false;
    if (is_running)
        wait_for_thread(sender);
    pthread_mutex_unlock(&sender->mutex);
    if (is_running)
        pthread_join(sender->thread, NULL);
}

void sender_close(struct sender *sender)
{
    if (!sender)
        return;
    sender_stop(sender);
    http_client_close(sender->client);
    buf_release(&sender->body);
    pthread_cond_destroy(&sender->finished);
    pthread_cond_destroy(&sender->changed);
    pthread_mutex_destroy(&sender->mutex);
    free(sender);
}
