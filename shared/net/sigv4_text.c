#include "net/sigv4_text.h"

#include "base/text.h"

const char *sigv4_service(const struct sigv4_credentials *credentials)
{
    return credentials->service && credentials->service[0] != '\0' ? credentials->service : "s3";
}

void sigv4_stamp(int64_t now_ms, char target[SIGV4_STAMP_SIZE])
{
    char time[TEXT_TIME_SIZE];
    char *at = target;
    text_time(now_ms, time);
    for (const char *from = time; *from != '\0' && *from != '.'; from++)
        if (*from != '-' && *from != ':')
            *at++ = *from;
    *at++ = 'Z';
    *at = '\0';
}

void sigv4_scope(const struct sigv4_credentials *credentials, const char *stamp, struct buf *out)
{
    buf_printf(out, "%.8s/%s/%s/aws4_request", stamp, credentials->region,
               sigv4_service(credentials));
}

bool sigv4_is_printable(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7F)
            return false;
    return true;
}

static bool is_alphanumeric(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
           (byte >= 'A' && byte <= 'Z');
}

bool sigv4_is_token(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_alphanumeric(text.data[i]) &&
            (text.data[i] == '\0' || !strchr("!#$%&'*+-.^_`|~", text.data[i])))
            return false;
    return text.len > 0;
}

void sigv4_encode_path(struct str path, struct buf *out)
{
    if (path.len == 0)
        buf_append_char(out, '/');
    text_percent_encode(path, "/", out);
}

void sigv4_encode_query(const struct sigv4_pair *query, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_append_char(out, '&');
        text_percent_encode(query[i].name, "", out);
        buf_append_char(out, '=');
        text_percent_encode(query[i].value, "", out);
    }
}

/* Where a byte stands among encoded ones: "%" sorts before every unreserved character, and two
 * escapes sort like their bytes. */
static int encoded_rank(char byte)
{
    bool unreserved =
        is_alphanumeric(byte) || byte == '-' || byte == '.' || byte == '_' || byte == '~';
    return (unreserved ? 256 : 0) + (unsigned char)byte;
}

static int compare_encoded(struct str a, struct str b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++)
        if (a.data[i] != b.data[i])
            return encoded_rank(a.data[i]) - encoded_rank(b.data[i]);
    return (a.len > b.len) - (a.len < b.len);
}

static int compare_query(const struct sigv4_pair *a, const struct sigv4_pair *b)
{
    int order = compare_encoded(a->name, b->name);
    return order != 0 ? order : compare_encoded(a->value, b->value);
}

static char lower(char byte)
{
    return (char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
}

static int compare_headers(const struct sigv4_pair *a, const struct sigv4_pair *b)
{
    for (size_t i = 0; i < a->name.len && i < b->name.len; i++) {
        char left = lower(a->name.data[i]);
        char right = lower(b->name.data[i]);
        if (left != right)
            return (unsigned char)left - (unsigned char)right;
    }
    return (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

/* By insertion: the lists are short, and equal ones must keep their order. */
static void sort(struct sigv4_pair *pairs, size_t count,
                 int (*compare)(const struct sigv4_pair *, const struct sigv4_pair *))
{
    for (size_t i = 1; i < count; i++) {
        const struct sigv4_pair pair = pairs[i];
        size_t at = i;
        for (; at > 0 && compare(&pairs[at - 1], &pair) > 0; at--)
            pairs[at] = pairs[at - 1];
        pairs[at] = pair;
    }
}

void sigv4_sort_query(struct sigv4_pair *query, size_t count)
{
    sort(query, count, compare_query);
}

void sigv4_sort_headers(struct sigv4_pair *headers, size_t count)
{
    sort(headers, count, compare_headers);
}

static void append_lower(struct str text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++)
        buf_append_char(out, lower(text.data[i]));
}

/* Without spaces at the ends, and with one where there were several. */
static void append_collapsed(struct str text, struct buf *out)
{
    text = str_trim(text);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != ' ' || text.data[i - 1] != ' ')
            buf_append_char(out, text.data[i]);
}

static bool same_name(const struct sigv4_pair *headers, size_t index)
{
    return index > 0 && compare_headers(&headers[index - 1], &headers[index]) == 0;
}

void sigv4_canonical_headers(const struct sigv4_pair *headers, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (same_name(headers, i)) {
            buf_append_char(out, ',');
        } else {
            append_lower(headers[i].name, out);
            buf_append_char(out, ':');
        }
        append_collapsed(headers[i].value, out);
        if (i + 1 == count || !same_name(headers, i + 1))
            buf_append_char(out, '\n');
    }
}

void sigv4_signed_headers(const struct sigv4_pair *headers, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (same_name(headers, i))
            continue;
        if (i > 0)
            buf_append_char(out, ';');
        append_lower(headers[i].name, out);
    }
}

void sigv4_target(const struct sigv4_request *request, struct buf *out)
{
    struct sigv4_pair query[SIGV4_PAIRS_MAX];
    sigv4_encode_path(request->path, out);
    if (request->query_count == 0)
        return;
    if (request->query_count > SIGV4_PAIRS_MAX) {
        out->failed = true;
        return;
    }
    memcpy(query, request->query, request->query_count * sizeof *query);
    sigv4_sort_query(query, request->query_count);
    buf_append_char(out, '?');
    sigv4_encode_query(query, request->query_count, out);
}
