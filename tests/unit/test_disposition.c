#include "http/disposition.h"

#include "check.h"

TEST(disposition, reads_what_clients_send)
{
    static const struct {
        const char *client, *value, *name, *filename;
    } rows[] = {
        {"browser", "form-data; name=\"file\"; filename=\"a.pdf\"", "file", "a.pdf"},
        {"no file", "form-data; name=\"metadata\"", "metadata", NULL},
        {"no name", "form-data; filename=\"a\"", "", "a"},
        {"empty filename", "form-data; name=\"file\"; filename=\"\"", "file", ""},
        {"no parameters", "form-data", "", NULL},
        {"dotnet", "form-data; name=file; filename=a.pdf; filename*=utf-8''a.pdf", "file", "a.pdf"},
        {"case", "FORM-DATA; NAME=\"file\"; FileName=\"A.PDF\"", "file", "A.PDF"},
        {"blanks", "  form-data ;\tname=\"file\" ;filename=\"a\" ; ", "file", "a"},
        {"empty parameters", "form-data;; name=\"file\";", "file", NULL},
        {"unknown ones", "form-data; size=5; name=\"file\"; x=\"y\"", "file", NULL},
        {"python 2", "form-data; name=\"file\"; filename*=utf-8''na%C3%AFve.txt", "file",
         "na\xC3\xAFve.txt"},
        {"with a language", "form-data; name=\"file\"; filename*=UTF-8'en'a%20b", "file", "a b"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct disposition disposition;
        struct err err;
        CHECK_ERR_ROW(rows[i].client, disposition_parse(&disposition, str_of(rows[i].value), &err),
                      ERR_OK, &err);
        CHECK_STR_ROW(rows[i].client, str_of(disposition.name), rows[i].name);
        CHECK_INT_ROW(rows[i].client, disposition.has_filename, rows[i].filename != NULL);
        CHECK_STR_ROW(rows[i].client, buf_str(&disposition.filename), rows[i].filename);
        disposition_release(&disposition);
    }
}

TEST(disposition, abuse_25_names_round_trip)
{
    static const struct {
        const char *label, *parameter, *want;
    } rows[] = {
        {"quote, as curl escapes it", "filename=\"a\\\"b\"", "a\"b"},
        {"backslash", "filename=\"a\\b\"", "a\\b"},
        {"two backslashes stay two", "filename=\"a\\\\b\"", "a\\\\b"},
        {"a backslash at the end", "filename=\"a\\\"", "a\\"},
        {"semicolon", "filename=\"a;b\"", "a;b"},
        {"semicolon and what looks like a parameter", "filename=\"a; name=b\"", "a; name=b"},
        {"an encoded quote stays", "filename=\"%22\"", "%22"},
        {"encoded line ends stay", "filename=\"a%0D%0Ab\"", "a%0D%0Ab"},
        {"a lone percent stays", "filename=\"100%\"", "100%"},
        {"emoji", "filename=\"\xF0\x9F\x98\x80.png\"", "\xF0\x9F\x98\x80.png"},
        {"leading dash", "filename=\"-rf\"", "-rf"},
        {"trailing dot and space", "filename=\"a. \"", "a. "},
        {"equals", "filename=\"a=b\"", "a=b"},
        {"extended", "filename*=UTF-8''%22%5C%3B%25%F0%9F%98%80", "\"\\;%\xF0\x9F\x98\x80"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct disposition disposition;
        struct buf value;
        struct err err;
        char target[LIMIT_NAME_BYTES + 1] = "";
        buf_init(&value, 512);
        buf_printf(&value, "form-data; name=\"file\"; %s", rows[i].parameter);
        CHECK_ERR_ROW(rows[i].label, disposition_parse(&disposition, buf_str(&value), &err), ERR_OK,
                      &err);
        CHECK_STR_ROW(rows[i].label, buf_str(&disposition.filename), rows[i].want);
        CHECK_ERR_ROW(rows[i].label,
                      file_name_from_path(buf_str(&disposition.filename), target, &err), ERR_OK,
                      &err);
        CHECK_STR_ROW(rows[i].label, str_of(target), rows[i].want);
        disposition_release(&disposition);
        buf_release(&value);
    }
}

TEST(disposition, the_extended_name_wins_in_either_order)
{
    static const char *const rows[] = {
        "form-data; name=\"file\"; filename=\"plain\"; filename*=UTF-8''ext%C3%A4",
        "form-data; name=\"file\"; filename*=UTF-8''ext%C3%A4; filename=\"plain\"",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct disposition disposition;
        struct err err;
        CHECK_ERR_ROW(rows[i], disposition_parse(&disposition, str_of(rows[i]), &err), ERR_OK,
                      &err);
        CHECK_STR_ROW(rows[i], buf_str(&disposition.filename), "ext\xC3\xA4");
        disposition_release(&disposition);
    }
}

TEST(disposition, abuse_16_and_20_refuses_what_is_malformed)
{
    static const char *const rows[] = {
        "",
        ";",
        "attachment; name=\"file\"",
        "form-data name=\"file\"",
        "form-dataX; name=\"f\"",
        "form-data; name",
        "form-data; name=",
        "form-data; =\"f\"",
        "form-data; name=\"f",
        "form-data; name=\"f\"x",
        "form-data; name=\"f\" x=\"y\"",
        "form-data; name =\"f\"",
        "form-data; name= \"f\"",
        "form-data; name=a b",
        "form-data; name=a/b",
        "form-data; name=\"a\"; name=\"b\"",
        "form-data; name=\"a\"; NAME=\"a\"",
        "form-data; name=\"f\"; filename=\"a\"; filename=\"b\"",
        "form-data; name=\"f\"; filename*=UTF-8''a; filename*=UTF-8''b",
        "form-data; x=1; x=2; name=\"f\"",
        "form-data, name=\"f\"",
        "form-data; name=\"f\"; filename*=UTF-8''%zz",
        "form-data; filename*=UTF-8''a%2",
        "form-data; filename*=UTF-8''%",
        "form-data; filename*=UTF-8'a",
        "form-data; filename*=a",
        "form-data; filename*=latin1''a",
        "form-data; filename*=''a",
        "form-data; filename*=\"UTF-8''a\"",
        "form-data; filename*=UTF-8''a'b",
        "form-data; filename*=UTF-8''\xC3\xA4",
        "form-data; filename*=UTF-8''a/b",
        "form-data; a=1; b=2; c=3; d=4; e=5; f=6; g=7; h=8; i=9",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct disposition disposition;
        struct err err;
        CHECK_ERR_ROW(rows[i], disposition_parse(&disposition, str_of(rows[i]), &err),
                      ERR_BAD_MULTIPART, &err);
        disposition_release(&disposition);
    }
}

TEST(disposition, abuse_21_an_encoded_nul_in_a_name_is_refused)
{
    static const char *const rows[] = {
        "form-data; name=\"file\"; filename=\"a.txt%00.png\"",
        "form-data; name=\"file\"; filename=\"%00\"; filename*=UTF-8''a",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct disposition disposition;
        struct err err;
        CHECK_ERR_ROW(rows[i], disposition_parse(&disposition, str_of(rows[i]), &err), ERR_BAD_NAME,
                      &err);
        disposition_release(&disposition);
    }
}

static enum err_code parse_field_of(size_t len)
{
    struct disposition disposition;
    struct buf value;
    struct err err;
    buf_init(&value, 1024);
    buf_append_text(&value, "form-data; name=\"");
    for (size_t i = 0; i < len; i++)
        buf_append_char(&value, 'n');
    buf_append_char(&value, '"');
    enum err_code code = disposition_parse(&disposition, buf_str(&value), &err);
    disposition_release(&disposition);
    buf_release(&value);
    return code;
}

TEST(disposition, the_field_name_is_bounded)
{
    CHECK_INT(parse_field_of(255), ERR_OK);
    CHECK_INT(parse_field_of(256), ERR_BAD_MULTIPART);
}

TEST(disposition, abuse_5_a_run_of_backslashes_takes_linear_time)
{
    static char value[200000];
    struct disposition disposition;
    struct err err;
    memset(value, '\\', sizeof value);
    memcpy(value, "form-data; name=\"", 17);
    CHECK_ERR(disposition_parse(&disposition, (struct str){value, sizeof value}, &err),
              ERR_BAD_MULTIPART, &err);
    disposition_release(&disposition);
}

TEST(file_name, abuse_22_keeps_the_base_name)
{
    static const struct {
        const char *sent, *want;
    } rows[] = {
        {"a.txt", "a.txt"},     {"../../etc/passwd", "passwd"},
        {"/abs", "abs"},        {"a/b/c d", "c d"},
        {"C:\\x", "x"},         {"c:\\dir\\x.txt", "x.txt"},
        {"..\\..\\x", "x"},     {"dir\\..\\x", "x"},
        {"up/..\\x", "x"},      {"a\\b", "a\\b"},
        {"a\\", "a\\"},         {"..\\a\\b", "b"},
        {"dir/C:\\x", "x"},     {"..a\\b", "..a\\b"},
        {"C:x", "C:x"},         {"1:\\x", "1:\\x"},
        {"...", "..."},         {" ", " "},
        {".hidden", ".hidden"}, {"%2e%2e%2f", "%2e%2e%2f"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char target[LIMIT_NAME_BYTES + 1] = "";
        struct err err;
        CHECK_ERR_ROW(rows[i].sent, file_name_from_path(str_of(rows[i].sent), target, &err), ERR_OK,
                      &err);
        CHECK_STR_ROW(rows[i].sent, str_of(target), rows[i].want);
    }
}

TEST(file_name, abuse_19_to_23_refuses_what_is_no_name)
{
    const struct {
        const char *label;
        struct str sent;
    } rows[] = {
        {"empty", STR("")},
        {"dot", STR(".")},
        {"dots", STR("..")},
        {"only a path", STR("a/")},
        {"root", STR("/")},
        {"path to dots", STR("a/..")},
        {"drive alone", STR("C:\\")},
        {"climbing to nothing", STR("..\\")},
        {"NUL", STR("a\0b")},
        {"CR", STR("a\rb")},
        {"LF", STR("a\nb")},
        {"tab", STR("a\tb")},
        {"escape", STR("\x1b[31m")},
        {"DEL", STR("a\x7f")},
        {"C1", STR("a\xC2\x85"
                   "b")},
        {"RLO", STR("gpj.\xE2\x80\xAE"
                    "exe")},
        {"LRI", STR("a\xE2\x81\xA6"
                    "b")},
        {"PDI", STR("a\xE2\x81\xA9"
                    "b")},
        {"invalid", STR("a\xFF")},
        {"cut", STR("a\xC3")},
        {"overlong dot", STR("\xC0\xAE")},
        {"surrogate", STR("\xED\xA0\x80")},
        {"above Unicode", STR("\xF4\x90\x80\x80")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char target[LIMIT_NAME_BYTES + 1] = "unchanged";
        struct err err;
        CHECK_ERR_ROW(rows[i].label, file_name_from_path(rows[i].sent, target, &err), ERR_BAD_NAME,
                      &err);
    }
}

TEST(file_name, a_name_given_as_such_may_not_be_a_path)
{
    struct err err;
    CHECK_ERR(file_name_check(STR("a/b"), &err), ERR_BAD_NAME, &err);
    CHECK_ERR(file_name_check(STR("/"), &err), ERR_BAD_NAME, &err);
    CHECK_ERR(file_name_check(STR("C:\\a"), &err), ERR_OK, &err);
    CHECK_ERR(file_name_check(STR("\xE2\x80\x8E\xE2\x80\x8F\xD8\x9C"), &err), ERR_OK, &err);
    CHECK_ERR(file_name_check(STR("r\xC3\xA9sum\xC3\xA9"), &err), ERR_OK, &err);
    CHECK_ERR(file_name_check(STR("re\xCC\x81sume\xCC\x81"), &err), ERR_OK, &err);
}

TEST(file_name, abuse_24_up_to_255_bytes_never_cut)
{
    char name[LIMIT_NAME_BYTES + 2];
    char target[LIMIT_NAME_BYTES + 1];
    struct err err;
    for (size_t i = 0; i + 1 < sizeof name; i += 2)
        memcpy(name + i, "\xC3\xA4", 2);
    CHECK_ERR(file_name_from_path((struct str){name, 254}, target, &err), ERR_OK, &err);
    CHECK_ERR(file_name_from_path((struct str){name, 255}, target, &err), ERR_BAD_NAME, &err);
    CHECK_ERR(file_name_from_path((struct str){name, 256}, target, &err), ERR_BAD_NAME, &err);
    memset(name, 'n', sizeof name);
    CHECK_ERR(file_name_from_path((struct str){name, 1}, target, &err), ERR_OK, &err);
    CHECK_ERR(file_name_from_path((struct str){name, 255}, target, &err), ERR_OK, &err);
    CHECK(strlen(target) == 255);
    CHECK_ERR(file_name_from_path((struct str){name, 256}, target, &err), ERR_BAD_NAME, &err);
}

TEST(disposition, abuse_73_writes_a_fallback_and_the_exact_name)
{
    static const struct {
        const char *name, *want;
    } rows[] = {
        {"a.txt", "attachment; filename=\"a.txt\""},
        {"a b;c=d'e,f.", "attachment; filename=\"a b;c=d'e,f.\""},
        {"a\"b", "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b"},
        {"a\\b", "attachment; filename=\"a_b\"; filename*=UTF-8''a%5Cb"},
        {"100%25", "attachment; filename=\"100_25\"; filename*=UTF-8''100%2525"},
        {"\xC3\xA4\xF0\x9F\x98\x80.png",
         "attachment; filename=\"__.png\"; filename*=UTF-8''%C3%A4%F0%9F%98%80.png"},
        {"a\r\nX: y", "attachment; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"},
        {"\xFF", "attachment; filename=\"_\"; filename*=UTF-8''%FF"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out;
        buf_init(&out, 1024);
        disposition_write(&out, false, str_of(rows[i].name));
        CHECK_STR_ROW(rows[i].name, buf_str(&out), rows[i].want);
        buf_release(&out);
    }
    struct buf out;
    buf_init(&out, 1024);
    disposition_write(&out, true, STR("a.png"));
    CHECK_STR(buf_str(&out), "inline; filename=\"a.png\"");
    buf_release(&out);
}
