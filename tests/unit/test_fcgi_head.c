#include "app/fcgi.h"
#include "check.h"

#define BEGIN "\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0"
#define PAIR "\1\4\0\1\0\4\0\0\1\1nv"
#define END "\1\4\0\1\0\0\0\0"

TEST(fcgi_head, takes_what_a_gateway_sends_and_nothing_else)
{
    static const struct {
        const char *name;
        const char *head;
        size_t len;
        enum fcgi_head want;
    } rows[] = {
#define ROW(label, text, want) {label, text, sizeof(text) - 1, want}
        ROW("whole", BEGIN PAIR END, FCGI_HEAD_SOUND),
        ROW("no variables", BEGIN END, FCGI_HEAD_SOUND),
        ROW("more follows", BEGIN PAIR END "\1\5\0\1\0\0\0\0", FCGI_HEAD_SOUND),
        ROW("padding", BEGIN "\1\4\0\1\0\4\3\0\1\1nvxyz" END, FCGI_HEAD_SOUND),
        ROW("nothing yet", "", FCGI_HEAD_INCOMPLETE),
        ROW("begin only", BEGIN, FCGI_HEAD_INCOMPLETE),
        ROW("no end yet", BEGIN PAIR, FCGI_HEAD_INCOMPLETE),
        ROW("another version", "\2\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0" END, FCGI_HEAD_BAD),
        ROW("another role", "\1\1\0\1\0\10\0\0\0\2\0\0\0\0\0\0" END, FCGI_HEAD_BAD),
        ROW("no begin", PAIR END, FCGI_HEAD_BAD),
        ROW("body first", BEGIN "\1\5\0\1\0\0\0\0", FCGI_HEAD_BAD),
        ROW("pair longer than its record", BEGIN "\1\4\0\1\0\4\0\0\1\2nv" END, FCGI_HEAD_BAD),
        ROW("length cut off", BEGIN "\1\4\0\1\0\1\0\0\x80" END, FCGI_HEAD_BAD),
        ROW("lengths that overflow", BEGIN "\1\4\0\1\0\10\0\0\xff\xff\xff\xfa\xff\xff\xff\xfb" END,
            FCGI_HEAD_BAD),
#undef ROW
    };
    size_t len = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_INT_ROW(rows[i].name,
                      fcgi_head_check((const unsigned char *)rows[i].head, rows[i].len, &len),
                      rows[i].want);
}

TEST(fcgi_head, every_cut_of_a_sound_head_is_incomplete)
{
    static const char head[] = BEGIN PAIR END;
    size_t head_len = 0;
    for (size_t len = 0; len < sizeof head - 1; len++)
        CHECK_INT(fcgi_head_check((const unsigned char *)head, len, &head_len),
                  FCGI_HEAD_INCOMPLETE);
    CHECK_INT((int64_t)head_len, 0);
    CHECK_INT(fcgi_head_check((const unsigned char *)BEGIN PAIR END "rest",
                              sizeof(BEGIN PAIR END "rest") - 1, &head_len),
              FCGI_HEAD_SOUND);
    CHECK_INT((int64_t)head_len, sizeof head - 1);
}
