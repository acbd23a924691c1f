#include "check.h"
#include "files/sniff.h"

TEST(sniff, keeps_an_inline_type_only_when_the_bytes_agree)
{
    static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0";
    static const char gif[] = "GIF89a\1\0\1\0\0\0\0;";
    static const char html[] = "<!DOCTYPE html><html><script>alert(1)</script></html>";
    static const char text[] = "plain words, nothing else\n";
    static const struct {
        const char *mime;
        const char *head;
        size_t len;
        bool contradicted;
    } rows[] = {
        {"image/png", png, sizeof png, false},
        {"image/png", html, sizeof html - 1, true},
        {"image/jpeg", png, sizeof png, true},
        {"image/gif", gif, sizeof gif, false},
        {"text/plain", text, sizeof text - 1, false},
        {"text/plain", png, sizeof png, true},
        {"video/mp4", text, sizeof text - 1, true},
        {"text/html", png, sizeof png, false}, /* never shown inline, so never judged */
        {"application/pdf", text, sizeof text - 1, false},
        {"image/png", "", 0, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_INT_ROW(rows[i].mime, mime_is_contradicted(rows[i].mime, rows[i].head, rows[i].len),
                      rows[i].contradicted);
}

#define BYTES(literal)                 \
    {                                  \
        (literal), sizeof(literal) - 1 \
    }

TEST(sniff, what_libmagic_does_not_know_is_no_contradiction)
{
    static const struct {
        const char *mime;
        struct str head;
        bool contradicted;
    } rows[] = {
        {"text/plain", BYTES("x"), false},
        {"text/plain", BYTES("\n"), false},
        {"text/plain", BYTES("\xE9"), false},
        {"text/plain", BYTES("1\n00:00:01,000 --> 00:00:02,000\nHallo\n"), false},
        {"text/plain", BYTES("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n"), false},
        {"text/plain", BYTES("[InternetShortcut]\r\nURL=http://localhost/\r\n"), false},
        {"text/plain", BYTES("<svg xmlns='http://www.w3.org/2000/svg'/>"), false},
        {"text/plain", BYTES("%!PS-Adobe-3.0\nshowpage\n"), false},
        {"text/plain", BYTES("\x1B[31mred\x1B[0m\n"), false},
        {"text/plain", BYTES("\xFF\xFEh\0i\0"), false},
        {"text/plain", BYTES("\xFE\xFF\0h\0i"), false},
        {"text/plain", BYTES("h\0i\0\n\0"), false},
        {"text/plain", BYTES("a\0b\0"), false},
        {"text/plain", BYTES("dos\r\n\x1A"), false},
        {"text/plain", BYTES("%PDF-1.4\n1 0 obj\n"), true},
        {"text/plain", BYTES("GIF89a=1;"), true},
        {"text/plain", BYTES("\x1F\x8B\x08\0\0\0\0\0\0\x03"), true},
        {"text/plain",
         BYTES("\x7F"
               "ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\x3E\0"),
         true},
        {"audio/l16", BYTES("\x01\x92\x03\xFF\x00\x17"), false},
        {"video/x-own", BYTES("\x01\x92\x03\xFF\x00\x17"), false},
        {"image/png", BYTES("\x01\x92\x03\xFF\x00\x17"), true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_INT_ROW(rows[i].head.data,
                      mime_is_contradicted(rows[i].mime, rows[i].head.data, rows[i].head.len),
                      rows[i].contradicted);
}

TEST(sniff, only_types_that_run_no_script_may_be_inline)
{
    CHECK(mime_may_be_inline("image/png"));
    CHECK(mime_may_be_inline("audio/mpeg"));
    CHECK(mime_may_be_inline("video/mp4"));
    CHECK(mime_may_be_inline("text/plain"));
    CHECK(!mime_may_be_inline("image/svg+xml"));
    CHECK(!mime_may_be_inline("text/html"));
    CHECK(!mime_may_be_inline("application/pdf"));
    CHECK(!mime_may_be_inline("application/xhtml+xml"));
    CHECK(!mime_may_be_inline("image/"));
    CHECK(!mime_may_be_inline("video/"));
    CHECK(!mime_may_be_inline(""));
}
