/*
 * Everything a program sends to observers (error reports, spans), from one background thread.
 *
 * A request only copies its bytes into a bounded queue: it never waits for a network, a disk or a
 * name server. The thread is started when there is something to send, so a program without a
 * receiver has neither thread nor socket. A receiver has a queue of its own, so that one which is
 * slow fills nobody else's; the thread takes one item from each in turn.
 *
 * What a receiver does with its items is its own, in three calls, which are all made by the
 * sender's thread and so need no lock among themselves. They may touch a disk, but not wait.
 *
 * At a stop the thread gets a second to send what is queued. An exchange under way is then cut
 * within another second, and whatever is left goes to `judge` as not sent.
 */
#ifndef COFFER_OBSERVE_SENDER_H
#define COFFER_OBSERVE_SENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/errors.h"
#include "base/str.h"
#include "net/http_client.h"

#define SENDER_LANES 4
#define SENDER_BODY_MAX (1024 * 1024) /* one item as it is sent */

struct sender;
struct sender_lane; /* a receiver's queue; lives as long as the sender */

struct sender_receiver {
    const char *url;    /* POSTed to; borrowed until sender_close, as is all that follows */
    const char *header; /* "Name: value\r\n" each */
    size_t queue_bytes; /* that may wait, before further ones are refused */
    /* MAY be NULL: sent as offered. Makes the body to be sent of what was offered; false when it is
     * not to be sent, which is then the receiver's to count. */
    bool (*prepare)(void *context, struct str offered, struct buf *body);
    /* MAY be NULL. Asked while the queue is empty: true with a body to be sent; false with the time
     * until it is to be asked again in *ret_wait_ms (negative: after sender_wake). While stopping,
     * false ends the asking. */
    bool (*pull)(void *context, bool stopping, struct buf *body, int64_t *ret_wait_ms);
    /* MUST. What became of a body: an answer of any status, or no answer (reply NULL, err says
     * why). */
    void (*judge)(void *context, struct str body, const struct http_reply *reply,
                  const struct err *err);
    void *context;
};

/* Allocates, nothing more. `clock` is borrowed. Caller frees with sender_close. */
enum err_code sender_open(struct sender **ret_sender, const struct clock *clock, struct err *err)
    ERR_MUST_CHECK;
/* Before other threads use the sender. At most SENDER_LANES; ERR_INTERNAL beyond. */
enum err_code sender_add(struct sender *sender, const struct sender_receiver *receiver,
                         struct sender_lane **ret_lane, struct err *err) ERR_MUST_CHECK;
/* Copies `body` into the queue; false when there is no room, no memory or no thread. Any thread;
 * never waits. */
bool sender_offer(struct sender_lane *lane, struct str body);
/* Has every receiver's `pull` asked now. Any thread; never waits. */
void sender_wake(struct sender *sender);
/* Ends the thread as said above, within about two seconds; whatever is offered from then on is
 * refused. NULL is allowed. */
void sender_stop(struct sender *sender);
/* sender_stop, and frees it. When nobody offers any more. NULL is allowed. */
void sender_close(struct sender *sender);

#endif
