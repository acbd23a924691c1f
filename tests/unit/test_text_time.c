#include <stdio.h>

#include "base/text.h"
#include "check.h"

TEST(text, time_is_written_with_milliseconds)
{
    static const struct {
        int64_t in;
        const char *want;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {999, "1970-01-01T00:00:00.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {1795255200123, "2026-11-21T10:00:00.123Z"},
        {4107542399999, "2100-02-28T23:59:59.999Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {253402300800000, "9999-12-31T23:59:59.999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
        {-1, "1970-01-01T00:00:00.000Z"},
        {INT64_MIN, "1970-01-01T00:00:00.000Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[TEXT_TIME_SIZE];
        text_time(rows[i].in, text);
        CHECK_TEXT(text, rows[i].want);
    }
}

TEST(text, parse_time_reads_rfc_3339)
{
    static const struct {
        const char *in;
        bool ok;
        int64_t want;
    } rows[] = {
        {"2026-11-21T10:00:00.123Z", true, 1795255200123},
        {"2026-11-21T10:00:00Z", true, 1795255200000},
        {"2026-11-21t10:00:00z", true, 1795255200000},
        {"2026-11-21T12:30:00.1+02:30", true, 1795255200100},
        {"2026-11-20T22:00:00.12-12:00", true, 1795255200120},
        {"2026-11-21T10:00:00.123999999Z", true, 1795255200123},
        {"2026-11-21T10:00:00-00:00", true, 1795255200000},
        {"1970-01-01T00:00:00Z", true, 0},
        {"1970-01-01T00:00:00+00:01", false, 0},
        {"1969-12-31T23:59:59Z", false, 0},
        {"9999-12-31T23:59:59.999Z", true, 253402300799999},
        {"9999-12-31T23:59:59-00:01", false, 0},
        {"2024-02-29T00:00:00Z", true, 1709164800000},
        {"2023-02-29T00:00:00Z", false, 0},
        {"2100-02-29T00:00:00Z", false, 0},
        {"2000-02-29T00:00:00Z", true, 951782400000},
        {"2016-12-31T23:59:60Z", true, 1483228800000},
        {"2017-01-01T01:59:60+02:00", true, 1483228800000},
        {"2016-12-31T12:00:60Z", false, 0},
        {"2026-11-21T10:00:61Z", false, 0},
        {"2026-11-21T24:00:00Z", false, 0},
        {"2026-11-21T10:60:00Z", false, 0},
        {"2026-00-21T10:00:00Z", false, 0},
        {"2026-13-21T10:00:00Z", false, 0},
        {"2026-11-00T10:00:00Z", false, 0},
        {"2026-11-31T10:00:00Z", false, 0},
        {"2026-11-21T10:00:00", false, 0},
        {"2026-11-21 10:00:00Z", false, 0},
        {"2026-11-21T10:00:00.Z", false, 0},
        {"2026-11-21T10:00:00.1234567890Z", false, 0},
        {"2026-11-21T10:00:00,5Z", false, 0},
        {"2026-11-21T10:00:00+24:00", false, 0},
        {"2026-11-21T10:00:00+02:60", false, 0},
        {"2026-11-21T10:00:00+0200", false, 0},
        {"2026-11-21T10:00Z", false, 0},
        {"2026-11-21", false, 0},
        {"2026-11-21T10:00:00ZZ", false, 0},
        {" 2026-11-21T10:00:00Z", false, 0},
        {"+026-11-21T10:00:00Z", false, 0},
        {"12026-11-21T10:00:00Z", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t ms = -77;
        CHECK_ROW(rows[i].in, text_parse_time(str_of(rows[i].in), &ms) == rows[i].ok);
        CHECK_INT_ROW(rows[i].in, ms, rows[i].ok ? rows[i].want : -77);
    }
}

TEST(text, times_agree_with_the_c_library_and_come_back)
{
    /* Every 9.3 days over 8,000 years. */
    for (int64_t seconds = 0; seconds < INT64_C(253402300800); seconds += 803517) {
        char got[TEXT_TIME_SIZE];
        char want[TEXT_TIME_SIZE];
        char got_http[TEXT_HTTP_DATE_SIZE];
        char want_http[TEXT_HTTP_DATE_SIZE];
        struct tm parts;
        time_t moment = (time_t)seconds;
        int64_t back = -1;
        int64_t back_http = -1;
        gmtime_r(&moment, &parts);
        strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S.000Z", &parts);
        strftime(want_http, sizeof want_http, "%a, %d %b %Y %H:%M:%S GMT", &parts);
        text_time(seconds * 1000, got);
        text_http_date(seconds, got_http);
        bool is_same = strcmp(got, want) == 0 && strcmp(got_http, want_http) == 0 &&
                       text_parse_time(str_of(got), &back) && back == seconds * 1000 &&
                       text_parse_http_date(str_of(got_http), &back_http) && back_http == seconds;
        if (!is_same) {
            CHECK_ROW(want_http, is_same);
            return;
        }
    }
}

TEST(text, http_date_is_written_as_fixdate)
{
    char text[TEXT_HTTP_DATE_SIZE];
    text_http_date(784111777, text);
    CHECK_TEXT(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    text_http_date(-1, text);
    CHECK_TEXT(text, "Thu, 01 Jan 1970 00:00:00 GMT");
    text_http_date(INT64_MAX, text);
    CHECK_TEXT(text, "Fri, 31 Dec 9999 23:59:59 GMT");
}

TEST(text, parse_http_date_reads_the_three_forms)
{
    static const struct {
        const char *in;
        bool ok;
        int64_t want;
    } rows[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", true, 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", true, 784111777},
        {"Sun Nov  6 08:49:37 1994", true, 784111777},
        {"Sat Nov 26 08:49:37 1994", true, 785839777},
        {"Saturday, 01-Jan-00 00:00:00 GMT", true, 946684800},
        {"Tuesday, 31-Dec-69 00:00:00 GMT", true, 3155673600},
        {"Thursday, 01-Jan-70 00:00:00 GMT", true, 0},
        {"Wed, 31 Dec 1969 23:59:59 GMT", true, -1},
        {"Mon, 01 Jan 1900 00:00:00 GMT", true, -2208988800},
        {"Sat, 31 Dec 2016 23:59:60 GMT", true, 1483228800},
        {"Sun, 06 Nov 1994 08:49:60 GMT", false, 0},
        {"Sun, 6 Nov 1994 08:49:37 GMT", false, 0},
        {"sun, 06 nov 1994 08:49:37 GMT", false, 0},
        {"Sun, 06 Nov 1994 08:49:37 UTC", false, 0},
        {"Sun, 06 Nov 1994 08:49:37 +0000", false, 0},
        {"Sun, 06 Nov 1994 08:49:37", false, 0},
        {"Sun, 06 Nov 1994 08:49:37 GMT ", false, 0},
        {"Sun, 06 Nov 94 08:49:37 GMT", false, 0},
        {"Sun, 31 Feb 1994 08:49:37 GMT", false, 0},
        {"Sun, 06 Foo 1994 08:49:37 GMT", false, 0},
        {"Foo, 06 Nov 1994 08:49:37 GMT", false, 0},
        {"Sun, 06 Nov 1994 25:49:37 GMT", false, 0},
        {"Sunday, 06-Nov-1994 08:49:37 GMT", false, 0},
        {"Sun Nov 6 08:49:37 1994", false, 0},
        {"Sun Nov  6 08:49:37 1994 GMT", false, 0},
        {"1994-11-06T08:49:37Z", false, 0},
        {"0", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t seconds = -77;
        CHECK_ROW(rows[i].in, text_parse_http_date(str_of(rows[i].in), &seconds) == rows[i].ok);
        CHECK_INT_ROW(rows[i].in, seconds, rows[i].ok ? rows[i].want : -77);
    }
}
