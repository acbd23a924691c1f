/* Times without gmtime_r and timegm: those take the C library's time zone lock, which hundreds of
 * worker threads would queue for. */
#include <stdio.h>

#include "base/text.h"

#define SECONDS_PER_DAY 86400
#define LAST_SECOND INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

struct moment {
    int64_t year, month, day; /* month 1–12 */
    int64_t hour, minute, second;
};

static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char day_names[] = "SunMonTueWedThuFriSat";
static const char *const long_day_names[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                             "Thursday", "Friday", "Saturday"};

/* Days since 1970-01-01 and back, for years from 0 on: howardhinnant.github.io/date_algorithms.
 * Years begin in March there, so that the leap day is the last one. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    if (month <= 2)
        year--;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static struct moment moment_from_seconds(int64_t seconds)
{
    int64_t days = seconds / SECONDS_PER_DAY + 719468; /* since 0000-03-01 */
    int64_t second = seconds % SECONDS_PER_DAY;
    int64_t era = days / 146097;
    int64_t day_of_era = days % 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted_month = (5 * day_of_year + 2) / 153;
    int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
    return (struct moment){
        .year = year_of_era + era * 400 + (month <= 2),
        .month = month,
        .day = day_of_year - (153 * shifted_month + 2) / 5 + 1,
        .hour = second / 3600,
        .minute = second / 60 % 60,
        .second = second % 60,
    };
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && is_leap);
}

/* Seconds since 1970 of a moment `offset` seconds ahead of UTC; false when there is no such
 * moment. Second 60 exists only as the last of a UTC day (RFC 3339 §5.7). */
static bool moment_seconds(const struct moment *moment, int64_t offset, int64_t *ret_seconds)
{
    if (moment->month < 1 || moment->month > 12 || moment->day < 1 ||
        moment->day > days_in_month(moment->year, moment->month) || moment->hour > 23 ||
        moment->minute > 59 || moment->second > 60)
        return false;
    int64_t seconds = days_from_date(moment->year, moment->month, moment->day) * SECONDS_PER_DAY +
                      moment->hour * 3600 + moment->minute * 60 + moment->second - offset;
    if (moment->second == 60 && seconds % SECONDS_PER_DAY != 0)
        return false;
    *ret_seconds = seconds;
    return true;
}

static int64_t clamp(int64_t value, int64_t max)
{
    return value < 0 ? 0 : value > max ? max : value;
}

/* `count` digits and what follows them; returns where to go on. */
static char *put_digits(char *target, int count, int64_t value, char next)
{
    for (int i = count - 1; i >= 0; i--, value /= 10)
        target[i] = (char)('0' + value % 10);
    target[count] = next;
    return target + count + 1;
}

/* Without snprintf: every log line has one. */
void text_time(int64_t unix_ms, char target[TEXT_TIME_SIZE])
{
    int64_t ms = clamp(unix_ms, LAST_SECOND * 1000 + 999);
    struct moment at = moment_from_seconds(ms / 1000);
    target = put_digits(target, 4, at.year, '-');
    target = put_digits(target, 2, at.month, '-');
    target = put_digits(target, 2, at.day, 'T');
    target = put_digits(target, 2, at.hour, ':');
    target = put_digits(target, 2, at.minute, ':');
    target = put_digits(target, 2, at.second, '.');
    target = put_digits(target, 3, ms % 1000, 'Z');
    *target = '\0';
}

void text_http_date(int64_t unix_seconds, char target[TEXT_HTTP_DATE_SIZE])
{
    int64_t seconds = clamp(unix_seconds, LAST_SECOND);
    struct moment at = moment_from_seconds(seconds);
    int64_t weekday = (seconds / SECONDS_PER_DAY + 4) % 7; /* 1970 began on a Thursday */
    snprintf(target, TEXT_HTTP_DATE_SIZE, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
             day_names + 3 * weekday, (int)at.day, month_names + 3 * (at.month - 1), (int)at.year,
             (int)at.hour, (int)at.minute, (int)at.second);
}

/* Readers below take something off the front of *rest, or fail. */

static bool take_digits(struct str *rest, size_t count, int64_t *ret_value)
{
    if (rest->len < count ||
        !text_parse_int((struct str){rest->data, count}, 0, INT64_MAX, ret_value))
        return false;
    rest->data += count;
    rest->len -= count;
    return true;
}

static bool take(struct str *rest, struct str expected)
{
    if (!str_starts_with(*rest, expected))
        return false;
    rest->data += expected.len;
    rest->len -= expected.len;
    return true;
}

/* One of three-letter names written one behind the other; gives its index. */
static bool take_name(struct str *rest, const char *names, int64_t *ret_index)
{
    for (int64_t i = 0; names[3 * i]; i++) {
        if (take(rest, (struct str){names + 3 * i, 3})) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

static bool take_month(struct str *rest, int64_t *ret_month)
{
    int64_t index;
    if (!take_name(rest, month_names, &index))
        return false;
    *ret_month = index + 1;
    return true;
}

static bool take_clock(struct str *rest, struct moment *moment)
{
    return take_digits(rest, 2, &moment->hour) && take(rest, STR(":")) &&
           take_digits(rest, 2, &moment->minute) && take(rest, STR(":")) &&
           take_digits(rest, 2, &moment->second);
}

static bool take_fraction(struct str *rest, int64_t *ret_ms)
{
    int64_t ms = 0;
    if (take(rest, STR("."))) {
        size_t digits = 0;
        while (digits < rest->len && rest->data[digits] >= '0' && rest->data[digits] <= '9') {
            if (digits < 3)
                ms = ms * 10 + (rest->data[digits] - '0');
            digits++;
        }
        if (digits == 0 || digits > 9)
            return false;
        for (size_t i = digits; i < 3; i++)
            ms *= 10;
        rest->data += digits;
        rest->len -= digits;
    }
    *ret_ms = ms;
    return true;
}

static bool take_offset(struct str *rest, int64_t *ret_offset)
{
    int64_t hours = 0;
    int64_t minutes = 0;
    int64_t sign = 1;
    if (take(rest, STR("Z")) || take(rest, STR("z"))) {
        *ret_offset = 0;
        return true;
    }
    if (take(rest, STR("-")))
        sign = -1;
    else if (!take(rest, STR("+")))
        return false;
    if (!take_digits(rest, 2, &hours) || !take(rest, STR(":")) || !take_digits(rest, 2, &minutes) ||
        hours > 23 || minutes > 59)
        return false;
    *ret_offset = sign * (hours * 3600 + minutes * 60);
    return true;
}

bool text_parse_time(struct str text, int64_t *ret_unix_ms)
{
    struct moment at;
    int64_t ms;
    int64_t offset;
    int64_t seconds;
    bool is_read = take_digits(&text, 4, &at.year) && take(&text, STR("-")) &&
                   take_digits(&text, 2, &at.month) && take(&text, STR("-")) &&
                   take_digits(&text, 2, &at.day) &&
                   (take(&text, STR("T")) || take(&text, STR("t"))) && take_clock(&text, &at) &&
                   take_fraction(&text, &ms) && take_offset(&text, &offset) && text.len == 0;
    if (!is_read || !moment_seconds(&at, offset, &seconds) || seconds < 0 || seconds > LAST_SECOND)
        return false;
    *ret_unix_ms = seconds * 1000 + ms;
    return true;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool read_fixdate(struct str text, struct moment *at)
{
    int64_t weekday;
    return take_name(&text, day_names, &weekday) && take(&text, STR(", ")) &&
           take_digits(&text, 2, &at->day) && take(&text, STR(" ")) &&
           take_month(&text, &at->month) && take(&text, STR(" ")) &&
           take_digits(&text, 4, &at->year) && take(&text, STR(" ")) && take_clock(&text, at) &&
           take(&text, STR(" GMT")) && text.len == 0;
}

static bool take_long_day(struct str *rest)
{
    for (size_t i = 0; i < sizeof long_day_names / sizeof long_day_names[0]; i++)
        if (take(rest, str_of(long_day_names[i])))
            return true;
    return false;
}

/* "Sunday, 06-Nov-94 08:49:37 GMT". RFC 9110 wants the century by today's date; a fixed turn at
 * 1970 reads every date that such old clients still send alike, and needs no clock. */
static bool read_rfc850(struct str text, struct moment *at)
{
    if (!take_long_day(&text) || !take(&text, STR(", ")) || !take_digits(&text, 2, &at->day) ||
        !take(&text, STR("-")) || !take_month(&text, &at->month) || !take(&text, STR("-")) ||
        !take_digits(&text, 2, &at->year) || !take(&text, STR(" ")) || !take_clock(&text, at))
        return false;
    at->year += at->year < 70 ? 2000 : 1900;
    return take(&text, STR(" GMT")) && text.len == 0;
}

/* "Sun Nov  6 08:49:37 1994" */
static bool read_asctime(struct str text, struct moment *at)
{
    int64_t weekday;
    return take_name(&text, day_names, &weekday) && take(&text, STR(" ")) &&
           take_month(&text, &at->month) && take(&text, STR(" ")) &&
           take_digits(&text, take(&text, STR(" ")) ? 1 : 2, &at->day) && take(&text, STR(" ")) &&
           take_clock(&text, at) && take(&text, STR(" ")) && take_digits(&text, 4, &at->year) &&
           text.len == 0;
}

bool text_parse_http_date(struct str text, int64_t *ret_unix_seconds)
{
    struct moment at;
    if (!read_fixdate(text, &at) && !read_rfc850(text, &at) && !read_asctime(text, &at))
        return false;
    return moment_seconds(&at, 0, ret_unix_seconds);
}
