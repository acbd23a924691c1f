#include "base/text.h"

#include <stdio.h>

#include "check.h"

TEST(text, parse_int_is_strict)
{
    static const struct {
        const char *name, *in;
        int64_t min, max;
        bool ok;
        int64_t want;
    } rows[] = {
        {"zero", "0", 0, 10, true, 0},
        {"top of the range", "1000", 1, 1000, true, 1000},
        {"above", "1001", 1, 1000, false, 0},
        {"below", "0", 1, 1000, false, 0},
        {"largest", "9223372036854775807", 0, INT64_MAX, true, INT64_MAX},
        {"2^63", "9223372036854775808", 0, INT64_MAX, false, 0},
        {"twenty nines", "99999999999999999999", 0, INT64_MAX, false, 0},
        {"leading zeros", "007", 0, 10, true, 7},
        {"empty", "", 0, 10, false, 0},
        {"minus", "-1", -5, 10, false, 0},
        {"plus", "+5", 0, 10, false, 0},
        {"blank before", " 5", 0, 10, false, 0},
        {"blank after", "5 ", 0, 10, false, 0},
        {"letter after", "5x", 0, 10, false, 0},
        {"hexadecimal", "0x5", 0, 10, false, 0},
        {"float", "5.0", 0, 10, false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t value = -77;
        bool ok = text_parse_int(str_of(rows[i].in), rows[i].min, rows[i].max, &value);
        CHECK_ROW(rows[i].name, ok == rows[i].ok);
        CHECK_INT_ROW(rows[i].name, value, rows[i].ok ? rows[i].want : -77);
    }
}

TEST(text, parse_bytes_knows_units)
{
    static const struct {
        const char *in;
        bool ok;
        int64_t want;
    } rows[] = {
        {"52428800", true, 52428800},
        {"1K", true, 1024},
        {"512M", true, INT64_C(512) << 20},
        {"1024G", true, INT64_C(1) << 40},
        {"0K", true, 0},
        {"8589934591G", true, INT64_C(8589934591) << 30},
        {"8589934592G", false, 0},
        {"K", false, 0},
        {"1k", false, 0},
        {"1KB", false, 0},
        {"1T", false, 0},
        {"1 K", false, 0},
        {"-1K", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t value = -77;
        CHECK_ROW(rows[i].in, text_parse_bytes(str_of(rows[i].in), &value) == rows[i].ok);
        CHECK_INT_ROW(rows[i].in, value, rows[i].ok ? rows[i].want : -77);
    }
}

TEST(text, hex_goes_both_ways)
{
    static const unsigned char bytes[] = {0x00, 0x0F, 0xA5, 0xFF};
    unsigned char back[4] = {1, 2, 3, 4};
    char digits[9];
    text_hex(bytes, sizeof bytes, digits);
    CHECK_TEXT(digits, "000fa5ff");
    CHECK(text_unhex(STR("000FA5ff"), back, sizeof back));
    CHECK(memcmp(bytes, back, sizeof back) == 0);
    text_hex(bytes, 0, digits);
    CHECK_TEXT(digits, "");
}

TEST(text, unhex_refuses_and_then_writes_nothing)
{
    static const char *const bad[] = {"000fa5f", "000fa5fff", "000fa5fg",
                                      "",        "0x0fa5ff",  "000fa5f "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned char back[4] = {1, 2, 3, 4};
        CHECK_ROW(bad[i], !text_unhex(str_of(bad[i]), back, sizeof back));
        CHECK_ROW(bad[i], memcmp(back, "\1\2\3\4", 4) == 0);
    }
}

TEST(text, base64_has_the_vectors_of_rfc_4648)
{
    static const struct {
        const char *in, *want, *url;
    } rows[] = {
        {"", "", ""},
        {"f", "Zg==", "Zg"},
        {"fo", "Zm8=", "Zm8"},
        {"foo", "Zm9v", "Zm9v"},
        {"foob", "Zm9vYg==", "Zm9vYg"},
        {"fooba", "Zm9vYmE=", "Zm9vYmE"},
        {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
        {"\xFB\xFF\xFE", "+//+", "-__-"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char letters[32];
        unsigned char back[8];
        size_t back_len = 99;
        size_t len = strlen(rows[i].in);
        struct buf url;
        buf_init(&url, 32);
        text_base64((const unsigned char *)rows[i].in, len, letters);
        CHECK_TEXT(letters, rows[i].want);
        CHECK_ROW(rows[i].want, text_unbase64(str_of(letters), back, len));
        CHECK_ROW(rows[i].want, memcmp(back, rows[i].in, len) == 0);
        text_base64url((const unsigned char *)rows[i].in, len, &url);
        CHECK_TEXT(buf_text(&url), rows[i].url);
        CHECK_ROW(rows[i].url, text_unbase64url(buf_str(&url), back, len, &back_len));
        CHECK_INT_ROW(rows[i].url, (int64_t)back_len, (int64_t)len);
        CHECK_ROW(rows[i].url, memcmp(back, rows[i].in, len) == 0);
        buf_release(&url);
    }
}

TEST(text, unbase64_refuses_all_but_the_one_spelling)
{
    static const struct {
        const char *name, *in;
        size_t len;
    } rows[] = {
        {"no padding", "Zg", 1},
        {"half padding", "Zg=", 1},
        {"too much padding", "Zm9v====", 3},
        {"padding for letters", "Z===", 1},
        {"spare bits", "Zh==", 1},
        {"spare bits of two", "Zm9=", 2},
        {"other length", "Zm8=", 1},
        {"other length, shorter", "Zg==", 2},
        {"url letters", "-__-", 3},
        {"blank", "Zm 9", 3},
        {"line end", "Zm9v\n", 3},
        {"padding within", "Zg==Zg==", 4},
        {"empty", "", 1},
        {"NUL letter", "Zm9\x01", 3},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned char back[8] = "1234567";
        CHECK_ROW(rows[i].name, !text_unbase64(str_of(rows[i].in), back, rows[i].len));
        CHECK_ROW(rows[i].name, memcmp(back, "1234567", 8) == 0);
    }
    unsigned char back[3];
    CHECK(!text_unbase64(STR("Zm9\0"), back, 3));
}

TEST(text, unbase64url_refuses)
{
    static const struct {
        const char *name, *in;
    } rows[] = {
        {"one letter over", "Zm9vY"},
        {"padding", "Zg=="},
        {"plus", "+//+"},
        {"spare bits", "Zh"},
        {"blank", "Zm 9"},
        {"too long", "Zm9vYmFyZg"},
        {"foreign in the last", "Zm9vY!"},
        {"one zero letter over", "Zm9vA"},
        {"high byte", "Zm9\xFF"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned char back[6] = "12345";
        size_t len = 99;
        CHECK_ROW(rows[i].name, !text_unbase64url(str_of(rows[i].in), back, sizeof back, &len));
        CHECK_INT_ROW(rows[i].name, (int64_t)len, 99);
        CHECK_ROW(rows[i].name, memcmp(back, "12345", 6) == 0);
    }
}

TEST(text, percent_decode_takes_one_layer)
{
    static const struct {
        const char *name, *in;
        bool plus_is_space, ok;
        const char *want;
    } rows[] = {
        {"plain", "abc", false, true, "abc"},
        {"escapes", "a%20b%2Fc%c3%A4", false, true, "a b/c\xC3\xA4"},
        {"once only", "%252e", false, true, "%2e"},
        {"plus kept", "a+b", false, true, "a+b"},
        {"plus is a space", "a+b%2B", true, true, "a b+"},
        {"bad digit", "x%zz", false, false, ""},
        {"bad second digit", "x%2g", false, false, ""},
        {"cut after one digit", "x%2", false, false, ""},
        {"cut after the sign", "x%", false, false, ""},
        {"sign inside", "%%32", false, false, ""},
        {"empty", "", false, true, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf out;
        buf_init(&out, 64);
        bool ok = text_percent_decode(str_of(rows[i].in), rows[i].plus_is_space, &out);
        CHECK_ROW(rows[i].name, ok == rows[i].ok);
        CHECK_STR_ROW(rows[i].name, buf_str(&out), rows[i].want);
        buf_release(&out);
    }
}

TEST(text, percent_decode_gives_nul_bytes_and_minds_the_maximum)
{
    struct buf out;
    buf_init(&out, 3);
    CHECK(text_percent_decode(STR("a%00b"), false, &out));
    CHECK(str_equal(buf_str(&out), STR("a\0b")));
    CHECK(!text_percent_decode(STR("x"), false, &out));
    buf_reset(&out);
    CHECK(!text_percent_decode((struct str){"%41", 2}, false, &out)); /* ends before the digit */
    buf_release(&out);
}

TEST(text, percent_encode_keeps_what_it_is_told)
{
    struct buf out;
    buf_init(&out, 200);
    text_percent_encode(STR("AZaz09-._~ /\"%\xC3\xA4\0\x7F"), "/", &out);
    CHECK_TEXT(buf_text(&out), "AZaz09-._~%20/%22%25%C3%A4%00%7F");
    buf_reset(&out);
    text_percent_encode(STR("a/b!"), "", &out);
    CHECK_TEXT(buf_text(&out), "a%2Fb%21");
    buf_release(&out);
}

TEST(text, percent_encoding_of_every_byte_comes_back)
{
    char bytes[256];
    struct buf encoded;
    struct buf decoded;
    buf_init(&encoded, 1024);
    buf_init(&decoded, 256);
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    text_percent_encode((struct str){bytes, sizeof bytes}, "", &encoded);
    CHECK(text_percent_decode(buf_str(&encoded), true, &decoded));
    CHECK(str_equal(buf_str(&decoded), (struct str){bytes, sizeof bytes}));
    buf_release(&encoded);
    buf_release(&decoded);
}

TEST(text, utf8_is_well_formed_or_refused)
{
    static const struct {
        const char *name, *in;
        bool want;
    } rows[] = {
        {"ascii", "abc", true},
        {"empty", "", true},
        {"two bytes, first", "\xC2\x80", true},
        {"two bytes, last", "\xDF\xBF", true},
        {"three bytes, first", "\xE0\xA0\x80", true},
        {"before the surrogates", "\xED\x9F\xBF", true},
        {"after the surrogates", "\xEE\x80\x80", true},
        {"U+FFFF", "\xEF\xBF\xBF", true},
        {"four bytes, first", "\xF0\x90\x80\x80", true},
        {"U+10FFFF", "\xF4\x8F\xBF\xBF", true},
        {"U+110000", "\xF4\x90\x80\x80", false},
        {"F5", "\xF5\x80\x80\x80", false},
        {"five bytes", "\xF8\x88\x80\x80\x80", false},
        {"FF", "\xFF", false},
        {"overlong dot", "\xC0\xAE", false},
        {"overlong DEL", "\xC1\xBF", false},
        {"overlong, three bytes", "\xE0\x9F\xBF", false},
        {"overlong, four bytes", "\xF0\x8F\xBF\xBF", false},
        {"first surrogate", "\xED\xA0\x80", false},
        {"last surrogate", "\xED\xBF\xBF", false},
        {"continuation alone", "a\x80", false},
        {"cut after one of two", "\xC3", false},
        {"cut after two of three", "\xE2\x82", false},
        {"cut after three of four", "\xF0\x9F\x98", false},
        {"ascii instead of continuation",
         "\xC3"
         "a",
         false},
        {"lead instead of continuation", "\xE2\x82\xE2", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_ROW(rows[i].name, text_is_utf8(str_of(rows[i].in)) == rows[i].want);
}

TEST(text, utf8_next_walks_code_points)
{
    static const uint32_t want[] = {'a', 0xE4, 0x20AC, 0x1F600, 0};
    struct str text = STR("a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\0\xFF");
    size_t at = 0;
    uint32_t code_point = 77;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        CHECK(text_utf8_next(text, &at, &code_point));
        CHECK_INT(code_point, want[i]);
    }
    CHECK_INT((int64_t)at, 11);
    CHECK(!text_utf8_next(text, &at, &code_point));
    CHECK_INT((int64_t)at, 11);
    CHECK_INT(code_point, 0);
    at = text.len;
    CHECK(!text_utf8_next(text, &at, &code_point));
}

static bool holds_utf8(struct str text, size_t piece)
{
    struct text_utf8 utf8 = {.failed = false};
    for (size_t at = 0; at < text.len; at += piece)
        text_utf8_add(&utf8, text.data + at, text.len - at < piece ? text.len - at : piece);
    return text_utf8_holds(&utf8);
}

#define BYTES(literal)                 \
    {                                  \
        (literal), sizeof(literal) - 1 \
    }

TEST(text, utf8_is_judged_the_same_however_it_is_cut)
{
    static const struct {
        const char *name;
        struct str in;
        bool want;
    } rows[] = {
        {"empty", BYTES(""), true},
        {"ASCII", BYTES("plain words, nothing more\n"), true},
        {"lowest and highest ASCII", BYTES("\x01\x01\x01\x01\x01\x01\x01\x01\x7F"), true},
        {"two, three and four bytes", BYTES("K\xC3\xA4se \xE6\x9D\xB1 \xF0\x9F\x98\x80 end"), true},
        {"byte order mark", BYTES("\xEF\xBB\xBFx"), true},
        {"U+10FFFF", BYTES("\xF4\x8F\xBF\xBF"), true},
        {"beyond it", BYTES("\xF4\x90\x80\x80"), false},
        {"NUL", BYTES("words\0words and words"), false},
        {"NUL behind eight bytes", BYTES("12345678\0"), false},
        {"UTF-16", BYTES("\xFF\xFEh\0i\0"), false},
        {"Latin-1", BYTES("K\xE4se\n"), false},
        {"Latin-1 at the end", BYTES("caf\xE9"), false},
        {"ends in a character", BYTES("\xE6\x9D"), false},
        {"overlong", BYTES("\xC0\xAE"), false},
        {"surrogate", BYTES("\xED\xA0\x80"), false},
        {"continuation alone", BYTES("a\x80"), false},
        {"cut by another", BYTES("\xE6\xC3\xA4 and more"), false},
        {"bad and then good", BYTES("\xFF plain words, nothing more"), false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t piece = 1; piece <= 9; piece++)
            CHECK_ROW(rows[i].name, holds_utf8(rows[i].in, piece) == rows[i].want);
}
