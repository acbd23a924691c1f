/* What may be sent, and what curl's results mean. */
#include "net/http_client_connection.h"

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
