/* POST /api/files/upload, PUT /api/files/upload/{name}, PUT /api/files/pipe/{name} (API.md). */
#include "app/app.h"
#include "base/text.h"
#include "files/files_create.h"
#include "files/upload_form.h"

/* The gateway says CONTENT_LENGTH=0 also when the client sent none, and measures a chunked body that
 * arrived at once: look at what was sent, and at what a gateway before this one says. */
static enum err_code check_length(const struct app_ctx *ctx, struct err *err)
{
    struct str unused;
    if (ctx->request.route == ROUTE_PIPE_NAME ||
        (request_header(&ctx->request, "CONTENT_LENGTH", &unused) &&
         !request_header(&ctx->request, "X_LENGTH_UNKNOWN", &unused)))
        return ERR_OK;
    return err_set(err, ERR_LENGTH_REQUIRED, "upload",
                   "The upload has no Content-Length; send bodies of unknown length to "
                   "PUT /api/files/pipe/{name}.");
}

/* RFC 9110 §14.5 and §8.4: part of a file must not become the file, and neither must an encoded form
 * of it, whose coding no download would name. */
static enum err_code check_whole(const struct app_ctx *ctx, struct err *err)
{
    struct str range;
    if (request_header(&ctx->request, "CONTENT_RANGE", &range))
        return err_set(err, ERR_BAD_REQUEST, "upload",
                       "The upload has a Content-Range: a file must be sent whole.");
    return request_check_coding(&ctx->request, err);
}

static enum err_code begin_create(struct app_ctx *ctx, const char *method,
                                  struct create_request *create, struct err *err)
{
    const struct request *request = &ctx->request;
    create->method = method;
    create->route = route_info(request->route)->template;
    create->principal = &ctx->principal;
    create->idempotency = &ctx->idempotency;
    create->size_hint = request->content_length;
    enum err_code code = principal_require(&ctx->principal, SCOPE_WRITE, err);
    if (code == ERR_OK)
        code = check_whole(ctx, err);
    return code == ERR_OK ? check_length(ctx, err) : code;
}

/* Of a PUT, every digest is the file's. Of a form, Content-Digest and Content-MD5 cover the form
 * and Repr-Digest means the file. */
static enum err_code read_digests(const struct request *request, struct asserted_digests *file,
                                  struct asserted_digests *form, struct err *err)
{
    struct str content = request_header_or_empty(request, "CONTENT_DIGEST");
    struct str md5 = request_header_or_empty(request, "CONTENT_MD5");
    struct str repr = request_header_or_empty(request, "REPR_DIGEST");
    if (!form)
        return asserted_digests_parse(file, content, repr, md5, err);
    enum err_code code = asserted_digests_parse(form, content, STR(""), md5, err);
    return code == ERR_OK ? asserted_digests_parse(file, STR(""), repr, STR(""), err) : code;
}

static enum err_code create(struct app_ctx *ctx, struct create_request *request,
                            struct source *body, struct err *err)
{
    struct create_answer answer;
    create_answer_init(&answer);
    enum err_code code = files_create(ctx->files, request, body, &answer, err);
    if (code == ERR_OK) {
        buf_append_str(&ctx->response.body, buf_str(&answer.body));
        response_header(&ctx->response, "Location", buf_str(&answer.location));
        response_header(&ctx->response, "ETag", buf_str(&answer.etag));
        if (answer.replayed)
            response_header_text(&ctx->response, "Idempotency-Replayed", "true");
        app_answer_json(ctx, 201);
    }
    create_answer_release(&answer);
    return code;
}

static enum err_code read_form(struct app_ctx *ctx, struct create_request *request,
                               struct source *body, struct err *err)
{
    struct upload_form form = {.multipart = NULL};
    enum err_code code = upload_form_open(&form, ctx->request.content_type, body, request, err);
    if (code == ERR_OK)
        code = create(ctx, request, &form.file, err);
    upload_form_close(&form);
    return code;
}

static enum err_code post_form(struct app_ctx *ctx, struct err *err)
{
    struct create_request request;
    struct asserted_digests asserted = {.has_sha256 = false};
    struct digest_source hashed = {.sha256 = NULL};
    struct source *body = ctx->body;
    create_request_init(&request);
    enum err_code code = begin_create(ctx, "POST", &request, err);
    if (code == ERR_OK)
        code = read_digests(&ctx->request, &request.asserted, &asserted, err);
    if (code == ERR_OK && (asserted.has_sha256 || asserted.has_md5)) {
        code = digest_source_open(&hashed, ctx->body, &asserted, err);
        body = &hashed.source;
    }
    if (code == ERR_OK)
        code = read_form(ctx, &request, body, err);
    digest_source_close(&hashed);
    create_request_release(&request);
    return code;
}

static enum err_code put_body(struct app_ctx *ctx, struct err *err)
{
    struct create_request request;
    create_request_init(&request);
    request.body_is_file = true;
    enum err_code code = begin_create(ctx, "PUT", &request, err);
    if (code == ERR_OK)
        code = file_name_decode(ctx->request.raw_name, request.name, sizeof request.name, err);
    if (code == ERR_OK)
        code = upload_query_read(&request, ctx->request.query, err);
    if (code == ERR_OK)
        code = read_digests(&ctx->request, &request.asserted, NULL, err);
    if (!media_type_parse(ctx->request.content_type, request.mime, sizeof request.mime))
        request.mime[0] = '\0';
    media_charset_parse(ctx->request.content_type, request.charset);
    if (code == ERR_OK)
        code = create(ctx, &request, ctx->body, err);
    create_request_release(&request);
    return code;
}

static const struct endpoint endpoints[] = {
    {ROUTE_UPLOAD, METHOD_BIT(METHOD_POST), ENDPOINT_IDEMPOTENT, post_form},
    {ROUTE_UPLOAD_NAME, METHOD_BIT(METHOD_PUT), ENDPOINT_IDEMPOTENT | ENDPOINT_QUERY, put_body},
    {ROUTE_PIPE_NAME, METHOD_BIT(METHOD_PUT), ENDPOINT_IDEMPOTENT | ENDPOINT_QUERY, put_body},
};

static const struct app files_upload_app = {
    .name = "files_upload",
    .workers = APP_WORKERS_UPLOAD,
    .uses_stores = true,
    .takes_uploads = true,
    .needs = NEEDS_DATABASE | NEEDS_OBJECTS_READ | NEEDS_OBJECTS_ADD,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&files_upload_app);
}
