#include "http/range_condition.h"

#include "base/text.h"

enum comparison { COMPARE_STRONG, COMPARE_WEAK };

struct entity_tag {
    struct str opaque;
    bool is_weak;
};

static bool is_etag_byte(char byte)
{
    unsigned char value = (unsigned char)byte;
    return value == 0x21 || (value >= 0x23 && value != 0x7F);
}

static void skip(struct str *text, size_t len)
{
    text->data += len;
    text->len -= len;
}

/* Takes one entity-tag (RFC 9110 §8.8.3) off *rest. */
static bool take_tag(struct str *rest, struct entity_tag *ret_tag)
{
    struct entity_tag tag = {.is_weak = str_starts_with(*rest, STR("W/"))};
    if (tag.is_weak)
        skip(rest, 2);
    if (rest->len == 0 || rest->data[0] != '"')
        return false;
    skip(rest, 1);
    size_t len = str_find(*rest, '"');
    if (len == rest->len)
        return false;
    tag.opaque = (struct str){rest->data, len};
    for (size_t i = 0; i < len; i++)
        if (!is_etag_byte(rest->data[i]))
            return false;
    skip(rest, len + 1);
    *ret_tag = tag;
    return true;
}

static bool tag_matches(const struct entity_tag *tag, const struct validators *validators,
                        enum comparison comparison)
{
    if (tag->is_weak && comparison == COMPARE_STRONG)
        return false;
    return str_equal(tag->opaque, validators->etag) ||
           (validators->other_etag.len > 0 && str_equal(tag->opaque, validators->other_etag));
}

/* Is one of the list (RFC 9110 §5.6.1) ours, or is it "*"? A malformed list names nothing. */
static bool list_matches(struct str list, const struct validators *validators,
                         enum comparison comparison)
{
    bool found = false;
    list = str_trim(list);
    if (str_equal(list, STR("*")))
        return true;
    while (list.len > 0) {
        struct entity_tag tag;
        if (list.data[0] != ',') {
            if (!take_tag(&list, &tag))
                return false;
            found = found || tag_matches(&tag, validators, comparison);
            list = str_trim(list);
        }
        if (list.len > 0 && list.data[0] != ',')
            return false;
        str_cut(&list, ',');
        list = str_trim(list);
    }
    return found;
}

static bool is_read(const struct request *request)
{
    return request->method == METHOD_GET || request->method == METHOD_HEAD;
}

/* RFC 9110 §13.2.2, steps 1 and 2 */
static bool preconditions_hold(const struct request *request, const struct validators *validators)
{
    struct str value;
    int64_t date;
    if (request_header(request, "IF_MATCH", &value))
        return list_matches(value, validators, COMPARE_STRONG);
    if (request_header(request, "IF_UNMODIFIED_SINCE", &value) &&
        text_parse_http_date(str_trim(value), &date))
        return validators->modified_seconds <= date;
    return true;
}

enum condition condition_evaluate(const struct request *request,
                                  const struct validators *validators)
{
    struct str value;
    int64_t date;
    if (!preconditions_hold(request, validators))
        return CONDITION_FAILED;
    if (request_header(request, "IF_NONE_MATCH", &value)) {
        if (!list_matches(value, validators, COMPARE_WEAK))
            return CONDITION_PASS;
        return is_read(request) ? CONDITION_NOT_MODIFIED : CONDITION_FAILED;
    }
    if (is_read(request) && request_header(request, "IF_MODIFIED_SINCE", &value) &&
        text_parse_http_date(str_trim(value), &date) && validators->modified_seconds <= date)
        return CONDITION_NOT_MODIFIED;
    return CONDITION_PASS;
}

/* RFC 9110 §13.1.5: a strong match, or exactly our date. Only the content's tag counts: ranges are
 * cut from the content. */
static bool if_range_holds(const struct request *request, const struct validators *validators)
{
    const struct validators content = {.etag = validators->etag};
    struct entity_tag tag;
    struct str value;
    int64_t date;
    if (!request_header(request, "IF_RANGE", &value))
        return true;
    value = str_trim(value);
    struct str rest = value;
    if (take_tag(&rest, &tag))
        return rest.len == 0 && tag_matches(&tag, &content, COMPARE_STRONG);
    return text_parse_http_date(value, &date) && date == validators->modified_seconds;
}

/* Digits of any number; what is too large is the largest integer. */
static bool read_position(struct str text, struct range *range, int64_t *ret_value)
{
    int64_t value = 0;
    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text.data[i] - '0', &value))
            value = INT64_MAX;
    }
    range->is_saturated |= value == INT64_MAX;
    *ret_value = value;
    return true;
}

/* One range-spec (RFC 9110 §14.1.2) against `size`. */
static bool read_range(struct str spec, int64_t size, struct range *ret_range)
{
    struct range range = {.kind = RANGE_ONE, .last = size - 1};
    const struct str none = {0};
    struct str last_text = str_trim(spec);
    bool has_dash = str_find(last_text, '-') < last_text.len;
    const struct str first_text = str_cut(&last_text, '-');
    int64_t suffix;
    if (!has_dash)
        return false;
    if (str_equal(first_text, none)) {
        if (!read_position(last_text, &range, &suffix))
            return false;
        range.first = suffix < size ? size - suffix : 0;
    } else if (!read_position(first_text, &range, &range.first) ||
               (last_text.len > 0 && !read_position(last_text, &range, &range.last))) {
        return false;
    }
    if (range.first >= size || range.last < range.first)
        return false;
    if (range.last >= size)
        range.last = size - 1;
    *ret_range = range;
    return true;
}

static struct range read_set(struct str set, int64_t size)
{
    struct range range = {.kind = RANGE_UNSATISFIABLE};
    size_t count = 0;
    size_t satisfiable = 0;
    while (set.len > 0) {
        const struct str spec = str_trim(str_cut(&set, ','));
        if (spec.len == 0)
            continue;
        count++;
        satisfiable += read_range(spec, size, &range);
    }
    if (satisfiable > 0 && count > 1)
        return (struct range){.kind = RANGE_MULTIPLE};
    return range;
}

struct range range_evaluate(const struct request *request, const struct validators *validators,
                            int64_t size)
{
    static const struct str unit = {"bytes=", 6};
    const struct range whole = {.kind = RANGE_NONE};
    struct str value;
    if (request->method != METHOD_GET || !request_header(request, "RANGE", &value) ||
        !if_range_holds(request, validators))
        return whole;
    value = str_trim(value);
    if (value.len < unit.len || !str_equal_nocase((struct str){value.data, unit.len}, unit))
        return whole;
    skip(&value, unit.len);
    return read_set(value, size);
}
