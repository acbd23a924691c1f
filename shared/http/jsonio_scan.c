#include "http/jsonio_scan.h"

#include "base/limits.h"
#include "base/text.h"

/* cJSON cuts a number at 63 characters. */
#define NUMBER_BYTES_MAX 63

struct scan {
    struct str rest;
    const char *problem; /* the first one, NULL so far */
};

static bool fail(struct scan *scan, const char *problem)
{
    scan->problem = scan->problem ? scan->problem : problem;
    return false;
}

static void skip(struct scan *scan, size_t len)
{
    scan->rest.data += len;
    scan->rest.len -= len;
}

/* The next byte, or NUL (which JSON text does not hold) at the end. */
static char peek(const struct scan *scan)
{
    return scan->rest.len > 0 ? scan->rest.data[0] : '\0';
}

static void skip_blanks(struct scan *scan)
{
    while (scan->rest.len > 0 && memchr(" \t\r\n", scan->rest.data[0], 4))
        skip(scan, 1);
}

static bool take(struct scan *scan, char byte)
{
    if (peek(scan) != byte || scan->rest.len == 0)
        return false;
    skip(scan, 1);
    return true;
}

static bool take_digits(struct scan *scan)
{
    size_t start = scan->rest.len;
    while (peek(scan) >= '0' && peek(scan) <= '9')
        skip(scan, 1);
    return scan->rest.len < start;
}

static bool scan_number(struct scan *scan)
{
    size_t start = scan->rest.len;
    take(scan, '-');
    bool good = take(scan, '0') || take_digits(scan);
    if (good && take(scan, '.'))
        good = take_digits(scan);
    if (good && (take(scan, 'e') || take(scan, 'E'))) {
        if (!take(scan, '+'))
            take(scan, '-');
        good = take_digits(scan);
    }
    if (!good)
        return fail(scan, "A value in the JSON text is malformed.");
    if (start - scan->rest.len > NUMBER_BYTES_MAX)
        return fail(scan, "A number in the JSON text is too long.");
    return true;
}

/* The four digits of a \u escape; -1 when they are not. */
static int32_t take_code_unit(struct scan *scan)
{
    unsigned char bytes[2];
    if (scan->rest.len < 4 || !text_unhex((struct str){scan->rest.data, 4}, bytes, 2))
        return -1;
    skip(scan, 4);
    return bytes[0] << 8 | bytes[1];
}

static bool scan_unicode_escape(struct scan *scan)
{
    int32_t unit = take_code_unit(scan);
    if (unit < 0)
        return fail(scan, "A \\u escape in the JSON text is malformed.");
    if (unit == 0)
        return fail(scan, "The JSON text holds a NUL character.");
    if (unit < 0xD800 || unit > 0xDFFF)
        return true;
    int32_t low = -1;
    if (unit <= 0xDBFF && take(scan, '\\') && take(scan, 'u'))
        low = take_code_unit(scan);
    if (low < 0xDC00 || low > 0xDFFF)
        return fail(scan, "The JSON text holds half a surrogate pair.");
    return true;
}

static bool scan_escape(struct scan *scan)
{
    char byte = peek(scan);
    if (byte == '\0' || !strchr("\"\\/bfnrtu", byte))
        return fail(scan, "An escape in the JSON text is malformed.");
    skip(scan, 1);
    return byte != 'u' || scan_unicode_escape(scan);
}

static bool scan_string(struct scan *scan)
{
    if (!take(scan, '"'))
        return fail(scan, "The JSON text lacks a string.");
    while (scan->rest.len > 0) {
        if (take(scan, '"'))
            return true;
        if ((unsigned char)peek(scan) < 0x20)
            return fail(scan, "A string in the JSON text holds a control character.");
        if (!take(scan, '\\'))
            skip(scan, 1);
        else if (!scan_escape(scan))
            return false;
    }
    return fail(scan, "A string in the JSON text has no end.");
}

static bool scan_literal(struct scan *scan)
{
    static const struct str literals[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    for (size_t i = 0; i < sizeof literals / sizeof *literals; i++) {
        if (str_starts_with(scan->rest, literals[i])) {
            skip(scan, literals[i].len);
            return true;
        }
    }
    return scan_number(scan);
}

static bool scan_value(struct scan *scan, unsigned depth);

static bool scan_member(struct scan *scan, unsigned depth, bool named)
{
    skip_blanks(scan);
    if (named) {
        if (!scan_string(scan))
            return false;
        skip_blanks(scan);
        if (!take(scan, ':'))
            return fail(scan, "A member of the JSON text lacks its colon.");
    }
    if (!scan_value(scan, depth))
        return false;
    skip_blanks(scan);
    return true;
}

/* An object or array behind its opening bracket. */
static bool scan_members(struct scan *scan, unsigned depth, char close)
{
    if (depth > LIMIT_JSON_DEPTH)
        return fail(scan, "The JSON text is nested too deeply.");
    skip_blanks(scan);
    if (take(scan, close))
        return true;
    do {
        if (!scan_member(scan, depth, close == '}'))
            return false;
    } while (take(scan, ','));
    return take(scan, close) || fail(scan, "The JSON text lacks a comma or a closing bracket.");
}

/* Recursion ends at LIMIT_JSON_DEPTH. */
static bool scan_value(struct scan *scan, unsigned depth)
{
    skip_blanks(scan);
    if (take(scan, '{'))
        return scan_members(scan, depth + 1, '}');
    if (take(scan, '['))
        return scan_members(scan, depth + 1, ']');
    return peek(scan) == '"' ? scan_string(scan) : scan_literal(scan);
}

static bool has_byte_order_mark(struct str text)
{
    return str_starts_with(text, STR("\xEF\xBB\xBF")) || str_starts_with(text, STR("\xFF\xFE")) ||
           str_starts_with(text, STR("\xFE\xFF"));
}

const char *jsonio_scan(struct str text)
{
    struct scan scan = {.rest = text};
    if (has_byte_order_mark(text))
        return "The JSON text begins with a byte order mark; send UTF-8 without one.";
    if (!text_is_utf8(text))
        return "The JSON text is not valid UTF-8.";
    if (!scan_value(&scan, 0))
        return scan.problem;
    skip_blanks(&scan);
    return scan.rest.len > 0 ? "Something follows the JSON value." : NULL;
}
