/* /live, /ready, /health and their /api/health aliases, and the gateway's error pages (API.md,
 * "Operations" and "Every answer"). */
#include "app/app.h"
#include "base/crash.h"
#include "base/io.h"
#include "files/files_open.h"
#include "files/upload_sink.h"
#include "health/health_checks.h"
#include "http/disposition.h"
#include "http/jsonio.h"
#include "http/response.h"
#include "http/route_match.h"

static void answer_status(struct app_ctx *ctx, bool refuses_uploads)
{
    struct buf *out = &ctx->response.body;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "status", STR("ok"));
    if (refuses_uploads)
        jsonw_string(out, "uploads", STR("refused"));
    jsonw_end_object(out);
    app_answer_json(ctx, 200);
}

static enum err_code get_live(struct app_ctx *ctx, struct err *err)
{
    (void)err;
    answer_status(ctx, false);
    return ERR_OK;
}

/* While only the free space is missing, reads and deletes go on: no reason to be taken out of a load
 * balancer, where uploads would be refused by all that share the disk. */
static enum err_code get_ready(struct app_ctx *ctx, struct err *err)
{
    struct health_result results[HEALTH_PARTS];
    for (int part = 0; part < HEALTH_PARTS; part++)
        health_check(ctx->own, (enum health_part)part, &results[part]);
    bool is_full = results[HEALTH_STORAGE].code == ERR_DISK_FULL;
    const struct health_result *bad = results[HEALTH_STORAGE].code != ERR_OK && !is_full
                                          ? &results[HEALTH_STORAGE]
                                          : &results[HEALTH_METADATA];
    if (bad->code == ERR_OK) {
        answer_status(ctx, is_full);
        return ERR_OK;
    }
    *err = bad->err;
    /* Whatever is wrong, "not ready" is 503. */
    err->code = bad == results ? ERR_STORAGE_UNAVAILABLE : ERR_METADATA_UNAVAILABLE;
    return err->code;
}

static void write_check(struct buf *out, const char *name, const struct health_result *check,
                        bool with_detail)
{
    jsonw_begin_object(out, name);
    jsonw_string(out, "status", check->code == ERR_OK ? STR("ok") : STR("down"));
    jsonw_int(out, "latencyMs", check->latency_ms);
    if (with_detail && check->code != ERR_OK)
        jsonw_string(out, "detail", str_of(check->err.message));
    jsonw_end_object(out);
}

static enum err_code get_health(struct app_ctx *ctx, struct err *err)
{
    struct health_result storage;
    struct health_result metadata;
    struct buf *out = &ctx->response.body;
    if (crash_or_fail("step.health"))
        return err_set_internal(err, ERR_INTERNAL, 0, "health", "a test has it fail");
    health_check(ctx->own, HEALTH_STORAGE, &storage);
    health_check(ctx->own, HEALTH_METADATA, &metadata);
    /* Without metadata nothing can be served; without storage lists and metadata still can. */
    bool down = metadata.code != ERR_OK;
    bool degraded = storage.code != ERR_OK;
    bool with_detail = (down || degraded) && app_is_operator(ctx);
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "status", down ? STR("down") : degraded ? STR("degraded") : STR("ok"));
    jsonw_string(out, "version", STR(COFFER_VERSION));
    jsonw_int(out, "uptimeSeconds", app_uptime_seconds(ctx));
    jsonw_begin_object(out, "checks");
    write_check(out, "storage", &storage, with_detail);
    write_check(out, "metadata", &metadata, with_detail);
    jsonw_end_object(out);
    jsonw_end_object(out);
    app_answer_json(ctx, down ? 503 : 200);
    return ERR_OK;
}

/* lighttpd refuses some names and ids before a program sees them: control characters, and bytes that are
 * in no UTF-8. */
static enum err_code judge_name(const struct route_found *asked, struct err *err)
{
    bool is_upload = asked->route == ROUTE_UPLOAD_NAME || asked->route == ROUTE_PIPE_NAME;
    return is_upload ? file_name_decode(asked->raw_name, NULL, 0, err) : ERR_OK;
}

static enum err_code judge_malformed(const struct route_found *asked, struct err *err)
{
    enum err_code code = judge_name(asked, err);
    if (code == ERR_OK && asked->id.len > 0)
        code = files_check_id(asked->id, err);
    return code == ERR_OK ? problem_of_status(400, err) : code;
}

static enum err_code json_too_large(struct err *err)
{
    err_set(err, ERR_FILE_TOO_LARGE, "gateway", "The body is larger than %d bytes.",
            LIMIT_JSON_BODY_BYTES);
    err_detail(err, "limit", LIMIT_JSON_BODY_BYTES);
    return ERR_FILE_TOO_LARGE;
}

/* lighttpd looks at a body's length before it looks for a program. */
static enum err_code judge_too_large(struct app_ctx *ctx, const struct route_found *asked,
                                     struct err *err)
{
    enum route route = asked->route;
    enum err_code code = judge_name(asked, err);
    if (code != ERR_OK)
        return code;
    if (route == ROUTE_UNKNOWN)
        return err_set(err, ERR_NOT_FOUND, "route", "There is nothing at this path.");
    if (!(route_info(route)->methods & METHOD_BIT(ctx->request.client_method))) {
        ctx->request.route = route; /* whose methods Allow names */
        return err_set(err, ERR_METHOD_NOT_ALLOWED, "route", "This method is not allowed here.");
    }
    if (route == ROUTE_UPLOAD || route == ROUTE_UPLOAD_NAME || route == ROUTE_PIPE_NAME)
        return upload_too_large(ctx->files->config->max_file_size, err);
    return json_too_large(err);
}

/* Of a file lighttpd says 403 or 404 only where files_get had found what it was to send. */
static enum err_code judge_unsent(const struct app_ctx *ctx, const struct route_found *asked,
                                  struct err *err)
{
    if (asked->route == ROUTE_FILE || asked->route == ROUTE_FILE_DOWNLOAD)
        return files_judge_unsent(ctx->files, asked->id, err);
    return problem_of_status(ctx->request.redirect_status, err);
}

static bool spool_is_full(const struct config *config)
{
    char path[CONFIG_TEXT_SIZE + sizeof "/spool"];
    struct statvfs stat;
    snprintf(path, sizeof path, "%s/spool", config->runtime_dir);
    return statvfs(path, &stat) == 0 && (stat.f_bavail < stat.f_blocks / 2 ||
                                         free_space_is_short(&stat, LIMIT_SPOOL_FULL_BYTES, 0));
}

/* lighttpd says 500 where it can't write a body to its spool. What this request had there is gone by
 * now, and what others had that met the same. */
static enum err_code judge_broken(const struct app_ctx *ctx, struct err *err)
{
    if (spool_is_full(ctx->files->config))
        return err_set(err, ERR_DISK_FULL, "gateway",
                       "There is no space for request bodies at the moment; try again later.");
    return problem_of_status(ctx->request.redirect_status, err);
}

/* What the gateway could not do is logged and reported as this program's own errors are. */
static enum err_code get_error(struct app_ctx *ctx, struct err *err)
{
    char room[ROUTE_RAW_MAX];
    const struct route_found asked = route_match_raw(ctx->request.path, room);
    switch (ctx->request.redirect_status) {
    case 400:
        return judge_malformed(&asked, err);
    case 403:
    case 404:
        return judge_unsent(ctx, &asked, err);
    case 413:
        return judge_too_large(ctx, &asked, err);
    case 500:
        return judge_broken(ctx, err);
    default:
        return problem_of_status(ctx->request.redirect_status, err);
    }
}

#define GET METHOD_BIT(METHOD_GET)

static const struct endpoint endpoints[] = {
    {ROUTE_LIVE, GET, ENDPOINT_OPEN, get_live},
    {ROUTE_READY, GET, ENDPOINT_OPEN, get_ready},
    {ROUTE_HEALTH, GET, ENDPOINT_OPEN, get_health},
    {ROUTE_ERROR, GET, ENDPOINT_OPEN, get_error},
};

static enum err_code open_checks(const struct files *files, void **ret_own, struct err *err)
{
    struct health *health = NULL;
    enum err_code code = health_open(&health, files->storage, files->metadata, files->clock, err);
    *ret_own = health;
    return code;
}

static void close_checks(void *own)
{
    health_close(own);
}

static const struct app health_app = {
    .name = "health",
    .workers = APP_WORKERS_OTHER,
    .needs = NEEDS_DATABASE | NEEDS_OBJECTS_READ | NEEDS_OBJECTS_PROBE,
    .open = open_checks,
    .close = close_checks,
    .endpoints = endpoints,
    .endpoint_count = sizeof endpoints / sizeof *endpoints,
};

int main(void)
{
    return app_run(&health_app);
}
