#include "http/response.h"

#include "base/limits.h"
#include "base/text.h"
#include "http/jsonio.h"
#include "http/token.h"

#define PATH_BYTES_MAX 4096

void response_init(struct response *response)
{
    *response = (struct response){.status = 200, .content_length = -1};
    buf_init(&response->headers, RESPONSE_HEADERS_MAX);
    buf_init(&response->body, LIMIT_JSON_RESPONSE_BYTES);
    buf_init(&response->sendfile_path, PATH_BYTES_MAX);
}

void response_release(struct response *response)
{
    buf_release(&response->headers);
    buf_release(&response->body);
    buf_release(&response->sendfile_path);
    response->source = NULL;
}

void response_reset(struct response *response)
{
    response->status = 200;
    buf_reset(&response->headers);
    buf_reset(&response->body);
    buf_reset(&response->sendfile_path);
    response->source = NULL;
    response->sendfile_part = false;
    response->content_length = -1;
    response->failed = false;
}

static bool has_control(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7F)
            return true;
    return false;
}

void response_header(struct response *response, const char *name, struct str value)
{
    if (!token_is(str_of(name)) || has_control(value)) {
        response->failed = true;
        return;
    }
    buf_append_text(&response->headers, name);
    buf_append_str(&response->headers, STR(": "));
    buf_append_str(&response->headers, value);
    buf_append_str(&response->headers, STR("\r\n"));
}

void response_header_text(struct response *response, const char *name, const char *value)
{
    response_header(response, name, str_of(value));
}

void response_header_int(struct response *response, const char *name, int64_t value)
{
    struct buf text;
    buf_init(&text, 24);
    buf_append_int(&text, value);
    response->failed = response->failed || text.failed;
    response_header(response, name, buf_str(&text));
    buf_release(&text);
}

static const struct {
    int status;
    const char *text;
} statuses[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Payload Too Large"}, /* as API.md has it; RFC 9110: Content Too Large */
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Gone"},
    {460, "Checksum Mismatch"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

/* RFC 9110 reason phrase; "" for a status nobody uses here. */
static const char *status_text(int status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status)
            return statuses[i].text;
    return "";
}

/* -1: the head says nothing about the length. */
static int64_t body_length(const struct response *response)
{
    /* The gateway measures the file itself (and drops what a program says). */
    if (response->status == 204 || response->status == 304 || response->sendfile_path.len > 0)
        return -1;
    if (response->source || response->content_length >= 0)
        return response->content_length;
    return (int64_t)response->body.len;
}

enum err_code response_head(const struct response *response, struct buf *out, struct err *err)
{
    if (response->failed || response->headers.failed || response->body.failed ||
        response->sendfile_path.failed)
        return err_set_internal(err, ERR_INTERNAL, 0, "response",
                                "a header was refused or a buffer is full");
    int64_t length = body_length(response);
    buf_printf(out, "Status: %d %s\r\n", response->status, status_text(response->status));
    buf_append_str(out, buf_str(&response->headers));
    if (length >= 0)
        buf_printf(out, "Content-Length: %lld\r\n", (long long)length);
    if (response->sendfile_path.len > 0) {
        buf_append_text(out, response->sendfile_part ? "X-Sendfile2: " : "X-Sendfile: ");
        text_percent_encode(buf_str(&response->sendfile_path), "/", out);
        if (response->sendfile_part)
            buf_printf(out, " %lld-%lld", (long long)response->sendfile_first,
                       (long long)(response->sendfile_first + response->content_length - 1));
        buf_append_str(out, STR("\r\n"));
    }
    buf_append_str(out, STR("\r\n"));
    if (out->failed)
        return err_set_internal(err, ERR_INTERNAL, 0, "response", "the head is too long");
    return ERR_OK;
}

#define RETRY_AFTER_SECONDS 5

static void write_body(struct buf *out, const struct err_info *info, const struct err *err,
                       const struct problem_context *context)
{
    char now[TEXT_TIME_SIZE];
    const struct str message = str_of(err_public_message(err));
    text_time(context->now_ms, now);
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "type", STR("about:blank"));
    jsonw_string(out, "title", str_of(info->title));
    jsonw_int(out, "status", info->status);
    jsonw_string(out, "detail", message);
    jsonw_string(out, "code", str_of(info->code));
    jsonw_string(out, "message", message);
    jsonw_string(out, "traceId", str_of(context->trace_id));
    jsonw_string(out, "requestId", str_of(context->request_id));
    jsonw_string(out, "ts", str_of(now));
    jsonw_string(out, "path", context->path);
    jsonw_begin_object(out, "details");
    if (err->detail_name)
        jsonw_int(out, err->detail_name, err->detail_value);
    if (err->subject_kind)
        jsonw_string(out, err->subject_kind, str_of(err->subject));
    jsonw_end_object(out);
    jsonw_end_object(out);
}

static void write_headers(struct response *response)
{
    response_header_text(response, "Content-Type", "application/problem+json");
    response_header_text(response, "Cache-Control", "no-store");
    response_header_text(response, "X-Content-Type-Options", "nosniff");
    response_header_text(response, "Accept-Ranges", "none");
    if (response->status == 401)
        response_header_text(response, "WWW-Authenticate", "Bearer realm=\"coffer\"");
    if (response->status == 503)
        response_header_int(response, "Retry-After", RETRY_AFTER_SECONDS);
}

void problem_write(struct response *response, const struct err *err,
                   const struct problem_context *context)
{
    const struct err_info *info = err_info(err->code);
    /* Codes that no client should meet have no status of their own. */
    if (info->status < 400)
        info = err_info(ERR_INTERNAL);
    response_reset(response);
    response->status = info->status;
    write_headers(response);
    write_body(&response->body, info, err, context);
}

static const struct {
    int status;
    enum err_code code;
    const char *message;
} gateway_errors[] = {
    {400, ERR_BAD_REQUEST, "The request is not well-formed HTTP."},
    {403, ERR_FORBIDDEN, "The gateway does not allow this request."},
    {404, ERR_NOT_FOUND, "There is nothing under this path."},
    {405, ERR_METHOD_NOT_ALLOWED, "The gateway does not allow this method here."},
    {408, ERR_REQUEST_TIMEOUT, "The request took too long to arrive."},
    {411, ERR_LENGTH_REQUIRED,
     "A Content-Length is required. PUT /api/files/pipe/{name} takes bodies of unknown length."},
    {412, ERR_PRECONDITION_FAILED, "A precondition of the request does not hold."},
    {413, ERR_FILE_TOO_LARGE, "The request body is larger than the gateway accepts."},
    {415, ERR_UNSUPPORTED_MEDIA_TYPE, "The gateway does not take this media type."},
    {431, ERR_HEADERS_TOO_LARGE, "The request line or the request headers are too large."},
    {501, ERR_NOT_IMPLEMENTED, "The gateway does not know this method or transfer coding."},
    {503, ERR_STORAGE_UNAVAILABLE, "The service is not available at the moment; try again soon."},
    {504, ERR_UPSTREAM_TIMEOUT, "The service did not answer in time."},
    {505, ERR_HTTP_VERSION, "The gateway does not speak this version of HTTP."},
};

enum err_code problem_of_status(int status, struct err *err)
{
    for (size_t i = 0; i < sizeof gateway_errors / sizeof *gateway_errors; i++)
        if (gateway_errors[i].status == status)
            return err_set(err, gateway_errors[i].code, "gateway", "%s", gateway_errors[i].message);
    return err_set_internal(err, ERR_INTERNAL, 0, "gateway", "gateway error %d", status);
}
