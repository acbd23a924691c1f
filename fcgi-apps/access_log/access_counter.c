#include "access_log/access_counter.h"

#include "access_log/access_line.h"
#include "base/crash.h"
#include "observe/log.h"

#define US_PER_SECOND 1e6
#define NS_PER_US 1000

struct answer {
    const struct access_line *line;
    enum http_method method;
    enum route route;
    struct trace trace; /* without a trace_id where lighttpd answered by itself */
};

static void measure(struct metrics *metrics, const struct answer *answer)
{
    const struct access_line *line = answer->line;
    const unsigned labels[] = {(unsigned)answer->method, (unsigned)answer->route,
                               (unsigned)line->status};
    /* First, and alone: this is what makes the line a counted one (observe/gateway_runs.h). */
    metrics_add(metrics, METRIC_HTTP_REQUESTS, labels, 1);
    metrics_observe_traced(metrics, METRIC_HTTP_DURATION, labels,
                           (double)line->duration_us / US_PER_SECOND, answer->trace.trace_id);
    metrics_observe(metrics, METRIC_HTTP_REQUEST_SIZE, labels, (double)line->body_bytes);
    metrics_observe(metrics, METRIC_HTTP_RESPONSE_SIZE, labels, (double)line->sent_bytes);
}

/* A method or a version that lighttpd does not know is its client's fault. */
static bool is_fault(int status)
{
    return status >= 500 && status != 501 && status != 505;
}

/* The query stays out: it may hold what nobody else should read. */
static void write_log(struct log *log, const struct answer *answer)
{
    const struct access_line *line = answer->line;
    struct log_list list = {.count = 0};
    enum err_level level = is_fault(line->status) ? ERR_LEVEL_ERROR : ERR_LEVEL_INFO;
    if (!log_enabled(log, level) ||
        (line->status < 400 && !log_keeps_success(log, answer->trace.trace_id)))
        return;
    log_list_required(&list, "http.request.id", line->request_id);
    log_list_required(&list, "http.request.method", line->method);
    log_list_number(&list, "http.response.status_code", line->status);
    log_list_required(&list, "http.route", str_of(route_info(answer->route)->template));
    log_list_required(&list, "url.path", access_line_path(line));
    log_list_number(&list, "event.duration", line->duration_us * NS_PER_US);
    log_list_number(&list, "http.request.body.bytes", line->body_bytes);
    log_list_number(&list, "http.response.body.bytes", line->sent_bytes);
    log_list_text(&list, "client.ip", line->client);
    log_list_text(&list, "user_agent.original", line->user_agent);
    if (line->is_cut)
        log_list_text(&list, "event.reason", STR("the connection ended before the answer"));
    log_write(log, level, &answer->trace, "answer", log_list_all(&list));
}

static void send_span(struct spans *spans, const struct answer *answer)
{
    const struct access_line *line = answer->line;
    const struct span_gateway_line told = {
        .answer_traceparent = line->traceparent,
        .request_traceparent = line->caller_traceparent,
        .request_id = line->request_id,
        .method = line->method,
        .route = route_info(answer->route)->template,
        .path = access_line_path(line),
        .client = line->client,
        .user_agent = line->user_agent,
        .status = line->status,
        .received_bytes = line->body_bytes,
        .sent_bytes = line->sent_bytes,
        .start_ns = line->begun_us * NS_PER_US,
        .duration_ns = line->duration_us * NS_PER_US,
    };
    span_gateway(spans, &told);
}

static void read_trace(const struct access_line *line, struct trace *trace)
{
    struct trace_caller answered;
    if (!trace_read(line->traceparent, &answered))
        return;
    memcpy(trace->trace_id, answered.trace_id, sizeof trace->trace_id);
    memcpy(trace->span_id, answered.span_id, sizeof trace->span_id);
    trace->flags = answered.flags;
}

void access_counter_take(const struct access_counter *counter, char *text, size_t len)
{
    struct access_line line;
    crash_point("step.access_log");
    if (!access_line_parse(text, len, &line))
        return;
    if (line.kind == ACCESS_STATUS) {
        gateway_runs_count_own(counter->runs, line.mark);
        return;
    }
    struct answer answer = {
        .line = &line, .method = access_line_method(&line), .route = access_line_route(&line)};
    read_trace(&line, &answer.trace);
    measure(counter->metrics, &answer);
    write_log(counter->log, &answer);
    send_span(counter->spans, &answer);
}
