/* The pool, the attempts, whole exchanges and streams. */
#include "net/http_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/backoff.h"
#include "base/pool.h"
#include "base/text.h"
#include "net/http_client_connection.h"

/* What may be sent, and what curl's results mean. */

static const char *after_scheme(const char *url)
{
    if (strncmp(url, "http://", strlen("http://")) == 0)
        return url + strlen("http://");
    if (strncmp(url, "https://", strlen("https://")) == 0)
        return url + strlen("https://");
    return "";
}

struct str http_authority(const char *url)
{
    const char *authority = after_scheme(url);
    return (struct str){authority, strcspn(authority, "/?#")};
}

enum err_code http_check_url(const char *url, struct err *err)
{
    const struct str text = str_of(url);
    const struct str authority = http_authority(url);
    bool valid = authority.len > 0 && str_find(authority, '@') == authority.len &&
                 str_find(text, '#') == text.len;
    for (size_t i = 0; i < text.len; i++)
        valid = valid && text.data[i] > 0x20 && text.data[i] < 0x7F;
    if (!valid)
        return err_set_internal(err, ERR_INTERNAL, 0, "exchange", "a URL that can't be sent");
    return ERR_OK;
}

static bool is_name(struct str name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < name.len; i++) {
        char byte = name.data[i];
        bool alphanumeric = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
                            (byte >= 'A' && byte <= 'Z');
        if (!alphanumeric && !memchr(others, byte, sizeof others - 1))
            return false;
    }
    return name.len > 0;
}

/* What curl decides: a second opinion would break the framing. */
static bool is_framing(struct str name)
{
    return str_equal_nocase(name, STR("Content-Length")) ||
           str_equal_nocase(name, STR("Transfer-Encoding")) ||
           str_equal_nocase(name, STR("Connection")) || str_equal_nocase(name, STR("Expect"));
}

static bool is_value(struct str value)
{
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.data[i] < 0x20 || value.data[i] == 0x7F)
            return false;
    return true;
}

static enum err_code add_line(struct curl_slist **list, const char *line, struct err *err)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (!longer)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "exchange", "out of memory");
    *list = longer;
    return ERR_OK;
}

/* As curl wants it: a header without a value is "Name;", for "Name:" means none. */
static enum err_code add_header(struct curl_slist **list, struct str line, struct err *err)
{
    struct buf out;
    struct str value = line;
    const struct str name = str_cut(&value, ':');
    value = str_trim(value);
    if (!is_name(name) || name.len == line.len || is_framing(name) || !is_value(value))
        return err_set_internal(err, ERR_INTERNAL, 0, "exchange", "a header that can't be sent");
    buf_init(&out, HTTP_HEAD_MAX);
    buf_append_str(&out, name);
    buf_append_text(&out, value.len > 0 ? ": " : ";");
    buf_append_str(&out, value);
    enum err_code code = out.failed
                             ? err_set_internal(err, ERR_INTERNAL, 0, "exchange", "a long header")
                             : add_line(list, buf_text(&out), err);
    buf_release(&out);
    return code;
}

enum err_code http_list_headers(struct str headers, struct curl_slist **list, struct err *err)
{
    /* Waiting for "100 Continue" costs a round trip, and stores that don't know it a second. */
    enum err_code code = add_line(list, "Expect:", err);
    while (code == ERR_OK && headers.len > 0) {
        struct str line = str_cut(&headers, '\n');
        if (line.len == 0 || line.data[line.len - 1] != '\r')
            return err_set_internal(err, ERR_INTERNAL, 0, "exchange",
                                    "a header that can't be sent");
        line.len--;
        code = add_header(list, line, err);
    }
    return code;
}

static enum err_code code_of(const struct http_connection *connection)
{
    switch ((int)connection->result) {
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_UPSTREAM_TIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        /* Also what a line of the head beyond curl's own limit (100 KiB) gives. */
        return connection->sends > 0 && !connection->head_done ? ERR_UPSTREAM : ERR_NO_MEMORY;
    case CURLE_RECV_ERROR:
        return strstr(connection->error, "chunk") ? ERR_UPSTREAM : ERR_UPSTREAM_UNAVAILABLE;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 */
    case CURLE_BAD_CONTENT_ENCODING:
        return ERR_UPSTREAM;
    case CURLE_URL_MALFORMAT:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_FAILED_INIT:
    case CURLE_NOT_BUILT_IN:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        return ERR_INTERNAL;
    default:
        return ERR_UPSTREAM_UNAVAILABLE;
    }
}

static enum err_code explain(const struct http_connection *connection, enum err_code code,
                             const char *what, struct err *err)
{
    const struct str authority = http_authority(connection->request->url);
    long os_errno = 0;
    curl_easy_getinfo(connection->easy, CURLINFO_OS_ERRNO, &os_errno);
    return err_set_internal(err, code, (int)os_errno, "exchange", "%.*s: %s", (int)authority.len,
                            authority.data, what);
}

/* For curl, an answer whose head is cut is one without a body; so is a switch of protocols. */
static enum err_code explain_no_head(const struct http_connection *connection, struct err *err)
{
    long status = 0;
    curl_easy_getinfo(connection->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 101)
        return explain(connection, ERR_UPSTREAM, "it switches protocols unasked", err);
    return explain(connection, ERR_UPSTREAM_UNAVAILABLE, "closed within the head of an answer",
                   err);
}

enum err_code http_connection_result(const struct http_connection *connection, struct err *err)
{
    if (connection->failed) {
        *err = connection->failure;
        return err->code;
    }
    if (connection->result == CURLE_OK)
        return connection->head_done ? ERR_OK : explain_no_head(connection, err);
    const char *what = connection->error;
    if (what[0] == '\0')
        what = curl_easy_strerror(connection->result);
    return explain(connection, code_of(connection), what, err);
}

void http_reply_init(struct http_reply *reply)
{
    reply->status = 0;
    reply->sends = 0;
    buf_init(&reply->headers, HTTP_HEAD_MAX);
    buf_init(&reply->body, 0);
}

void http_reply_release(struct http_reply *reply)
{
    buf_release(&reply->headers);
    buf_release(&reply->body);
}

bool http_reply_header(const struct http_reply *reply, const char *name, struct str *ret_value)
{
    struct str rest = buf_str(&reply->headers);
    while (rest.len > 0) {
        struct str value = str_cut(&rest, '\n');
        if (value.len > 0 && value.data[value.len - 1] == '\r')
            value.len--;
        const struct str line = value;
        const struct str line_name = str_cut(&value, ':');
        if (line_name.len < line.len && str_equal_nocase(line_name, str_of(name))) {
            *ret_value = str_trim(value);
            return true;
        }
    }
    return false;
}

bool http_reply_is_temporary(int status)
{
    return status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

int64_t http_reply_retry_after_ms(const struct http_reply *reply, int64_t wall_ms)
{
    struct str value;
    int64_t seconds = 0;
    if (!http_reply_header(reply, "Retry-After", &value))
        return -1;
    if (text_parse_int(value, 0, INT32_MAX, &seconds))
        return seconds * 1000;
    if (!text_parse_http_date(value, &seconds))
        return -1;
    return seconds * 1000 > wall_ms ? seconds * 1000 - wall_ms : 0;
}

#define RETRY_AFTER_MAX_MS 5000
/* Servers close what was idle for longer, and such a connection is of no use. */
#define IDLE_MAX_MS (60 * 1000)

struct http_client {
    struct http_client_options options;
    char *ca_file;
    struct pool connections;
};

static const struct backoff backoff = {50, 1000, BACKOFF_FULL_JITTER};

static CURLcode global_code;

static void init_curl(void)
{
    global_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void end_connection(void *context, void *item)
{
    (void)context;
    http_connection_close(item);
}

enum err_code http_client_open(struct http_client **ret_client,
                               const struct http_client_options *options, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    if (global_code != CURLE_OK)
        return err_set_internal(err, ERR_INTERNAL, 0, "curl", "%s",
                                curl_easy_strerror(global_code));
    const struct pool_options pool = {.idle_max = options->idle_connections,
                                      .idle_max_ms = IDLE_MAX_MS,
                                      .clock = options->clock,
                                      .end = end_connection};
    struct http_client *client = calloc(1, sizeof *client);
    if (!client)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "http client", "out of memory");
    client->options = *options;
    client->ca_file = strdup(options->ca_file ? options->ca_file : "");
    client->options.ca_file = client->ca_file;
    enum err_code code =
        client->ca_file ? pool_init(&client->connections, &pool, err)
                        : err_set_internal(err, ERR_NO_MEMORY, 0, "http client", "out of memory");
    if (code != ERR_OK) {
        http_client_close(client);
        return code;
    }
    *ret_client = client;
    return ERR_OK;
}

void http_client_close(struct http_client *client)
{
    if (!client)
        return;
    pool_release(&client->connections);
    free(client->ca_file);
    free(client);
}

static const struct http_client_options *http_client_settings(const struct http_client *client)
{
    return &client->options;
}

void http_client_usage(struct http_client *client, struct pool_usage *ret_usage)
{
    pool_usage(&client->connections, ret_usage);
}

/* An idle connection that the server has not closed, or a new one. */
static enum err_code http_client_take(struct http_client *client,
                                      struct http_connection **ret_connection, struct err *err)
{
    void *item = NULL;
    bool has_place = pool_take(&client->connections, 0, &item); /* always: there is no bound */
    while (has_place && item && !http_connection_is_quiet(item)) {
        http_connection_close(item);
        pool_give(&client->connections, NULL);
        has_place = pool_take(&client->connections, 0, &item);
    }
    struct http_connection *connection = item;
    enum err_code code =
        connection ? ERR_OK : http_connection_open(&connection, &client->options, err);
    if (code == ERR_OK)
        *ret_connection = connection;
    else
        pool_give(&client->connections, NULL);
    return code;
}

/* Takes ownership; `reusable` after http_connection_finish. */
static void http_client_give(struct http_client *client, struct http_connection *connection,
                             bool reusable)
{
    if (!reusable)
        http_connection_close(connection);
    pool_give(&client->connections, reusable ? connection : NULL);
}

static void sleep_ms(int64_t duration_ms)
{
    struct timespec left = {.tv_sec = duration_ms / 1000,
                            .tv_nsec = (long)(duration_ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

/* How long to wait before the next attempt; false when there is none that the deadline allows. */
static bool next_attempt(const struct http_client *client, const struct http_reply *reply,
                         unsigned attempt, int64_t deadline_ns, int64_t *ret_wait_ms)
{
    const struct clock *clock = client->options.clock;
    int64_t wait_ms = backoff_ms(&backoff, attempt, clock);
    int64_t asked_ms =
        reply->status != 0 ? http_reply_retry_after_ms(reply, clock_wall_ms(clock)) : -1;
    if (asked_ms >= 0)
        wait_ms = asked_ms < RETRY_AFTER_MAX_MS ? asked_ms : RETRY_AFTER_MAX_MS;
    if (clock_steady_ns(clock) + wait_ms * HTTP_NS_PER_MS >= deadline_ns)
        return false;
    *ret_wait_ms = wait_ms;
    return true;
}

static bool is_worth_repeating(enum err_code code, const struct http_attempts *attempts)
{
    const struct http_request *request = attempts->request;
    const struct http_reply *reply = attempts->reply;
    if (code == ERR_OK)
        return http_reply_is_temporary(reply->status) ||
               (request->hides_failure && request->hides_failure(reply));
    return code == ERR_UPSTREAM_UNAVAILABLE || code == ERR_UPSTREAM_TIMEOUT;
}

/* Repeats it as http_exchange says. */
static enum err_code http_client_attempts(struct http_client *client,
                                          const struct http_attempts *attempts, int64_t deadline_ns,
                                          struct err *err)
{
    const struct http_request *request = attempts->request;
    const unsigned most = request->source ? 1 : request->attempts;
    for (unsigned i = 0;; i++) {
        int64_t wait_ms = 0;
        enum err_code code = attempts->attempt(attempts->context, deadline_ns, err);
        if (i + 1 >= most || !is_worth_repeating(code, attempts) ||
            !next_attempt(client, attempts->reply, i, deadline_ns, &wait_ms))
            return code;
        sleep_ms(wait_ms);
        if (client->options.retried)
            client->options.retried(client->options.context);
    }
}

struct exchange {
    struct http_client *client;
    const struct http_request *request;
    struct http_reply *reply;
};

static enum err_code exchange_once(void *context, int64_t deadline_ns, struct err *err)
{
    struct exchange *exchange = context;
    struct http_reply *reply = exchange->reply;
    reply->status = 0;
    buf_reset(&reply->headers);
    buf_reset(&reply->body);
    struct http_connection *connection;
    enum err_code code = http_client_take(exchange->client, &connection, err);
    if (code != ERR_OK)
        return code;
    code = http_connection_start(connection, exchange->request, reply, true, err);
    if (code == ERR_OK)
        code = http_connection_run(connection, HTTP_UNTIL_END, deadline_ns, err);
    if (code == ERR_OK)
        http_connection_finish(connection);
    http_client_give(exchange->client, connection, code == ERR_OK);
    return code;
}

enum err_code http_exchange(struct http_client *client, const struct http_request *request,
                            struct http_reply *reply, struct err *err)
{
    struct exchange exchange = {client, request, reply};
    const struct http_attempts attempts = {request, reply, exchange_once, &exchange};
    const int64_t deadline_ns =
        clock_steady_ns(client->options.clock) + request->deadline_ms * HTTP_NS_PER_MS;
    reply->body.max = request->max_body;
    reply->sends = 0;
    return http_client_attempts(client, &attempts, deadline_ns, err);
}

struct http_stream {
    struct http_client *client;
    const struct http_request *request; /* while it is opened */
    struct http_reply *reply;           /* likewise */
    struct http_connection *connection; /* NULL when it has been given back or cut */
    char *url;                          /* of our own, for messages */
    struct http_request rest;           /* what reading needs of the request */
    int64_t left_ns;                    /* of the deadline, for the time spent in reads */
    bool failed;
    struct err failure;
};

static int64_t now_ns(const struct http_stream *stream)
{
    return clock_steady_ns(http_client_settings(stream->client)->clock);
}

/* Gives the connection back, or cuts it. */
static void let_go(struct http_stream *stream, bool reusable)
{
    if (!stream->connection)
        return;
    if (reusable)
        http_connection_finish(stream->connection);
    http_client_give(stream->client, stream->connection, reusable);
    stream->connection = NULL;
}

static enum err_code open_once(void *context, int64_t deadline_ns, struct err *err)
{
    struct http_stream *stream = context;
    struct http_reply *reply = stream->reply;
    let_go(stream, false);
    reply->status = 0;
    buf_reset(&reply->headers);
    buf_reset(&reply->body);
    enum err_code code = http_client_take(stream->client, &stream->connection, err);
    if (code != ERR_OK)
        return code;
    code = http_connection_start(stream->connection, stream->request, reply, false, err);
    if (code == ERR_OK)
        code = http_connection_run(stream->connection, HTTP_UNTIL_HEAD, deadline_ns, err);
    if (code != ERR_OK)
        let_go(stream, false);
    return code;
}

enum err_code http_stream_open(struct http_client *client, const struct http_request *request,
                               struct http_reply *reply, struct http_stream **ret_stream,
                               struct err *err)
{
    struct http_stream *stream = calloc(1, sizeof *stream);
    if (!stream || !(stream->url = strdup(request->url))) {
        free(stream);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "exchange", "out of memory");
    }
    stream->client = client;
    stream->request = request;
    stream->reply = reply;
    reply->sends = 0;
    const int64_t deadline_ns = now_ns(stream) + request->deadline_ms * HTTP_NS_PER_MS;
    const struct http_attempts attempts = {request, reply, open_once, stream};
    enum err_code code = http_client_attempts(client, &attempts, deadline_ns, err);
    if (code == ERR_OK && !stream->connection)
        code = err_set_internal(err, ERR_INTERNAL, 0, "exchange", "no connection");
    if (code != ERR_OK) {
        http_stream_close(stream);
        return code;
    }
    /* The caller's request ends here; the answer's bytes are still to come. */
    stream->rest = (struct http_request){.method = "", .url = stream->url, .attempts = 1};
    stream->connection->request = &stream->rest;
    stream->connection->reply = NULL;
    stream->left_ns = deadline_ns - now_ns(stream);
    *ret_stream = stream;
    return ERR_OK;
}

/* What came beyond an earlier target. */
static size_t read_spill(struct http_connection *connection, char *target, size_t size)
{
    size_t len = connection->spill.len - connection->spill_at;
    if (len > size)
        len = size;
    if (len > 0)
        memcpy(target, connection->spill.data + connection->spill_at, len);
    connection->spill_at += len;
    if (connection->spill_at == connection->spill.len) {
        connection->spill_at = 0;
        buf_reset(&connection->spill);
    }
    return len;
}

static enum err_code read_network(struct http_stream *stream, char *target, size_t size,
                                  size_t *ret_len, struct err *err)
{
    struct http_connection *connection = stream->connection;
    const int64_t start_ns = now_ns(stream);
    connection->target = target;
    connection->target_size = size;
    connection->target_len = 0;
    connection->moved_ns = start_ns;
    enum err_code code =
        http_connection_run(connection, HTTP_UNTIL_BYTES, start_ns + stream->left_ns, err);
    stream->left_ns -= now_ns(stream) - start_ns;
    connection->target_size = 0;
    *ret_len = connection->target_len;
    connection->target_len = 0;
    return code;
}

enum err_code http_stream_read(struct http_stream *stream, void *target, size_t size,
                               size_t *ret_len, struct err *err)
{
    size_t len = 0;
    if (stream->failed) {
        *err = stream->failure;
        return err->code;
    }
    if (stream->connection && size > 0)
        len = read_spill(stream->connection, target, size);
    if (stream->connection && size > 0 && len == 0) {
        enum err_code code = read_network(stream, target, size, &len, err);
        if (code != ERR_OK) {
            stream->failed = true;
            stream->failure = *err;
            let_go(stream, false);
            return code;
        }
        if (len == 0)
            let_go(stream, true);
    }
    *ret_len = len;
    return ERR_OK;
}

void http_stream_close(struct http_stream *stream)
{
    if (!stream)
        return;
    let_go(stream, false);
    free(stream->url);
    free(stream);
}
