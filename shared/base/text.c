#include "base/text.h"

#include <stdio.h>

bool text_parse_int(struct str text, int64_t min, int64_t max, int64_t *ret_value)
{
    int64_t value = 0;
    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.data[i];
        if (byte < '0' || byte > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, byte - '0', &value))
            return false;
    }
    if (value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

bool text_parse_bytes(struct str text, int64_t *ret_value)
{
    static const char units[] = "KMG";
    int64_t factor = 1;
    const char *unit = text.len > 0 ? memchr(units, text.data[text.len - 1], 3) : NULL;
    if (unit) {
        factor = INT64_C(1) << (10 * (unit - units + 1));
        text.len--;
    }
    int64_t value;
    if (!text_parse_int(text, 0, INT64_MAX / factor, &value))
        return false;
    *ret_value = value * factor;
    return true;
}

void text_lower(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}

void text_hex(const unsigned char *bytes, size_t len, char *target)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        target[2 * i] = digits[bytes[i] >> 4];
        target[2 * i + 1] = digits[bytes[i] & 0x0F];
    }
    target[2 * len] = '\0';
}

static int hex_value(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    if (byte >= 'A' && byte <= 'F')
        return byte - 'A' + 10;
    return -1;
}

/* The byte of two hexadecimal digits, -1 when one is not. */
static int hex_byte(const char *digits)
{
    int high = hex_value(digits[0]);
    int low = hex_value(digits[1]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool text_unhex(struct str text, unsigned char *target, size_t len)
{
    if (text.len / 2 != len || text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (hex_value(text.data[i]) < 0)
            return false;
    for (size_t i = 0; i < len; i++)
        target[i] = (unsigned char)hex_byte(text.data + 2 * i);
    return true;
}

bool text_percent_decode(struct str text, bool plus_is_space, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '%' && (text.len - i < 3 || hex_byte(text.data + i + 1) < 0))
            return false;
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.data[i];
        if (byte == '%') {
            byte = (char)hex_byte(text.data + i + 1);
            i += 2;
        } else if (byte == '+' && plus_is_space) {
            byte = ' ';
        }
        buf_append_char(out, byte);
    }
    return !out->failed;
}

static bool is_unreserved(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

void text_percent_encode(struct str text, const char *keep, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.data[i];
        if (is_unreserved(byte) || (byte != '\0' && strchr(keep, byte)))
            buf_append_char(out, byte);
        else
            buf_printf(out, "%%%02X", (unsigned)(unsigned char)byte);
    }
}

struct utf8_form {
    unsigned char mask, lead; /* of the first byte */
    size_t len;
    uint32_t min; /* less is an overlong form */
};

static const struct utf8_form utf8_forms[] = {
    {0x80, 0x00, 1, 0},
    {0xE0, 0xC0, 2, 0x80},
    {0xF0, 0xE0, 3, 0x800},
    {0xF8, 0xF0, 4, 0x10000},
};

static const struct utf8_form *utf8_form(unsigned char lead)
{
    for (size_t i = 0; i < sizeof utf8_forms / sizeof utf8_forms[0]; i++)
        if ((lead & utf8_forms[i].mask) == utf8_forms[i].lead)
            return &utf8_forms[i];
    return NULL;
}

bool text_utf8_next(struct str text, size_t *at, uint32_t *ret_code_point)
{
    if (*at >= text.len)
        return false;
    unsigned char lead = (unsigned char)text.data[*at];
    const struct utf8_form *form = utf8_form(lead);
    if (!form || form->len > text.len - *at)
        return false;
    uint32_t code_point = lead & (unsigned char)~form->mask;
    for (size_t i = 1; i < form->len; i++) {
        unsigned char byte = (unsigned char)text.data[*at + i];
        if ((byte & 0xC0) != 0x80)
            return false;
        code_point = code_point << 6 | (byte & 0x3F);
    }
    bool is_surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
    if (code_point < form->min || is_surrogate || code_point > 0x10FFFF)
        return false;
    *at += form->len;
    *ret_code_point = code_point;
    return true;
}

bool text_is_utf8(struct str text)
{
    uint32_t code_point;
    for (size_t at = 0; at < text.len;)
        if (!text_utf8_next(text, &at, &code_point))
            return false;
    return true;
}

/* Bytes of ASCII without NUL that `data` begins with, looked at eight at a time. */
static size_t count_ascii(const unsigned char *data, size_t len)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = ones * 0x80;
    uint64_t word;
    size_t at = 0;
    while (len - at >= sizeof word) {
        memcpy(&word, data + at, sizeof word);
        if ((word | (word - ones)) & highs) /* not ASCII, or a NUL (or 0x01 above one) */
            break;
        at += sizeof word;
    }
    while (at < len && data[at] != '\0' && data[at] < 0x80)
        at++;
    return at;
}

/* Adds to the character that was cut; the number of bytes used. */
static size_t finish_begun(struct text_utf8 *utf8, const unsigned char *data, size_t len)
{
    const struct utf8_form *form = utf8_form(utf8->begun[0]);
    size_t used = 0;
    if (!form) {
        utf8->failed = true;
        return 0;
    }
    while (used < len && utf8->begun_len < form->len)
        utf8->begun[utf8->begun_len++] = data[used++];
    if (utf8->begun_len == form->len) {
        utf8->failed = !text_is_utf8((struct str){(const char *)utf8->begun, form->len});
        utf8->begun_len = 0;
    }
    return used;
}

void text_utf8_add(struct text_utf8 *utf8, const void *data, size_t len)
{
    const struct str text = {data, len};
    size_t at = 0;
    if (utf8->begun_len > 0 && !utf8->failed)
        at = finish_begun(utf8, data, len);
    while (at < len && !utf8->failed) {
        uint32_t unused;
        at += count_ascii((const unsigned char *)data + at, len - at);
        if (at == len || (text.data[at] != '\0' && text_utf8_next(text, &at, &unused)))
            continue;
        utf8->failed = text.data[at] == '\0' || len - at >= sizeof utf8->begun;
        if (!utf8->failed) { /* perhaps a character that is cut here */
            utf8->begun[0] = (unsigned char)text.data[at++];
            utf8->begun_len = 1;
            at += finish_begun(utf8, (const unsigned char *)data + at, len - at);
        }
    }
}

bool text_utf8_holds(const struct text_utf8 *utf8)
{
    return !utf8->failed && utf8->begun_len == 0;
}

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Up to three bytes as four letters; the letters past len + 1 carry nothing. */
static void encode_group(const char *alphabet, const unsigned char *bytes, size_t len,
                         char letters[4])
{
    uint32_t group = (uint32_t)bytes[0] << 16;
    if (len > 1)
        group |= (uint32_t)bytes[1] << 8;
    if (len > 2)
        group |= bytes[2];
    for (int i = 0; i < 4; i++)
        letters[i] = alphabet[group >> (18 - 6 * i) & 0x3F];
}

/* Two to four letters as one to three bytes. Bits beyond the last byte must be zero: one value
 * has one spelling. */
static bool decode_group(const char *alphabet, struct str letters, unsigned char *bytes)
{
    uint32_t group = 0;
    for (size_t i = 0; i < 4; i++) {
        const char *found = i < letters.len ? memchr(alphabet, letters.data[i], 64) : alphabet;
        if (!found)
            return false;
        group = group << 6 | (uint32_t)(found - alphabet);
    }
    size_t len = letters.len - 1;
    if ((group & (0xFFFFFFu >> (8 * len))) != 0)
        return false;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)(group >> (16 - 8 * i));
    return true;
}

/* `text` without padding; its length decides how many bytes are written. */
static bool decode(const char *alphabet, struct str text, unsigned char *target)
{
    unsigned char bytes[3];
    for (int pass = 0; pass < 2; pass++) { /* nothing is written before all is known to be good */
        for (size_t at = 0; at < text.len; at += 4) {
            size_t len = text.len - at < 4 ? text.len - at : 4;
            if (!decode_group(alphabet, (struct str){text.data + at, len}, bytes))
                return false;
            if (pass == 1)
                memcpy(target + at / 4 * 3, bytes, len - 1);
        }
    }
    return true;
}

void text_base64(const unsigned char *bytes, size_t len, char *target)
{
    for (size_t at = 0; at < len; at += 3, target += 4) {
        size_t step = len - at < 3 ? len - at : 3;
        encode_group(standard, bytes + at, step, target);
        for (size_t i = step + 1; i < 4; i++)
            target[i] = '=';
    }
    *target = '\0';
}

bool text_unbase64(struct str text, unsigned char *target, size_t len)
{
    size_t padding = (3 - len % 3) % 3;
    if (text.len % 4 != 0 || text.len / 4 != len / 3 + (len % 3 != 0))
        return false;
    for (size_t i = 0; i < padding; i++)
        if (text.data[--text.len] != '=')
            return false;
    return decode(standard, text, target);
}

void text_base64url(const unsigned char *bytes, size_t len, struct buf *out)
{
    char letters[4];
    for (size_t at = 0; at < len; at += 3) {
        size_t step = len - at < 3 ? len - at : 3;
        encode_group(url_safe, bytes + at, step, letters);
        buf_append(out, letters, step + 1);
    }
}

bool text_unbase64url(struct str text, unsigned char *target, size_t size, size_t *ret_len)
{
    size_t rest = text.len % 4;
    size_t len = text.len / 4 * 3 + (rest > 0 ? rest - 1 : 0);
    if (rest == 1 || len > size || !decode(url_safe, text, target))
        return false;
    *ret_len = len;
    return true;
}

/* Times without gmtime_r and timegm: those take the C library's time zone lock, which hundreds of
 * worker threads would queue for. */

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

#define DIGITS_MAX 15 /* so many are exact in a double, and so is their power of ten */

/* "10", "0.25". Not by strtod, which takes more and follows the locale. */
static bool parse_number(struct str text, double *ret_value)
{
    double digits = 0;
    double scale = 1;
    unsigned digit_count = 0;
    bool after_point = false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '.' && !after_point && i > 0 && i + 1 < text.len) {
            after_point = true;
            continue;
        }
        if (text.data[i] < '0' || text.data[i] > '9' || ++digit_count > DIGITS_MAX)
            return false;
        digits = digits * 10 + (text.data[i] - '0');
        scale *= after_point ? 10 : 1;
    }
    *ret_value = digits / scale;
    return digit_count > 0;
}

bool bounds_parse(struct str list, struct bounds *ret_bounds)
{
    struct bounds bounds = {.count = 0};
    bool is_last;
    double before = 0;
    do {
        is_last = str_find(list, ',') == list.len;
        double value;
        if (bounds.count == BOUNDS_MAX || !parse_number(str_trim(str_cut(&list, ',')), &value) ||
            value <= before)
            return false;
        before = bounds.values[bounds.count++] = value;
    } while (!is_last);
    *ret_bounds = bounds;
    return true;
}
