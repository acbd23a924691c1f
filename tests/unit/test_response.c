#include "http/response.h"

#include "check.h"

static void check_head(const char *label, const struct response *response, const char *want)
{
    struct buf head;
    struct err err;
    buf_init(&head, RESPONSE_HEADERS_MAX);
    CHECK_ERR_ROW(label, response_head(response, &head, &err), ERR_OK, &err);
    CHECK_STR_ROW(label, buf_str(&head), want);
    buf_release(&head);
}

static void check_refused(const char *label, const struct response *response)
{
    struct buf head;
    struct err err;
    buf_init(&head, RESPONSE_HEADERS_MAX);
    CHECK_ERR_ROW(label, response_head(response, &head, &err), ERR_INTERNAL, &err);
    buf_release(&head);
}

TEST(response, a_body_is_sent_with_its_length)
{
    struct response response;
    response_init(&response);
    check_head("empty", &response, "Status: 200 OK\r\nContent-Length: 0\r\n\r\n");
    response.status = 201;
    response_header_text(&response, "Location", "/api/files/x");
    response_header_int(&response, "Retry-After", -5);
    buf_append_text(&response.body, "hello");
    check_head("body", &response,
               "Status: 201 Created\r\nLocation: /api/files/x\r\nRetry-After: -5\r\n"
               "Content-Length: 5\r\n\r\n");
    response_release(&response);
}

static enum err_code end_at_once(struct source *source, struct str *ret_piece, struct err *err)
{
    (void)source;
    (void)err;
    *ret_piece = (struct str){"", 0};
    return ERR_OK;
}

TEST(response, a_length_is_said_only_where_one_is_known_and_allowed)
{
    struct source source = {end_at_once};
    struct response response;
    response_init(&response);
    response.source = &source;
    check_head("source of unknown length", &response, "Status: 200 OK\r\n\r\n");
    response.content_length = 0;
    check_head("empty source", &response, "Status: 200 OK\r\nContent-Length: 0\r\n\r\n");
    response.content_length = INT64_MAX;
    check_head("large source", &response,
               "Status: 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n");
    response.status = 304;
    check_head("304", &response, "Status: 304 Not Modified\r\n\r\n");
    response.status = 204;
    check_head("204", &response, "Status: 204 No Content\r\n\r\n");
    response_release(&response);
}

TEST(response, a_file_is_named_for_the_gateway_which_decodes_the_path)
{
    struct response response;
    response_init(&response);
    response.content_length = 5;
    buf_append_text(&response.sendfile_path, "/data dir/100%/\xC3\xA4\r\n+/a-b_c.d~");
    check_head("path", &response,
               "Status: 200 OK\r\nX-Sendfile: /data%20dir/100%25/%C3%A4%0D%0A%2B/a-b_c.d~\r\n\r\n");
    response_release(&response);
}

TEST(response, abuse_73_a_header_with_control_characters_is_left_out_and_the_answer_fails)
{
    static const struct {
        const char *name, *value;
    } rows[] = {
        {"X-A", "a\r\nSet-Cookie: b"},
        {"X-A", "a\nb"},
        {"X-A", "a\rb"},
        {"X-A", "a\tb"},
        {"X-A", "\x1b[31m"},
        {"X-A", "a\x7f"},
        {"X A", "a"},
        {"X-A:", "a"},
        {"", "a"},
        {"X-A\r\nX-B", "a"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct response response;
        response_init(&response);
        response_header_text(&response, rows[i].name, rows[i].value);
        CHECK_ROW(rows[i].value, response.failed);
        CHECK_ROW(rows[i].value, response.headers.len == 0);
        check_refused(rows[i].value, &response);
        response_release(&response);
    }
    struct response response;
    response_init(&response);
    response_header(&response, "X-Nul", (struct str){"a\0b", 3});
    check_refused("NUL", &response);
    response_release(&response);
}

TEST(response, headers_are_bounded)
{
    static char value[1024];
    struct response response;
    memset(value, 'a', sizeof value - 1);
    response_init(&response);
    for (int i = 0; i < 17; i++)
        response_header_text(&response, "X-Long", value);
    check_refused("17 KiB", &response);
    response_release(&response);
}

TEST(response, a_head_that_does_not_fit_is_refused)
{
    struct response response;
    struct buf head;
    struct err err;
    response_init(&response);
    buf_init(&head, 10);
    CHECK_ERR(response_head(&response, &head, &err), ERR_INTERNAL, &err);
    buf_release(&head);
    response_release(&response);
}

TEST(response, reset_forgets_all_that_was_said)
{
    struct source source = {end_at_once};
    struct response response;
    response_init(&response);
    response.status = 404;
    response.source = &source;
    response.content_length = 7;
    response_header_text(&response, "X-Bad", "\n");
    response_header_text(&response, "X-Good", "a");
    buf_append_text(&response.body, "body");
    buf_append_text(&response.sendfile_path, "/x");
    response_reset(&response);
    check_head("reset", &response, "Status: 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(response.source == NULL);
    response_release(&response);
}

TEST(response, every_status_of_the_error_table_has_the_phrase_of_its_title)
{
    struct response response;
    char want[128];
    response_init(&response);
    for (enum err_code code = ERR_BAD_REQUEST; code < ERR_CODE_COUNT; code++) {
        const struct err_info *info = err_info(code);
        response.status = info->status;
        snprintf(want, sizeof want, "Status: %d %s\r\nContent-Length: 0\r\n\r\n", info->status,
                 info->title);
        check_head(info->code, &response, want);
    }
    response.status = 299;
    check_head("nobody's", &response, "Status: 299 \r\nContent-Length: 0\r\n\r\n");
    response_release(&response);
}
