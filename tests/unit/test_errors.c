#include <errno.h>
#include <stdio.h>

#include "base/text.h"
#include "check.h"

TEST(errors, table_says_what_the_contract_says)
{
    static const struct {
        const char *name;
        enum err_code in;
        int status;
        const char *code;
        const char *title;
    } rows[] = {
        {"bad request", ERR_BAD_REQUEST, 400, "bad_request", "Bad Request"},
        {"bad multipart", ERR_BAD_MULTIPART, 400, "bad_multipart", "Bad Request"},
        {"bad name", ERR_BAD_NAME, 400, "bad_name", "Bad Request"},
        {"bad id", ERR_BAD_ID, 400, "bad_id", "Bad Request"},
        {"bad parameter", ERR_BAD_PARAMETER, 400, "bad_parameter", "Bad Request"},
        {"bad json", ERR_BAD_JSON, 400, "bad_json", "Bad Request"},
        {"bad cursor", ERR_BAD_CURSOR, 400, "bad_cursor", "Bad Request"},
        {"unauthorized", ERR_UNAUTHORIZED, 401, "unauthorized", "Unauthorized"},
        {"forbidden", ERR_FORBIDDEN, 403, "forbidden", "Forbidden"},
        {"not found", ERR_NOT_FOUND, 404, "not_found", "Not Found"},
        {"method", ERR_METHOD_NOT_ALLOWED, 405, "method_not_allowed", "Method Not Allowed"},
        {"not acceptable", ERR_NOT_ACCEPTABLE, 406, "not_acceptable", "Not Acceptable"},
        {"timeout", ERR_REQUEST_TIMEOUT, 408, "request_timeout", "Request Timeout"},
        {"conflict", ERR_CONFLICT, 409, "conflict", "Conflict"},
        {"length", ERR_LENGTH_REQUIRED, 411, "length_required", "Length Required"},
        {"precondition", ERR_PRECONDITION_FAILED, 412, "precondition_failed",
         "Precondition Failed"},
        {"too large", ERR_FILE_TOO_LARGE, 413, "file_too_large", "Payload Too Large"},
        {"type", ERR_UNSUPPORTED_MEDIA_TYPE, 415, "unsupported_media_type",
         "Unsupported Media Type"},
        {"range", ERR_RANGE_NOT_SATISFIABLE, 416, "range_not_satisfiable", "Range Not Satisfiable"},
        {"digest", ERR_DIGEST_MISMATCH, 422, "digest_mismatch", "Unprocessable Content"},
        {"idempotency", ERR_IDEMPOTENCY_MISMATCH, 422, "idempotency_mismatch",
         "Unprocessable Content"},
        {"headers", ERR_HEADERS_TOO_LARGE, 431, "headers_too_large",
         "Request Header Fields Too Large"},
        {"internal", ERR_INTERNAL, 500, "internal", "Internal Server Error"},
        {"memory", ERR_NO_MEMORY, 500, "internal", "Internal Server Error"},
        {"not implemented", ERR_NOT_IMPLEMENTED, 501, "not_implemented", "Not Implemented"},
        {"version", ERR_HTTP_VERSION, 505, "http_version", "HTTP Version Not Supported"},
        {"storage", ERR_STORAGE, 502, "storage_error", "Bad Gateway"},
        {"storage away", ERR_STORAGE_UNAVAILABLE, 503, "storage_unavailable",
         "Service Unavailable"},
        {"metadata away", ERR_METADATA_UNAVAILABLE, 503, "metadata_unavailable",
         "Service Unavailable"},
        {"upstream nonsense", ERR_UPSTREAM, 502, "storage_error", "Bad Gateway"},
        {"upstream away", ERR_UPSTREAM_UNAVAILABLE, 503, "storage_unavailable",
         "Service Unavailable"},
        {"upstream", ERR_UPSTREAM_TIMEOUT, 504, "upstream_timeout", "Gateway Timeout"},
        {"disk full", ERR_DISK_FULL, 507, "disk_full", "Insufficient Storage"},
        {"client gone", ERR_CLIENT_GONE, 499, "client_gone", "Client Gone"},
        {"config", ERR_CONFIG, 500, "internal", "Internal Server Error"},
        {"exists", ERR_EXISTS, 500, "internal", "Internal Server Error"},
        {"busy", ERR_BUSY, 500, "internal", "Internal Server Error"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    CHECK_INT((int64_t)count, ERR_CODE_COUNT - 1); /* a new code needs a row here */
    for (size_t i = 0; i < count; i++) {
        const struct err_info *info = err_info(rows[i].in);
        /* A client can ask for any method and version. */
        bool is_ours = rows[i].status >= 500 && rows[i].status != 501 && rows[i].status != 505;
        CHECK_INT_ROW(rows[i].name, info->status, rows[i].status);
        CHECK_STR_ROW(rows[i].name, str_of(info->code), rows[i].code);
        CHECK_STR_ROW(rows[i].name, str_of(info->title), rows[i].title);
        CHECK_INT_ROW(rows[i].name, info->level, is_ours ? ERR_LEVEL_ERROR : ERR_LEVEL_INFO);
        CHECK_INT_ROW(rows[i].name, info->report, is_ours);
    }
}

TEST(errors, code_out_of_range_is_internal)
{
    CHECK(err_info(ERR_CODE_COUNT) == err_info(ERR_INTERNAL));
    CHECK(err_info((enum err_code) - 1) == err_info(ERR_INTERNAL));
}

TEST(errors, set_replaces_all_that_was_there)
{
    struct err err;
    memset(&err, 0xAA, sizeof err);
    CHECK_INT(err_set(&err, ERR_BAD_NAME, "parse", "The name is %s.", "empty"), ERR_BAD_NAME);
    CHECK_INT(err.code, ERR_BAD_NAME);
    CHECK_INT(err.os_errno, 0);
    CHECK_INT(err.remote_status, 0);
    CHECK(err.detail_name == NULL);
    CHECK(!err.internal);
    CHECK_TEXT(err.operation, "parse");
    CHECK_TEXT(err_public_message(&err), "The name is empty.");
}

TEST(errors, detail_is_kept)
{
    struct err err;
    err_set(&err, ERR_FILE_TOO_LARGE, "read", "Too large.");
    err_detail(&err, "limit", 52428800);
    CHECK_TEXT(err.detail_name, "limit");
    CHECK_INT(err.detail_value, 52428800);
}

TEST(errors, the_subject_is_named_once_and_the_first_one_counts)
{
    struct err err;
    char longer[200];
    memset(longer, 'x', sizeof longer);
    err_set(&err, ERR_BAD_PARAMETER, "query", "limit must be a number.");
    CHECK(err.subject_kind == NULL);
    err_subject(&err, "parameter", STR("limit"));
    err_subject(&err, "part", STR("other"));
    CHECK_TEXT(err.subject_kind, "parameter");
    CHECK_TEXT(err.subject, "limit");
    CHECK_TEXT(err.message, "limit must be a number.");

    err_set(&err, ERR_BAD_JSON, "json", "The JSON text lacks a string.");
    err_subject(&err, "part", STR("metadata"));
    CHECK_TEXT(err.message, "metadata: The JSON text lacks a string.");

    err_set(&err, ERR_BAD_PARAMETER, "query", "It is not known.");
    err_subject(&err, "parameter", (struct str){longer, sizeof longer});
    CHECK_INT((int64_t)strlen(err.subject), ERR_SUBJECT_MAX - 1);

    err_set_internal(&err, ERR_NO_MEMORY, 0, "json", "cannot parse");
    err_subject(&err, "part", STR("metadata"));
    CHECK(err.subject_kind == NULL);
    CHECK_TEXT(err.message, "cannot parse");
}

TEST(errors, internal_message_never_reaches_the_client)
{
    for (int code = 1; code < ERR_CODE_COUNT; code++) {
        struct err err;
        err_set_internal(&err, (enum err_code)code, ENOENT, "open", "/srv/secret/path is away");
        CHECK_INT(err.os_errno, ENOENT);
        CHECK_TEXT(err.message, "/srv/secret/path is away");
        CHECK(strlen(err_public_message(&err)) > 10);
        CHECK(strstr(err_public_message(&err), "secret") == NULL);
    }
}

TEST(errors, empty_message_gets_a_general_text)
{
    struct err err;
    err_set(&err, ERR_NOT_FOUND, "get", "%s", "");
    CHECK_TEXT(err_public_message(&err), "There is no such resource.");
}

TEST(errors, message_may_be_made_from_the_one_before)
{
    struct err err;
    err_set(&err, ERR_BAD_JSON, "parse", "line %d", 3);
    err_set(&err, ERR_BAD_REQUEST, "read", "metadata: %s", err.message);
    CHECK_TEXT(err.message, "metadata: line 3");
}

TEST(errors, long_message_is_cut_between_characters)
{
    char text[2 * ERR_MESSAGE_MAX];
    for (size_t lead = 0; lead < 4; lead++) {
        memset(text, 'a', sizeof text);
        for (size_t i = lead; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 3);
        text[sizeof text - 1] = '\0';
        struct err err;
        err_set(&err, ERR_BAD_NAME, "parse", "%s", text);
        size_t len = strlen(err.message);
        CHECK(text_is_utf8(str_of(err.message)));
        CHECK(len < ERR_MESSAGE_MAX && len > ERR_MESSAGE_MAX - 6);
    }
}
