#include <stdlib.h>

#include "net/http_client_connection.h"

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
    stream->connection = http_client_take(stream->client, err);
    if (!stream->connection)
        return err->code;
    enum err_code code =
        http_connection_start(stream->connection, stream->request, reply, false, err);
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
