/*
 * HTTP client: the only user of libcurl. A client is made once per process (after fork) and is
 * thread-safe; it keeps a bounded pool of connections, one borrowed for each exchange, and reuses
 * them. http and https only, no redirects, no proxy, no cookies; every exchange has a deadline, a
 * bounded head and a bounded body.
 *
 * What goes wrong on the way, before a status is known:
 *   ERR_UPSTREAM_UNAVAILABLE  nobody listens, no such host, the connection or its certificate failed,
 *                             it was cut before the whole answer came
 *   ERR_UPSTREAM_TIMEOUT      not connected in connect_ms, silent for stall_ms, or past the deadline
 *   ERR_UPSTREAM              no HTTP, a head or body beyond its limit, a body of another length
 *   ERR_NO_MEMORY, ERR_INTERNAL
 * Any status is an answer, not an error: err is ERR_OK and the caller judges it. Messages are
 * internal and name host and port only, never a query, a header or a body.
 */
#ifndef COFFER_NET_HTTP_CLIENT_H
#define COFFER_NET_HTTP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/errors.h"
#include "base/pool.h"
#include "base/source.h"
#include "base/str.h"

struct http_client;
struct http_reply;

struct http_client_options {
    const struct clock *clock; /* borrowed; randomness of the backoff too */
    int64_t connect_ms;        /* to connect, TLS included */
    int64_t stall_ms;          /* without a byte in either direction */
    const char *ca_file;       /* PEM; "" or NULL: the system's */
    const char *unix_socket;   /* where the server listens, instead of the URL's host; or NULL */
    size_t idle_connections;   /* kept open at most */
    /* Told of each repeated attempt, on the exchange's thread; may be NULL. */
    void (*retried)(void *context);
    void *context;
};

/* Caller frees with http_client_close, when no exchange is under way. */
enum err_code http_client_open(struct http_client **ret_client,
                               const struct http_client_options *options, struct err *err)
    ERR_MUST_CHECK;
void http_client_close(struct http_client *client);
/* Connections that serve an exchange, and those kept open for the next one; not `driver`. */
void http_client_usage(struct http_client *client, struct pool_usage *ret_usage);

struct http_request {
    const char *method;    /* "GET" */
    const char *url;       /* absolute, already percent-encoded; sent as it stands */
    struct str headers;    /* "Name: value\r\n" each. ERR_INTERNAL: a control character in a value,
                            * Content-Length, Transfer-Encoding, Connection, Expect */
    struct str body;       /* or source */
    struct source *source; /* the body, piece by piece, of body_length bytes; never repeated */
    int64_t body_length;   /* only with source */
    int64_t deadline_ms;   /* for everything: attempts, waits between them, the whole answer */
    unsigned attempts;     /* 1: sent once. More: repeating is safe (see http_exchange) */
    size_t max_body;       /* of the answer, bytes; http_exchange only */
    /* Whether a whole answer reports a temporary failure that its status hides: it is repeated like
     * a 503. NULL: the status decides alone. http_exchange only. */
    bool (*hides_failure)(const struct http_reply *reply);
};

/* Borrowed buffers of an answer. */
struct http_reply {
    int status;
    unsigned sends;     /* how often the request began to leave: more than once, a server may have
                         * acted on each */
    struct buf headers; /* "Name: value\r\n" each, as they came */
    struct buf body;
};

void http_reply_init(struct http_reply *reply);
void http_reply_release(struct http_reply *reply);
/* The value of the first header of that name (any case), trimmed; false when there is none. */
bool http_reply_header(const struct http_reply *reply, const char *name, struct str *ret_value);

/* Sends and reads the whole answer. With attempts > 1 it is sent again, after exponential backoff
 * with full jitter (50 ms, doubling, at most 1 s, or the answer's Retry-After when that fits), while
 * the deadline allows: after ERR_UPSTREAM_UNAVAILABLE, ERR_UPSTREAM_TIMEOUT, the statuses 500, 502,
 * 503, 504 and 429, and answers for which hides_failure is true. What the last attempt brought is the result. `reply` is initialised by the
 * caller and emptied first. */
enum err_code http_exchange(struct http_client *client, const struct http_request *request,
                            struct http_reply *reply, struct err *err) ERR_MUST_CHECK;

/* An answer read piece by piece, in constant memory; used by one thread at a time. It holds a
 * connection until it is closed. */
struct http_stream;
/* Sends and waits for the head, which goes into `reply` (its body stays empty); attempts as above
 * cover the time until then. Caller ends it with http_stream_close. */
enum err_code http_stream_open(struct http_client *client, const struct http_request *request,
                               struct http_reply *reply, struct http_stream **ret_stream,
                               struct err *err) ERR_MUST_CHECK;
/* Up to `size` bytes; 0 at the verified end: a body shorter than its Content-Length is
 * ERR_UPSTREAM_UNAVAILABLE. The stall time runs in each read; of the deadline, what was left when
 * the head came is for the time spent in reads, not between them. After an error every further read
 * gives the same one. */
enum err_code http_stream_read(struct http_stream *stream, void *target, size_t size,
                               size_t *ret_len, struct err *err) ERR_MUST_CHECK;
/* The connection is reused when the body was read to its end, else closed. NULL is allowed. */
void http_stream_close(struct http_stream *stream);

#endif
