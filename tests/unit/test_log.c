/* What a line of the log looks like; where it goes is in test_log_sink.c. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "log_file.h"
#include "observe/log.h"

#define LONG_TEXT 20000

/* The message member as it stands in the only line of the file, still escaped. */
static struct str raw_message(const struct buf *text)
{
    static const char before[] = "\"message\":\"";
    static const char after[] = "\",\"ecs.version\"";
    const char *start = strstr(buf_text(text), before);
    const char *end = start ? strstr(start, after) : NULL;
    if (!end)
        return STR("(no message)");
    start += sizeof before - 1;
    return (struct str){start, (size_t)(end - start)};
}

TEST(log, members_stand_in_the_order_of_the_header)
{
    struct log_file file = log_file_open();
    struct trace trace = {.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"};
    struct log_field fields[] = {
        LOG_FIELD_STR("http.request.method", STR("GET")),
        LOG_FIELD_INT("http.response.status_code", 200),
        LOG_FIELD_STR("url.path", STR("/api/files")),
        LOG_FIELD_INT("event.duration", INT64_MIN),
        LOG_FIELD_INT("zero", 0),
    };
    log_write(file.log, ERR_LEVEL_WARN, &trace, "answered", (struct log_fields){fields, 5});
    log_write(file.log, ERR_LEVEL_INFO, NULL, "started", LOG_NO_FIELDS);
    struct buf text = log_file_written(&file);
    char host[65] = "";
    char same[128];
    char want[2048];
    CHECK_INT(gethostname(host, 64), 0);
    snprintf(same, sizeof same, "\"host.name\":\"%s\",\"process.pid\":%ld,", host, (long)getpid());
    snprintf(want, sizeof want,
             "{\"@timestamp\":\"2026-11-21T10:00:00.123Z\",\"log.level\":\"warn\","
             "\"message\":\"answered\",\"ecs.version\":\"8.11.0\","
             "\"service.name\":\"coffer-files_get\","
             "\"service.environment\":\"test\",\"level\":\"warn\","
             "\"service\":\"coffer-files_get\",%s"
             "\"event.id\":\"abababababababab0000000000000000\","
             "\"trace.id\":\"4bf92f3577b34da6a3ce929d0e0e4736\","
             "\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\","
             "\"http.request.method\":\"GET\",\"http.response.status_code\":200,"
             "\"url.path\":\"/api/files\",\"event.duration\":-9223372036854775808,"
             "\"zero\":0}\n"
             "{\"@timestamp\":\"2026-11-21T10:00:00.123Z\",\"log.level\":\"info\","
             "\"message\":\"started\",\"ecs.version\":\"8.11.0\","
             "\"service.name\":\"coffer-files_get\","
             "\"service.environment\":\"test\",\"level\":\"info\","
             "\"service\":\"coffer-files_get\",%s"
             "\"event.id\":\"abababababababab0000000000000001\"}\n",
             same, same);
    CHECK_STR(buf_str(&text), want);
    buf_release(&text);
    log_close(file.log);
}

TEST(log, strings_are_escaped)
{
    static const struct {
        const char *name;
        const char *in;
        const char *want;
    } rows[] = {
        {"plain", "a b ~ 1/2", "a b ~ 1/2"},
        {"forged line", "x\n{\"level\":\"error\"}", "x\\n{\\\"level\\\":\\\"error\\\"}"},
        {"backslash", "a\\nb", "a\\\\nb"},
        {"short forms", "\b\f\r\t", "\\b\\f\\r\\t"},
        {"controls", "\x01\x1f", "\\u0001\\u001f"},
        {"ANSI", "\x1b[31mred", "\\u001b[31mred"},
        {"DEL", "a\x7f", "a\\u007f"},
        {"C1",
         "a\xc2\x9b"
         "1m",
         "a\\u009b1m"},
        {"first after C1", "\xc2\xa0", "\xc2\xa0"},
        {"UTF-8", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
         "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"line separators", "\xe2\x80\xa8\xe2\x80\xa9", "\\u2028\\u2029"},
        {"next to them", "\xe2\x80\xa7\xe2\x80\xaa", "\xe2\x80\xa7\xe2\x80\xaa"},
        {"stray byte",
         "a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"cut short", "a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd"},
        {"overlong", "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"surrogate", "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"empty", "", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct log_file file = log_file_open();
        log_write(file.log, ERR_LEVEL_INFO, NULL, rows[i].in, LOG_NO_FIELDS);
        struct buf text = log_file_written(&file);
        CHECK_STR_ROW(rows[i].name, raw_message(&text), rows[i].want);
        CHECK_INT_ROW(rows[i].name, log_file_check_lines(rows[i].name, buf_str(&text)), 1);
        buf_release(&text);
        log_close(file.log);
    }
}

/* Bytes from a fixed sequence: UTF-8, halves of it, quotes and controls, all mixed. */
static size_t odd_bytes(char *target, size_t max, unsigned *seed)
{
    static const char *const pieces[] = {"a",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\xff",
                                         "\xe2\x82",
                                         "\xf0\x9f",
                                         "\xf0\x9f\x98\x80",
                                         "\xe2\x80\xa8",
                                         "\xc3\xa9",
                                         "\x01"};
    size_t len = (size_t)rand_r(seed) % max;
    size_t at = 0;
    while (at < len) {
        size_t choice = (size_t)rand_r(seed) % (sizeof pieces / sizeof pieces[0] + 1);
        if (choice == sizeof pieces / sizeof pieces[0]) {
            target[at++] = (char)rand_r(seed);
            continue;
        }
        size_t piece = strlen(pieces[choice]);
        if (piece > len - at)
            piece = len - at;
        memcpy(target + at, pieces[choice], piece);
        at += piece;
    }
    target[len] = '\0';
    return len;
}

TEST(log, any_bytes_of_any_length_make_one_valid_line)
{
    static char message[LONG_TEXT];
    static char one[LONG_TEXT];
    static char two[LONG_TEXT];
    struct log_file file = log_file_open();
    unsigned seed = 1;
    const int rounds = 2000;
    for (int i = 0; i < rounds; i++) {
        size_t max = i % 2 ? LONG_TEXT : 100;
        odd_bytes(message, max, &seed);
        struct log_field fields[] = {
            LOG_FIELD_STR("one", ((struct str){one, odd_bytes(one, max, &seed)})),
            LOG_FIELD_INT("number", i),
            LOG_FIELD_STR("two", ((struct str){two, odd_bytes(two, max, &seed)})),
        };
        log_write(file.log, ERR_LEVEL_INFO, NULL, message, (struct log_fields){fields, 3});
    }
    struct buf text = log_file_written(&file);
    CHECK_INT(log_file_check_lines("random", buf_str(&text)), rounds);
    CHECK_INT((int64_t)log_dropped(file.log), 0);
    buf_release(&text);
    log_close(file.log);
}

TEST(log, long_strings_are_cut_on_a_code_point_and_keep_room_for_what_follows)
{
    static char text_of[4][LONG_TEXT + 1];
    static const char *const letters[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (int size = 1; size <= 4; size++) {
        char *letter_text = text_of[size - 1];
        for (int i = 0; i + size <= LONG_TEXT; i += size)
            memcpy(letter_text + i, letters[size - 1], (size_t)size);
        struct log_file file = log_file_open();
        struct log_field fields[] = {
            LOG_FIELD_STR("long", ((struct str){letter_text, strlen(letter_text)})),
            LOG_FIELD_INT("event.duration", 123456789),
            LOG_FIELD_STR("short", STR("kept")),
        };
        log_write(file.log, ERR_LEVEL_INFO, NULL, letter_text, (struct log_fields){fields, 3});
        struct buf text = log_file_written(&file);
        CHECK_INT_ROW(letters[size - 1], log_file_check_lines(letters[size - 1], buf_str(&text)),
                      1);
        CHECK_ROW(letters[size - 1], text.len <= LOG_LINE_MAX && text.len > LOG_LINE_MAX - 100);
        cJSON *object = cJSON_Parse(buf_text(&text));
        const char *cut = cJSON_GetStringValue(cJSON_GetObjectItem(object, "long"));
        CHECK_ROW(letters[size - 1], cut && strlen(cut) >= 124 && !strstr(cut, "\xef\xbf\xbd"));
        CHECK_ROW(letters[size - 1],
                  cJSON_GetNumberValue(cJSON_GetObjectItem(object, "event.duration")) == 123456789);
        const char *kept = cJSON_GetStringValue(cJSON_GetObjectItem(object, "short"));
        CHECK_STR_ROW(letters[size - 1], str_of(kept), "kept");
        cJSON_Delete(object);
        buf_release(&text);
        log_close(file.log);
    }
}

TEST(log, more_fields_than_fit_are_left_out_whole)
{
    struct log_file file = log_file_open();
    static struct log_field fields[500];
    for (size_t i = 0; i < 500; i++)
        fields[i] = i % 2 ? LOG_FIELD_INT("some.number", INT64_MAX)
                          : LOG_FIELD_STR("some.string", STR("0123456789012345678901234567890"));
    log_write(file.log, ERR_LEVEL_INFO, NULL, "many", (struct log_fields){fields, 500});
    struct buf text = log_file_written(&file);
    CHECK_INT(log_file_check_lines("many fields", buf_str(&text)), 1);
    CHECK(text.len > LOG_LINE_MAX / 2);
    buf_release(&text);
    log_close(file.log);
}

TEST(log, lines_below_the_level_are_not_written)
{
    static const enum err_level levels[] = {ERR_LEVEL_DEBUG, ERR_LEVEL_INFO, ERR_LEVEL_WARN,
                                            ERR_LEVEL_ERROR};
    for (int i = 0; i < 4; i++) {
        struct err err;
        char path[128];
        struct log *log = NULL;
        snprintf(path, sizeof path, "%s/test.log", check_temp_dir());
        REQUIRE(log_file_open_target(&log, path, levels[i], &err) == ERR_OK);
        for (int level = 0; level < 4; level++) {
            CHECK_INT(log_enabled(log, levels[level]), level >= i);
            log_write(log, levels[level], NULL, "x", LOG_NO_FIELDS);
        }
        CHECK(log_flush(log, 10000));
        struct buf text = log_file_read(path);
        CHECK_INT(log_file_check_lines("level", buf_str(&text)), 4 - i);
        buf_release(&text);
        log_close(log);
    }
}

TEST(log, no_log_is_allowed)
{
    log_write(NULL, ERR_LEVEL_ERROR, NULL, "x", LOG_NO_FIELDS);
    log_reopen(NULL);
    log_close(NULL);
    CHECK(!log_enabled(NULL, ERR_LEVEL_ERROR));
    CHECK_INT((int64_t)log_dropped(NULL), 0);
}
