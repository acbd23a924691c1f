/*
 * Behind http_client.c: a connection is one curl easy handle in a multi
 * handle of its own, whose cache keeps the TCP connection between exchanges. It serves one exchange
 * at a time, on the thread that drives it: nothing moves but within http_connection_run. Of a body
 * that is read piece by piece, curl takes one step from the socket and is paused then, so at most
 * that waits in memory.
 */
#ifndef COFFER_NET_HTTP_CLIENT_CONNECTION_H
#define COFFER_NET_HTTP_CLIENT_CONNECTION_H

#include <curl/curl.h>

#include "base/limits.h"
#include "net/http_client.h"

#define HTTP_HEAD_MAX (64 * 1024)          /* bytes of an answer's head */
#define HTTP_BUFFER_SIZE LIMIT_STREAM_STEP /* one step of receiving */
#define HTTP_NS_PER_MS 1000000LL

struct http_connection {
    const struct http_client_options *options; /* of the client */
    CURLM *multi;
    CURL *easy;
    curl_socket_t socket; /* CURL_SOCKET_BAD when there is none, or it is not known */
    char error[CURL_ERROR_SIZE];

    /* The exchange under way. */
    const struct http_request *request; /* borrowed while anything of it is still to be sent */
    struct http_reply *reply;           /* borrowed until the head is there, or all with `whole` */
    bool whole;                         /* the body goes into the reply */
    struct curl_slist *headers;
    unsigned sends;   /* how often curl began to send it */
    int64_t sent;     /* body bytes given to curl */
    struct str piece; /* of the source, not given to curl yet */
    bool head_done;   /* the final head has come */
    int status;       /* of that head */
    char *target;     /* where a stream's bytes go, `target_size` at most */
    size_t target_size;
    size_t target_len;
    struct buf spill; /* what came beyond the target, read up to spill_at */
    size_t spill_at;
    bool paused; /* a piece of a body has come that is not `whole` */
    bool done;   /* curl has finished, with `result` */
    CURLcode result;
    bool failed; /* a callback gave up, for the reason in `failure` */
    struct err failure;
    int64_t moved_ns;    /* when a byte last moved; counts once something was sent */
    curl_off_t uploaded; /* body bytes that the kernel has taken */
    int unsent;          /* of these, not acknowledged by the server yet */
};

/* ERR_NO_MEMORY. `options` is borrowed for the connection's life. */
enum err_code http_connection_open(struct http_connection **ret_connection,
                                   const struct http_client_options *options, struct err *err)
    ERR_MUST_CHECK;
/* Cuts what is under way. NULL is allowed. */
void http_connection_close(struct http_connection *connection);

/* Begins an exchange, sends nothing yet. ERR_INTERNAL for a URL or header that can't be sent. */
enum err_code http_connection_start(struct http_connection *connection,
                                    const struct http_request *request, struct http_reply *reply,
                                    bool whole, struct err *err) ERR_MUST_CHECK;
enum http_until { HTTP_UNTIL_HEAD, HTTP_UNTIL_BYTES, HTTP_UNTIL_END };
/* Moves bytes until that is reached or the exchange is over. Errors as in http_client.h. */
enum err_code http_connection_run(struct http_connection *connection, enum http_until until,
                                  int64_t deadline_ns, struct err *err) ERR_MUST_CHECK;
/* After a clean end: makes it ready for another exchange. */
void http_connection_finish(struct http_connection *connection);
/* Whether nothing has come on it since. Bytes that nobody asked for would be read as the next answer,
 * for curl looks for the end of the connection alone. */
bool http_connection_is_quiet(const struct http_connection *connection);

/* What curl's result means. */
enum err_code http_connection_result(const struct http_connection *connection, struct err *err)
    ERR_MUST_CHECK;
/* "host:port" as the URL says it, for messages. */
struct str http_authority(const char *url);

/* ERR_INTERNAL when the URL is not http or https, or holds what must not be sent. */
enum err_code http_check_url(const char *url, struct err *err) ERR_MUST_CHECK;
/* Adds the lines of `headers` to *list, which the caller frees, also on failure. */
enum err_code http_list_headers(struct str headers, struct curl_slist **list, struct err *err)
    ERR_MUST_CHECK;

/* http_client.c: statuses after which another attempt may bring a better answer. */
bool http_reply_is_temporary(int status);
/* What Retry-After says, in ms from now; -1 when it says nothing that can be understood. */
int64_t http_reply_retry_after_ms(const struct http_reply *reply, int64_t wall_ms);

/* An exchange that may be tried again. */
struct http_attempts {
    const struct http_request *request;
    const struct http_reply *reply; /* what an attempt has brought */
    enum err_code (*attempt)(void *context, int64_t deadline_ns, struct err *err);
    void *context;
};

#endif
