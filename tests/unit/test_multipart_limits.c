#include "check.h"
#include "form.h"

static void fill(struct buf *body, char byte, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_append_char(body, byte);
}

static enum err_code read_with(const char *before, size_t before_len, const char *body_text,
                               size_t after_len)
{
    struct buf body;
    struct buf out;
    struct err err;
    buf_init(&body, 64 * 1024 * 1024);
    buf_init(&out, 4096);
    fill(&body, 'p', before_len);
    buf_append_text(&body, before);
    buf_append_text(&body, body_text);
    fill(&body, 'e', after_len);
    enum err_code code = form_read_whole(FORM_TYPE, buf_str(&body), &out, &err);
    struct pieces bytes = {.data = buf_str(&body), .step = 1};
    struct err ignored;
    if (body.len < 100000)
        CHECK_INT(form_read(FORM_TYPE, &bytes, &out, &ignored), code);
    buf_release(&body);
    buf_release(&out);
    return code;
}

TEST(multipart, abuse_10_preamble_and_epilogue_are_bounded)
{
    static const char form[] = FORM_OPEN "x" FORM_CLOSE;
    CHECK_INT(read_with("\r\n", LIMIT_PREAMBLE_BYTES - 2, form, 0), ERR_OK);
    CHECK_INT(read_with("\r\n", LIMIT_PREAMBLE_BYTES - 1, form, 0), ERR_BAD_MULTIPART);
    CHECK_INT(read_with("\r\n", 3 * 1024 * 1024, form, 0), ERR_BAD_MULTIPART);
    CHECK_INT(read_with("", 0, form, LIMIT_PREAMBLE_BYTES), ERR_OK);
    CHECK_INT(read_with("", 0, form, LIMIT_PREAMBLE_BYTES + 1), ERR_BAD_MULTIPART);
    CHECK_INT(read_with("", 0, form, 3 * 1024 * 1024), ERR_BAD_MULTIPART);
}

static enum err_code read_padding_of(size_t len, const char *tail)
{
    struct buf body;
    struct buf out;
    struct err err;
    buf_init(&body, 4096);
    buf_init(&out, 4096);
    buf_append_text(&body, FORM_OPEN "x\r\n--XyZ");
    if (*tail == '-')
        buf_append_text(&body, "--");
    fill(&body, ' ', len);
    buf_append_text(&body, *tail == '-' ? tail + 2 : tail);
    enum err_code code = form_read_whole(FORM_TYPE, buf_str(&body), &out, &err);
    buf_release(&body);
    buf_release(&out);
    return code;
}

TEST(multipart, padding_behind_a_boundary_is_bounded)
{
    static const char next[] = "\r\n" FORM_DISPOSITION "\r\ny" FORM_CLOSE;
    CHECK_INT(read_padding_of(64, next), ERR_OK);
    CHECK_INT(read_padding_of(65, next), ERR_BAD_MULTIPART);
    CHECK_INT(read_padding_of(64, "--"), ERR_OK);
    CHECK_INT(read_padding_of(65, "--"), ERR_BAD_MULTIPART);
    CHECK_INT(read_padding_of(64, "--\r\n"), ERR_OK);
}

static enum err_code read_parts(size_t count)
{
    struct buf body;
    struct buf out;
    struct err err;
    buf_init(&body, 16 * 1024 * 1024);
    buf_init(&out, 16 * 1024);
    for (size_t i = 0; i < count; i++)
        buf_append_text(&body, FORM_OPEN "x\r\n");
    buf_append_text(&body, "--XyZ--\r\n");
    enum err_code code = form_read_whole(FORM_TYPE, buf_str(&body), &out, &err);
    buf_release(&body);
    buf_release(&out);
    return code;
}

TEST(multipart, abuse_11_the_number_of_parts_is_bounded)
{
    CHECK_INT(read_parts(LIMIT_PARTS), ERR_OK);
    CHECK_INT(read_parts(LIMIT_PARTS + 1), ERR_BAD_MULTIPART);
    CHECK_INT(read_parts(100000), ERR_BAD_MULTIPART);
}

/* A part with `count` headers more, the last value of `len` bytes. */
static enum err_code read_headers(size_t count, size_t len)
{
    struct buf body;
    buf_init(&body, 4 * 1024 * 1024);
    buf_append_text(&body, "--XyZ\r\n" FORM_DISPOSITION);
    for (size_t i = 1; i <= count; i++) {
        buf_printf(&body, "X-%zu: ", i);
        fill(&body, 'v', i == count ? len : 1);
        buf_append_text(&body, "\r\n");
    }
    buf_append_text(&body, "\r\nx" FORM_CLOSE);
    enum err_code code = read_with("", 0, buf_text(&body), 0);
    buf_release(&body);
    return code;
}

TEST(multipart, abuse_12_the_headers_of_a_part_are_bounded)
{
    /* all header lines with their line ends, and the empty line */
    size_t others = strlen(FORM_DISPOSITION "X-1: \r\n\r\n");
    CHECK_INT(read_headers(LIMIT_PART_HEADERS - 1, 1), ERR_OK);
    CHECK_INT(read_headers(LIMIT_PART_HEADERS, 1), ERR_BAD_MULTIPART);
    CHECK_INT(read_headers(10000, 1), ERR_BAD_MULTIPART);
    CHECK_INT(read_headers(1, LIMIT_PART_HEADER_BYTES - others), ERR_OK);
    CHECK_INT(read_headers(1, LIMIT_PART_HEADER_BYTES - others + 1), ERR_BAD_MULTIPART);
    CHECK_INT(read_headers(1, 1024 * 1024), ERR_BAD_MULTIPART);
}

static const char split_form[] =
    "pre\r\n--XyZ\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"a\":\"\\r\"}\r\n"
    "--XyZ \r\nContent-Type: a/b\r\n" FORM_DISPOSITION
    "\r\n\r\n--Xy\r\n--Xy\r\r\n--X\r\n\r\n--XyZ--  \r\nend";
static const char split_want[] =
    "[metadata|{\"a\":\"\\r\"}][file a (a/b)|\r\n--Xy\r\n--Xy\r\r\n--X\r\n]";

TEST(multipart, abuse_14_the_body_may_be_cut_at_every_offset)
{
    const struct str body = {split_form, sizeof split_form - 1};
    for (size_t first = 1; first <= body.len; first++) {
        for (size_t step = 1; step <= body.len; step = step < 8 ? step + 1 : step * 2) {
            struct pieces pieces = {.data = body, .first = first, .step = step};
            struct buf out;
            struct err err;
            buf_init(&out, 4096);
            CHECK_ERR(form_read(FORM_TYPE, &pieces, &out, &err), ERR_OK, &err);
            CHECK_STR(buf_str(&out), split_want);
            buf_release(&out);
        }
    }
}

TEST(multipart, abuse_8_a_body_that_ends_early_is_refused_at_every_offset)
{
    const struct str body = {split_form, sizeof split_form - 1};
    size_t closed = (size_t)(strstr(split_form, "--XyZ--  ") - split_form) + strlen("--XyZ--");
    for (size_t len = 0; len < closed; len++) {
        struct pieces pieces = {.data = {body.data, len}, .step = 7};
        struct buf out;
        struct err err;
        buf_init(&out, 4096);
        CHECK_ERR(form_read(FORM_TYPE, &pieces, &out, &err), ERR_BAD_MULTIPART, &err);
        buf_release(&out);
    }
}

TEST(multipart, an_error_of_the_source_is_passed_on_at_every_offset)
{
    const struct str body = {split_form, sizeof split_form - 1};
    for (size_t len = 0; len <= body.len; len++) {
        struct pieces pieces = {.data = {body.data, len}, .step = 7, .end = ERR_CLIENT_GONE};
        struct buf out;
        struct err err;
        buf_init(&out, 4096);
        CHECK_ERR(form_read(FORM_TYPE, &pieces, &out, &err), ERR_CLIENT_GONE, &err);
        buf_release(&out);
    }
}

/* A file of `len` pattern bytes, full of beginnings of a boundary. */
static void fill_pattern(struct buf *body, size_t len)
{
    static const char pattern[] = "\r\n--Xy\r\r\n-\r\n--XYZ 0123456789";
    for (size_t i = 0; i < len; i++)
        buf_append_char(body, pattern[i % (sizeof pattern - 1)]);
}

static void check_large(size_t len, size_t step)
{
    struct buf body;
    struct buf want;
    struct buf out;
    struct err err;
    buf_init(&body, len + 1024);
    buf_init(&want, len + 1024);
    buf_init(&out, len + 1024);
    buf_append_text(&want, "[file a|");
    fill_pattern(&want, len);
    buf_append_char(&want, ']');
    buf_append_text(&body, FORM_OPEN);
    fill_pattern(&body, len);
    buf_append_text(&body, FORM_CLOSE);
    struct pieces pieces = {.data = buf_str(&body), .step = step};
    CHECK_ERR(form_read(FORM_TYPE, &pieces, &out, &err), ERR_OK, &err);
    CHECK(str_equal(buf_str(&out), buf_str(&want)));
    buf_release(&body);
    buf_release(&want);
    buf_release(&out);
}

TEST(multipart, abuse_13_and_14_boundaries_around_every_end_of_the_window)
{
    for (size_t len = 65536 - 200; len < 65536 + 20; len++)
        check_large(len, 8192);
    for (size_t len = 32768 - 100; len < 32768 + 20; len++)
        check_large(len, 100000);
    check_large(300001, 1);
    check_large(300001, 4093);
}

TEST(multipart, pieces_of_a_large_part_are_large)
{
    static char data[1024 * 1024];
    struct pieces pieces = {.data = {data, sizeof data}, .step = 8192};
    struct multipart *multipart = NULL;
    struct multipart_part *part = NULL;
    struct str piece;
    struct err err;
    memset(data, 'x', sizeof data);
    memcpy(data, FORM_OPEN, strlen(FORM_OPEN));
    memcpy(data + sizeof data - strlen(FORM_CLOSE), FORM_CLOSE, strlen(FORM_CLOSE));
    pieces.source.next = pieces_next;
    REQUIRE(multipart_open(&multipart, STR(FORM_TYPE), &pieces.source, &err) == ERR_OK);
    REQUIRE(multipart_next(multipart, &part, &err) == ERR_OK && part);
    size_t count = 0;
    while (source_next(part->source, &piece, &err) == ERR_OK && piece.len > 0)
        count++;
    CHECK(count <= sizeof data / 32768 + 2);
    CHECK_ERR(multipart_next(multipart, &part, &err), ERR_OK, &err);
    CHECK(part == NULL);
    multipart_close(multipart);
    pieces_release(&pieces);
}

TEST(multipart, parts_that_are_not_read_are_skipped)
{
    struct pieces pieces = {.data = STR(FORM_OPEN "first\r\n" FORM_OPEN "second" FORM_CLOSE),
                            .step = 3};
    struct multipart *multipart = NULL;
    struct multipart_part *part = NULL;
    struct buf out;
    struct err err;
    buf_init(&out, 1024);
    pieces.source.next = pieces_next;
    REQUIRE(multipart_open(&multipart, STR(FORM_TYPE), &pieces.source, &err) == ERR_OK);
    CHECK_ERR(multipart_next(multipart, &part, &err), ERR_OK, &err);
    CHECK_ERR(multipart_next(multipart, &part, &err), ERR_OK, &err);
    CHECK_ERR(form_read_part(part, &out, &err), ERR_OK, &err);
    CHECK_STR(buf_str(&out), "[file a|second]");
    CHECK_ERR(multipart_next(multipart, &part, &err), ERR_OK, &err);
    CHECK(part == NULL);
    CHECK_ERR(multipart_next(multipart, &part, &err), ERR_OK, &err);
    CHECK(part == NULL);
    multipart_close(multipart);
    pieces_release(&pieces);
    buf_release(&out);
}

TEST(multipart, a_failure_is_final)
{
    struct pieces pieces = {.data = STR(FORM_OPEN "x\r\n--XyZ!"), .step = 3};
    struct multipart *multipart = NULL;
    struct multipart_part *part = NULL;
    struct str piece = {0};
    struct err err;
    pieces.source.next = pieces_next;
    REQUIRE(multipart_open(&multipart, STR(FORM_TYPE), &pieces.source, &err) == ERR_OK);
    REQUIRE(multipart_next(multipart, &part, &err) == ERR_OK && part);
    struct source *source = part->source;
    for (int i = 0; i < 3; i++) {
        CHECK_ERR(multipart_next(multipart, &part, &err), ERR_BAD_MULTIPART, &err);
        CHECK_TEXT(err.message, "Something follows a boundary on its line.");
    }
    CHECK_ERR(source_next(source, &piece, &err), ERR_BAD_MULTIPART, &err);
    multipart_close(multipart);
    pieces_release(&pieces);
}
