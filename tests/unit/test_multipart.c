#include "check.h"
#include "form.h"

static void check_form(const char *label, struct str body, const char *want)
{
    struct buf out;
    struct err err;
    buf_init(&out, 1024 * 1024);
    CHECK_ERR_ROW(label, form_read_whole(FORM_TYPE, body, &out, &err), ERR_OK, &err);
    CHECK_STR_ROW(label, buf_str(&out), want);
    buf_release(&out);
}

/* Refused whole and byte by byte. */
static void check_refused(const char *label, struct str body)
{
    struct pieces bytes = {.data = body, .step = 1};
    struct buf out;
    struct err err;
    buf_init(&out, 1024 * 1024);
    CHECK_ERR_ROW(label, form_read_whole(FORM_TYPE, body, &out, &err), ERR_BAD_MULTIPART, &err);
    CHECK_ERR_ROW(label, form_read(FORM_TYPE, &bytes, &out, &err), ERR_BAD_MULTIPART, &err);
    buf_release(&out);
}

TEST(multipart, reads_parts_in_their_order)
{
    check_form("one", STR(FORM_OPEN "hello" FORM_CLOSE), "[file a|hello]");
    check_form("empty file", STR(FORM_OPEN FORM_CLOSE), "[file a|]");
    check_form("no line end at the end", STR(FORM_OPEN "x\r\n--XyZ--"), "[file a|x]");
    check_form("three",
               STR("--XyZ\r\nContent-Disposition: form-data; name=\"visibility\"\r\n\r\npublic\r\n"
                   "--XyZ\r\nContent-Type: text/PLAIN; charset=utf-8\r\n" FORM_DISPOSITION
                   "\r\n\r\n\r\n\r\n--XyZ\r\nX-Other: 1\r\n" FORM_DISPOSITION "\r\nb" FORM_CLOSE),
               "[visibility|public][file a (text/plain)|\r\n\r\n][file a|b]");
    check_form("preamble, padding, epilogue",
               STR("preamble\r\n--XyZ \t\r\n" FORM_DISPOSITION "\r\nx\r\n--XyZ--  \r\nepilogue"),
               "[file a|x]");
    check_form("headers of any case, without blanks",
               STR("--XyZ\r\ncontent-DISPOSITION:form-data;name=f;filename=g\r\n\r\nx" FORM_CLOSE),
               "[f g|x]");
    check_form(
        "an encoding that changes nothing",
        STR("--XyZ\r\n" FORM_DISPOSITION "Content-Transfer-Encoding: Binary\r\n\r\nx" FORM_CLOSE),
        "[file a|x]");
}

TEST(multipart, abuse_14_what_only_looks_like_a_boundary_is_data)
{
    static const char *const rows[] = {
        "--XyZ",
        "x--XyZ--",
        "\n--XyZ\n",
        "\r\n--XyY\r\n",
        "\r\n-XyZ",
        "\r\n--Xy\r\n--Xy",
        "\r\r\n--",
        "\r\n\r\n-",
        "\r\n--XY",
        "\r",
        "\n",
        "\r\n",
        "-",
        "\r\n--",
        "--xyz",
        "\r\n--Xy\r\n--Xy\r\n--Xy\r\n--Xy\r\n--Xy\r\n--Xy\r\n--Xy\r\n--Xy\r\n--Xy\r\n-",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf body;
        struct buf want;
        buf_init(&body, 4096);
        buf_init(&want, 4096);
        buf_printf(&body, FORM_OPEN "d%s" FORM_CLOSE, rows[i]);
        buf_printf(&want, "[file a|d%s]", rows[i]);
        check_form(rows[i], buf_str(&body), buf_text(&want));
        buf_release(&body);
        buf_release(&want);
    }
}

static const struct {
    const char *content_type;
    enum err_code code;
} content_types[] = {
    {"multipart/form-data; boundary=XyZ", ERR_OK},
    {"Multipart/Form-Data;BOUNDARY=XyZ", ERR_OK},
    {"multipart/form-data; charset=utf-8; boundary=\"XyZ\"", ERR_OK},
    {"multipart/form-data ; boundary=XyZ ; charset=\"a;b\"", ERR_OK},
    {"", ERR_UNSUPPORTED_MEDIA_TYPE},
    {"text/plain", ERR_UNSUPPORTED_MEDIA_TYPE},
    {"multipart/mixed; boundary=XyZ", ERR_UNSUPPORTED_MEDIA_TYPE},
    {"multipart/form-datax; boundary=XyZ", ERR_UNSUPPORTED_MEDIA_TYPE},
    {"application/x-www-form-urlencoded", ERR_UNSUPPORTED_MEDIA_TYPE},
    {"multipart/form-data", ERR_BAD_MULTIPART},
    {"multipart/form-data;", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=\"\"", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=\"XyZ ", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=\"XyZ \"", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=Xy\"Z", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=XyZ; boundary=XyZ", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=a; Boundary=XyZ", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=XyZ, multipart/form-data; boundary=b", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=X{Z", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=\"X\\yZ\"", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary=X\xC3\xA4", ERR_BAD_MULTIPART},
    {"multipart/form-data; a=\"\\\\\"; boundary=XyZ", ERR_BAD_MULTIPART},
    {"multipart/form-data; boundary = XyZ", ERR_BAD_MULTIPART},
    {"multipart/form-data boundary=XyZ", ERR_UNSUPPORTED_MEDIA_TYPE},
};

TEST(multipart, abuse_1_to_4_the_content_type_names_one_boundary)
{
    for (size_t i = 0; i < sizeof content_types / sizeof *content_types; i++) {
        const char *content_type = content_types[i].content_type;
        struct buf out;
        struct err err;
        buf_init(&out, 4096);
        CHECK_ERR_ROW(content_type,
                      form_read_whole(content_type, STR(FORM_OPEN "x" FORM_CLOSE), &out, &err),
                      content_types[i].code, &err);
        buf_release(&out);
    }
}

static enum err_code read_boundary_of(size_t len)
{
    char boundary[128];
    struct buf type;
    struct buf body;
    struct buf out;
    struct err err;
    buf_init(&type, 1024);
    buf_init(&body, 1024);
    buf_init(&out, 1024);
    memset(boundary, '=', sizeof boundary);
    boundary[len] = '\0';
    buf_printf(&type, "multipart/form-data; boundary=\"%s\"", boundary);
    buf_printf(&body, "--%s\r\n" FORM_DISPOSITION "\r\nx\r\n--%s--", boundary, boundary);
    enum err_code code = form_read_whole(buf_text(&type), buf_str(&body), &out, &err);
    if (code == ERR_OK)
        CHECK_STR(buf_str(&out), "[file a|x]");
    buf_release(&type);
    buf_release(&body);
    buf_release(&out);
    return code;
}

TEST(multipart, abuse_3_a_boundary_has_1_to_70_characters)
{
    CHECK_INT(read_boundary_of(1), ERR_OK);
    CHECK_INT(read_boundary_of(70), ERR_OK);
    CHECK_INT(read_boundary_of(71), ERR_BAD_MULTIPART);
}

TEST(multipart, every_character_rfc_2046_allows_may_stand_in_a_boundary)
{
    struct buf out;
    struct err err;
    buf_init(&out, 4096);
    CHECK_ERR(
        form_read_whole("multipart/form-data; boundary=\"aZ0'()+_,-./:=? !\"", STR(""), &out, &err),
        ERR_BAD_MULTIPART, &err);
    CHECK_TEXT(err.message, "The boundary holds a character that RFC 2046 does not allow.");
    CHECK_ERR(form_read_whole(
                  "multipart/form-data; boundary=\"aZ0'()+_,-./:= ?\"",
                  STR("--aZ0'()+_,-./:= ?\r\n" FORM_DISPOSITION "\r\nx\r\n--aZ0'()+_,-./:= ?--"),
                  &out, &err),
              ERR_OK, &err);
    buf_release(&out);
}

TEST(multipart, abuse_5_a_run_of_backslashes_takes_linear_time)
{
    static char type[200000];
    struct pieces pieces = {.step = 1};
    struct multipart *multipart = NULL;
    struct err err;
    memset(type, '\\', sizeof type);
    memcpy(type, "multipart/form-data; boundary=\"", 31);
    pieces.source.next = pieces_next;
    CHECK_ERR(multipart_open(&multipart, (struct str){type, sizeof type}, &pieces.source, &err),
              ERR_BAD_MULTIPART, &err);
    CHECK(multipart == NULL);
}

/* A row whose bytes may hold a NUL. */
#define ROW(label, bytes)              \
    {                                  \
        (label),                       \
        {                              \
            (bytes), sizeof(bytes) - 1 \
        }                              \
    }

static const struct {
    const char *label;
    struct str body;
} malformed_bodies[] = {
    ROW("6 empty", ""),
    ROW("7 no boundary", "hello"),
    ROW("7 another boundary", "--abc\r\n" FORM_DISPOSITION "\r\nx\r\n--abc--"),
    ROW("7 no part", "--XyZ--\r\n"),
    ROW("7 not at the start of a line", " --XyZ\r\n" FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("8 no closing boundary", FORM_OPEN "hello"),
    ROW("8 cut within the boundary", FORM_OPEN "hello\r\n--Xy"),
    ROW("8 cut behind the boundary", FORM_OPEN "hello\r\n--XyZ"),
    ROW("8 cut within the dashes", FORM_OPEN "hello\r\n--XyZ-"),
    ROW("8 cut behind a boundary's line", FORM_OPEN "hello\r\n--XyZ\r\n"),
    ROW("8 cut within the headers", "--XyZ\r\nContent-Dispo"),
    ROW("8 cut behind the headers", FORM_OPEN),
    ROW("8 cut behind a header", "--XyZ\r\n" FORM_DISPOSITION),
    ROW("9 closing boundary behind a header", "--XyZ\r\n" FORM_DISPOSITION "--XyZ--\r\n"),
    ROW("9 boundary behind a header",
        "--XyZ\r\n" FORM_DISPOSITION "--XyZ\r\n" FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("9 no body", FORM_OPEN "--XyZ--\r\n"),
    ROW("9 no body, another part", FORM_OPEN "--XyZ\r\n" FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("text behind the boundary", "--XyZabc\r\n" FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("text behind a later boundary", FORM_OPEN "x\r\n--XyZabc\r\ny" FORM_CLOSE),
    ROW("text behind the closing boundary", FORM_OPEN "x\r\n--XyZ--y"),
    ROW("one dash", FORM_OPEN "x\r\n--XyZ-\r\n"),
    ROW("three dashes", FORM_OPEN "x\r\n--XyZ---\r\n"),
    ROW("15 LF behind the boundary", "--XyZ\n" FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("15 LF behind a header",
        "--XyZ\r\nContent-Disposition: form-data; name=f\n\r\nx" FORM_CLOSE),
    ROW("15 LF as the empty line", "--XyZ\r\n" FORM_DISPOSITION "\nx" FORM_CLOSE),
    ROW("15 LF behind the closing boundary", FORM_OPEN "x\r\n--XyZ--\n"),
    ROW("15 bare CR", "--XyZ\r\nX: a\rb\r\n" FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("15 two CRs", "--XyZ\r\nX: a\r\r\n" FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("15 folding",
        "--XyZ\r\nContent-Disposition: form-data;\r\n name=\"f\"\r\n\r\nx" FORM_CLOSE),
    ROW("15 folding of the first", "--XyZ\r\n " FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("15 no colon", "--XyZ\r\n" FORM_DISPOSITION "garbage\r\n\r\nx" FORM_CLOSE),
    ROW("15 no header name", "--XyZ\r\n" FORM_DISPOSITION ": x\r\n\r\nx" FORM_CLOSE),
    ROW("15 blank before the colon", "--XyZ\r\nContent-Disposition : form-data; name=f\r\n\r\n"
                                     "x" FORM_CLOSE),
    ROW("15 NUL in a value", "--XyZ\r\n" FORM_DISPOSITION "X: a\0b\r\n\r\nx" FORM_CLOSE),
    ROW("15 NUL in a name", "--XyZ\r\n" FORM_DISPOSITION "X\0: ab\r\n\r\nx" FORM_CLOSE),
    ROW("16 no headers", "--XyZ\r\n\r\nx" FORM_CLOSE),
    ROW("16 no Content-Disposition", "--XyZ\r\nContent-Type: a/b\r\n\r\nx" FORM_CLOSE),
    ROW("16 not form-data", "--XyZ\r\nContent-Disposition: attachment; name=f\r\n\r\nx" FORM_CLOSE),
    ROW("16 no name", "--XyZ\r\nContent-Disposition: form-data; filename=f\r\n\r\nx" FORM_CLOSE),
    ROW("16 empty name", "--XyZ\r\nContent-Disposition: form-data; name=\"\"\r\n\r\nx" FORM_CLOSE),
    ROW("16 two of them", "--XyZ\r\n" FORM_DISPOSITION FORM_DISPOSITION "\r\nx" FORM_CLOSE),
    ROW("18 two types", "--XyZ\r\n" FORM_DISPOSITION "Content-Type: a/b\r\ncontent-type: a/b\r\n"
                        "\r\nx" FORM_CLOSE),
    ROW("18 nested", "--XyZ\r\n" FORM_DISPOSITION "Content-Type: multipart/Mixed; boundary=b\r\n"
                     "\r\nx" FORM_CLOSE),
    ROW("18 base64",
        "--XyZ\r\n" FORM_DISPOSITION "Content-Transfer-Encoding: base64\r\n\r\nx" FORM_CLOSE),
    ROW("18 quoted-printable", "--XyZ\r\n" FORM_DISPOSITION
                               "Content-Transfer-Encoding: quoted-printable\r\n\r\nx" FORM_CLOSE),
    ROW("20 bad escape", "--XyZ\r\nContent-Disposition: form-data; name=f; "
                         "filename*=UTF-8''%zz\r\n\r\nx" FORM_CLOSE),
};

TEST(multipart, abuse_6_to_9_and_15_to_18_refuses_what_is_malformed)
{
    for (size_t i = 0; i < sizeof malformed_bodies / sizeof *malformed_bodies; i++)
        check_refused(malformed_bodies[i].label, malformed_bodies[i].body);
}

TEST(multipart, abuse_9_a_boundary_that_reads_like_a_header_is_none)
{
    struct buf out;
    struct err err;
    buf_init(&out, 1024);
    CHECK_ERR(form_read_whole("multipart/form-data; boundary=\"a:b\"",
                              STR("--a:b\r\n" FORM_DISPOSITION "--a:b\r\n\r\nx\r\n--a:b--"), &out,
                              &err),
              ERR_BAD_MULTIPART, &err);
    buf_release(&out);
}

TEST(multipart, abuse_20_and_26_what_must_be_taken)
{
    check_form("20 filename* alone",
               STR("--XyZ\r\nContent-Disposition: form-data; name=f; filename*=UTF-8''%C3%A4\r\n"
                   "\r\nx" FORM_CLOSE),
               "[f \xC3\xA4|x]");
    check_form("26 garbage type",
               STR("--XyZ\r\n" FORM_DISPOSITION "Content-Type: \x01 garbage\r\n\r\nx" FORM_CLOSE),
               "[file a|x]");
    check_form("26 empty type",
               STR("--XyZ\r\n" FORM_DISPOSITION "Content-Type:\r\n\r\nx" FORM_CLOSE), "[file a|x]");
}

TEST(multipart, abuse_26_a_type_that_is_too_long_is_none)
{
    struct buf body;
    buf_init(&body, 4096);
    buf_append_text(&body, "--XyZ\r\n" FORM_DISPOSITION "Content-Type: a/");
    for (int i = 0; i < 300; i++)
        buf_append_char(&body, 'b');
    buf_append_text(&body, "\r\n\r\nx" FORM_CLOSE);
    check_form("300 characters", buf_str(&body), "[file a|x]");
    buf_release(&body);
}
