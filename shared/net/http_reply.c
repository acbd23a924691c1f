#include "base/text.h"
#include "net/http_client_connection.h"

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
