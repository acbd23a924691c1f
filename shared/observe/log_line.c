#include "observe/log_line.h"

#include "base/text.h"
#include "observe/log_redact.h"

#define TAIL 2        /* "}\n" */
#define INT_DIGITS 20 /* of INT64_MIN, with its sign */

void log_line_init(struct log_line *line)
{
    line->len = 0;
    line->reserved = 0;
}

static size_t room(const struct log_line *line)
{
    size_t taken = line->len + line->reserved + TAIL;
    return taken < LOG_LINE_MAX ? LOG_LINE_MAX - taken : 0;
}

static void put(struct log_line *line, const char *data, size_t len)
{
    memcpy(line->text + line->len, data, len);
    line->len += len;
}

void log_line_raw(struct log_line *line, const char *data, size_t len)
{
    if (len <= room(line))
        put(line, data, len);
}

/* Not for themselves stand in a JSON string, or need a look at their neighbours: controls, quote,
 * backslash, DEL, and all beyond ASCII. */
static bool is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte != '"' && byte != '\\' && byte < 0x7f;
}

static size_t escape_ascii(unsigned char c, char target[8])
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *form = short_forms; *form; form += 2) {
        if (c == (unsigned char)form[0]) {
            target[0] = '\\';
            target[1] = form[1];
            return 2;
        }
    }
    return (size_t)snprintf(target, 8, "\\u%04x", c);
}

/* C1 controls steer terminals; U+2028 and U+2029 end a line for some readers. */
static bool is_wide_control(uint32_t code_point)
{
    return (code_point >= 0x80 && code_point < 0xa0) || code_point == 0x2028 ||
           code_point == 0x2029;
}

/* What stands for the character at text.data[*at], which is_plain refused; moves *at past it. */
static size_t escape_next(struct str text, size_t *at, char target[8])
{
    size_t start = *at;
    unsigned char first = (unsigned char)text.data[start];
    *at = start + 1;
    if (first < 0x80)
        return escape_ascii(first, target);
    uint32_t code_point = 0;
    size_t next = start;
    if (!text_utf8_next(text, &next, &code_point)) {
        memcpy(target, "\xef\xbf\xbd", 3); /* U+FFFD for each byte that belongs nowhere */
        return 3;
    }
    *at = next;
    if (is_wide_control(code_point))
        return (size_t)snprintf(target, 8, "\\u%04x", (unsigned)code_point);
    memcpy(target, text.data + start, next - start);
    return next - start;
}

/* False when the line is full. */
static bool put_escaped(struct log_line *line, struct str text)
{
    size_t left = room(line);
    for (size_t at = 0; at < text.len;) {
        size_t run = at;
        while (run < text.len && is_plain((unsigned char)text.data[run]))
            run++;
        size_t plain = run - at < left ? run - at : left;
        put(line, text.data + at, plain);
        left -= plain;
        at += plain;
        if (at == text.len || at < run)
            return at == text.len;
        char escaped[8];
        size_t len = escape_next(text, &at, escaped);
        if (len > left)
            return false;
        put(line, escaped, len);
        left -= len;
    }
    return true;
}

void log_line_escaped(struct log_line *line, struct str text)
{
    for (size_t at = 0; at < text.len;) {
        struct log_secret secret = log_redact_next(text, at);
        if (!put_escaped(line, (struct str){text.data + at, secret.from - at}))
            return;
        if (secret.to > secret.from)
            log_line_raw(line, LOG_REDACTED, sizeof LOG_REDACTED - 1);
        at = secret.to;
    }
}

/* `,"name":` and the quotes of a string. */
static size_t frame_size(const struct log_field *field)
{
    return strlen(field->name) + 4 + (field->type == LOG_STRING ? 2 : 0);
}

static size_t reserve_size(const struct log_field *field)
{
    size_t value = INT_DIGITS;
    if (field->type == LOG_STRING)
        value = field->text.len < LOG_STRING_RESERVE ? field->text.len : LOG_STRING_RESERVE;
    return frame_size(field) + value;
}

bool log_line_reserve(struct log_line *line, const struct log_field *field)
{
    if (room(line) < reserve_size(field) + LOG_STRING_RESERVE) /* the message is a string, too */
        return false;
    line->reserved += reserve_size(field);
    return true;
}

static void put_int(struct log_line *line, int64_t value)
{
    char digits[INT_DIGITS];
    size_t at = sizeof digits;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0)
        digits[--at] = '-';
    put(line, digits + at, sizeof digits - at);
}

void log_line_field(struct log_line *line, const struct log_field *field)
{
    bool is_string = field->type == LOG_STRING;
    line->reserved -= reserve_size(field);
    put(line, ",\"", 2);
    put(line, field->name, strlen(field->name));
    put(line, is_string ? "\":\"" : "\":", is_string ? 3 : 2);
    if (!is_string) {
        put_int(line, field->number);
        return;
    }
    line->reserved++; /* the closing quote */
    log_line_escaped(line, field->text);
    line->reserved--;
    put(line, "\"", 1);
}

void log_line_finish(struct log_line *line)
{
    put(line, "}\n", TAIL);
}
