#include "http/range_condition.h"

#include "check.h"

#define MODIFIED 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define MODIFIED_DATE "Sun, 06 Nov 1994 08:49:37 GMT"
#define EARLIER_DATE "Sun, 06 Nov 1994 08:49:36 GMT"
#define LATER_DATE "Mon, 07 Nov 1994 00:00:00 GMT"

static const struct validators validators = {
    .etag = {"abc", 3}, .other_etag = {"v7", 2}, .modified_seconds = MODIFIED};

struct header {
    const char *name, *value;
};

static void set_header(struct request *request, const char *name, const char *value)
{
    if (name)
        request->headers[request->header_count++] =
            (struct request_header){str_of(name), str_of(value)};
}

static struct request make_request(enum http_method method, struct header first,
                                   struct header second)
{
    struct request request = {.method = method};
    set_header(&request, first.name, first.value);
    set_header(&request, second.name, second.value);
    return request;
}

TEST(condition, abuse_70_and_71_one_header_at_a_time)
{
    static const struct {
        struct header header;
        enum condition get, change;
    } rows[] = {
        {{NULL, NULL}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MATCH", "\"abc\""}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MATCH", "\"v7\""}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MATCH", "*"}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MATCH", "\"x\" , \"abc\""}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MATCH", ", ,\"abc\",,"}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MATCH", "\"a,b\",\"abc\""}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MATCH", "\"x\""}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_MATCH", "W/\"abc\""}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_MATCH", "\"ABC\""}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_MATCH", "abc"}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_MATCH", ""}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_MATCH", "\"\""}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_MATCH", "\"abc\" garbage"}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_MATCH", "\"abc"}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_MATCH", "\"abc\", *"}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_NONE_MATCH", "\"abc\""}, CONDITION_NOT_MODIFIED, CONDITION_FAILED},
        {{"IF_NONE_MATCH", "W/\"abc\""}, CONDITION_NOT_MODIFIED, CONDITION_FAILED},
        {{"IF_NONE_MATCH", "\"x\", W/\"v7\""}, CONDITION_NOT_MODIFIED, CONDITION_FAILED},
        {{"IF_NONE_MATCH", "*"}, CONDITION_NOT_MODIFIED, CONDITION_FAILED},
        {{"IF_NONE_MATCH", "\"x\""}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_NONE_MATCH", "w/\"abc\""}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_NONE_MATCH", "\"a b\", \"abc\""}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_NONE_MATCH", "garbage"}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MODIFIED_SINCE", MODIFIED_DATE}, CONDITION_NOT_MODIFIED, CONDITION_PASS},
        {{"IF_MODIFIED_SINCE", LATER_DATE}, CONDITION_NOT_MODIFIED, CONDITION_PASS},
        {{"IF_MODIFIED_SINCE", "Sunday, 06-Nov-94 08:49:37 GMT"},
         CONDITION_NOT_MODIFIED,
         CONDITION_PASS},
        {{"IF_MODIFIED_SINCE", EARLIER_DATE}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_MODIFIED_SINCE", "yesterday"}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_UNMODIFIED_SINCE", MODIFIED_DATE}, CONDITION_PASS, CONDITION_PASS},
        {{"IF_UNMODIFIED_SINCE", EARLIER_DATE}, CONDITION_FAILED, CONDITION_FAILED},
        {{"IF_UNMODIFIED_SINCE", "yesterday"}, CONDITION_PASS, CONDITION_PASS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct header none = {NULL, NULL};
        const char *label = rows[i].header.value;
        struct request request = make_request(METHOD_GET, rows[i].header, none);
        CHECK_INT_ROW(label, condition_evaluate(&request, &validators), rows[i].get);
        request.method = METHOD_HEAD;
        CHECK_INT_ROW(label, condition_evaluate(&request, &validators), rows[i].get);
        request.method = METHOD_DELETE;
        CHECK_INT_ROW(label, condition_evaluate(&request, &validators), rows[i].change);
    }
}

TEST(condition, tags_win_over_dates_and_if_match_comes_first)
{
    static const struct {
        struct header first, second;
        enum condition want;
    } rows[] = {
        {{"IF_MATCH", "\"abc\""}, {"IF_UNMODIFIED_SINCE", EARLIER_DATE}, CONDITION_PASS},
        {{"IF_NONE_MATCH", "\"x\""}, {"IF_MODIFIED_SINCE", LATER_DATE}, CONDITION_PASS},
        {{"IF_NONE_MATCH", "garbage"}, {"IF_MODIFIED_SINCE", LATER_DATE}, CONDITION_PASS},
        {{"IF_NONE_MATCH", "\"abc\""}, {"IF_MATCH", "\"x\""}, CONDITION_FAILED},
        {{"IF_NONE_MATCH", "\"abc\""}, {"IF_MATCH", "\"abc\""}, CONDITION_NOT_MODIFIED},
        {{"IF_UNMODIFIED_SINCE", LATER_DATE}, {"IF_NONE_MATCH", "*"}, CONDITION_NOT_MODIFIED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct request request = make_request(METHOD_GET, rows[i].first, rows[i].second);
        CHECK_INT_ROW(rows[i].second.value, condition_evaluate(&request, &validators),
                      rows[i].want);
    }
}

TEST(condition, an_absent_second_tag_matches_nothing)
{
    const struct validators one = {.etag = STR("abc"), .modified_seconds = MODIFIED};
    const struct header none = {NULL, NULL};
    const struct request request =
        make_request(METHOD_PATCH, (struct header){"IF_MATCH", "\"\""}, none);
    CHECK_INT(condition_evaluate(&request, &one), CONDITION_FAILED);
}

static struct range evaluate(const char *range, const char *if_range, int64_t size)
{
    const struct request request =
        make_request(METHOD_GET, (struct header){range ? "RANGE" : NULL, range},
                     (struct header){if_range ? "IF_RANGE" : NULL, if_range});
    return range_evaluate(&request, &validators, size);
}

static void check_range(const char *label, struct range range, struct range want)
{
    CHECK_INT_ROW(label, range.kind, want.kind);
    CHECK_INT_ROW(label, range.first, want.first);
    CHECK_INT_ROW(label, range.last, want.last);
}

TEST(range, abuse_66_one_satisfiable_range_is_cut_to_the_size)
{
    static const struct {
        const char *value;
        int64_t first, last;
    } rows[] = {
        {"bytes=0-4", 0, 4},
        {"bytes=0-0", 0, 0},
        {"bytes=9-9", 9, 9},
        {"bytes=9-", 9, 9},
        {"bytes=0-", 0, 9},
        {"bytes=5-99", 5, 9},
        {"bytes=0-10", 0, 9},
        {"bytes=-1", 9, 9},
        {"bytes=-10", 0, 9},
        {"bytes=-11", 0, 9},
        {"BYTES=2-3", 2, 3},
        {"bytes=007-008", 7, 8},
        {"bytes=-9223372036854775807", 0, 9},
        {"bytes=0-9223372036854775806", 0, 9},
        {"bytes= 1-2 ", 1, 2},
        {"bytes=,1-2,", 1, 2},
        {" bytes=1-2", 1, 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_range(rows[i].value, evaluate(rows[i].value, NULL, 10),
                    (struct range){RANGE_ONE, rows[i].first, rows[i].last, false});
}

TEST(range, numbers_beyond_2_63_saturate)
{
    static const struct {
        const char *value;
        int64_t first, last;
        bool is_saturated;
    } rows[] = {
        {"bytes=0-9223372036854775806", 0, 9, false},
        {"bytes=0-9223372036854775807", 0, 9, true},
        {"bytes=0-9223372036854775808", 0, 9, true},
        {"bytes=3-18446744073709551616", 3, 9, true},
        {"bytes=0-99999999999999999999", 0, 9, true},
        {"bytes=-9223372036854775808", 0, 9, true},
        {"bytes=-99999999999999999999999999999999999999999", 0, 9, true},
        {"bytes=00000000000000000000000000000001-2", 1, 2, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct range range = evaluate(rows[i].value, NULL, 10);
        check_range(rows[i].value, range,
                    (struct range){RANGE_ONE, rows[i].first, rows[i].last, false});
        CHECK_ROW(rows[i].value, range.is_saturated == rows[i].is_saturated);
    }
}

TEST(range, abuse_67_what_the_gateway_would_refuse_is_unsatisfiable)
{
    static const char *const rows[] = {
        "bytes=10-",
        "bytes=10-11",
        "bytes=5-4",
        "bytes=-0",
        "bytes=abc",
        "bytes=",
        "bytes=-",
        "bytes=1",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1-2-3",
        "bytes=1 - 2",
        "bytes=1-2x",
        "bytes=,",
        "bytes=9223372036854775808-",
        "bytes=9223372036854775808-9223372036854775807",
        "bytes=99999999999999999999-99999999999999999999",
        "bytes=1.0-2",
        "bytes=10-20,30-",
        "bytes=a,b",
        "bytes=-0,-0",
    };
    const struct range want = {.kind = RANGE_UNSATISFIABLE};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_range(rows[i], evaluate(rows[i], NULL, 10), want);
}

TEST(range, abuse_27_of_an_empty_file_none_is_satisfiable)
{
    static const char *const rows[] = {"bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"};
    const struct range want = {.kind = RANGE_UNSATISFIABLE};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_range(rows[i], evaluate(rows[i], NULL, 0), want);
}

TEST(range, abuse_68_several_are_told_apart)
{
    static const char *const rows[] = {
        "bytes=0-1,3-4", "bytes=0-1, 0-1", "bytes=0-1,99-", "bytes=99-,-1", "bytes=x,0-1",
    };
    const struct range want = {.kind = RANGE_MULTIPLE};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_range(rows[i], evaluate(rows[i], NULL, 10), want);
}

TEST(range, abuse_69_another_unit_or_no_range_gives_the_whole)
{
    static const char *const rows[] = {NULL,        "",    "items=0-4", "bytes",
                                       "bytes 0-4", "0-4", "bytes =0-4"};
    const struct range want = {.kind = RANGE_NONE};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_range(rows[i], evaluate(rows[i], NULL, 10), want);
}

TEST(range, abuse_69_if_range_must_match_strongly)
{
    static const struct {
        const char *value;
        bool holds;
    } rows[] = {
        {"\"abc\"", true},         {" \"abc\" ", true}, {MODIFIED_DATE, true}, {"W/\"abc\"", false},
        {"\"v7\"", false},         {"\"x\"", false},    {"abc", false},        {"*", false},
        {EARLIER_DATE, false},     {LATER_DATE, false}, {"garbage", false},    {"", false},
        {"\"abc\", \"x\"", false}, {"\"abc\"x", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_INT_ROW(rows[i].value, evaluate("bytes=0-4", rows[i].value, 10).kind,
                      rows[i].holds ? RANGE_ONE : RANGE_NONE);
        CHECK_INT_ROW(rows[i].value, evaluate("bytes=99-", rows[i].value, 10).kind,
                      rows[i].holds ? RANGE_UNSATISFIABLE : RANGE_NONE);
    }
}

TEST(range, only_get_has_ranges)
{
    const struct header none = {NULL, NULL};
    struct request request = make_request(METHOD_HEAD, (struct header){"RANGE", "bytes=99-"}, none);
    CHECK_INT(range_evaluate(&request, &validators, 10).kind, RANGE_NONE);
    request.method = METHOD_POST;
    CHECK_INT(range_evaluate(&request, &validators, 10).kind, RANGE_NONE);
}
