#include "base/jsonw.h"

#include "base/text.h"

/* A comma is due after everything but what opens or parts already. */
static void begin_value(struct buf *out, const char *name)
{
    char last = out->len > 0 ? out->data[out->len - 1] : '{';
    if (!strchr("{[,:", last))
        buf_append_char(out, ',');
    if (name)
        jsonw_string(out, NULL, str_of(name));
    if (name)
        buf_append_char(out, ':');
}

void jsonw_begin_object(struct buf *out, const char *name)
{
    begin_value(out, name);
    buf_append_char(out, '{');
}

void jsonw_end_object(struct buf *out)
{
    buf_append_char(out, '}');
}

void jsonw_begin_array(struct buf *out, const char *name)
{
    begin_value(out, name);
    buf_append_char(out, '[');
}

void jsonw_end_array(struct buf *out)
{
    buf_append_char(out, ']');
}

static bool is_plain(char byte)
{
    return byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\';
}

static void append_escaped(struct buf *out, uint32_t code_point)
{
    static const char names[] = "\"\\\n\r\t\b\f";
    static const char letters[] = "\"\\nrtbf";
    const char *found = code_point < 0x80 ? memchr(names, (int)code_point, sizeof names - 1) : NULL;
    if (found)
        buf_append(out, (char[]){'\\', letters[found - names]}, 2);
    else
        buf_printf(out, "\\u%04x", (unsigned)code_point);
}

/* Takes one character that is not plain ASCII. C1 controls are escaped too, as terminals obey. */
static void append_character(struct buf *out, struct str text, size_t *at)
{
    size_t start = *at;
    uint32_t code_point;
    if (!text_utf8_next(text, at, &code_point)) {
        buf_append_str(out, STR("\xEF\xBF\xBD"));
        ++*at;
    } else if (code_point < 0xA0) {
        append_escaped(out, code_point);
    } else {
        buf_append(out, text.data + start, *at - start);
    }
}

void jsonw_string(struct buf *out, const char *name, struct str value)
{
    begin_value(out, name);
    buf_append_char(out, '"');
    for (size_t at = 0; at < value.len;) {
        size_t start = at;
        while (at < value.len && is_plain(value.data[at]))
            at++;
        buf_append(out, value.data + start, at - start);
        if (at < value.len)
            append_character(out, value, &at);
    }
    buf_append_char(out, '"');
}

void jsonw_int(struct buf *out, const char *name, int64_t value)
{
    begin_value(out, name);
    buf_append_int(out, value);
}

void jsonw_bool(struct buf *out, const char *name, bool value)
{
    jsonw_raw(out, name, value ? STR("true") : STR("false"));
}

void jsonw_null(struct buf *out, const char *name)
{
    jsonw_raw(out, name, STR("null"));
}

void jsonw_raw(struct buf *out, const char *name, struct str json)
{
    begin_value(out, name);
    buf_append_str(out, json);
}
