#include "http/jsonio.h"

#include <math.h>

#include "base/limits.h"
#include "base/str.h"
#include "base/text.h"

/*
 * The grammar of RFC 8259, checked before a parser that is laxer sees the text. Pure function.
 */

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

/* NULL when `text` is one JSON value and nothing else but blanks, nested at most LIMIT_JSON_DEPTH
 * deep, in valid UTF-8, without U+0000 and lone surrogates, with numbers short enough to be read;
 * else what is wrong, as a sentence (static text). Linear time, bounded stack. */
static const char *jsonio_scan(struct str text)
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

/* No patch that moves metadata within its limit has more: a name takes three bytes at least. */
#define PATCH_MEMBERS_MAX (LIMIT_METADATA_BYTES / 3)

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, because a comparison of all with all would be a weapon. */
static enum err_code check_names(const cJSON *object, struct err *err)
{
    size_t count = 0;
    for (const cJSON *item = object->child; item; item = item->next)
        count++;
    if (count < 2)
        return ERR_OK;
    const char **names = calloc(count, sizeof *names);
    if (!names)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "json", "cannot hold %zu names", count);
    size_t i = 0;
    for (const cJSON *item = object->child; item; item = item->next)
        names[i++] = item->string;
    qsort(names, count, sizeof *names, compare_names);
    bool is_doubled = false;
    for (i = 1; i < count; i++)
        is_doubled = is_doubled || strcmp(names[i - 1], names[i]) == 0;
    free(names);
    if (is_doubled)
        return err_set(err, ERR_BAD_JSON, "json", "An object in the JSON text repeats a name.");
    return ERR_OK;
}

/* Recursion ends at LIMIT_JSON_DEPTH: the text was scanned. */
static enum err_code check_tree(const cJSON *value, struct err *err)
{
    enum err_code code = ERR_OK;
    if (cJSON_IsNumber(value) && !isfinite(value->valuedouble))
        return err_set(err, ERR_BAD_JSON, "json", "A number in the JSON text is too large.");
    if (cJSON_IsObject(value))
        code = check_names(value, err);
    for (const cJSON *item = value->child; item && code == ERR_OK; item = item->next)
        code = check_tree(item, err);
    return code;
}

enum err_code jsonio_parse(struct str text, cJSON **ret_value, struct err *err)
{
    if (text.len > LIMIT_JSON_BODY_BYTES)
        return err_set(err, ERR_BAD_JSON, "json", "The JSON text is longer than %d bytes.",
                       LIMIT_JSON_BODY_BYTES);
    const char *problem = jsonio_scan(text);
    if (problem)
        return err_set(err, ERR_BAD_JSON, "json", "%s", problem);
    cJSON *value = cJSON_ParseWithLength(text.data, text.len);
    if (!value)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "json", "cannot parse %zu bytes", text.len);
    enum err_code code = check_tree(value, err);
    if (code != ERR_OK) {
        cJSON_Delete(value);
        return code;
    }
    *ret_value = value;
    return ERR_OK;
}

static enum err_code refuse_metadata(struct err *err)
{
    return err_set(err, ERR_BAD_PARAMETER, "metadata", "metadata must be an object of strings.");
}

static enum err_code write_metadata(const cJSON *object, struct buf *out, struct err *err)
{
    struct buf text;
    enum err_code code = ERR_OK;
    buf_init(&text, LIMIT_METADATA_BYTES);
    jsonw_begin_object(&text, NULL);
    for (const cJSON *item = object->child; item; item = item->next)
        jsonw_string(&text, item->string, str_of(item->valuestring));
    jsonw_end_object(&text);
    if (text.failed)
        code = err_set(err, ERR_BAD_PARAMETER, "metadata", "metadata is larger than %d bytes.",
                       LIMIT_METADATA_BYTES);
    else
        buf_append_str(out, buf_str(&text));
    if (code == ERR_OK && out->failed)
        code = err_set_internal(err, ERR_NO_MEMORY, 0, "metadata", "cannot hold the metadata");
    buf_release(&text);
    return code;
}

enum err_code jsonio_metadata(const cJSON *object, struct buf *out, struct err *err)
{
    if (!cJSON_IsObject(object))
        return refuse_metadata(err);
    for (const cJSON *item = object->child; item; item = item->next)
        if (!cJSON_IsString(item))
            return refuse_metadata(err);
    return write_metadata(object, out, err);
}

static bool merge_member(cJSON *target, const cJSON *item)
{
    if (cJSON_IsNull(item)) {
        cJSON_DeleteItemFromObjectCaseSensitive(target, item->string);
        return true;
    }
    cJSON *copy = cJSON_Duplicate(item, true);
    if (!copy)
        return false;
    bool added = cJSON_GetObjectItemCaseSensitive(target, item->string)
                     ? cJSON_ReplaceItemInObjectCaseSensitive(target, item->string, copy)
                     : cJSON_AddItemToObject(target, item->string, copy);
    if (!added)
        cJSON_Delete(copy);
    return added;
}

enum err_code jsonio_merge_metadata(struct str current, const cJSON *patch, struct buf *out,
                                    struct err *err)
{
    cJSON *target = NULL;
    size_t count = 0;
    if (!cJSON_IsObject(patch))
        return refuse_metadata(err);
    for (const cJSON *item = patch->child; item; item = item->next)
        if (++count > PATCH_MEMBERS_MAX || (!cJSON_IsString(item) && !cJSON_IsNull(item)))
            return refuse_metadata(err);
    enum err_code code = jsonio_parse(current, &target, err);
    if (code != ERR_OK)
        return err_set_internal(err, ERR_INTERNAL, 0, "metadata", "stored metadata is not JSON");
    for (const cJSON *item = patch->child; item && code == ERR_OK; item = item->next)
        if (!merge_member(target, item))
            code = err_set_internal(err, ERR_NO_MEMORY, 0, "metadata", "cannot merge");
    if (code == ERR_OK)
        code = jsonio_metadata(target, out, err);
    cJSON_Delete(target);
    return code;
}
