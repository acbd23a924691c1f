#include "base/dsn.h"

#include "check.h"

struct good {
    const char *text;
    const char *key;
    const char *url;
};

TEST(dsn, gives_the_key_and_the_envelope_url)
{
    static const struct good rows[] = {
        {"https://public@sentry.example/1", "public", "https://sentry.example/api/1/envelope/"},
        {"http://0123456789abcdef0123456789abcdef@127.0.0.1:8000/42",
         "0123456789abcdef0123456789abcdef", "http://127.0.0.1:8000/api/42/envelope/"},
        {"https://public:secret@sentry.example/1", "public",
         "https://sentry.example/api/1/envelope/"},
        {"https://public@sentry.example:443/a/path/7", "public",
         "https://sentry.example:443/a/path/api/7/envelope/"},
        {"https://public@o1.ingest.sentry.io/4504", "public",
         "https://o1.ingest.sentry.io/api/4504/envelope/"},
        {"http://k@[::1]:9000/1", "k", "http://[::1]:9000/api/1/envelope/"},
        {"http://k@[::1]/1", "k", "http://[::1]/api/1/envelope/"},
        {"http://k@host/project-name", "k", "http://host/api/project-name/envelope/"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dsn dsn;
        bool is_dsn = dsn_parse(str_of(rows[i].text), &dsn);
        CHECK_ROW(rows[i].text, is_dsn);
        if (!is_dsn)
            continue;
        CHECK_STR_ROW(rows[i].text, str_of(dsn.public_key), rows[i].key);
        CHECK_STR_ROW(rows[i].text, str_of(dsn.envelope_url), rows[i].url);
    }
}

TEST(dsn, refuses_what_is_none)
{
    static const char *const rows[] = {
        "",
        "public@sentry.example/1",
        "ftp://public@sentry.example/1",
        "HTTPS://public@sentry.example/1",
        "https://sentry.example/1",
        "https://@sentry.example/1",
        "https://:secret@sentry.example/1",
        "https://public:@sentry.example/1",
        "https://public@/1",
        "https://public@sentry.example",
        "https://public@sentry.example/",
        "https://public@sentry.example/1/",
        "https://public@sentry.example//1",
        "https://public@sentry.example/a//1",
        "https://public@sentry.example/1?x=y",
        "https://public@sentry.example/1#x",
        "https://public@sentry.example:0/1",
        "https://public@sentry.example:65536/1",
        "https://public@sentry.example:/1",
        "https://public@[::1/1",
        "https://public@[::1]x/1",
        "https://public@[sentry]/1",
        "https://public@sentry example/1",
        "https://public@other@sentry.example/1",
        "https://pub,lic@sentry.example/1",
        "https://pub=lic@sentry.example/1",
        "https://pub lic@sentry.example/1",
        "https://public@sentry.example/1\r\nX: y",
        "https://public@sentry.example/a\nb/1",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dsn dsn = {.public_key = "untouched"};
        CHECK_ROW(rows[i], !dsn_parse(str_of(rows[i]), &dsn));
        CHECK_STR_ROW(rows[i], str_of(dsn.public_key), "untouched");
    }
}

TEST(dsn, has_a_longest_key_and_a_longest_text)
{
    struct dsn dsn;
    struct buf text;
    buf_init(&text, 4096);
    for (size_t len = DSN_KEY_SIZE - 2; len <= DSN_KEY_SIZE; len++) {
        buf_reset(&text);
        buf_append_text(&text, "http://");
        for (size_t i = 0; i < len; i++)
            buf_append_char(&text, 'k');
        buf_append_text(&text, "@host/1");
        CHECK_INT(dsn_parse(buf_str(&text), &dsn), len < DSN_KEY_SIZE);
    }
    for (size_t len = CONFIG_TEXT_SIZE - 1; len <= CONFIG_TEXT_SIZE; len++) {
        buf_reset(&text);
        buf_append_text(&text, "http://k@host/");
        while (text.len < len)
            buf_append_char(&text, '1');
        CHECK_INT(dsn_parse(buf_str(&text), &dsn), len < CONFIG_TEXT_SIZE);
    }
    buf_release(&text);
}
