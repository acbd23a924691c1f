#include "access_log/access_line.h"

#include "base/text.h"
#include "http/route_match.h"

/* lighttpd/access.conf has the same, in the same order. */
enum field {
    FIELD_FORMAT,
    FIELD_STATUS,
    FIELD_DURATION,
    FIELD_BEGUN,
    FIELD_SENT,
    FIELD_READ,
    FIELD_LENGTH,
    FIELD_CONNECTION,
    FIELD_CLIENT,
    FIELD_REQUEST_ID,
    FIELD_TRACEPARENT,
    FIELD_CALLER_TRACEPARENT,
    FIELD_REQUEST,
    FIELD_USER_AGENT,
    FIELD_COUNT
};

enum status_field { STATUS_FIELD_FORMAT, STATUS_FIELD_MARK, STATUS_FIELD_COUNT };

/* ---- fields ---- */

/* What a backslash and this letter stand for; 0: nothing. */
static char escaped_character(char letter)
{
    switch (letter) {
    case 'a':
        return '\a';
    case 'b':
        return '\b';
    case 't':
        return '\t';
    case 'n':
        return '\n';
    case 'v':
        return '\v';
    case 'f':
        return '\f';
    case 'r':
        return '\r';
    case '"':
    case '\\':
        return letter;
    default:
        return '\0';
    }
}

/* Reads what follows a backslash; 0: it is no escape. */
static size_t read_escape(struct str text, char *ret_byte)
{
    unsigned char byte;
    if (text.len >= 3 && text.data[0] == 'x' &&
        text_unhex((struct str){text.data + 1, 2}, &byte, 1)) {
        *ret_byte = (char)byte;
        return 3;
    }
    *ret_byte = text.len > 0 ? escaped_character(text.data[0]) : '\0';
    return *ret_byte ? 1 : 0;
}

static bool unescape(char *text, size_t *len)
{
    char *end = memchr(text, '\\', *len);
    if (!end)
        return true;
    size_t to = (size_t)(end - text);
    for (size_t from = to; from < *len; to++) {
        if (text[from] != '\\') {
            text[to] = text[from++];
            continue;
        }
        size_t used = read_escape((struct str){text + from + 1, *len - from - 1}, &text[to]);
        if (used == 0)
            return false;
        from += 1 + used;
    }
    *len = to;
    return true;
}

/* False unless there are exactly `count`. "-" stands for what was not there. */
static bool split(char *line, size_t len, struct str *fields, size_t count)
{
    char *at = line;
    char *end = line + len;
    for (size_t i = 0; i < count; i++) {
        char *tab = memchr(at, '\t', (size_t)(end - at));
        if (!tab != (i == count - 1))
            return false;
        size_t field_len = (size_t)((tab ? tab : end) - at);
        if (field_len == 1 && *at == '-')
            fields[i] = (struct str){NULL, 0};
        else if (unescape(at, &field_len))
            fields[i] = (struct str){at, field_len};
        else
            return false;
        at = tab ? tab + 1 : end;
    }
    return true;
}

/* Nothing is 0; so is a duration that a clock which was set back made negative ("-1"). */
static bool read_number(struct str field, int64_t *ret_value)
{
    *ret_value = 0;
    return field.len == 0 || str_equal(field, STR("-1")) ||
           text_parse_int(field, 0, INT64_MAX, ret_value);
}

/* ---- an answer ---- */

/* All that lighttpd writes. More would be another line, after one that was cut. */
static bool is_version(struct str text)
{
    return str_equal(text, STR("HTTP/1.1")) || str_equal(text, STR("HTTP/1.0")) ||
           str_equal(text, STR("HTTP/2.0"));
}

/* "GET /target HTTP/1.1"; of a request that lighttpd could not read, method and target are empty. */
static bool read_request(struct str field, struct access_line *line)
{
    struct str rest = field;
    line->method = str_cut(&rest, ' ');
    size_t space = rest.len;
    while (space > 0 && rest.data[space - 1] != ' ')
        space--;
    if (space == 0 || !is_version((struct str){rest.data + space, rest.len - space}))
        return false;
    line->target = (struct str){rest.data, space - 1};
    return true;
}

/* What was read counts the head too, and of a body that nobody wanted there may be less. */
static bool read_body_bytes(const struct str *fields, struct access_line *line)
{
    int64_t read_bytes;
    int64_t announced;
    if (!read_number(fields[FIELD_READ], &read_bytes))
        return false;
    if (!text_parse_int(fields[FIELD_LENGTH], 0, INT64_MAX, &announced))
        announced = 0; /* the client's own text */
    line->body_bytes = announced < read_bytes ? announced : read_bytes;
    return true;
}

static bool read_answer(const struct str *fields, struct access_line *line)
{
    int64_t status;
    if (!text_parse_int(fields[FIELD_STATUS], 100, 999, &status) ||
        !read_number(fields[FIELD_DURATION], &line->duration_us) ||
        !read_number(fields[FIELD_BEGUN], &line->begun_us) ||
        !read_number(fields[FIELD_SENT], &line->sent_bytes) || !read_body_bytes(fields, line) ||
        !read_request(fields[FIELD_REQUEST], line))
        return false;
    line->kind = ACCESS_ANSWER;
    line->status = (int)status;
    line->is_cut = str_equal(fields[FIELD_CONNECTION], STR("X"));
    line->client = fields[FIELD_CLIENT];
    line->request_id = fields[FIELD_REQUEST_ID];
    line->traceparent = fields[FIELD_TRACEPARENT];
    line->caller_traceparent = fields[FIELD_CALLER_TRACEPARENT];
    line->user_agent = fields[FIELD_USER_AGENT];
    return true;
}

static bool read_status(char *text, size_t len, struct access_line *line)
{
    struct str fields[STATUS_FIELD_COUNT];
    int64_t mark;
    if (!split(text, len, fields, STATUS_FIELD_COUNT))
        return false;
    line->kind = ACCESS_STATUS;
    if (text_parse_int(fields[STATUS_FIELD_MARK], 1, INT64_MAX, &mark))
        line->mark = (uint64_t)mark;
    return true;
}

bool access_line_parse(char *line, size_t len, struct access_line *ret_line)
{
    struct str text = {line, len};
    struct str fields[FIELD_COUNT];
    struct access_line read = {.mark = 0};
    bool is_whole = false;
    if (str_starts_with(text, STR("answer1\t")))
        is_whole = split(line, len, fields, FIELD_COUNT) && read_answer(fields, &read);
    else if (str_starts_with(text, STR("status1\t")))
        is_whole = read_status(line, len, &read);
    if (is_whole)
        *ret_line = read;
    return is_whole;
}

/* ---- what it was for ---- */

enum http_method access_line_method(const struct access_line *line)
{
    for (unsigned method = 0; method < METHOD_OTHER; method++)
        if (str_equal(line->method, str_of(method_name((enum http_method)method))))
            return (enum http_method)method;
    return METHOD_OTHER;
}

struct str access_line_path(const struct access_line *line)
{
    struct str rest = line->target;
    struct str path = str_cut(&rest, '?');
    struct str after = path;
    /* absolute-form, RFC 9112 section 3.2.2 */
    struct str scheme = str_cut(&after, ':');
    if (!str_equal_nocase(scheme, STR("http")) && !str_equal_nocase(scheme, STR("https")))
        return path;
    if (!str_starts_with(after, STR("//")))
        return path;
    after.data += 2;
    after.len -= 2;
    size_t slash = str_find(after, '/');
    return (struct str){after.data + slash, after.len - slash};
}

enum route access_line_route(const struct access_line *line)
{
    char room[ROUTE_RAW_MAX];
    return route_match_raw(access_line_path(line), room).route;
}
