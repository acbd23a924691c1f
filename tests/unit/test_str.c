#include <stdlib.h>

#include "check.h"

TEST(str, equal_compares_length_and_bytes)
{
    CHECK(str_equal(STR("abc"), STR("abc")));
    CHECK(!str_equal(STR("abc"), STR("abd")));
    CHECK(!str_equal(STR("abc"), STR("ab")));
    CHECK(str_equal(STR("a\0b"), STR("a\0b")));
    CHECK(!str_equal(STR("a\0b"), STR("a\0c")));
    CHECK(str_equal((struct str){NULL, 0}, STR("")));
    CHECK(!str_equal(STR("A"), STR("a")));
}

TEST(str, equal_nocase_folds_ascii_only)
{
    CHECK(str_equal_nocase(STR("Content-TYPE"), STR("content-type")));
    CHECK(!str_equal_nocase(STR("abc"), STR("abcd")));
    CHECK(!str_equal_nocase(STR("[\\]"), STR("{|}")));
    CHECK(!str_equal_nocase(STR("\xC4"), STR("\xE4")));
}

TEST(str, starts_with)
{
    CHECK(str_starts_with(STR("Bearer x"), STR("Bearer ")));
    CHECK(str_starts_with(STR("x"), STR("")));
    CHECK(str_starts_with((struct str){NULL, 0}, STR("")));
    CHECK(!str_starts_with(STR("Bear"), STR("Bearer ")));
    CHECK(!str_starts_with(STR("bearer x"), STR("Bearer ")));
}

TEST(str, trim_takes_spaces_and_tabs_only)
{
    static const struct {
        const char *name, *in, *want;
    } rows[] = {
        {"none", "ab", "ab"},
        {"both ends", " \tab\t ", "ab"},
        {"inner stays", " a b ", "a b"},
        {"only blanks", " \t ", ""},
        {"empty", "", ""},
        {"line end stays", "a\r\n", "a\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_STR_ROW(rows[i].name, str_trim(str_of(rows[i].in)), rows[i].want);
}

TEST(str, cut_gives_what_stands_before_the_byte)
{
    static const struct {
        const char *name, *in, *head, *rest;
    } rows[] = {
        {"in the middle", "a=b=c", "a", "b=c"},
        {"at the start", "=b", "", "b"},
        {"at the end", "a=", "a", ""},
        {"not there", "ab", "ab", ""},
        {"empty", "", "", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct str rest = str_of(rows[i].in);
        CHECK_STR_ROW(rows[i].name, str_cut(&rest, '='), rows[i].head);
        CHECK_STR_ROW(rows[i].name, rest, rows[i].rest);
    }
    struct str none = {NULL, 0};
    CHECK_INT((int64_t)str_cut(&none, '=').len, 0);
    CHECK_INT((int64_t)str_find((struct str){NULL, 0}, 'x'), 0);
}

TEST(str, copy_fits_or_fails)
{
    char target[4] = "zzz";
    CHECK(str_copy(target, sizeof target, STR("abc")));
    CHECK_TEXT(target, "abc");
    CHECK(!str_copy(target, sizeof target, STR("abcd")));
    CHECK_TEXT(target, "");
    CHECK(!str_copy(target, sizeof target, STR("a\0b")));
    CHECK_TEXT(target, "");
    CHECK(str_copy(target, sizeof target, (struct str){NULL, 0}));
    CHECK_TEXT(target, "");
    CHECK(!str_copy(target, 0, STR("")));
}

TEST(str, buf_holds_exactly_its_maximum)
{
    struct buf buf;
    buf_init(&buf, 5);
    CHECK_TEXT(buf_text(&buf), "");
    buf_append_text(&buf, "abc");
    buf_append_char(&buf, 'd');
    buf_append_text(&buf, "e");
    CHECK(!buf.failed);
    CHECK_TEXT(buf_text(&buf), "abcde");
    buf_append_char(&buf, 'f');
    CHECK(buf.failed);
    CHECK_TEXT(buf_text(&buf), "abcde");
    CHECK(buf.cap <= 6);
    buf_release(&buf);
}

TEST(str, buf_after_a_failure_takes_nothing_until_reset)
{
    struct buf buf;
    buf_init(&buf, 4);
    buf_append_text(&buf, "abc");
    buf_append_text(&buf, "too much");
    buf_append_text(&buf, "d"); /* would fit, but would leave a hole in the text */
    CHECK_TEXT(buf_text(&buf), "abc");
    buf_reset(&buf);
    CHECK_TEXT(buf_text(&buf), "");
    buf_append_text(&buf, "wxyz");
    CHECK(!buf.failed);
    CHECK_TEXT(buf_text(&buf), "wxyz");
    buf_release(&buf);
    CHECK(buf.data == NULL);
    CHECK_INT((int64_t)buf.max, 4);
    buf_append_text(&buf, "back");
    CHECK_STR(buf_str(&buf), "back");
    buf_release(&buf);
}

TEST(str, buf_printf_grows_and_respects_the_maximum)
{
    struct buf buf;
    buf_init(&buf, 200);
    for (int i = 0; i < 20; i++)
        buf_printf(&buf, "%d,%s;", i, "xyz");
    CHECK(!buf.failed);
    CHECK_INT((int64_t)buf.len, 10 * 6 + 10 * 7);
    CHECK(str_starts_with(buf_str(&buf), STR("0,xyz;1,xyz;2,xyz;")));
    buf_printf(&buf, "%0100d", 1);
    CHECK(buf.failed);
    CHECK_INT((int64_t)buf.len, 130);
    CHECK_INT((int64_t)strlen(buf_text(&buf)), 130);
    buf_release(&buf);
}

TEST(str, buf_takes_much_at_once)
{
    static char bytes[5000];
    struct buf buf;
    memset(bytes, 'x', sizeof bytes);
    buf_init(&buf, 1024 * 1024);
    buf_append_char(&buf, 'a');
    buf_append(&buf, bytes, sizeof bytes);
    CHECK(buf.cap > buf.len);
    CHECK_INT((int64_t)strlen(buf_text(&buf)), 5001);
    buf_release(&buf);
}

TEST(str, buf_append_int_writes_the_whole_range)
{
    struct buf buf;
    buf_init(&buf, 100);
    buf_append_int(&buf, INT64_MIN);
    buf_append_char(&buf, ' ');
    buf_append_int(&buf, INT64_MAX);
    CHECK_TEXT(buf_text(&buf), "-9223372036854775808 9223372036854775807");
    buf_release(&buf);
}

TEST(str, buf_keeps_bytes_as_they_are)
{
    struct buf buf;
    buf_init(&buf, 1024 * 1024);
    for (int i = 0; i < 4096; i++)
        buf_append(&buf, "\0\xFF\n", 3);
    buf_append(&buf, NULL, 0);
    REQUIRE(buf.len == 3 * 4096);
    for (size_t i = 0; i < buf.len; i += 3)
        CHECK(memcmp(buf.data + i, "\0\xFF\n", 3) == 0);
    CHECK_INT(buf.data[buf.len], 0);
    buf_release(&buf);
}

TEST(str, buf_without_a_sensible_maximum_still_checks_sizes)
{
    struct buf buf;
    buf_init(&buf, SIZE_MAX);
    buf_append_text(&buf, "abc");
    buf_append(&buf, "", SIZE_MAX - 2);
    CHECK(buf.failed);
    CHECK_TEXT(buf_text(&buf), "abc");
    buf_release(&buf);
}
