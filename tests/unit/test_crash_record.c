#include "observe/crash_handler.h"

#include <stdio.h>
#include <string.h>

#include "check.h"

static const struct image program = {0x5000, 0x1000, "",
                                     "0123456789abcdef0123456789abcdef01234567"};
static const struct image library = {0x9000, 0x2000, "/lib/a library.so", ""};
static const struct trace trace = {.request_id = "the.request",
                                   .trace_id = "0123456789abcdef0123456789abcdef",
                                   .span_id = "fedcba9876543210"};

static void write_all(struct crash_text *text)
{
    crash_text_begin(text, "files_get", 1795261710323);
    crash_text_signal(text, 6, -6, 0);
    crash_text_request(text, &trace, "/api/files/:id");
    crash_text_image(text, &program, "/usr/bin/files_get");
    crash_text_frame(text, 0x5123);
    crash_text_image(text, &library, "/usr/bin/files_get");
    crash_text_frame(text, 0x9001);
    crash_text_end(text);
}

TEST(crash_record, is_read_as_it_was_written)
{
    static struct crash_text text;
    static struct crash_record record;
    write_all(&text);
    REQUIRE(crash_record_parse((struct str){text.bytes, text.len}, &record));
    CHECK_TEXT(record.program, "files_get");
    CHECK_TEXT(record.release, COFFER_VERSION);
    CHECK_INT(record.time_ms, 1795261710323);
    CHECK_INT(record.signal, 6);
    CHECK_INT(record.code, -6);
    CHECK(record.has_request);
    CHECK_TEXT(record.trace.request_id, "the.request");
    CHECK_TEXT(record.trace.trace_id, trace.trace_id);
    CHECK_TEXT(record.trace.span_id, trace.span_id);
    CHECK_TEXT(record.trace.parent_id, "");
    CHECK_TEXT(record.route, "/api/files/:id");
    REQUIRE(record.image_count == 2 && record.frame_count == 2);
    CHECK_TEXT(record.images[0].file, "/usr/bin/files_get");
    CHECK_TEXT(record.images[0].build_id, program.build_id);
    CHECK_TEXT(record.images[1].file, "/lib/a?library.so");
    CHECK_TEXT(record.images[1].build_id, "");
    CHECK_INT((int64_t)record.images[1].start, 0x9000);
    CHECK_INT((int64_t)record.images[1].size, 0x2000);
    CHECK_INT((int64_t)record.frames[1], 0x9001);
}

TEST(crash_record, that_is_cut_or_changed_is_refused)
{
    static struct crash_text text;
    static struct crash_record record;
    write_all(&text);
    for (size_t len = 0; len < text.len; len++)
        CHECK(!crash_record_parse((struct str){text.bytes, len}, &record));
    for (size_t at = 0; at < text.len; at++) {
        text.bytes[at] ^= 1;
        CHECK(!crash_record_parse((struct str){text.bytes, text.len}, &record));
        text.bytes[at] ^= 1;
    }
    CHECK(crash_record_parse((struct str){text.bytes, text.len}, &record));
}

static bool parse_sealed(const char *body)
{
    static struct crash_record record;
    char text[4096];
    int len = snprintf(text, sizeof text, "%send %016jx\n", body,
                       (uintmax_t)crash_record_hash(str_of(body)));
    return crash_record_parse((struct str){text, (size_t)len}, &record);
}

#define HEAD "coffer-crash 1\nprogram p\nrelease 1\ntime 1\nsignal 11 1 0x0\n"

TEST(crash_record, lines_that_are_not_as_they_should_be_are_refused)
{
    static const struct {
        const char *body;
        bool is_good;
    } rows[] = {
        {HEAD, true},
        {HEAD "frame 0x1\n", true},
        {HEAD "request a - - - /x\n", false},
        {HEAD "request - 0123456789abcdef0123456789abcdef 0123456789abcdef - -\n", true},
        {HEAD "request - 0123456789abcdef0123456789abcdeg 0123456789abcdef - -\n", false},
        {HEAD "request - 0123456789abcdef0123456789abcdef 0123456789abcde - -\n", false},
        {HEAD "frame 0x1\nrequest - 0123456789abcdef0123456789abcdef 0123456789abcdef - -\n",
         false},
        {HEAD "image 0x1 0x1 - /x\n", true},
        {HEAD "image 0x1 0x0 - /x\n", false},
        {HEAD "image 0x2 0xffffffffffffffff - /x\n", false},
        {HEAD "image 0x1 0x1 ABCD /x\n", false},
        {HEAD "image 0x1 0x1 /x\n", false},
        {HEAD "frame\n", false},
        {HEAD "frame 1\n", false},
        {HEAD "frame 0x\n", false},
        {HEAD "frame 0x11111111111111111\n", false},
        {HEAD "frame 0x1 \n", false},
        {HEAD "frame 0x1\nother\n", false},
        {HEAD "\n", false},
        {"coffer-crash 2\nprogram p\nrelease 1\ntime 1\nsignal 11 1 0x0\n", false},
        {"coffer-crash 1\nprogram \nrelease 1\ntime 1\nsignal 11 1 0x0\n", false},
        {"coffer-crash 1\nprogram p\nrelease 1\ntime -1\nsignal 11 1 0x0\n", false},
        {"coffer-crash 1\nprogram p\nrelease 1\ntime 1\nsignal 0 1 0x0\n", false},
        {"coffer-crash 1\nprogram p\nrelease 1\ntime 1\nsignal 65 1 0x0\n", false},
        {"coffer-crash 1\nprogram p\nrelease 1\ntime 1\n", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_INT_ROW(rows[i].body, parse_sealed(rows[i].body), rows[i].is_good);
}

TEST(crash_record, has_a_bound_and_ends_whole_whatever_is_written)
{
    static struct crash_text text;
    static struct crash_record record;
    char path[1024];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    const struct image image = {0x5000, 0x1000, path, ""};
    crash_text_begin(&text, "files_get", 1);
    crash_text_signal(&text, 11, 1, UINTPTR_MAX);
    for (int i = 0; i < CRASH_IMAGES; i++)
        crash_text_image(&text, &image, "");
    for (int i = 0; i < STACK_DEPTH; i++)
        crash_text_frame(&text, UINTPTR_MAX);
    crash_text_end(&text);
    REQUIRE(crash_record_parse((struct str){text.bytes, text.len}, &record));
    CHECK_INT((int64_t)record.frame_count, STACK_DEPTH);
    CHECK_INT((int64_t)record.image_count, CRASH_IMAGES);
    CHECK_INT((int64_t)strlen(record.images[0].file), CRASH_FILE_SIZE - 1);
    crash_text_begin(&text, path, 1);
    crash_text_signal(&text, 11, 1, 0);
    for (int i = 0; i < 10000; i++)
        crash_text_image(&text, &image, "");
    crash_text_end(&text);
    CHECK(text.len <= CRASH_RECORD_MAX && text.bytes[text.len - 1] == '\n');
    CHECK(memcmp(text.bytes + text.len - 21, "end ", 4) == 0);
}

TEST(crash_record, a_line_that_was_not_completed_is_left_out)
{
    static struct crash_text text;
    static struct crash_record record;
    crash_text_begin(&text, "files_get", 1);
    crash_text_signal(&text, 11, 1, 0);
    crash_text_frame(&text, 0x1234);
    memcpy(text.bytes + text.len, "frame 0x12", 10); /* as if the handler had faulted here */
    text.len += 10;
    crash_text_end(&text);
    REQUIRE(crash_record_parse((struct str){text.bytes, text.len}, &record));
    CHECK_INT((int64_t)record.frame_count, 1);
}
