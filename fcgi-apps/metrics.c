/* /metrics and /api/metrics (API.md, "Operations"): every program of this node, from the shared
 * segment. */
#include "observe/metrics.h"
#include "app/app.h"

#define METRICS_MAX (8 * 1024 * 1024)

static enum err_code authorize(const struct app_ctx *ctx, struct err *err)
{
    if (app_is_operator(ctx))
        return ERR_OK;
    return err_set(err, ctx->principal.anonymous ? ERR_UNAUTHORIZED : ERR_FORBIDDEN, "metrics",
                   "Metrics are for addresses in METRICS_ALLOW and admin tokens.");
}

static enum err_code get_metrics(struct app_ctx *ctx, struct err *err)
{
    enum metrics_format format =
        metrics_negotiate(request_header_or_empty(&ctx->request, "ACCEPT"));
    enum err_code code = authorize(ctx, err);
    if (code == ERR_OK) {
        buf_release(&ctx->response.body);
        buf_init(&ctx->response.body, METRICS_MAX);
        code = metrics_render(ctx->files->metrics, format, &ctx->response.body, err);
    }
    if (code != ERR_OK)
        return code;
    response_header_text(&ctx->response, "Content-Type", metrics_content_type(format));
    response_header_text(&ctx->response, "Cache-Control", "no-store");
    response_header_text(&ctx->response, "Accept-Ranges", "none");
    response_header_text(&ctx->response, "Vary", "Accept");
    return ERR_OK;
}

static const struct endpoint endpoints[] = {
    {ROUTE_METRICS, METHOD_BIT(METHOD_GET), 0, get_metrics},
    {ROUTE_GATEWAY_METRICS, METHOD_BIT(METHOD_GET), 0, get_metrics},
};

static const struct app metrics_app = {
    .name = "metrics",
    .workers = APP_WORKERS_OTHER,
    .short_requests = true,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&metrics_app);
}
