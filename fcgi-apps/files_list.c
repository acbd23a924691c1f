/* GET /api/files (API.md). */
#include "files/files_list.h"
#include "app/app.h"

static enum err_code get_list(struct app_ctx *ctx, struct err *err)
{
    enum err_code code =
        files_list(ctx->files, &ctx->principal, ctx->request.query, &ctx->response.body, err);
    if (code == ERR_OK)
        app_answer_json(ctx, 200);
    return code;
}

static const struct endpoint endpoints[] = {
    {ROUTE_FILES, METHOD_BIT(METHOD_GET), ENDPOINT_QUERY, get_list},
};

static const struct app files_list_app = {
    .name = "files_list",
    .workers = APP_WORKERS_OTHER,
    .uses_stores = true,
    .short_requests = true,
    .needs = NEEDS_DATABASE | NEEDS_OBJECTS_READ,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&files_list_app);
}
