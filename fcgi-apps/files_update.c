/* PATCH /api/files/{id} (API.md). */
#include "files/files_update.h"
#include "app/app.h"
#include "files/file_json.h"

static enum err_code patch_file(struct app_ctx *ctx, struct err *err)
{
    struct buf json;
    struct file file;
    bool replayed = false;
    buf_init(&json, LIMIT_JSON_BODY_BYTES);
    enum err_code code = principal_require(&ctx->principal, SCOPE_WRITE, err);
    if (code == ERR_OK)
        code = app_read_json(ctx, "application/merge-patch+json", &json, err);
    const struct update_request asked = {&ctx->principal, &ctx->request, buf_str(&json),
                                         &ctx->idempotency};
    if (code == ERR_OK)
        code = files_update(ctx->files, &asked, &file, &replayed, err);
    buf_release(&json);
    if (code != ERR_OK)
        return code;
    if (replayed) {
        app_answer_replay(ctx);
        return ERR_OK;
    }
    file_headers_version(&ctx->response, &file);
    file_json_write(&ctx->response.body, NULL, &file);
    app_answer_json(ctx, 200);
    return ERR_OK;
}

static const struct endpoint endpoints[] = {
    {ROUTE_FILE, METHOD_BIT(METHOD_PATCH), ENDPOINT_IDEMPOTENT, patch_file},
};

static const struct app files_update_app = {
    .name = "files_update",
    .workers = APP_WORKERS_OTHER,
    .uses_stores = true,
    .needs = NEEDS_DATABASE | NEEDS_OBJECTS_READ,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&files_update_app);
}
