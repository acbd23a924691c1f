/* DELETE /api/files/{id} and POST /api/files/delete (API.md); also runs the periodic sweep. */
#include "app/app.h"
#include "files/files_remove.h"
#include "http/jsonio.h"

static enum err_code delete_file(struct app_ctx *ctx, struct err *err)
{
    char id[ID_SIZE];
    struct buf *out = &ctx->response.body;
    enum err_code code = files_remove(ctx->files, &ctx->principal, &ctx->request, id, err);
    if (code != ERR_OK)
        return code;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "id", str_of(id));
    jsonw_bool(out, "deleted", true);
    jsonw_end_object(out);
    app_answer_json(ctx, 200);
    return ERR_OK;
}

static enum err_code delete_batch(struct app_ctx *ctx, struct err *err)
{
    struct buf json;
    bool replayed = false;
    buf_init(&json, LIMIT_JSON_BODY_BYTES);
    enum err_code code = principal_require(&ctx->principal, SCOPE_WRITE, err);
    if (code == ERR_OK)
        code = app_read_json(ctx, NULL, &json, err);
    const struct batch_request asked = {&ctx->principal, buf_str(&json), &ctx->idempotency};
    if (code == ERR_OK)
        code = files_remove_batch(ctx->files, &asked, &ctx->response.body, &replayed, err);
    buf_release(&json);
    if (code != ERR_OK)
        return code;
    if (replayed)
        app_answer_replay(ctx);
    else
        app_answer_json(ctx, 200);
    return ERR_OK;
}

static const struct endpoint endpoints[] = {
    {ROUTE_FILE, METHOD_BIT(METHOD_DELETE), 0, delete_file},
    {ROUTE_BATCH_DELETE, METHOD_BIT(METHOD_POST), ENDPOINT_IDEMPOTENT, delete_batch},
};

static const struct app files_delete_app = {
    .name = "files_delete",
    .workers = APP_WORKERS_OTHER,
    .uses_stores = true,
    .sweeps = true,
    .needs = NEEDS_DATABASE | NEEDS_OBJECTS_READ | NEEDS_OBJECTS_REMOVE,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&files_delete_app);
}
