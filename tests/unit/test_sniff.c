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
