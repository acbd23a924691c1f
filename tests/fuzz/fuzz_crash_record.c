/*
 * Input: what a crash left on disk. Read as it is, and as the body of a record whose seal is right,
 * so that the lines are reached too. Whatever is taken has no byte that would break a line, and can
 * be named without harm.
 */
#include "fuzz.h"
#include "observe/report_parts.h"
#include "observe/stack.h"

static void check_word(const char *text, size_t size)
{
    MUST(strnlen(text, size) < size);
    for (const char *at = text; *at; at++)
        MUST(*at > ' ' && *at <= '~');
}

static void check(const struct crash_record *record)
{
    static struct stack_names *names;
    struct stack_trace trace;
    struct report_crash_texts texts;
    struct report_event event;
    check_word(record->program, sizeof record->program);
    check_word(record->release, sizeof record->release);
    check_word(record->route, sizeof record->route);
    check_word(record->trace.request_id, sizeof record->trace.request_id);
    MUST(record->signal > 0 && record->signal < 65 && record->time_ms >= 0);
    MUST(record->frame_count <= STACK_DEPTH && record->image_count <= CRASH_IMAGES);
    for (size_t i = 0; i < record->image_count; i++) {
        check_word(record->images[i].file, sizeof record->images[i].file);
        check_word(record->images[i].build_id, sizeof record->images[i].build_id);
    }
    if (!names)
        names = stack_names_new(true);
    MUST(names);
    stack_names_crash(names, record, &trace);
    MUST(trace.frame_count >= record->frame_count);
    report_crash_describe(record, &trace, &texts, &event);
    MUST(*event.type && *event.operation && event.value.len > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct crash_record record;
    struct buf sealed;
    const struct str text = {(const char *)bytes, size};
    if (crash_record_parse(text, &record))
        check(&record);
    buf_init(&sealed, size + 64);
    buf_append_str(&sealed, text);
    buf_printf(&sealed, "end %016jx\n", (uintmax_t)crash_record_hash(text));
    if (!sealed.failed && crash_record_parse(buf_str(&sealed), &record))
        check(&record);
    buf_release(&sealed);
    return 0;
}
