#include "observe/crash_record.h"

#include "base/text.h"

#define HASH_DIGITS 16

uint64_t crash_record_hash(struct str text)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.data[i]) * 0x100000001b3U;
    return hash;
}

/* ---- words ---- */

static bool parse_hex(struct str word, uintptr_t *ret_value)
{
    uintptr_t value = 0;
    if (word.len == 0 || word.len > 2 * sizeof value)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        const char *digit = memchr("0123456789abcdef", word.data[i], 16);
        if (!digit)
            return false;
        value = value << 4 | (uintptr_t)(digit - "0123456789abcdef");
    }
    *ret_value = value;
    return true;
}

static bool parse_address(struct str word, uintptr_t *ret_value)
{
    return str_starts_with(word, STR("0x")) &&
           parse_hex((struct str){word.data + 2, word.len - 2}, ret_value);
}

static bool parse_int(struct str word, int *ret_value)
{
    int64_t value;
    bool is_negative = str_starts_with(word, STR("-"));
    if (is_negative)
        word = (struct str){word.data + 1, word.len - 1};
    if (!text_parse_int(word, 0, INT32_MAX, &value))
        return false;
    *ret_value = is_negative ? -(int)value : (int)value;
    return true;
}

/* Visible ASCII; "-" stands for nothing. */
static bool copy_word(struct str word, char *target, size_t size)
{
    for (size_t i = 0; i < word.len; i++)
        if (word.data[i] <= ' ' || word.data[i] > '~')
            return false;
    if (word.len == 0)
        return false;
    return str_copy(target, size, str_equal(word, STR("-")) ? STR("") : word);
}

static bool copy_hex(struct str word, char *target, size_t digits)
{
    return copy_word(word, target, digits + 1) && (strlen(target) == digits || *target == '\0') &&
           strspn(target, "0123456789abcdef") == strlen(target);
}

/* ---- lines ---- */

static bool parse_signal(struct str rest, struct crash_record *record)
{
    return parse_int(str_cut(&rest, ' '), &record->signal) && record->signal > 0 &&
           record->signal < 65 && parse_int(str_cut(&rest, ' '), &record->code) &&
           parse_address(rest, &record->address);
}

static bool parse_request(struct str rest, struct crash_record *record)
{
    struct trace *trace = &record->trace;
    if (record->has_request || record->image_count > 0 || record->frame_count > 0)
        return false;
    record->has_request = true;
    return copy_word(str_cut(&rest, ' '), trace->request_id, sizeof trace->request_id) &&
           copy_hex(str_cut(&rest, ' '), trace->trace_id, sizeof trace->trace_id - 1) &&
           copy_hex(str_cut(&rest, ' '), trace->span_id, sizeof trace->span_id - 1) &&
           copy_hex(str_cut(&rest, ' '), trace->parent_id, sizeof trace->parent_id - 1) &&
           copy_word(rest, record->route, sizeof record->route) && *trace->trace_id &&
           *trace->span_id;
}

static bool parse_image(struct str rest, struct crash_record *record)
{
    struct crash_image *image = &record->images[record->image_count];
    uintptr_t size = 0;
    if (record->image_count == CRASH_IMAGES)
        return false;
    record->image_count++;
    bool is_good = parse_address(str_cut(&rest, ' '), &image->start) &&
                   parse_address(str_cut(&rest, ' '), &size) &&
                   copy_word(str_cut(&rest, ' '), image->build_id, sizeof image->build_id) &&
                   copy_word(rest, image->file, sizeof image->file);
    image->size = size;
    return is_good && size > 0 && size <= UINTPTR_MAX - image->start &&
           strspn(image->build_id, "0123456789abcdef") == strlen(image->build_id);
}

static bool parse_frame(struct str rest, struct crash_record *record)
{
    return record->frame_count < STACK_DEPTH &&
           parse_address(rest, &record->frames[record->frame_count++]);
}

static bool parse_line(struct str line, struct crash_record *record)
{
    struct str word = str_cut(&line, ' ');
    if (str_equal(word, STR("request")))
        return parse_request(line, record);
    if (str_equal(word, STR("image")))
        return parse_image(line, record);
    return str_equal(word, STR("frame")) && parse_frame(line, record);
}

/* The next line's rest when it begins with `word`; else something no value is. */
static struct str next_value(struct str *rest, struct str word)
{
    struct str line = str_cut(rest, '\n');
    return str_equal(str_cut(&line, ' '), word) ? line : STR("");
}

static bool parse_head(struct str *rest, struct crash_record *record)
{
    return str_equal(next_value(rest, STR("coffer-crash")), STR("1")) &&
           copy_word(next_value(rest, STR("program")), record->program, sizeof record->program) &&
           copy_word(next_value(rest, STR("release")), record->release, sizeof record->release) &&
           text_parse_int(next_value(rest, STR("time")), 0, INT64_MAX / 2, &record->time_ms) &&
           parse_signal(next_value(rest, STR("signal")), record);
}

/* The text without its last line, which must be right. */
static bool unseal(struct str *text)
{
    static const struct str end = {"end ", 4};
    size_t line = end.len + HASH_DIGITS + 1;
    uintptr_t hash = 0;
    if (text->len <= line || text->data[text->len - 1] != '\n')
        return false;
    struct str last = {text->data + text->len - line, line - 1};
    text->len -= line;
    return str_starts_with(last, end) &&
           parse_hex((struct str){last.data + end.len, HASH_DIGITS}, &hash) &&
           hash == crash_record_hash(*text);
}

bool crash_record_parse(struct str text, struct crash_record *ret_record)
{
    struct str rest = text;
    *ret_record = (struct crash_record){.signal = 0};
    if (text.len > CRASH_RECORD_MAX || !unseal(&rest) || !parse_head(&rest, ret_record))
        return false;
    while (rest.len > 0)
        if (!parse_line(str_cut(&rest, '\n'), ret_record))
            return false;
    return true;
}
