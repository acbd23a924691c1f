#include "app/serve.h"

#include <inttypes.h>

#include "access/origin.h"
#include "base/address.h"
#include "base/text.h"
#include "http/disposition.h"
#include "http/response.h"
#include "http/route_match.h"
#include "observe/log.h"
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

/* http_* metrics of the answer in ctx->response. */
static void request_log_measure(const struct app_ctx *ctx)
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

/* A report of what failed with a 5xx. */
static void request_log_report(const struct app_ctx *ctx)
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

/* The request's spans; ends its trace context. */
static void request_log_span(const struct app_ctx *ctx, struct span_request *span)
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

static const struct endpoint *find_endpoint(const struct app *app, const struct request *request)
{
    enum http_method method = request->method == METHOD_HEAD ? METHOD_GET : request->method;
    for (size_t i = 0; i < app->endpoint_count; i++) {
        const struct endpoint *endpoint = &app->endpoints[i];
        if (endpoint->route == request->route && (endpoint->methods & METHOD_BIT(method)))
            return endpoint;
    }
    return NULL;
}

static void write_allow(struct app_ctx *ctx)
{
    struct buf allow;
    unsigned methods = route_info(ctx->request.route)->methods;
    buf_init(&allow, 256);
    for (unsigned method = 0; method < METHOD_OTHER; method++)
        if (methods & METHOD_BIT(method))
            buf_printf(&allow, "%s%s", allow.len ? ", " : "",
                       method_name((enum http_method)method));
    response_header(&ctx->response, "Allow", buf_str(&allow));
    buf_release(&allow);
}

/* ABUSE row 51: bytes that are no UTF-8 are in no path. */
static enum err_code refuse_path(struct str path, struct err *err)
{
    struct buf plain;
    buf_init(&plain, path.len + 1);
    bool is_text = !text_percent_decode(path, false, &plain) || text_is_utf8(buf_str(&plain));
    buf_release(&plain);
    return is_text ? err_set(err, ERR_NOT_FOUND, "route", "There is nothing at this path.")
                   : err_set(err, ERR_BAD_REQUEST, "route", "The path is not valid UTF-8.");
}

static enum err_code check_method(const struct app_ctx *ctx, struct err *err)
{
    const struct request *request = &ctx->request;
    if (request->route == ROUTE_UNKNOWN)
        return refuse_path(request->path, err);
    if (!(route_info(request->route)->methods & METHOD_BIT(request->method)))
        return err_set(err, ERR_METHOD_NOT_ALLOWED, "route", "%s is not allowed here.",
                       request->method == METHOD_OTHER ? "This method"
                                                       : method_name(request->method));
    return ERR_OK;
}

static enum err_code read_credentials(const struct app_ctx *ctx, struct principal *ret_principal,
                                      struct err *err)
{
    struct str authorization;
    const struct authority authority = {ctx->files->config, ctx->files->metadata,
                                        ctx->files->clock};
    bool given = request_header(&ctx->request, "AUTHORIZATION", &authorization);
    return principal_authenticate(&authority, given ? &authorization : NULL, ret_principal, err);
}

bool app_is_operator(const struct app_ctx *ctx)
{
    struct principal principal;
    struct err err;
    const struct config *config = ctx->files->config;
    if (address_in_list(str_of(config->metrics_allow), ctx->request.remote_addr) &&
        forwarded_client_is_known(config, &ctx->request))
        return true;
    /* AUTH_MODE=none makes everyone an admin, but nobody shows a token. */
    return config->auth_mode != AUTH_MODE_NONE &&
           read_credentials(ctx, &principal, &err) == ERR_OK && principal_is_admin(&principal);
}

static enum err_code authenticate(struct app_ctx *ctx, struct err *err)
{
    struct metrics *metrics = ctx->files->metrics;
    enum err_code code = read_credentials(ctx, &ctx->principal, err);
    unsigned outcome = code != ERR_OK             ? AUTH_REJECTED
                       : ctx->principal.anonymous ? AUTH_ANONYMOUS
                                                  : AUTH_ACCEPTED;
    if (code == ERR_OK || code == ERR_UNAUTHORIZED)
        metrics_add(metrics, METRIC_AUTH_ATTEMPTS, &outcome, 1);
    return code;
}

static enum err_code take_idempotency_key(struct app_ctx *ctx, struct watch *watch, struct err *err)
{
    struct str key;
    if (!request_header(&ctx->request, "IDEMPOTENCY_KEY", &key))
        return ERR_OK;
    enum err_code code = principal_require(&ctx->principal, SCOPE_WRITE, err);
    if (code == ERR_OK)
        code = idempotency_begin(&ctx->idempotency, str_of(ctx->principal.owner), key, err);
    if (code == ERR_OK && ctx->idempotency.active && !ctx->idempotency.replay)
        watch_idempotency(watch, &ctx->idempotency);
    return code;
}

/* Known, and not allowed: the principal's scope or the file says so. */
static enum err_code count_forbidden(const struct app_ctx *ctx, enum err_code code)
{
    static const unsigned outcome = AUTH_FORBIDDEN;
    if (code == ERR_FORBIDDEN)
        metrics_add(ctx->files->metrics, METRIC_AUTH_ATTEMPTS, &outcome, 1);
    return code;
}

/* lighttpd's patterns match no path that is not UTF-8, so an upload by such a name comes to the program
 * of unknown paths. */
static enum err_code refuse_stray(const struct app_ctx *ctx, struct err *err)
{
    enum err_code code = ERR_OK;
    if (ctx->request.raw_name.len > 0)
        code = file_name_decode(ctx->request.raw_name, NULL, 0, err);
    return code != ERR_OK ? code
                          : err_set(err, ERR_NOT_FOUND, "route", "There is nothing at this path.");
}

static enum err_code refuse_query(const struct app_ctx *ctx, struct err *err)
{
    static const char *const none[] = {NULL};
    struct query query;
    enum err_code code = query_parse(&query, ctx->request.query, none, err);
    query_release(&query);
    return code;
}

static enum err_code run_endpoint(struct app_ctx *ctx, struct watch *watch, struct err *err)
{
    const struct endpoint *endpoint = find_endpoint(ctx->app, &ctx->request);
    if (!endpoint)
        return refuse_stray(ctx, err);
    if (endpoint->flags & ENDPOINT_OPEN)
        return endpoint->handle(ctx, err);
    enum err_code code = authenticate(ctx, err);
    if (code == ERR_OK && !(endpoint->flags & ENDPOINT_QUERY))
        code = refuse_query(ctx, err);
    if (code == ERR_OK && (endpoint->flags & ENDPOINT_IDEMPOTENT))
        code = take_idempotency_key(ctx, watch, err);
    if (code == ERR_OK)
        code = endpoint->handle(ctx, err);
    return count_forbidden(ctx, code);
}

static enum err_code run_request(struct app_ctx *ctx, struct watch *watch, struct err *err)
{
    if (ctx->request.route == ROUTE_ERROR)
        return run_endpoint(ctx, watch, err);
    enum err_code code = origin_check(ctx->files->config, &ctx->request, err);
    if (code == ERR_OK)
        code = check_method(ctx, err);
    if (code != ERR_OK)
        return code;
    if (ctx->request.method == METHOD_OPTIONS) {
        ctx->response.status = 204;
        write_allow(ctx);
        return ERR_OK;
    }
    return run_endpoint(ctx, watch, err);
}

/* RFC 9110 §15.5.17; the size is the problem's detail. */
static void write_unsatisfied_range(struct app_ctx *ctx)
{
    char value[48];
    snprintf(value, sizeof value, "bytes */%" PRId64, ctx->err.detail_value);
    response_header_text(&ctx->response, "Content-Range", value);
}

/* RFC 9110 §12.5.3 and §15.5.16: which codings a request may have. */
static void write_accepted_codings(struct app_ctx *ctx)
{
    if (!content_coding_is_identity(request_header_or_empty(&ctx->request, "CONTENT_ENCODING")))
        response_header_text(&ctx->response, "Accept-Encoding", "identity");
}

static void answer_problem(struct app_ctx *ctx)
{
    const struct problem_context context = {.trace_id = ctx->trace.trace_id,
                                            .request_id = ctx->trace.request_id,
                                            .path = ctx->request.path,
                                            .now_ms = clock_wall_ms(ctx->files->clock)};
    problem_write(&ctx->response, &ctx->err, &context);
    /* Of what lighttpd refuses by itself, it is not known what would be allowed. */
    if (ctx->err.code == ERR_METHOD_NOT_ALLOWED && ctx->request.route != ROUTE_ERROR)
        write_allow(ctx);
    if (ctx->err.code == ERR_RANGE_NOT_SATISFIABLE)
        write_unsatisfied_range(ctx);
    if (ctx->err.code == ERR_UNSUPPORTED_MEDIA_TYPE)
        write_accepted_codings(ctx);
}

static void write_common_headers(struct app_ctx *ctx)
{
    /* The gateway closes when it could not hand over the whole body: say so. */
    if (ctx->request.content_length > ctx->received_bytes)
        response_header_text(&ctx->response, "Connection", "close");
    char traceparent[TRACEPARENT_LENGTH + 1];
    trace_header(&ctx->trace, traceparent);
    response_header_text(&ctx->response, "X-Request-Id", ctx->trace.request_id);
    response_header_text(&ctx->response, "traceparent", traceparent);
    origin_write_cors(ctx->files->config, &ctx->request, &ctx->response);
}

static void measure_once(struct app_ctx *ctx)
{
    if (!ctx->measured)
        request_log_measure(ctx);
    ctx->measured = true;
}

/* Sends piece by piece. The head is out, so a failure can only cut the body short, which tells the
 * client; the log line and the metrics say why. The answer is measured before its last piece leaves
 * (see serve_request). */
static void send_source(struct app_ctx *ctx, struct fcgi *fcgi)
{
    int64_t left = ctx->response.content_length;
    bool is_sent = true;
    while (is_sent && left > 0) {
        struct str piece;
        struct err err;
        enum err_code code = source_next(ctx->response.source, &piece, &err);
        if (code == ERR_OK && (piece.len == 0 || (int64_t)piece.len > left))
            code = err_set_internal(&err, ERR_INTERNAL, 0, "send", "a body of another length");
        if (code != ERR_OK) {
            err.code = code;
            ctx->err = err;
            ctx->is_cut = true;
            break;
        }
        left -= (int64_t)piece.len;
        if (left == 0)
            measure_once(ctx);
        is_sent = fcgi_send(fcgi, piece);
    }
    if (fcgi_is_refused(fcgi)) {
        err_set(&ctx->err, ERR_REQUEST_TIMEOUT, "send", "The client took the answer too slowly.");
        ctx->is_cut = true;
    }
    ctx->response.content_length -= left;
}

static void send_body(struct app_ctx *ctx, struct fcgi *fcgi)
{
    if (ctx->response.source)
        send_source(ctx, fcgi);
    else
        fcgi_send(fcgi, buf_str(&ctx->response.body));
}

/* Has the body to be measured while it is sent? */
static bool is_streamed(const struct app_ctx *ctx)
{
    return ctx->response.source && ctx->response.content_length > 0 &&
           ctx->request.method != METHOD_HEAD;
}

/* The whole answer in one buffer when it is small, so that it leaves in one write. */
static void send_answer(struct app_ctx *ctx, struct fcgi *fcgi)
{
    struct buf head;
    struct err err;
    buf_init(&head, RESPONSE_HEADERS_MAX + CONFIG_TEXT_SIZE);
    write_common_headers(ctx);
    if (response_head(&ctx->response, &head, &err) != ERR_OK) {
        ctx->err = err;
        answer_problem(ctx);
        write_common_headers(ctx);
        buf_reset(&head);
        if (response_head(&ctx->response, &head, &err) != ERR_OK)
            goto out;
    }
    if (fcgi_send(fcgi, buf_str(&head)) && ctx->request.method != METHOD_HEAD)
        send_body(ctx, fcgi);
out:
    buf_release(&head);
}

static void begin(struct app_ctx *ctx, const struct service *service, struct fcgi *fcgi,
                  struct err *err)
{
    *ctx = (struct app_ctx){.app = service->app,
                            .files = &service->files,
                            .log = service->log,
                            .report = service->report,
                            .own = service->own,
                            .slots = service->slots,
                            .started_ns = clock_steady_ns(service->files.clock),
                            .process_started_ns = service->started_ns};
    response_init(&ctx->response);
    idempotency_init(&ctx->idempotency, service->files.metadata, service->files.clock);
    enum err_code code = request_from_env(&ctx->request, fcgi_environment(fcgi), err);
    if (fcgi_is_proxied(fcgi))
        forwarded_apply(service->files.config, &ctx->request);
    trace_start(&ctx->trace, service->files.clock,
                request_header_or_empty(&ctx->request, "X_REQUEST_ID"),
                request_header_or_empty(&ctx->request, "TRACEPARENT"));
    report_request_begin(service->report, &ctx->trace, route_info(ctx->request.route)->template);
    int64_t length = ctx->request.content_length;
    struct err body_err;
    enum err_code body_code = fcgi_begin_body(fcgi, length > 0 ? length : 0, &ctx->body, &body_err);
    if (code == ERR_OK && body_code != ERR_OK) {
        *err = body_err;
        code = body_code;
    }
    ctx->err.code = code;
}

void serve_request(const struct service *service, struct fcgi *fcgi, struct watch *watch)
{
    struct app_ctx ctx;
    struct span_request span;
    struct err err = {0};
    metrics_add(service->files.metrics, METRIC_HTTP_IN_FLIGHT, NULL, 1);
    begin(&ctx, service, fcgi, &err);
    span_request_begin(&span, service->spans, &ctx.trace, ctx.started_ns);
    if (ctx.err.code == ERR_OK)
        ctx.err.code = run_request(&ctx, watch, &err);
    watch_idempotency(watch, NULL);
    idempotency_end(&ctx.idempotency);
    ctx.received_bytes = fcgi_received(fcgi);
    if (ctx.err.code != ERR_OK) {
        err.code = ctx.err.code;
        ctx.err = err;
        answer_problem(&ctx);
    }
    /* Counted before the last byte leaves: what a client has seen answered is in the metrics, also
     * when the program is killed right after. */
    if (!is_streamed(&ctx))
        measure_once(&ctx);
    send_answer(&ctx, fcgi);
    measure_once(&ctx);
    metrics_add(service->files.metrics, METRIC_HTTP_IN_FLIGHT, NULL, -1);
    files_download_close(ctx.download);
    request_log_report(&ctx);
    request_log_write(&ctx); /* borrows the request's variables, which fcgi_finish frees */
    request_log_span(&ctx, &span);
    if (ctx.is_cut)
        fcgi_break(fcgi);
    else
        fcgi_finish(fcgi);
    if (ctx.has_slot) /* now that nothing waits for the client any more */
        slots_give(service->slots);
    response_release(&ctx.response);
    report_request_end(service->report);
}
