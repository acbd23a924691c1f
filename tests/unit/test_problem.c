#include "http/response.h"

#include <cjson/cJSON.h>

#include "check.h"

static const struct problem_context context = {
    .trace_id = "0123456789abcdef0123456789abcdef",
    .request_id = "req-1",
    .path = {"/api/files/upload", 17},
    .now_ms = 1795255200123,
};

static bool has_header(const struct response *response, const char *line)
{
    return strstr(buf_text(&response->headers), line) != NULL;
}

TEST(problem, the_body_has_the_members_of_the_contract_in_its_order)
{
    struct response response;
    struct err err;
    response_init(&response);
    err_set(&err, ERR_FILE_TOO_LARGE, "upload", "The file is larger than %d bytes.", 52428800);
    err_detail(&err, "limit", 52428800);
    problem_write(&response, &err, &context);
    CHECK_INT(response.status, 413);
    CHECK_STR(buf_str(&response.body),
              "{\"type\":\"about:blank\",\"title\":\"Payload Too Large\",\"status\":413,"
              "\"detail\":\"The file is larger than 52428800 bytes.\",\"code\":\"file_too_large\","
              "\"message\":\"The file is larger than 52428800 bytes.\","
              "\"traceId\":\"0123456789abcdef0123456789abcdef\",\"requestId\":\"req-1\","
              "\"ts\":\"2026-11-21T10:00:00.123Z\",\"path\":\"/api/files/upload\","
              "\"details\":{\"limit\":52428800}}");
    response_release(&response);
}

TEST(problem, the_headers_say_how_to_treat_it)
{
    struct response response;
    struct err err;
    response_init(&response);
    err_set(&err, ERR_NOT_FOUND, "get", "There is no such file.");
    problem_write(&response, &err, &context);
    CHECK(has_header(&response, "Content-Type: application/problem+json\r\n"));
    CHECK(has_header(&response, "Cache-Control: no-store\r\n"));
    CHECK(has_header(&response, "X-Content-Type-Options: nosniff\r\n"));
    CHECK(has_header(&response, "Accept-Ranges: none\r\n"));
    CHECK(!has_header(&response, "Retry-After"));
    CHECK(!has_header(&response, "WWW-Authenticate"));
    err_set(&err, ERR_UNAUTHORIZED, "auth", "A token is needed.");
    problem_write(&response, &err, &context);
    CHECK(has_header(&response, "WWW-Authenticate: Bearer"));
    err_set(&err, ERR_METADATA_UNAVAILABLE, "list", "Try again.");
    problem_write(&response, &err, &context);
    CHECK(has_header(&response, "Retry-After: 5\r\n"));
    response_release(&response);
}

TEST(problem, it_replaces_what_was_said_before)
{
    struct response response;
    struct err err;
    response_init(&response);
    response_header_text(&response, "X-Old", "1");
    response_header_text(&response, "X-Bad", "\n");
    buf_append_text(&response.body, "old");
    buf_append_text(&response.sendfile_path, "/secret");
    err_set(&err, ERR_BAD_ID, "id", "The id is malformed.");
    problem_write(&response, &err, &context);
    CHECK(!response.failed);
    CHECK(!has_header(&response, "X-Old"));
    CHECK(response.sendfile_path.len == 0);
    CHECK_INT(response.body.data[0], '{');
    response_release(&response);
}

TEST(problem, abuse_76_a_path_of_any_bytes_gives_valid_json_without_controls)
{
    static const char path[] = "/a\"\\\n\x1b[31m\xFF\xC2\x9B\x7F\0z";
    struct problem_context hostile = context;
    struct response response;
    struct err err;
    hostile.path = (struct str){path, sizeof path - 1};
    response_init(&response);
    err_set(&err, ERR_BAD_REQUEST, "request", "No.");
    problem_write(&response, &err, &hostile);
    for (size_t i = 0; i < response.body.len; i++)
        CHECK((unsigned char)response.body.data[i] >= 0x20 && response.body.data[i] != 0x7F);
    CHECK(strstr(buf_text(&response.body), "\"path\":\"/a\\\"\\\\\\n\\u001b[31m\xEF\xBF\xBD"
                                           "\\u009b\\u007f\\u0000z\"") != NULL);
    response_release(&response);
}

TEST(problem, what_is_internal_stays_inside)
{
    struct response response;
    struct err err;
    response_init(&response);
    err_set_internal(&err, ERR_INTERNAL, 5, "open", "/secret/path: SELECT 1");
    problem_write(&response, &err, &context);
    CHECK_INT(response.status, 500);
    CHECK(strstr(buf_text(&response.body), "secret") == NULL);
    CHECK(strstr(buf_text(&response.body), "\"details\":{}") != NULL);
    response_release(&response);
}

TEST(problem, every_code_gives_an_answer_with_an_error_status)
{
    for (enum err_code code = ERR_OK; code < ERR_CODE_COUNT; code++) {
        struct response response;
        struct err err;
        response_init(&response);
        err_set(&err, code, "test", "A message.");
        problem_write(&response, &err, &context);
        CHECK_ROW(err_info(code)->code, response.status >= 400);
        cJSON *body = cJSON_Parse(buf_text(&response.body));
        const cJSON *status = cJSON_GetObjectItemCaseSensitive(body, "status");
        CHECK_ROW(err_info(code)->code, status && status->valueint == response.status);
        cJSON_Delete(body);
        response_release(&response);
    }
}

TEST(problem, errors_of_the_gateway_keep_their_status)
{
    static const struct {
        int status;
        const char *code;
    } rows[] = {
        {400, "bad_request"},         {403, "forbidden"},        {404, "not_found"},
        {405, "method_not_allowed"},  {411, "length_required"},  {413, "file_too_large"},
        {431, "headers_too_large"},   {500, "internal"},         {501, "not_implemented"},
        {503, "storage_unavailable"}, {504, "upstream_timeout"}, {505, "http_version"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err;
        enum err_code code = problem_of_status(rows[i].status, &err);
        CHECK_INT_ROW(rows[i].code, err.code, code);
        CHECK_INT_ROW(rows[i].code, err_info(code)->status, rows[i].status);
        CHECK_STR_ROW(rows[i].code, str_of(err_info(code)->code), rows[i].code);
    }
}

TEST(problem, an_unknown_status_of_the_gateway_is_internal)
{
    static const int rows[] = {0, 200, 302, 402, 418, 502, 599, -1};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err;
        CHECK_INT(problem_of_status(rows[i], &err), ERR_INTERNAL);
        CHECK_INT(err.code, ERR_INTERNAL);
    }
}

TEST(problem, a_missing_length_is_told_where_to_go)
{
    struct err err;
    CHECK_INT(problem_of_status(411, &err), ERR_LENGTH_REQUIRED);
    CHECK(strstr(err_public_message(&err), "/api/files/pipe/") != NULL);
}
