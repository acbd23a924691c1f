#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool str_equal(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static char lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
}

bool str_equal_nocase(struct str a, struct str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
    return true;
}

bool str_starts_with(struct str text, struct str prefix)
{
    return text.len >= prefix.len && str_equal((struct str){text.data, prefix.len}, prefix);
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

struct str str_trim(struct str text)
{
    while (text.len > 0 && is_blank(text.data[0])) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && is_blank(text.data[text.len - 1]))
        text.len--;
    return text;
}

size_t str_find(struct str text, char byte)
{
    const char *found = text.len > 0 ? memchr(text.data, byte, text.len) : NULL;
    return found ? (size_t)(found - text.data) : text.len;
}

struct str str_cut(struct str *rest, char byte)
{
    size_t at = str_find(*rest, byte);
    struct str head = {rest->data, at};
    size_t used = at < rest->len ? at + 1 : at;
    if (used > 0)
        rest->data += used;
    rest->len -= used;
    return head;
}

bool str_copy(char *target, size_t size, struct str text)
{
    if (size == 0)
        return false;
    target[0] = '\0';
    if (text.len >= size || str_find(text, '\0') != text.len)
        return false;
    if (text.len > 0)
        memcpy(target, text.data, text.len);
    target[text.len] = '\0';
    return true;
}

void buf_init(struct buf *buf, size_t max)
{
    *buf = (struct buf){.max = max};
}

void buf_release(struct buf *buf)
{
    free(buf->data);
    buf_init(buf, buf->max);
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
    buf->failed = false;
    if (buf->data)
        buf->data[0] = '\0';
}

/* Makes room for `more` bytes and a NUL; marks the buffer and gives false when it can't. */
static bool reserve(struct buf *buf, size_t more)
{
    /* SIZE_MAX itself can't be held: the NUL needs a byte too. */
    size_t max = buf->max < SIZE_MAX ? buf->max : SIZE_MAX - 1;
    if (buf->failed || more > max - buf->len) {
        buf->failed = true;
        return false;
    }
    size_t need = buf->len + more + 1;
    if (need <= buf->cap)
        return true;
    size_t cap = buf->cap < 32 ? 64 : buf->cap > max / 2 ? max + 1 : buf->cap * 2;
    if (cap > max + 1)
        cap = max + 1;
    if (cap < need)
        cap = need;
    char *grown = realloc(buf->data, cap);
    if (!grown) {
        buf->failed = true;
        return false;
    }
    buf->data = grown;
    buf->cap = cap;
    return true;
}

void buf_append(struct buf *buf, const void *data, size_t len)
{
    if (len == 0 || !reserve(buf, len))
        return;
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void buf_append_str(struct buf *buf, struct str text)
{
    buf_append(buf, text.data, text.len);
}

void buf_append_text(struct buf *buf, const char *text)
{
    buf_append_str(buf, str_of(text));
}

void buf_append_char(struct buf *buf, char byte)
{
    buf_append(buf, &byte, 1);
}

void buf_append_int(struct buf *buf, int64_t value)
{
    buf_printf(buf, "%" PRId64, value);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vprintf(buf, format, args);
    va_end(args);
}

void buf_vprintf(struct buf *buf, const char *format, va_list args)
{
    va_list measured;
    va_copy(measured, args);
    int len = vsnprintf(NULL, 0, format, measured);
    va_end(measured);
    if (len < 0) {
        buf->failed = true;
        return;
    }
    if (len == 0 || !reserve(buf, (size_t)len))
        return;
    vsnprintf(buf->data + buf->len, (size_t)len + 1, format, args);
    buf->len += (size_t)len;
}
