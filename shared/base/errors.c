#include "base/errors.h"

#include <stdio.h>
#include <string.h>

/* What a client can provoke, and what it can't. */
#define ROW_THEIRS(http_status, problem_code, reason)                       \
    {                                                                       \
        .status = (http_status), .code = (problem_code), .title = (reason), \
        .level = ERR_LEVEL_INFO                                             \
    }
#define ROW_OURS(http_status, problem_code, reason)                         \
    {                                                                       \
        .status = (http_status), .code = (problem_code), .title = (reason), \
        .level = ERR_LEVEL_ERROR, .report = true                            \
    }

static const struct err_info table[ERR_CODE_COUNT] = {
    [ERR_OK] = {.status = 200, .code = "ok", .title = "OK", .level = ERR_LEVEL_INFO},
    [ERR_BAD_REQUEST] = ROW_THEIRS(400, "bad_request", "Bad Request"),
    [ERR_BAD_MULTIPART] = ROW_THEIRS(400, "bad_multipart", "Bad Request"),
    [ERR_BAD_NAME] = ROW_THEIRS(400, "bad_name", "Bad Request"),
    [ERR_BAD_ID] = ROW_THEIRS(400, "bad_id", "Bad Request"),
    [ERR_BAD_PARAMETER] = ROW_THEIRS(400, "bad_parameter", "Bad Request"),
    [ERR_BAD_JSON] = ROW_THEIRS(400, "bad_json", "Bad Request"),
    [ERR_BAD_CURSOR] = ROW_THEIRS(400, "bad_cursor", "Bad Request"),
    [ERR_UNAUTHORIZED] = ROW_THEIRS(401, "unauthorized", "Unauthorized"),
    [ERR_FORBIDDEN] = ROW_THEIRS(403, "forbidden", "Forbidden"),
    [ERR_NOT_FOUND] = ROW_THEIRS(404, "not_found", "Not Found"),
    [ERR_METHOD_NOT_ALLOWED] = ROW_THEIRS(405, "method_not_allowed", "Method Not Allowed"),
    [ERR_NOT_ACCEPTABLE] = ROW_THEIRS(406, "not_acceptable", "Not Acceptable"),
    [ERR_REQUEST_TIMEOUT] = ROW_THEIRS(408, "request_timeout", "Request Timeout"),
    [ERR_CONFLICT] = ROW_THEIRS(409, "conflict", "Conflict"),
    [ERR_LENGTH_REQUIRED] = ROW_THEIRS(411, "length_required", "Length Required"),
    [ERR_PRECONDITION_FAILED] = ROW_THEIRS(412, "precondition_failed", "Precondition Failed"),
    /* RFC 9110 says "Content Too Large"; API.md fixed the older phrase. */
    [ERR_FILE_TOO_LARGE] = ROW_THEIRS(413, "file_too_large", "Payload Too Large"),
    [ERR_UNSUPPORTED_MEDIA_TYPE] =
        ROW_THEIRS(415, "unsupported_media_type", "Unsupported Media Type"),
    [ERR_RANGE_NOT_SATISFIABLE] = ROW_THEIRS(416, "range_not_satisfiable", "Range Not Satisfiable"),
    [ERR_DIGEST_MISMATCH] = ROW_THEIRS(422, "digest_mismatch", "Unprocessable Content"),
    [ERR_IDEMPOTENCY_MISMATCH] = ROW_THEIRS(422, "idempotency_mismatch", "Unprocessable Content"),
    [ERR_HEADERS_TOO_LARGE] =
        ROW_THEIRS(431, "headers_too_large", "Request Header Fields Too Large"),
    [ERR_INTERNAL] = ROW_OURS(500, "internal", "Internal Server Error"),
    [ERR_NO_MEMORY] = ROW_OURS(500, "internal", "Internal Server Error"),
    [ERR_NOT_IMPLEMENTED] = ROW_THEIRS(501, "not_implemented", "Not Implemented"),
    [ERR_HTTP_VERSION] = ROW_THEIRS(505, "http_version", "HTTP Version Not Supported"),
    [ERR_STORAGE] = ROW_OURS(502, "storage_error", "Bad Gateway"),
    [ERR_STORAGE_UNAVAILABLE] = ROW_OURS(503, "storage_unavailable", "Service Unavailable"),
    [ERR_METADATA_UNAVAILABLE] = ROW_OURS(503, "metadata_unavailable", "Service Unavailable"),
    [ERR_UPSTREAM] = ROW_OURS(502, "storage_error", "Bad Gateway"),
    [ERR_UPSTREAM_UNAVAILABLE] = ROW_OURS(503, "storage_unavailable", "Service Unavailable"),
    [ERR_UPSTREAM_TIMEOUT] = ROW_OURS(504, "upstream_timeout", "Gateway Timeout"),
    [ERR_DISK_FULL] = ROW_OURS(507, "disk_full", "Insufficient Storage"),
    [ERR_CLIENT_GONE] = {.status = 499,
                         .code = "client_gone",
                         .title = "Client Gone",
                         .level = ERR_LEVEL_INFO},
    [ERR_CONFIG] = ROW_OURS(500, "internal", "Internal Server Error"),
    [ERR_EXISTS] = ROW_OURS(500, "internal", "Internal Server Error"),
    [ERR_BUSY] = ROW_OURS(500, "internal", "Internal Server Error"),
};

const struct err_info *err_info(enum err_code code)
{
    size_t index = (size_t)code;
    return &table[index < ERR_CODE_COUNT ? index : ERR_INTERNAL];
}

/* A message cut at its end must stay UTF-8: what may be half a character goes. */
static void drop_cut_character(char *message)
{
    size_t len = strlen(message);
    while (len > 0 && ((unsigned char)message[len - 1] & 0xC0) == 0x80)
        len--;
    if (len > 0 && (unsigned char)message[len - 1] >= 0xC0)
        len--;
    message[len] = '\0';
}

static err_watcher *watching;

void err_watch(err_watcher *watcher)
{
    watching = watcher;
}

err_watcher *err_watching(void)
{
    return watching;
}

static unsigned watch(enum err_code code, const void *caller)
{
    return watching && err_info(code)->report ? watching(caller) : 0;
}

static void fill(struct err *err, enum err_code code, const char *operation, const char *format,
                 va_list args) __attribute__((format(printf, 4, 0)));

static void fill(struct err *err, enum err_code code, const char *operation, const char *format,
                 va_list args)
{
    /* Written aside first: the arguments may point into *err. */
    struct err filled = {.code = code, .operation = operation};
    int len = vsnprintf(filled.message, sizeof filled.message, format, args);
    if (len < 0)
        filled.message[0] = '\0';
    else if ((size_t)len >= sizeof filled.message)
        drop_cut_character(filled.message);
    *err = filled;
}

enum err_code(err_set)(struct err *err, enum err_code code, const char *operation,
                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, code, operation, format, args);
    va_end(args);
    err->stack = watch(code, __builtin_return_address(0));
    return code;
}

enum err_code(err_set_internal)(struct err *err, enum err_code code, int os_errno,
                                const char *operation, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, code, operation, format, args);
    va_end(args);
    err->stack = watch(code, __builtin_return_address(0));
    err->os_errno = os_errno;
    err->internal = true;
    return code;
}

void err_detail(struct err *err, const char *name, int64_t value)
{
    err->detail_name = name;
    err->detail_value = value;
}

void err_subject(struct err *err, const char *kind, struct str name)
{
    if (err->subject_kind || err->internal)
        return;
    err->subject_kind = kind;
    if ((size_t)snprintf(err->subject, sizeof err->subject, "%.*s", (int)name.len, name.data) >=
        sizeof err->subject)
        drop_cut_character(err->subject);
    if (strstr(err->message, err->subject))
        return;
    char message[ERR_MESSAGE_MAX];
    memcpy(message, err->message, sizeof message);
    if ((size_t)snprintf(err->message, sizeof err->message, "%s: %s", err->subject, message) >=
        sizeof err->message)
        drop_cut_character(err->message);
}

static const char *general_message(enum err_code code)
{
    switch (err_info(code)->status) {
    case 400:
        return "The request is malformed.";
    case 401:
        return "A valid token is required.";
    case 403:
        return "This is not allowed.";
    case 404:
        return "There is no such resource.";
    case 409:
        return "The request conflicts with another one.";
    case 502:
        return "The file store gave a wrong answer.";
    case 503:
        return "The service cannot reach its storage at the moment. Please try again.";
    case 504:
        return "The file store did not answer in time.";
    case 507:
        return "There is no space left to store this.";
    default:
        return err_info(code)->status >= 500 ? "The request failed because of an internal error."
                                             : "The request could not be handled.";
    }
}

const char *err_public_message(const struct err *err)
{
    return err->internal || err->message[0] == '\0' ? general_message(err->code) : err->message;
}
