#include "check.h"
#include "observe/trace.h"

#define VALID "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void fill_with(void *target, size_t len, int byte)
{
    memset(target, byte, len);
}

static void random_zero(const struct clock *clock, void *target, size_t len)
{
    (void)clock;
    fill_with(target, len, 0);
}

static void random_ab(const struct clock *clock, void *target, size_t len)
{
    (void)clock;
    fill_with(target, len, 0xab);
}

static const struct clock clock_zero = {.random = random_zero};
static const struct clock clock_ab = {.random = random_ab};

TEST(trace, continues_a_well_formed_traceparent_only)
{
    static const struct {
        const char *name;
        const char *header;
        bool continued;
        int flags;
    } rows[] = {
        {"sampled", VALID, true, 1},
        {"not sampled", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true, 0},
        {"unknown flags", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", true, 1},
        {"later version", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true, 1},
        {"later version, longer", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
         true, 1},
        {"later version, no dash", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
         false, 1},
        {"version 00, longer", VALID "-what", false, 1},
        {"version 00, dash", VALID "-", false, 1},
        {"version ff", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false, 1},
        {"upper case", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false, 1},
        {"zero trace", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", false, 1},
        {"zero span", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false, 1},
        {"not hex", "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", false, 1},
        {"bad flags", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", false, 1},
        {"bad version", "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false, 1},
        {"other dashes", "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", false, 1},
        {"space before", " " VALID, false, 1},
        {"short", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false, 1},
        {"empty", "", false, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct trace trace;
        trace_start(&trace, &clock_ab, STR("id"), str_of(rows[i].header));
        CHECK_STR_ROW(rows[i].name, str_of(trace.trace_id),
                      rows[i].continued ? "4bf92f3577b34da6a3ce929d0e0e4736"
                                        : "abababababababababababababababab");
        CHECK_STR_ROW(rows[i].name, str_of(trace.parent_id),
                      rows[i].continued ? "00f067aa0ba902b7" : "");
        CHECK_STR_ROW(rows[i].name, str_of(trace.span_id), "abababababababab");
        CHECK_INT_ROW(rows[i].name, trace.flags, rows[i].flags);
    }
}

TEST(trace, keeps_a_request_id_of_the_allowed_characters_only)
{
    static const char longest[] =
        "0123456789012345678901234567890123456789012345678901234567890123";
    static const char too_long[] =
        "01234567890123456789012345678901234567890123456789012345678901234";
    static const struct {
        const char *name;
        struct str id;
        bool kept;
    } rows[] = {
        {"all kinds", {"aZ09._-", 7}, true}, {"one", {"x", 1}, true},
        {"longest", {longest, 64}, true},    {"too long", {too_long, 65}, false},
        {"empty", {"", 0}, false},           {"missing", {NULL, 0}, false},
        {"newline", {"a\nb", 3}, false},     {"NUL", {"a\0b", 3}, false},
        {"space", {"a b", 3}, false},        {"quote", {"a\"b", 3}, false},
        {"slash", {"a/b", 3}, false},        {"not ASCII", {"\xc3\xa9", 2}, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct trace trace;
        trace_start(&trace, &clock_ab, rows[i].id, STR(""));
        char want[LIMIT_REQUEST_ID_BYTES + 1] = "abababababababababababababababab";
        if (rows[i].kept)
            snprintf(want, sizeof want, "%.*s", (int)rows[i].id.len, rows[i].id.data);
        CHECK_STR_ROW(rows[i].name, str_of(trace.request_id), want);
    }
}

TEST(trace, ids_are_never_all_zero)
{
    struct trace trace;
    trace_start(&trace, &clock_zero, STR(""), STR(""));
    CHECK_TEXT(trace.trace_id, "00000000000000000000000000000001");
    CHECK_TEXT(trace.span_id, "0000000000000001");
}

TEST(trace, ids_of_two_requests_differ)
{
    struct trace one;
    struct trace two;
    trace_start(&one, &clock_system, STR(""), STR(""));
    trace_start(&two, &clock_system, STR(""), STR(""));
    CHECK(strcmp(one.trace_id, two.trace_id) != 0);
    CHECK(strcmp(one.span_id, two.span_id) != 0);
    CHECK(strcmp(one.request_id, two.request_id) != 0);
    CHECK(strcmp(one.trace_id, one.request_id) != 0);
}

TEST(trace, header_names_our_span)
{
    struct trace trace;
    char header[TRACEPARENT_LENGTH + 1];
    trace_start(&trace, &clock_ab, STR(""), STR(VALID));
    trace_header(&trace, header);
    CHECK_TEXT(header, "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-01");
    trace_start(&trace, &clock_ab, STR(""),
                STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"));
    trace_header(&trace, header);
    CHECK_TEXT(header, "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-00");
}
