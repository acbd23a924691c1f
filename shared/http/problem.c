#include "http/problem.h"

#include "base/text.h"
#include "http/jsonio.h"

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
