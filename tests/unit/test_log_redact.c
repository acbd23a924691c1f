/* What is masked on its way into logs and reports, and what is not. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "log_file.h"
#include "observe/log.h"
#include "observe/log_redact.h"

struct row {
    const char *text;
    const char *want;
};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct buf out;
        buf_init(&out, 64 * 1024);
        log_redact(str_of(rows[i].text), &out);
        CHECK_STR_ROW(rows[i].text, buf_str(&out), rows[i].want);
        buf_release(&out);
    }
}

#define CHECK_ROWS(rows) check_rows((rows), sizeof(rows) / sizeof(rows)[0])

TEST(log_redact, texts_without_secrets_stay_as_they_are)
{
    static const char *const texts[] = {
        "",
        "nothing to hide: at 10:00, a/b",
        "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77/meta",
        "/api/files/upload/report 2026_v1=final (JPG).pdf",
        "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) AppleWebKit/537.36 (KHTML, like Gecko)",
        "https://host/a@b",
        "http://host:8080/a@b",
        "at http://host:8080",
        "at http://host:8080/a",
        "at http://host",
        "see mongodb://h1:27017,h2:27017/db?",
        "secretary=abc",
        "the token is bad",
        "a key, a password and a cookie",
        "token=",
        "token=&",
        "://",
        "=:=/@",
        "Bearer",
        "Bearer ",
        "eyJ",
        "coffer_",
        "coffer-files_get",
        "100%",
        "%3",
        "%3D",
        "12:30:45",
        "connect to [::1]:5921: refused",
        "?",
        "?=",
        "what? a=b",
        "Content-Type: text/plain",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const struct row row = {texts[i], texts[i]};
        check_rows(&row, 1);
    }
}

TEST(log_redact, values_of_secret_names_are_masked)
{
    static const struct row rows[] = {
        {"token=abc, next", "token=***, next"},
        {"sentry_key=abc", "sentry_key=***"},
        {"SECRET_KEY = abc def", "SECRET_KEY = *** def"},
        {"Password:abc", "Password:***"},
        {"password: \"abc\" x", "password: \"***\" x"},
        {"password: \"a b\\\"c\" x", "password: \"***\" x"},
        {"password: \"never closed", "password: \"***"},
        {"password='a b'", "password='***'"},
        {"password=a,b;c)d end", "password=*** end"},
        {"(password=abc)", "(password=***)"},
        {"[password=abc],x", "[password=***],x"},
        {"{\"password\":\"abc\",\"x\":1}", "{\"password\":\"***\",\"x\":1}"},
        {"{\"token\" : abc}", "{\"token\" : ***}"},
        {"{\\\"secret\\\":\\\"abc\\\"}", "{\\\"secret\\\":\\\"***"},
        {"x-amz-security-token: abc", "x-amz-security-token: ***"},
        {"X-Api-Key: abc", "X-Api-Key: ***"},
        {"AWSAccessKeyId=AKIA1 Signature=b%2Bc%3D", "AWSAccessKeyId=*** Signature=***"},
        {"api_key%3Dabc", "api_key%3D***"},
        {"a%3Ftoken%3dabc", "a%3Ftoken%3d***"},
        {"token%3Aabc", "token%3A***"},
        {"pwd=a token=b secret=c", "pwd=*** token=*** secret=***"},
        {"token=token=abc", "token=***"},
        {"token\t=\tabc", "token\t=\t***"},
        {"PHPSESSION=abc; x", "PHPSESSION=***; x"},
        {"dsn=http://a@b/1", "dsn=***"},
        {"?a=Cookie:b c", "?a=***"},
        {"token= key: abc def", "token= *** def"},
        {"dup key: { owner: \"alice\", key: \"mine\" }",
         "dup key: *** owner: \"alice\", key: \"***\" }"},
    };
    CHECK_ROWS(rows);
}

TEST(log_redact, whole_headers_are_masked)
{
    static const struct row rows[] = {
        {"Authorization: Bearer abc def", "Authorization: ***"},
        {"Authorization: Basic YTpi\nHost: x", "Authorization: ***\nHost: x"},
        {"proxy-authorization:x y\r\nA: b", "proxy-authorization:***\r\nA: b"},
        {"Authorization: AWS4-HMAC-SHA256 Credential=A/b, SignedHeaders=c, Signature=d",
         "Authorization: ***"},
        {"Cookie: a=b; c=d", "Cookie: ***"},
        {"set-cookie: a=b; HttpOnly", "set-cookie: ***"},
        {"\"authorization\":\"Bearer abc\"", "\"authorization\":***"},
        {"sent Bearer abc.def-g_h+i/j== to it", "sent Bearer *** to it"},
        {"bearer abc", "bearer ***"},
        {"(Basic YTpi)", "(Basic ***)"},
    };
    CHECK_ROWS(rows);
}

TEST(log_redact, tokens_are_masked_wherever_they_stand)
{
    static const struct row rows[] = {
        {"coffer_0123456789abcdef_secretsecret", "coffer_***"},
        {"/api/files/coffer_0123_abc/meta", "/api/files/coffer_***/meta"},
        {"x coffer_a_b, coffer_c_d", "x coffer_***, coffer_***"},
        {"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", "eyJ***"},
        {"jwt eyJhbGciOiJIUzI1NiJ9.x-y_z.", "jwt eyJ***"},
    };
    CHECK_ROWS(rows);
}

TEST(log_redact, urls_lose_their_user_and_the_values_of_their_query)
{
    static const struct row rows[] = {
        {"mongodb://user:pass@host/db is away", "mongodb://***@host/db is away"},
        {"mongodb://u:p@h1:1,h2:2/db", "mongodb://***@h1:1,h2:2/db"},
        {"mongodb://u:p/w@host/db", "mongodb://***@host/db"},
        {"mongodb://u:p,w@host", "mongodb://***@host"},
        {"https://key@host/1", "https://***@host/1"},
        {"http://a:b@c@host", "http://***@host"},
        {"it says http://a:b", "it says http://***"}, /* cut before its "@" */
        {"it says http://a:b/c", "it says http://***"},
        {"\"http://a:b@host\"", "\"http://***@host\""},
        {"http://h/b/k?X-Amz-Signature=abc&X-Amz-Expires=60",
         "http://h/b/k?X-Amz-Signature=***&X-Amz-Expires=***"},
        {"/f/1?sig=a%2Fb&exp=9 ", "/f/1?sig=***&exp=*** "},
        {"GET /f/1?v=1 failed", "GET /f/1?v=*** failed"},
        {"a?b=c?d=e", "a?b=***"},
        {"?a=1&b=2&&c=3&=4", "?a=***&b=***&&c=***&=4"},
    };
    CHECK_ROWS(rows);
}

/* Whatever stands around it, a secret never comes through, and what is masked stays masked. */
TEST(log_redact, random_neighbours_let_no_secret_through)
{
    static const char *const forms[] = {
        "token=%",
        "\"password\":\"%\"",
        "Authorization: Bearer %",
        "http://u:%@h/",
        "Bearer %",
        "Cookie: a=%",
        "/f?x=%",
        "coffer_%",
        "secret : '%'",
        "key%%3D%",
        "eyJ%",
    };
    static const char *const around[] = {" ",  "a ", "\n",  "(",  "\"", "?",    "&",
                                         "= ", ": ", "://", "@ ", "'",  "\xff", "%",
                                         "/",  ", ", ";",   "\\", "é"};
    const unsigned first = check_seed();
    unsigned seed = first;
    for (int round = 0; round < 10000; round++) {
        struct buf text;
        struct buf once;
        struct buf twice;
        buf_init(&text, 1000);
        buf_init(&once, 1000);
        buf_init(&twice, 1000);
        for (int i = rand_r(&seed) % 6; i > 0; i--)
            buf_append_text(&text,
                            around[(size_t)rand_r(&seed) % (sizeof around / sizeof *around)]);
        buf_append_text(&text, " ");
        const char *form = forms[(size_t)rand_r(&seed) % (sizeof forms / sizeof *forms)];
        for (; *form; form++) {
            if (form[0] == '%' && form[1] == '%')
                buf_append_char(&text, *form++);
            else if (*form == '%')
                buf_append_text(&text, "Xq7hunter2");
            else
                buf_append_char(&text, *form);
        }
        for (int i = rand_r(&seed) % 6; i > 0; i--)
            buf_append_text(&text,
                            around[(size_t)rand_r(&seed) % (sizeof around / sizeof *around)]);
        log_redact(buf_str(&text), &once);
        log_redact(buf_str(&once), &twice);
        char label[1200];
        snprintf(label, sizeof label, "seed %u round %d: %s", first, round, buf_text(&text));
        CHECK_ROW(label, !strstr(buf_text(&once), "hunter2"));
        CHECK_ROW(label, once.len <= text.len + 3 * 16 && !twice.failed);
        buf_release(&text);
        buf_release(&once);
        buf_release(&twice);
    }
}

/* Nothing that a client may send makes it read the same bytes again and again. */
TEST(log_redact, hostile_texts_take_no_longer_than_others)
{
    static const char *const pieces[] = {
        "://a:x/", "a b",    "=",   " =",      ")",    "token=",        "\"",   "\\:", "%3D", "?a=",
        "&a",      "Basic ", "eyJ", "coffer_", "key:", "token=Cookie:", "key= "};
    static char text[1 << 20];
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t piece = strlen(pieces[i]);
        for (size_t at = 0; at + piece <= sizeof text; at += piece)
            memcpy(text + at, pieces[i], piece);
        struct timespec before;
        struct timespec after;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
        size_t found = 0;
        const struct str all = {text, sizeof text - sizeof text % piece};
        for (size_t at = 0; at < all.len; found++)
            at = log_redact_next(all, at).to;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
        /* One that is quadratic takes minutes for a megabyte. */
        CHECK_ROW(pieces[i], after.tv_sec - before.tv_sec < 10 && found > 0);
    }
}

TEST(log_redact, log_lines_are_masked)
{
    struct log_file file = log_file_open();
    const struct log_field fields[] = {
        LOG_FIELD_STR("error.message", STR("mongodb://u:hunter2@h: \"password\":\"hunter2\"")),
        LOG_FIELD_STR("url.path", STR("/api/files/coffer_id_hunter2")),
        LOG_FIELD_STR("user_agent.original", STR("x\" token=hunter2\nCookie: hunter2")),
    };
    log_write(file.log, ERR_LEVEL_INFO, NULL, "Authorization: hunter2",
              (struct log_fields){fields, 3});
    struct buf text = log_file_written(&file);
    CHECK_INT(log_file_check_lines("masked", buf_str(&text)), 1);
    CHECK(!strstr(buf_text(&text), "hunter2"));
    CHECK(strstr(buf_text(&text), "\"message\":\"Authorization: ***\"") != NULL);
    CHECK(strstr(buf_text(&text),
                 "\"error.message\":\"mongodb://***@h: \\\"password\\\":\\\"***\\\"\"") != NULL);
    CHECK(strstr(buf_text(&text), "\"url.path\":\"/api/files/coffer_***\"") != NULL);
    CHECK(strstr(buf_text(&text), "\"x\\\" token=***\\nCookie: ***\"") != NULL);
    buf_release(&text);
    log_close(file.log);
}
