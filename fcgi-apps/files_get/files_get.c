/* GET and HEAD /api/files/{id}, …/download, …/meta (API.md). */
#include "app/app.h"
#include "files/file_json.h"
#include "files/files_open.h"
#include "files/sniff.h"
#include "files_get/file_answer.h"
#include "http/range_condition.h"

static enum err_code refuse_inline(struct err *err)
{
    err_set(err, ERR_BAD_PARAMETER, "inline", "inline can only be 1.");
    err_subject(err, "parameter", STR("inline"));
    return ERR_BAD_PARAMETER;
}

static enum err_code read_inline(const struct request *request, const struct file *file,
                                 bool *ret_inline, struct err *err)
{
    static const char *const names[] = {"inline", NULL};
    struct query query;
    struct str value;
    enum err_code code = query_parse_known(&query, request->query, names, err);
    bool given = code == ERR_OK && query_get(&query, "inline", &value);
    if (given && !str_equal(value, STR("1")))
        code = refuse_inline(err);
    *ret_inline = given && mime_may_be_inline(file->mime);
    query_release(&query);
    return code;
}

static enum err_code answer_file(struct app_ctx *ctx, bool may_inline, struct err *err)
{
    struct file file;
    bool is_inline = false;
    int64_t now_ms = clock_wall_ms(ctx->files->clock);
    enum err_code code = files_open(ctx->files, &ctx->principal, ctx->request.id, &file, err);
    if (code == ERR_OK && may_inline)
        code = read_inline(&ctx->request, &file, &is_inline, err);
    if (code != ERR_OK)
        return code;
    const struct validators validators = {.etag = str_of(file.sha256),
                                          .modified_seconds = file_modified_seconds(&file, now_ms)};
    switch (condition_evaluate(&ctx->request, &validators)) {
    case CONDITION_FAILED:
        return err_set(err, ERR_PRECONDITION_FAILED, "condition",
                       "The file is not the one the request names.");
    case CONDITION_NOT_MODIFIED:
        ctx->response.status = 304;
        file_headers_validators(&ctx->response, &file, now_ms, is_inline);
        return ERR_OK;
    case CONDITION_PASS:
        break;
    }
    return app_answer_file(ctx, &file, is_inline, &validators, err);
}

static enum err_code get_file(struct app_ctx *ctx, struct err *err)
{
    return answer_file(ctx, true, err);
}

static enum err_code get_download(struct app_ctx *ctx, struct err *err)
{
    return answer_file(ctx, false, err);
}

static enum err_code get_meta(struct app_ctx *ctx, struct err *err)
{
    struct file file;
    char tag[FILE_TAG_SIZE];
    enum err_code code = files_open(ctx->files, &ctx->principal, ctx->request.id, &file, err);
    if (code != ERR_OK)
        return code;
    file_version_tag(&file, tag);
    file_headers_version(&ctx->response, &file);
    const struct validators validators = {.etag = str_of(tag),
                                          .modified_seconds = file.updated_ms / 1000};
    switch (condition_evaluate(&ctx->request, &validators)) {
    case CONDITION_FAILED:
        return err_set(err, ERR_PRECONDITION_FAILED, "condition",
                       "The file is not the version the request names.");
    case CONDITION_NOT_MODIFIED:
        ctx->response.status = 304;
        return ERR_OK;
    case CONDITION_PASS:
        break;
    }
    file_json_write(&ctx->response.body, NULL, &file);
    app_answer_json(ctx, 200);
    return ERR_OK;
}

static const struct endpoint endpoints[] = {
    {ROUTE_FILE, METHOD_BIT(METHOD_GET), ENDPOINT_QUERY, get_file},
    {ROUTE_FILE_DOWNLOAD, METHOD_BIT(METHOD_GET), ENDPOINT_QUERY, get_download},
    {ROUTE_FILE_META, METHOD_BIT(METHOD_GET), 0, get_meta},
};

static const struct app files_get_app = {
    .name = "files_get",
    .workers = APP_WORKERS_DOWNLOAD,
    .uses_stores = true,
    .short_requests = true,
    .needs = NEEDS_DATABASE | NEEDS_OBJECTS_READ,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&files_get_app);
}
