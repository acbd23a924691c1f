/* /api/metrics: every program of this node, and /metrics: the gateway, both from shared segments
 * (API.md, "Operations"). */
#include <pthread.h>

#include "app/app.h"
#include "base/crash.h"
#include "base/io.h"
#include "metrics/gateway_status.h"
#include "observe/metrics.h"

#define METRICS_MAX (8 * 1024 * 1024)

/* Opened by the first scrape of the gateway and open until the process ends. */
static pthread_mutex_t probe_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct gateway_probe *the_probe;

static enum err_code get_probe(const struct app_ctx *ctx, struct gateway_probe **ret_probe,
                               struct err *err)
{
    enum err_code code = ERR_OK;
    pthread_mutex_lock(&probe_mutex);
    if (!the_probe)
        code = gateway_probe_open(&the_probe, ctx->files->config, ctx->files->clock, err);
    if (code == ERR_OK)
        *ret_probe = the_probe;
    pthread_mutex_unlock(&probe_mutex);
    return code;
}

static enum err_code authorize(const struct app_ctx *ctx, struct err *err)
{
    if (app_is_operator(ctx))
        return ERR_OK;
    return err_set(err, ctx->principal.anonymous ? ERR_UNAUTHORIZED : ERR_FORBIDDEN, "metrics",
                   "Metrics are for addresses in METRICS_ALLOW and admin tokens.");
}

static enum err_code check(const struct app_ctx *ctx, struct err *err)
{
    if (!ctx->files->metrics)
        return err_set(err, ERR_NOT_FOUND, "metrics", "Nothing is counted here (METRICS=0).");
    return authorize(ctx, err);
}

static enum err_code answer(struct app_ctx *ctx, struct metrics *metrics, struct err *err)
{
    enum metrics_format format =
        metrics_negotiate(request_header_or_empty(&ctx->request, "ACCEPT"));
    if (crash_or_fail("step.metrics"))
        return err_set_internal(err, ERR_INTERNAL, 0, "render", "a test has it fail");
    buf_release(&ctx->response.body);
    buf_init(&ctx->response.body, METRICS_MAX);
    enum err_code code = metrics_render(metrics, format, &ctx->response.body, err);
    if (code != ERR_OK)
        return code;
    response_header_text(&ctx->response, "Content-Type", metrics_content_type(format));
    response_header_text(&ctx->response, "Cache-Control", "no-store");
    response_header_text(&ctx->response, "Accept-Ranges", "none");
    response_header_text(&ctx->response, "Vary", "Accept");
    return ERR_OK;
}

/* Looked at by the scrape, so that it is right without anybody asking /ready. */
static void set_uploads_refused(const struct app_ctx *ctx)
{
    const struct config *config = ctx->files->config;
    struct statvfs stat;
    if (strcmp(config->storage_driver, "fs") == 0 && statvfs(config->data_dir, &stat) == 0)
        metrics_set(ctx->files->metrics, METRIC_UPLOADS_REFUSED, NULL,
                    free_space_is_short(&stat, config->min_free_bytes, 1));
}

static enum err_code get_metrics(struct app_ctx *ctx, struct err *err)
{
    enum err_code code = check(ctx, err);
    if (code == ERR_OK)
        set_uploads_refused(ctx);
    return code == ERR_OK ? answer(ctx, ctx->files->metrics, err) : code;
}

static enum err_code get_gateway_metrics(struct app_ctx *ctx, struct err *err)
{
    struct gateway_probe *probe;
    enum err_code code = check(ctx, err);
    if (code == ERR_OK)
        code = get_probe(ctx, &probe, err);
    if (code != ERR_OK)
        return code;
    gateway_probe_update(probe);
    return answer(ctx, gateway_probe_metrics(probe), err);
}

static const struct endpoint endpoints[] = {
    {ROUTE_METRICS, METHOD_BIT(METHOD_GET), 0, get_metrics},
    {ROUTE_GATEWAY_METRICS, METHOD_BIT(METHOD_GET), 0, get_gateway_metrics},
};

static const struct app metrics_app = {
    .name = "metrics",
    .workers = APP_WORKERS_OTHER,
    .needs = NEEDS_DATABASE | NEEDS_GATEWAY,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&metrics_app);
}
