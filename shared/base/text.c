#include "base/text.h"

bool text_parse_int(struct str text, int64_t min, int64_t max, int64_t *ret_value)
{
    int64_t value = 0;
    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.data[i];
        if (byte < '0' || byte > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, byte - '0', &value))
            return false;
    }
    if (value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

bool text_parse_bytes(struct str text, int64_t *ret_value)
{
    static const char units[] = "KMG";
    int64_t factor = 1;
    const char *unit = text.len > 0 ? memchr(units, text.data[text.len - 1], 3) : NULL;
    if (unit) {
        factor = INT64_C(1) << (10 * (unit - units + 1));
        text.len--;
    }
    int64_t value;
    if (!text_parse_int(text, 0, INT64_MAX / factor, &value))
        return false;
    *ret_value = value * factor;
    return true;
}

void text_lower(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}

void text_hex(const unsigned char *bytes, size_t len, char *target)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        target[2 * i] = digits[bytes[i] >> 4];
        target[2 * i + 1] = digits[bytes[i] & 0x0F];
    }
    target[2 * len] = '\0';
}

static int hex_value(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F')
        return byte - 'A' + 10;
    return -1;
}

/* The byte of two hexadecimal digits, -1 when one is not. */
static int hex_byte(const char *digits)
{
    int high = hex_value(digits[0]);
    int low = hex_value(digits[1]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool text_unhex(struct str text, unsigned char *target, size_t len)
{
    if (text.len / 2 != len || text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (hex_value(text.data[i]) < 0)
            return false;
    for (size_t i = 0; i < len; i++)
        target[i] = (unsigned char)hex_byte(text.data + 2 * i);
    return true;
}

bool text_percent_decode(struct str text, bool plus_is_space, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '%' && (text.len - i < 3 || hex_byte(text.data + i + 1) < 0))
            return false;
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.data[i];
        if (byte == '%') {
            byte = (char)hex_byte(text.data + i + 1);
            i += 2;
        } else if (byte == '+' && plus_is_space) {
            byte = ' ';
        }
        buf_append_char(out, byte);
    }
    return !out->failed;
}

static bool is_unreserved(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

void text_percent_encode(struct str text, const char *keep, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.data[i];
        if (is_unreserved(byte) || (byte != '\0' && strchr(keep, byte)))
            buf_append_char(out, byte);
        else
            buf_printf(out, "%%%02X", (unsigned)(unsigned char)byte);
    }
}

struct utf8_form {
    unsigned char mask, lead; /* of the first byte */
    size_t len;
    uint32_t min; /* less is an overlong form */
};

static const struct utf8_form utf8_forms[] = {
    {0x80, 0x00, 1, 0},
    {0xE0, 0xC0, 2, 0x80},
    {0xF0, 0xE0, 3, 0x800},
    {0xF8, 0xF0, 4, 0x10000},
};

static const struct utf8_form *utf8_form(unsigned char lead)
{
    for (size_t i = 0; i < sizeof utf8_forms / sizeof utf8_forms[0]; i++)
        if ((lead & utf8_forms[i].mask) == utf8_forms[i].lead)
            return &utf8_forms[i];
    return NULL;
}

bool text_utf8_next(struct str text, size_t *at, uint32_t *ret_code_point)
{
    if (*at >= text.len)
        return false;
    unsigned char lead = (unsigned char)text.data[*at];
    const struct utf8_form *form = utf8_form(lead);
    if (!form || form->len > text.len - *at)
        return false;
    uint32_t code_point = lead & (unsigned char)~form->mask;
    for (size_t i = 1; i < form->len; i++) {
        unsigned char byte = (unsigned char)text.data[*at + i];
        if ((byte & 0xC0) != 0x80)
            return false;
        code_point = code_point << 6 | (byte & 0x3F);
    }
    bool is_surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
    if (code_point < form->min || is_surrogate || code_point > 0x10FFFF)
        return false;
    *at += form->len;
    *ret_code_point = code_point;
    return true;
}

bool text_is_utf8(struct str text)
{
    uint32_t code_point;
    for (size_t at = 0; at < text.len;)
        if (!text_utf8_next(text, &at, &code_point))
            return false;
    return true;
}

/* Bytes of ASCII without NUL that `data` begins with, looked at eight at a time. */
static size_t count_ascii(const unsigned char *data, size_t len)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = ones * 0x80;
    uint64_t word;
    size_t at = 0;
    while (len - at >= sizeof word) {
        memcpy(&word, data + at, sizeof word);
        if ((word | (word - ones)) & highs) /* not ASCII, or a NUL (or 0x01 above one) */
            break;
        at += sizeof word;
    }
    while (at < len && data[at] != '\0' && data[at] < 0x80)
        at++;
    return at;
}

/* Adds to the character that was cut; the number of bytes used. */
static size_t finish_begun(struct text_utf8 *utf8, const unsigned char *data, size_t len)
{
    const struct utf8_form *form = utf8_form(utf8->begun[0]);
    size_t used = 0;
    if (!form) {
        utf8->failed = true;
        return 0;
    }
    while (used < len && utf8->begun_len < form->len)
        utf8->begun[utf8->begun_len++] = data[used++];
    if (utf8->begun_len == form->len) {
        utf8->failed = !text_is_utf8((struct str){(const char *)utf8->begun, form->len});
        utf8->begun_len = 0;
    }
    return used;
}

void text_utf8_add(struct text_utf8 *utf8, const void *data, size_t len)
{
    const struct str text = {data, len};
    size_t at = 0;
    if (utf8->begun_len > 0 && !utf8->failed)
        at = finish_begun(utf8, data, len);
    while (at < len && !utf8->failed) {
        uint32_t unused;
        at += count_ascii((const unsigned char *)data + at, len - at);
        if (at == len || (text.data[at] != '\0' && text_utf8_next(text, &at, &unused)))
            continue;
        utf8->failed = text.data[at] == '\0' || len - at >= sizeof utf8->begun;
        if (!utf8->failed) { /* perhaps a character that is cut here */
            utf8->begun[0] = (unsigned char)text.data[at++];
            utf8->begun_len = 1;
            at += finish_begun(utf8, (const unsigned char *)data + at, len - at);
        }
    }
}

bool text_utf8_holds(const struct text_utf8 *utf8)
{
    return !utf8->failed && utf8->begun_len == 0;
}
