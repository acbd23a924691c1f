/* /live, /ready, /health and their /api/health aliases, and the gateway's error pages (API.md,
 * "Operations" and "Every answer"). */
#include "app/app.h"
#include "http/jsonio.h"
#include "http/problem.h"
#include "storage/storage.h"

struct check {
    enum err_code code;
    struct err err;
    int64_t latency_ms;
};

static void check_storage(const struct app_ctx *ctx, struct check *check)
{
    int64_t started_ns = clock_steady_ns(ctx->files->clock);
    check->code = storage_ping(ctx->files->storage, &check->err);
    check->latency_ms = (clock_steady_ns(ctx->files->clock) - started_ns) / 1000000;
}

static void check_metadata(const struct app_ctx *ctx, struct check *check)
{
    int64_t started_ns = clock_steady_ns(ctx->files->clock);
    check->code = metadata_ping(ctx->files->metadata, &check->err);
    check->latency_ms = (clock_steady_ns(ctx->files->clock) - started_ns) / 1000000;
}

static void answer_status(struct app_ctx *ctx, int status, const char *text)
{
    struct buf *out = &ctx->response.body;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "status", str_of(text));
    jsonw_end_object(out);
    app_answer_json(ctx, status);
}

static enum err_code get_live(struct app_ctx *ctx, struct err *err)
{
    (void)err;
    answer_status(ctx, 200, "ok");
    return ERR_OK;
}

static enum err_code get_ready(struct app_ctx *ctx, struct err *err)
{
    enum err_code code = storage_ping(ctx->files->storage, err);
    if (code == ERR_OK)
        code = metadata_ping(ctx->files->metadata, err);
    if (code == ERR_OK)
        answer_status(ctx, 200, "ok");
    /* Whatever is wrong, "not ready" is 503. */
    else if (err_info(code)->status != 503)
        code = err->code = ERR_STORAGE_UNAVAILABLE;
    return code;
}

static void write_check(struct buf *out, const char *name, const struct check *check)
{
    jsonw_begin_object(out, name);
    jsonw_string(out, "status", check->code == ERR_OK ? STR("ok") : STR("down"));
    jsonw_int(out, "latencyMs", check->latency_ms);
    jsonw_end_object(out);
}

static enum err_code get_health(struct app_ctx *ctx, struct err *err)
{
    struct check storage;
    struct check metadata;
    struct buf *out = &ctx->response.body;
    (void)err;
    check_storage(ctx, &storage);
    check_metadata(ctx, &metadata);
    /* Without metadata nothing can be served; without storage lists and metadata still can. */
    bool down = metadata.code != ERR_OK;
    bool degraded = storage.code != ERR_OK;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "status", down ? STR("down") : degraded ? STR("degraded") : STR("ok"));
    jsonw_string(out, "version", STR(COFFER_VERSION));
    jsonw_int(out, "uptimeSeconds", app_uptime_seconds(ctx));
    jsonw_begin_object(out, "checks");
    write_check(out, "storage", &storage);
    write_check(out, "metadata", &metadata);
    jsonw_end_object(out);
    jsonw_end_object(out);
    app_answer_json(ctx, down ? 503 : 200);
    return ERR_OK;
}

static enum err_code get_error(struct app_ctx *ctx, struct err *err)
{
    (void)err;
    const struct problem_context context = {.trace_id = ctx->trace.trace_id,
                                            .request_id = ctx->trace.request_id,
                                            .path = ctx->request.path,
                                            .now_ms = clock_wall_ms(ctx->files->clock)};
    problem_write_status(&ctx->response, ctx->request.redirect_status, &context);
    return ERR_OK;
}

#define GET METHOD_BIT(METHOD_GET)

static const struct endpoint endpoints[] = {
    {ROUTE_LIVE, GET, ENDPOINT_OPEN, get_live},
    {ROUTE_READY, GET, ENDPOINT_OPEN, get_ready},
    {ROUTE_HEALTH, GET, ENDPOINT_OPEN, get_health},
    {ROUTE_ERROR, GET, ENDPOINT_OPEN, get_error},
};

static const struct app health_app = {
    .name = "health",
    .workers = APP_WORKERS_OTHER,
    .short_requests = true,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&health_app);
}
