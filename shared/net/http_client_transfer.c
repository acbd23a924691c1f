/* What curl calls while an exchange moves. */
#include <unistd.h>

#include "net/http_client_connection.h"

static int64_t now_ns(const struct http_connection *connection)
{
    return clock_steady_ns(connection->options->clock);
}

/* Of several that are tried at once (IPv6 and IPv4), the last; which one was taken is only known when
 * the exchange is over. */
int http_on_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
    struct http_connection *connection = context;
    if (purpose == CURLSOCKTYPE_IPCXN)
        connection->socket = fd;
    return CURL_SOCKOPT_OK;
}

int http_on_close(void *context, curl_socket_t fd)
{
    struct http_connection *connection = context;
    if (connection->socket == fd)
        connection->socket = CURL_SOCKET_BAD;
    return close(fd);
}

static bool may_be_sent_again(const struct http_connection *connection)
{
    const struct http_request *request = connection->request;
    return request->attempts > 1 && (!request->source || connection->sent == 0);
}

/* curl sends again by itself when a connection that it had kept open turns out to be closed. That is
 * a repetition like any other: the server may have acted on the first. */
int http_on_send(void *context, char *remote, char *local, int remote_port, int local_port)
{
    (void)remote;
    (void)local;
    (void)remote_port;
    (void)local_port;
    struct http_connection *connection = context;
    const struct http_client_options *options = connection->options;
    if (connection->sends > 0) {
        if (!may_be_sent_again(connection)) {
            connection->failed = true;
            const struct str authority = http_authority(connection->request->url);
            err_set_internal(&connection->failure, ERR_UPSTREAM_UNAVAILABLE, 0, "exchange",
                             "%.*s: the connection was closed before an answer came",
                             (int)authority.len, authority.data);
            return CURL_PREREQFUNC_ABORT;
        }
        if (options->retried)
            options->retried(options->context);
    }
    connection->sends++;
    if (connection->reply)
        connection->reply->sends++;
    connection->moved_ns = now_ns(connection);
    return CURL_PREREQFUNC_OK;
}

enum err_code http_check_source_end(struct http_connection *connection, struct err *err)
{
    struct source *source = connection->request->source;
    if (connection->piece.len == 0) {
        enum err_code code = source_next(source, &connection->piece, err);
        if (code != ERR_OK)
            return code;
    }
    if (connection->piece.len > 0)
        return err_set_internal(err, ERR_INTERNAL, 0, "exchange", "a body is longer than promised");
    return ERR_OK;
}

/* Fills the target from the source. The last bytes are only given away when the source has said that
 * they are the last: a server that has them all believes that it has the file. */
static enum err_code read_source(struct http_connection *connection, struct str *ret_filled,
                                 char *target, size_t size)
{
    const struct http_request *request = connection->request;
    struct err *err = &connection->failure;
    enum err_code code = ERR_OK;
    if (connection->piece.len == 0) {
        code = source_next(request->source, &connection->piece, err);
        if (code == ERR_OK && connection->piece.len == 0)
            code = err_set_internal(err, ERR_INTERNAL, 0, "exchange",
                                    "a body is shorter than promised");
        if (code != ERR_OK)
            return code;
    }
    struct str *piece = &connection->piece;
    const int64_t left = request->body_length - connection->sent;
    size_t len = piece->len < size ? piece->len : size;
    if ((int64_t)len > left)
        len = (size_t)left;
    memcpy(target, piece->data, len);
    piece->data += len;
    piece->len -= len;
    if ((int64_t)len == left)
        code = http_check_source_end(connection, err);
    *ret_filled = (struct str){target, len};
    return code;
}

static struct str read_memory(const struct http_connection *connection, char *target, size_t size)
{
    const struct str body = connection->request->body;
    const size_t at = (size_t)connection->sent;
    size_t len = body.len > at ? body.len - at : 0;
    if (len > size)
        len = size;
    if (len > 0)
        memcpy(target, body.data + at, len);
    return (struct str){target, len};
}

size_t http_on_read(char *target, size_t size, size_t count, void *context)
{
    struct http_connection *connection = context;
    const struct http_request *request = connection->request;
    struct str filled = {NULL, 0};
    if (!request->source) {
        filled = read_memory(connection, target, size * count);
    } else if (connection->sent < request->body_length) {
        connection->failed = read_source(connection, &filled, target, size * count) != ERR_OK;
        if (connection->failed)
            return CURL_READFUNC_ABORT;
    }
    connection->sent += (int64_t)filled.len;
    return filled.len;
}

int http_on_seek(void *context, curl_off_t offset, int origin)
{
    struct http_connection *connection = context;
    if (origin != SEEK_SET || offset != 0 || !may_be_sent_again(connection))
        return CURL_SEEKFUNC_CANTSEEK;
    connection->sent = 0;
    return CURL_SEEKFUNC_OK;
}

static void too_large(struct http_connection *connection, const char *what)
{
    const struct str authority = http_authority(connection->request->url);
    connection->failed = true;
    err_set_internal(&connection->failure, ERR_UPSTREAM, 0, "exchange",
                     "%.*s: %s is larger than allowed", (int)authority.len, authority.data, what);
}

/* An empty line: the head is complete, unless it was an interim one (RFC 9110 §15.2). */
static void end_head(struct http_connection *connection)
{
    long status = 0;
    curl_easy_getinfo(connection->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200)
        return;
    connection->status = (int)status;
    connection->reply->status = (int)status;
    connection->head_done = true;
}

size_t http_on_header(char *line, size_t size, size_t count, void *context)
{
    struct http_connection *connection = context;
    const size_t all = size * count;
    struct str text = {line, all};
    connection->moved_ns = now_ns(connection);
    /* Trailers of a chunked body. */
    if (connection->head_done)
        return all;
    while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
        text.len--;
    struct buf *headers = &connection->reply->headers;
    if (text.len == 0) {
        end_head(connection);
    } else if (str_starts_with(text, STR("HTTP/"))) {
        buf_reset(headers);
    } else {
        buf_append_str(headers, text);
        buf_append_text(headers, "\r\n");
    }
    if (!headers->failed)
        return all;
    too_large(connection, "the head of an answer");
    return 0;
}

/* To the reader's target, and what does not fit there to the spill. */
static void spread(struct http_connection *connection, struct str bytes)
{
    struct buf *spill = &connection->spill;
    size_t direct = 0;
    if (spill->len == connection->spill_at)
        direct = connection->target_size - connection->target_len;
    if (direct > bytes.len)
        direct = bytes.len;
    if (direct > 0)
        memcpy(connection->target + connection->target_len, bytes.data, direct);
    connection->target_len += direct;
    buf_append(spill, bytes.data + direct, bytes.len - direct);
}

size_t http_on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct http_connection *connection = context;
    const size_t all = size * count;
    connection->moved_ns = now_ns(connection);
    if (connection->whole) {
        buf_append(&connection->reply->body, bytes, all);
    } else {
        spread(connection, (struct str){bytes, all});
        /* Left alone, curl reads on as long as bytes are there. */
        connection->paused = true;
        curl_easy_pause(connection->easy, CURLPAUSE_RECV);
    }
    if (!connection->spill.failed && !(connection->whole && connection->reply->body.failed))
        return all;
    too_large(connection, "an answer");
    return 0;
}
