#include "check.h"
#include "http/request.h"

TEST(request_charset, the_charset_of_a_content_type)
{
    static const struct {
        const char *in;
        const char *want;
    } rows[] = {
        {"", ""},
        {"text/plain", ""},
        {"text/plain; charset=utf-8", "utf-8"},
        {"Text/Plain;CHARSET=\"UTF-8\"", "utf-8"},
        {"text/plain; format=flowed ; charset=ISO-8859-1", "iso-8859-1"},
        {"text/plain; a=\";charset=x\"; charset=windows-1251", "windows-1251"},
        {"text/plain; charset=utf-8; charset=latin1", "utf-8"},
        {"text/plain; charset=", ""},
        {"text/plain; charset=\"\"", ""},
        {"text/plain; charset='utf-8'", ""},
        {"text/plain; charset=\"a b\"", ""},
        {"text/plain; charset=\"a\\\"b\"", ""},
        {"text/plain; charset = utf-8", ""},
        {"text/plain charset=utf-8", ""},
        {"text/plain; charset=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
        {"text/plain; charset=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char charset[LIMIT_CHARSET_BYTES + 1];
        media_charset_parse(str_of(rows[i].in), charset);
        CHECK_STR_ROW(rows[i].in, str_of(charset), rows[i].want);
    }
}
