/*
 * Input: what comes out of lighttpd's log pipe, lines of it. Whatever is read as a line, is one that
 * lighttpd could have written: written again as lighttpd does it, it is read the same; and no piece
 * of it, nor it behind such a piece, is a line.
 */
#include "access_log/access_line.h"

#include <string.h>

#include "fuzz.h"

#define WRITTEN_MAX (5 * ACCESS_LINE_MAX)
#define CUTS_MAX 300 /* bytes of a line that is cut everywhere */

/* buffer_append_bs_escaped of lighttpd; what is empty is "-". */
static void write_field(struct buf *out, struct str field)
{
    static const char letters[] = "\a\b\t\n\v\f\r\"\\";
    static const char names[] = "abtnvfr\"\\";
    if (field.len == 0)
        buf_append_char(out, '-');
    for (size_t i = 0; i < field.len; i++) {
        unsigned char byte = (unsigned char)field.data[i];
        const char *letter = byte ? strchr(letters, byte) : NULL;
        if (letter)
            buf_printf(out, "\\%c", names[letter - letters]);
        else if (byte < ' ' || byte > '~')
            buf_printf(out, "\\x%02X", (unsigned)byte);
        else
            buf_append_char(out, (char)byte);
    }
}

static void write_number(struct buf *out, int64_t number)
{
    buf_append_int(out, number);
    buf_append_char(out, '\t');
}

static void write_text(struct buf *out, struct str text)
{
    write_field(out, text);
    buf_append_char(out, '\t');
}

static void write_answer(struct buf *out, const struct access_line *line)
{
    buf_append_text(out, "answer1\t");
    write_number(out, line->status);
    write_number(out, line->duration_us);
    write_number(out, line->begun_us);
    write_number(out, line->sent_bytes);
    write_number(out, line->body_bytes);
    write_number(out, line->body_bytes);
    buf_append_text(out, line->is_cut ? "X\t" : "+\t");
    write_text(out, line->client);
    write_text(out, line->request_id);
    write_text(out, line->traceparent);
    write_text(out, line->caller_traceparent);
    buf_append_str(out, line->method);
    buf_append_char(out, ' ');
    if (line->target.len > 0)
        write_field(out, line->target);
    buf_append_text(out, " HTTP/1.1\t");
    write_field(out, line->user_agent);
}

static bool reads(const char *text, size_t len, struct access_line *line, char *copy)
{
    if (len > 0)
        memcpy(copy, text, len);
    return access_line_parse(copy, len, line);
}

/* "-" alone reads as nothing, as it is written. */
static bool is_same(struct str a, struct str b)
{
    return str_equal(a, b) || (str_equal(a, STR("-")) && b.len == 0);
}

static void check_again(const struct access_line *line, char *copy)
{
    struct access_line again;
    struct buf written;
    buf_init(&written, WRITTEN_MAX);
    write_answer(&written, line);
    MUST(!written.failed);
    MUST(reads(written.data, written.len, &again, copy));
    MUST(again.status == line->status && again.duration_us == line->duration_us);
    MUST(again.begun_us == line->begun_us && again.sent_bytes == line->sent_bytes);
    MUST(again.body_bytes == line->body_bytes && again.is_cut == line->is_cut);
    MUST(is_same(line->client, again.client) && is_same(line->request_id, again.request_id));
    MUST(is_same(line->traceparent, again.traceparent));
    MUST(is_same(line->caller_traceparent, again.caller_traceparent));
    MUST(is_same(line->user_agent, again.user_agent));
    MUST(access_line_route(&again) == access_line_route(line));
    buf_release(&written);
}

static void check_use(const struct access_line *line)
{
    struct str path = access_line_path(line);
    enum route route = access_line_route(line);
    MUST(line->status >= 100 && line->status <= 999);
    MUST(line->duration_us >= 0 && line->sent_bytes >= 0 && line->body_bytes >= 0);
    MUST(access_line_method(line) <= METHOD_OTHER);
    MUST(route >= ROUTE_FILES && route <= ROUTE_UNKNOWN);
    MUST(path.len <= line->target.len && str_find(path, '?') == path.len);
}

/* `text` is a line as it came. */
static void check_pieces(const char *text, size_t len, char *copy)
{
    struct access_line line;
    static char glued[2 * CUTS_MAX];
    for (size_t i = 1; i < len && len <= CUTS_MAX; i++) {
        MUST(!reads(text + i, len - i, &line, copy));
        memcpy(glued, text, i);
        memcpy(glued + i, text, len);
        MUST(!reads(glued, i + len, &line, copy));
    }
}

static void check_line(const char *text, size_t len, char *copy, char *second)
{
    struct access_line line;
    if (len > ACCESS_LINE_MAX || !reads(text, len, &line, copy))
        return;
    if (line.kind == ACCESS_ANSWER) {
        check_use(&line);
        /* Others are not written as they are, and no client can send them. */
        bool is_known = access_line_method(&line) != METHOD_OTHER || line.method.len == 0;
        if (is_known && str_find(line.target, ' ') == line.target.len)
            check_again(&line, second);
    }
    check_pieces(text, len, second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct str rest = {(const char *)bytes, size};
    char *copy = malloc(WRITTEN_MAX);
    char *second = malloc(WRITTEN_MAX);
    MUST(copy && second);
    while (rest.len > 0) {
        struct str line = str_cut(&rest, '\n');
        check_line(line.data, line.len, copy, second);
    }
    free(copy);
    free(second);
    return 0;
}
