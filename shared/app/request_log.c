#include "app/request_log.h"

#include "http/route_match.h"
#include "observe/log_list.h"
#include "observe/metrics.h"

#define NS_PER_SECOND 1e9

/* Bytes of the answer's body; what the gateway sends for us is counted as the whole file. */
static int64_t response_bytes(const struct app_ctx *ctx)
{
    const struct response *response = &ctx->response;
    if (ctx->request.method == METHOD_HEAD)
        return 0;
    bool elsewhere = response->sendfile_path.len > 0 || response->source;
    return elsewhere ? response->content_length : (int64_t)response->body.len;
}

void request_log_measure(const struct app_ctx *ctx)
{
    struct metrics *metrics = ctx->files->metrics;
    const unsigned labels[] = {(unsigned)ctx->request.client_method, (unsigned)ctx->request.route,
                               (unsigned)ctx->response.status};
    int64_t duration_ns = clock_steady_ns(ctx->files->clock) - ctx->started_ns;
    metrics_add(metrics, METRIC_HTTP_REQUESTS, labels, 1);
    metrics_observe_traced(metrics, METRIC_HTTP_DURATION, labels,
                           (double)duration_ns / NS_PER_SECOND, ctx->trace.trace_id);
    metrics_observe(metrics, METRIC_HTTP_REQUEST_SIZE, labels, (double)ctx->received_bytes);
    metrics_observe(metrics, METRIC_HTTP_RESPONSE_SIZE, labels, (double)response_bytes(ctx));
}

static void add_error(struct log_list *list, const struct err *err)
{
    if (err->code == ERR_OK)
        return;
    log_list_text(list, "error.code", str_of(err_info(err->code)->code));
    log_list_text(list, "error.message", str_of(err->message));
    log_list_text(list, "error.operation", str_of(err->operation));
    if (err->os_errno != 0)
        log_list_number(list, "error.errno", err->os_errno);
    if (err->remote_status != 0)
        log_list_number(list, "error.remote_status", err->remote_status);
}

/* A fault that the gateway told has the route of the path that was asked for. */
static enum route reported_route(const struct request *request)
{
    char room[ROUTE_RAW_MAX];
    return request->route == ROUTE_ERROR ? route_match_raw(request->path, room).route
                                         : request->route;
}

void request_log_report(const struct app_ctx *ctx)
{
    const struct request *request = &ctx->request;
    if (!ctx->report || ctx->err.code == ERR_OK || !err_info(ctx->err.code)->report)
        return;
    struct report_event event = {
        .trace = &ctx->trace,
        .method = request->client_method_text,
        .route = route_info(reported_route(request))->template,
        .path = request->path,
        .user_agent = request_header_or_empty(request, "USER_AGENT"),
        .status = ctx->response.status,
        .has_trail = true,
    };
    report_event_error(&event, &ctx->err);
    report_send(ctx->report, &event);
}

void request_log_span(const struct app_ctx *ctx, struct span_request *span)
{
    const struct request *request = &ctx->request;
    const struct span_answer answer = {
        .method = request->client_method_text,
        .route = route_info(request->route)->template,
        .path = request->path,
        .client = request->remote_addr,
        .user_agent = request_header_or_empty(request, "USER_AGENT"),
        .error = ctx->err.code == ERR_OK ? NULL : err_info(ctx->err.code)->code,
        .status = ctx->response.status,
        .is_cut = ctx->is_cut,
        .received_bytes = ctx->received_bytes,
        .sent_bytes = response_bytes(ctx),
    };
    span_request_end(span, &answer);
}

/* Whatever went wrong is logged; of the rest, what is in the sample. */
static bool is_logged(const struct app_ctx *ctx, enum err_level level)
{
    if (!log_enabled(ctx->log, level))
        return false;
    bool went_well = ctx->err.code == ERR_OK && ctx->response.status < 400;
    return !went_well || log_keeps_success(ctx->log, ctx->trace.trace_id);
}

void request_log_write(const struct app_ctx *ctx)
{
    struct log_list list = {.count = 0};
    const struct request *request = &ctx->request;
    enum err_level level =
        ctx->err.code == ERR_OK ? ERR_LEVEL_INFO : err_info(ctx->err.code)->level;
    if (!is_logged(ctx, level))
        return;
    log_list_text(&list, "span.id", str_of(ctx->trace.span_id));
    log_list_required(&list, "http.request.id", str_of(ctx->trace.request_id));
    log_list_required(&list, "http.request.method", request->client_method_text);
    log_list_number(&list, "http.response.status_code", ctx->response.status);
    log_list_required(&list, "http.route", str_of(route_info(request->route)->template));
    log_list_required(&list, "url.path", request->path);
    log_list_number(&list, "event.duration", clock_steady_ns(ctx->files->clock) - ctx->started_ns);
    log_list_number(&list, "http.request.body.bytes", ctx->received_bytes);
    log_list_number(&list, "http.response.body.bytes", response_bytes(ctx));
    log_list_text(&list, "client.ip", request->remote_addr);
    log_list_text(&list, "user.name", str_of(ctx->principal.owner));
    log_list_text(&list, "user_agent.original", request_header_or_empty(request, "USER_AGENT"));
    add_error(&list, &ctx->err);
    log_write(ctx->log, level, &ctx->trace, "request", log_list_all(&list));
}
