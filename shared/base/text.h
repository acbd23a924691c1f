/*
 * Strict reading and writing of small texts: integers, hexadecimal, base64, percent encoding,
 * UTF-8, times. Every reader takes the whole slice or fails; outputs are set only on success.
 */
#ifndef COFFER_BASE_TEXT_H
#define COFFER_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* Decimal digits only, no sign, space or leading "+"; value within min…max. */
bool text_parse_int(struct str text, int64_t min, int64_t max, int64_t *ret_value);
/* A size in bytes: digits with an optional K, M, G (powers of 1024). */
bool text_parse_bytes(struct str text, int64_t *ret_value);

/* ASCII letters to lower case, in place. */
void text_lower(char *text);

/* Lower-case hexadecimal of `len` bytes into target[2 * len + 1]. */
void text_hex(const unsigned char *bytes, size_t len, char *target);
/* Exactly 2 * len digits of either case. */
bool text_unhex(struct str text, unsigned char *target, size_t len);

/* Standard base64 with padding (RFC 4648 §4), into target[4 * ((len + 2) / 3) + 1]. */
void text_base64(const unsigned char *bytes, size_t len, char *target);
/* Exactly `len` bytes, canonical, padded. */
bool text_unbase64(struct str text, unsigned char *target, size_t len);
/* base64url without padding (RFC 4648 §5). */
void text_base64url(const unsigned char *bytes, size_t len, struct buf *out);
/* Fails on a foreign character, a length no encoder makes, or more than `size` bytes. */
bool text_unbase64url(struct str text, unsigned char *target, size_t size, size_t *ret_len);

/* Decodes every %XX once; false on a malformed escape (nothing is appended) or when `out` is full.
 * "+" is kept unless plus_is_space. */
bool text_percent_decode(struct str text, bool plus_is_space, struct buf *out);
/* Encodes everything but RFC 3986 unreserved characters and those in `keep`. */
void text_percent_encode(struct str text, const char *keep, struct buf *out);

/* Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool text_is_utf8(struct str text);
/* Reads one code point at *at and moves *at on; false when it is not well-formed. */
bool text_utf8_next(struct str text, size_t *at, uint32_t *ret_code_point);

/* Are bytes that arrive piece by piece UTF-8 text: well-formed, without NUL? Starts zeroed. */
struct text_utf8 {
    unsigned char begun[4]; /* a character that a piece has cut */
    size_t begun_len;
    bool failed;
};
void text_utf8_add(struct text_utf8 *utf8, const void *data, size_t len);
bool text_utf8_holds(const struct text_utf8 *utf8); /* at the end */

/* RFC 3339 UTC with milliseconds, "2026-11-21T10:00:00.123Z", from ms since 1970. Times before
 * 1970 or after 9999 are written as the first or last one there is. */
#define TEXT_TIME_SIZE 32
#define TEXT_TIME_MAX_MS INT64_C(253402300799999) /* the last one */
void text_time(int64_t unix_ms, char target[TEXT_TIME_SIZE]);
/* RFC 3339 with any offset, 0–9 digits of fraction (cut to ms); years 1970–9999. */
bool text_parse_time(struct str text, int64_t *ret_unix_ms);
/* IMF-fixdate of RFC 9110 §5.6.7, "Sun, 06 Nov 1994 08:49:37 GMT", from seconds since 1970. */
#define TEXT_HTTP_DATE_SIZE 32
void text_http_date(int64_t unix_seconds, char target[TEXT_HTTP_DATE_SIZE]);
/* All three forms of RFC 9110 §5.6.7; two-digit years are 1970–2069. */
bool text_parse_http_date(struct str text, int64_t *ret_unix_seconds);

/*
 * Upper bounds of a histogram's buckets as a setting writes them: "0.005,0.01,0.5,1". Rising,
 * positive, in plain decimals. A value.
 */

#define BOUNDS_MAX 31

struct bounds {
    double values[BOUNDS_MAX];
    unsigned count;
};

/* False when it is no such list: 1 to BOUNDS_MAX numbers of at most 15 digits each. */
bool bounds_parse(struct str list, struct bounds *ret_bounds);

#endif
