#include "net/http_client_connection.h"

#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* What curl calls while an exchange moves. */

static int64_t now_ns(const struct http_connection *connection)
{
    return clock_steady_ns(connection->options->clock);
}

/* The callbacks; `context` is the connection. Of several that are tried at once (IPv6 and IPv4),
 * the last; which one was taken is only known when the exchange is over. */
static int http_on_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
    struct http_connection *connection = context;
    if (purpose == CURLSOCKTYPE_IPCXN)
        connection->socket = fd;
    return CURL_SOCKOPT_OK;
}

static int http_on_close(void *context, curl_socket_t fd)
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
static int http_on_send(void *context, char *remote, char *local, int remote_port, int local_port)
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

/* Asks the source of a body that has been read in full whether it really ends there. */
static enum err_code http_check_source_end(struct http_connection *connection, struct err *err)
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

static size_t http_on_read(char *target, size_t size, size_t count, void *context)
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

static int http_on_seek(void *context, curl_off_t offset, int origin)
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

static size_t http_on_header(char *line, size_t size, size_t count, void *context)
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

static size_t http_on_body(char *bytes, size_t size, size_t count, void *context)
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

#define POLL_MAX_MS 1000

enum err_code http_connection_open(struct http_connection **ret_connection,
                                   const struct http_client_options *options, struct err *err)
{
    struct http_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "connect", "out of memory");
    connection->options = options;
    connection->socket = CURL_SOCKET_BAD;
    buf_init(&connection->spill, HTTP_BUFFER_SIZE);
    connection->multi = curl_multi_init();
    connection->easy = curl_easy_init();
    if (!connection->multi || !connection->easy) {
        http_connection_close(connection);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "connect", "cannot make a connection");
    }
    /* One exchange at a time needs one connection. */
    curl_multi_setopt(connection->multi, CURLMOPT_MAXCONNECTS, 1L);
    *ret_connection = connection;
    return ERR_OK;
}

/* Ends the exchange's hold on what it borrowed; cuts it when it is under way. */
static void detach(struct http_connection *connection)
{
    if (connection->request)
        curl_multi_remove_handle(connection->multi, connection->easy);
    curl_slist_free_all(connection->headers);
    connection->headers = NULL;
    connection->request = NULL;
    connection->reply = NULL;
}

void http_connection_close(struct http_connection *connection)
{
    if (!connection)
        return;
    if (connection->easy && connection->multi)
        detach(connection);
    curl_easy_cleanup(connection->easy);
    curl_multi_cleanup(connection->multi);
    buf_release(&connection->spill);
    free(connection);
}

void http_connection_finish(struct http_connection *connection)
{
    curl_easy_getinfo(connection->easy, CURLINFO_ACTIVESOCKET, &connection->socket);
    detach(connection);
    curl_easy_reset(connection->easy);
    buf_release(&connection->spill);
}

bool http_connection_is_quiet(const struct http_connection *connection)
{
    struct pollfd fd = {.fd = connection->socket, .events = POLLIN};
    return connection->socket == CURL_SOCKET_BAD || poll(&fd, 1, 0) == 0;
}

/* Remembers the first failure of many settings, which can only be lack of memory. */
struct settings {
    CURL *easy;
    CURLcode code;
};

static void note(struct settings *settings, CURLcode code)
{
    if (settings->code == CURLE_OK)
        settings->code = code;
}

/* curl_easy_setopt is a macro that checks types; in parentheses it is the function. */
static void set_number(struct settings *settings, CURLoption option, long value)
{
    note(settings, (curl_easy_setopt)(settings->easy, option, value));
}

static void set_pointer(struct settings *settings, CURLoption option, const void *value)
{
    note(settings, (curl_easy_setopt)(settings->easy, option, value));
}

#define UPLOAD_BUFFER_SIZE (64L * 1024) /* a larger one is no faster */
#define SHORT_REPLY (64 * 1024)         /* bytes, for which a small buffer does */
#define SHORT_REPLY_BUFFER_SIZE (16L * 1024)

static long buffer_size(const struct http_connection *connection)
{
    bool is_short = connection->whole && connection->reply->body.max <= SHORT_REPLY;
    return is_short ? SHORT_REPLY_BUFFER_SIZE : HTTP_BUFFER_SIZE;
}

static void set_network(struct settings *settings, const struct http_connection *connection)
{
    const struct http_client_options *options = connection->options;
    static const struct {
        CURLoption option;
        long value;
    } numbers[] = {
        {CURLOPT_FOLLOWLOCATION, 0},
        {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
        {CURLOPT_NOSIGNAL, 1},
        {CURLOPT_TCP_NODELAY, 1},
        /* Else a look-up that hangs is waited for when its exchange is long given up. */
        {CURLOPT_QUICK_EXIT, 1},
        {CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_SIZE},
        {CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2},
        /* The path is signed as it stands. */
        {CURLOPT_PATH_AS_IS, 1},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        set_number(settings, numbers[i].option, numbers[i].value);
    set_number(settings, CURLOPT_BUFFERSIZE, buffer_size(connection));
    set_number(settings, CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_ms);
    set_pointer(settings, CURLOPT_PROTOCOLS_STR, "http,https");
    /* Neither one of the environment. */
    set_pointer(settings, CURLOPT_PROXY, "");
    set_pointer(settings, CURLOPT_NOPROXY, "*");
    set_pointer(settings, CURLOPT_USERAGENT, "coffer/" COFFER_VERSION);
    if (options->unix_socket)
        set_pointer(settings, CURLOPT_UNIX_SOCKET_PATH, options->unix_socket);
    if (options->ca_file && options->ca_file[0] != '\0') {
        set_pointer(settings, CURLOPT_CAINFO, options->ca_file);
        set_pointer(settings, CURLOPT_CAPATH, NULL);
    }
}

static void set_callbacks(struct settings *settings, struct http_connection *connection)
{
    CURL *easy = settings->easy;
    set_pointer(settings, CURLOPT_ERRORBUFFER, connection->error);
    set_pointer(settings, CURLOPT_SOCKOPTDATA, connection);
    set_pointer(settings, CURLOPT_CLOSESOCKETDATA, connection);
    set_pointer(settings, CURLOPT_PREREQDATA, connection);
    set_pointer(settings, CURLOPT_READDATA, connection);
    set_pointer(settings, CURLOPT_SEEKDATA, connection);
    set_pointer(settings, CURLOPT_HEADERDATA, connection);
    set_pointer(settings, CURLOPT_WRITEDATA, connection);
    note(settings, (curl_easy_setopt)(easy, CURLOPT_SOCKOPTFUNCTION, http_on_socket));
    note(settings, (curl_easy_setopt)(easy, CURLOPT_CLOSESOCKETFUNCTION, http_on_close));
    note(settings, (curl_easy_setopt)(easy, CURLOPT_PREREQFUNCTION, http_on_send));
    note(settings, (curl_easy_setopt)(easy, CURLOPT_READFUNCTION, http_on_read));
    note(settings, (curl_easy_setopt)(easy, CURLOPT_SEEKFUNCTION, http_on_seek));
    note(settings, (curl_easy_setopt)(easy, CURLOPT_HEADERFUNCTION, http_on_header));
    note(settings, (curl_easy_setopt)(easy, CURLOPT_WRITEFUNCTION, http_on_body));
}

static bool has_body(const struct http_request *request)
{
    return request->source || request->body.len > 0 || strcmp(request->method, "PUT") == 0 ||
           strcmp(request->method, "POST") == 0 || strcmp(request->method, "PATCH") == 0;
}

static int64_t body_length(const struct http_request *request)
{
    return request->source ? request->body_length : (int64_t)request->body.len;
}

static void set_request(struct settings *settings, struct http_connection *connection)
{
    const struct http_request *request = connection->request;
    set_pointer(settings, CURLOPT_URL, request->url);
    set_pointer(settings, CURLOPT_HTTPHEADER, connection->headers);
    if (has_body(request)) {
        const curl_off_t length = body_length(request);
        set_number(settings, CURLOPT_UPLOAD, 1);
        note(settings, (curl_easy_setopt)(settings->easy, CURLOPT_INFILESIZE_LARGE, length));
        set_pointer(settings, CURLOPT_CUSTOMREQUEST, request->method);
    } else if (strcmp(request->method, "HEAD") == 0) {
        set_number(settings, CURLOPT_NOBODY, 1);
    } else {
        set_number(settings, CURLOPT_HTTPGET, 1);
        set_pointer(settings, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

static void clear(struct http_connection *connection)
{
    connection->error[0] = '\0';
    connection->sends = 0;
    connection->sent = 0;
    connection->piece = (struct str){NULL, 0};
    connection->head_done = false;
    connection->status = 0;
    connection->target_size = 0;
    connection->target_len = 0;
    connection->spill_at = 0;
    connection->paused = false;
    connection->done = false;
    connection->result = CURLE_OK;
    connection->failed = false;
    connection->uploaded = 0;
    connection->unsent = 0;
    buf_reset(&connection->spill);
}

enum err_code http_connection_start(struct http_connection *connection,
                                    const struct http_request *request, struct http_reply *reply,
                                    bool whole, struct err *err)
{
    struct settings settings = {connection->easy, CURLE_OK};
    clear(connection);
    enum err_code code = http_check_url(request->url, err);
    if (code == ERR_OK)
        code = http_list_headers(request->headers, &connection->headers, err);
    if (code != ERR_OK)
        return code;
    connection->request = request;
    connection->reply = reply;
    connection->whole = whole;
    set_network(&settings, connection);
    set_callbacks(&settings, connection);
    set_request(&settings, connection);
    if (settings.code != CURLE_OK)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "connect", "cannot set up an exchange: %s",
                                curl_easy_strerror(settings.code));
    if (request->source && request->body_length == 0)
        code = http_check_source_end(connection, err);
    if (code == ERR_OK && curl_multi_add_handle(connection->multi, connection->easy) != CURLM_OK)
        code = err_set_internal(err, ERR_NO_MEMORY, 0, "connect", "cannot start an exchange");
    return code;
}

static bool reached(const struct http_connection *connection, enum http_until until)
{
    switch (until) {
    case HTTP_UNTIL_HEAD:
        /* An answer that refuses ends the sending, any other one does not. */
        return connection->head_done &&
               (connection->status >= 300 || connection->sent == body_length(connection->request));
    case HTTP_UNTIL_BYTES:
        return connection->target_len > 0;
    case HTTP_UNTIL_END:
    default:
        return false;
    }
}

static enum err_code perform(struct http_connection *connection, struct err *err)
{
    int running = 0;
    int left = 0;
    CURLMcode code = curl_multi_perform(connection->multi, &running);
    if (code != CURLM_OK)
        return err_set_internal(err, ERR_INTERNAL, 0, "exchange", "%s", curl_multi_strerror(code));
    for (CURLMsg *message = NULL; (message = curl_multi_info_read(connection->multi, &left));) {
        if (message->msg == CURLMSG_DONE) {
            connection->done = true;
            connection->result = message->data.result;
        }
    }
    return ERR_OK;
}

/* What the kernel holds for the server: over a slow line it drains for long without taking more. */
static int unsent_bytes(const struct http_connection *connection)
{
    int unsent = 0;
    if (connection->socket == CURL_SOCKET_BAD || ioctl(connection->socket, SIOCOUTQ, &unsent) != 0)
        return 0;
    return unsent;
}

/* Looks whether anything of the request has moved. */
static void note_upload(struct http_connection *connection)
{
    curl_off_t uploaded = connection->uploaded;
    curl_easy_getinfo(connection->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
    const int unsent = unsent_bytes(connection);
    if (uploaded == connection->uploaded && unsent == connection->unsent)
        return;
    connection->uploaded = uploaded;
    connection->unsent = unsent;
    connection->moved_ns = now_ns(connection);
}

static enum err_code timed_out(const struct http_connection *connection, const char *what,
                               struct err *err)
{
    const struct str authority = http_authority(connection->request->url);
    return err_set_internal(err, ERR_UPSTREAM_TIMEOUT, 0, "exchange", "%.*s: %s",
                            (int)authority.len, authority.data, what);
}

/* Sleeps until something can be done, or until a limit is reached. */
static enum err_code wait(struct http_connection *connection, int64_t deadline_ns, struct err *err)
{
    const int64_t now = now_ns(connection);
    int64_t until = deadline_ns;
    if (now >= deadline_ns)
        return timed_out(connection, "not answered by the deadline", err);
    if (connection->sends > 0) {
        note_upload(connection);
        int64_t stall = connection->moved_ns + connection->options->stall_ms * HTTP_NS_PER_MS;
        if (now >= stall)
            return timed_out(connection, "silent for too long", err);
        until = stall < until ? stall : until;
    }
    int64_t wait_ms = (until - now + HTTP_NS_PER_MS - 1) / HTTP_NS_PER_MS;
    if (wait_ms > POLL_MAX_MS)
        wait_ms = POLL_MAX_MS;
    CURLMcode code = curl_multi_poll(connection->multi, NULL, 0, (int)wait_ms, NULL);
    if (code != CURLM_OK)
        return err_set_internal(err, ERR_INTERNAL, 0, "exchange", "%s", curl_multi_strerror(code));
    return ERR_OK;
}

/* Delivers what curl has kept itself, and lets it take another step. */
static enum err_code resume(struct http_connection *connection, struct err *err)
{
    connection->paused = false;
    CURLcode code = curl_easy_pause(connection->easy, CURLPAUSE_CONT);
    if (code == CURLE_OK)
        return ERR_OK;
    connection->done = true;
    connection->result = code;
    return http_connection_result(connection, err);
}

enum err_code http_connection_run(struct http_connection *connection, enum http_until until,
                                  int64_t deadline_ns, struct err *err)
{
    enum err_code code = ERR_OK;
    if (connection->paused && !connection->done && !reached(connection, until))
        code = resume(connection, err);
    while (code == ERR_OK && !connection->done && !reached(connection, until)) {
        code = perform(connection, err);
        if (code == ERR_OK && !connection->done && !reached(connection, until))
            code = wait(connection, deadline_ns, err);
    }
    if (code == ERR_OK && connection->done && !reached(connection, until))
        code = http_connection_result(connection, err);
    return code;
}
