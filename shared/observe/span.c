#include "observe/span.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/jsonw.h"
#include "base/text.h"
#include "observe/metrics_table.h"
#include "observe/span_parts.h"

#define SCOPE "coffer"
#define KIND_INTERNAL 1
#define KIND_SERVER 2
#define KIND_CLIENT 3
#define STATUS_ERROR 2
/* https://opentelemetry.io/docs/specs/otel/trace/api/: in the bits behind the trace flags */
#define FLAG_HAS_REMOTE 0x100
#define FLAG_IS_REMOTE 0x200

static void spans_count(const struct spans *spans, enum metric_otel outcome, int64_t amount);

/* ---- values (opentelemetry-proto, JSON: 64-bit integers are texts) ---- */

static void attribute(struct buf *out, const char *key, struct str value)
{
    if (value.len == 0)
        return;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "key", str_of(key));
    jsonw_begin_object(out, "value");
    jsonw_string(out, "stringValue", value);
    jsonw_end_object(out);
    jsonw_end_object(out);
}

static void number(struct buf *out, const char *name, int64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRId64, value);
    jsonw_string(out, name, (struct str){text, (size_t)len});
}

static void attribute_int(struct buf *out, const char *key, int64_t value)
{
    if (value < 0)
        return;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "key", str_of(key));
    jsonw_begin_object(out, "value");
    number(out, "intValue", value);
    jsonw_end_object(out);
    jsonw_end_object(out);
}

static void span_id(struct buf *out, const char *name, uint64_t span)
{
    char text[17];
    int len = snprintf(text, sizeof text, "%016" PRIx64, span);
    jsonw_string(out, name, (struct str){text, (size_t)len});
}

static void error_status(struct buf *out, bool is_error)
{
    if (!is_error)
        return;
    jsonw_begin_object(out, "status");
    jsonw_int(out, "code", STATUS_ERROR);
    jsonw_end_object(out);
}

/* ---- resource and scope ---- */

static void write_resource(const struct span_resource *resource, struct buf *out)
{
    char name[64];
    snprintf(name, sizeof name, "coffer-%s", resource->program);
    jsonw_begin_object(out, "resource");
    jsonw_begin_array(out, "attributes");
    attribute(out, "service.name", str_of(name));
    attribute(out, "service.version", STR(COFFER_VERSION));
    attribute(out, "service.instance.id", str_of(resource->instance));
    attribute(out, "deployment.environment.name", str_of(resource->environment));
    attribute(out, "deployment.environment", str_of(resource->environment));
    jsonw_end_array(out);
    jsonw_end_object(out);
}

static void write_scope(struct buf *out)
{
    jsonw_begin_object(out, "scope");
    jsonw_string(out, "name", STR(SCOPE));
    jsonw_string(out, "version", STR(COFFER_VERSION));
    jsonw_end_object(out);
}

/* ---- spans ---- */

struct span {
    uint64_t id;
    uint64_t parent;
    struct str name;
    int kind;
    bool has_remote_parent;
    int64_t start_ns;
    int64_t end_ns;
};

static void begin_span(const struct span_record *record, const struct span *span, struct buf *out)
{
    unsigned flags = record->flags | FLAG_HAS_REMOTE;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "traceId", str_of(record->trace_id));
    span_id(out, "spanId", span->id);
    if (span->parent)
        span_id(out, "parentSpanId", span->parent);
    jsonw_int(out, "flags", span->has_remote_parent ? flags | FLAG_IS_REMOTE : flags);
    jsonw_string(out, "name", span->name);
    jsonw_int(out, "kind", span->kind);
    number(out, "startTimeUnixNano", span->start_ns > 0 ? span->start_ns : 0);
    number(out, "endTimeUnixNano", span->end_ns > 0 ? span->end_ns : 0);
    jsonw_begin_array(out, "attributes");
}

static void end_span(bool is_error, struct buf *out)
{
    jsonw_end_array(out);
    error_status(out, is_error);
    jsonw_end_object(out);
}

static bool is_template(const char *route)
{
    return route && route[0] == '/';
}

/* The path, unless the name of a file stands in it; an unknown path may hold anything. */
static struct str shown_path(const struct span_record *record, struct str path)
{
    if (!is_template(record->route))
        return (struct str){NULL, 0};
    return strstr(record->route, ":name") ? str_of(record->route) : path;
}

static void write_error_type(const struct span_record *record, struct buf *out)
{
    char status[16];
    if (!record->is_failed)
        return;
    snprintf(status, sizeof status, "%d", record->status);
    attribute(out, "error.type", str_of(record->error ? record->error : status));
}

/* https://opentelemetry.io/docs/specs/semconv/http/http-spans/, "HTTP server" */
static void write_request(const struct span_record *record, const struct str *texts,
                          struct buf *out)
{
    char name[128];
    struct str method = texts[SPAN_METHOD].len > 0 ? texts[SPAN_METHOD] : STR("HTTP");
    snprintf(name, sizeof name, "%.*s%s%s", (int)method.len, method.data,
             is_template(record->route) ? " " : "",
             is_template(record->route) ? record->route : "");
    const struct span span = {.id = record->span,
                              .parent = record->parent,
                              .name = str_of(name),
                              .kind = KIND_SERVER,
                              .has_remote_parent = record->has_remote_parent,
                              .start_ns = record->start_ns,
                              .end_ns = record->end_ns};
    begin_span(record, &span, out);
    attribute(out, "http.request.method", texts[SPAN_METHOD]);
    attribute(out, "url.scheme", STR("http"));
    attribute(out, "url.path", shown_path(record, texts[SPAN_PATH]));
    attribute(out, "http.route", str_of(is_template(record->route) ? record->route : NULL));
    attribute_int(out, "http.response.status_code", record->status > 0 ? record->status : -1);
    attribute_int(out, "http.request.body.size", record->received_bytes);
    attribute_int(out, "http.response.body.size", record->sent_bytes);
    attribute(out, "client.address", texts[SPAN_CLIENT]);
    attribute(out, "user_agent.original", texts[SPAN_AGENT]);
    attribute(out, "http.request.id", texts[SPAN_REQUEST_ID]);
    write_error_type(record, out);
    end_span(record->is_failed, out);
}

/* Where the driver asks another service (https://opentelemetry.io/docs/specs/semconv/db/). */
static bool is_remote(const struct span_step *step)
{
    return step->operations == METRIC_STORAGE_OPERATIONS ? step->driver != METRIC_STORAGE_FS
                                                         : step->driver != METRIC_METADATA_SQLITE;
}

static void write_step(const struct span_record *record, const struct span_step *step,
                       struct buf *out)
{
    const struct metric_row *row = &metric_rows[step->operations];
    const struct err_info *info = err_info(step->outcome);
    struct str driver = str_of(metric_label_value(row->labels[0], step->driver));
    struct str operation = str_of(metric_label_value(row->labels[1], step->operation));
    bool is_storage = step->operations == METRIC_STORAGE_OPERATIONS;
    bool is_error = step->outcome != ERR_OK && info->report;
    char name[96];
    snprintf(name, sizeof name, "%s %.*s", is_storage ? "storage" : "metadata", (int)operation.len,
             operation.data);
    const struct span span = {.id = trace_context_span(record->span, step->number),
                              .parent = record->span,
                              .name = str_of(name),
                              .kind = is_remote(step) ? KIND_CLIENT : KIND_INTERNAL,
                              .start_ns = step->end_ns - step->duration_ns,
                              .end_ns = step->end_ns};
    begin_span(record, &span, out);
    attribute(out, is_storage ? "coffer.storage.driver" : "db.system.name", driver);
    attribute(out, is_storage ? "coffer.storage.operation" : "db.operation.name", operation);
    attribute(out, "coffer.outcome", str_of(step->outcome == ERR_OK ? "ok" : info->code));
    if (is_error)
        attribute(out, "error.type", str_of(info->code));
    end_span(is_error, out);
}

static void write_record(const struct span_record *record, const char *rest, struct buf *out)
{
    struct str texts[SPAN_TEXT_COUNT];
    const char *at = rest + record->step_count * sizeof(struct span_step);
    for (size_t i = 0; i < SPAN_TEXT_COUNT; i++) {
        texts[i] = (struct str){at, record->text_len[i]};
        at += record->text_len[i];
    }
    write_request(record, texts, out);
    for (unsigned i = 0; i < record->step_count; i++) {
        struct span_step step;
        memcpy(&step, rest + i * sizeof step, sizeof step);
        write_step(record, &step, out);
    }
}

/* The spans of whole records in `records`, as many as make a batch (one at least): a document into
 * `body`, their bytes and their number. */
static void span_write_batch(const struct span_resource *resource, struct str records,
                             struct buf *body, size_t *ret_taken, int64_t *ret_spans)
{
    size_t taken = 0;
    int64_t spans = 0;
    jsonw_begin_object(body, NULL);
    jsonw_begin_array(body, "resourceSpans");
    jsonw_begin_object(body, NULL);
    write_resource(resource, body);
    jsonw_begin_array(body, "scopeSpans");
    jsonw_begin_object(body, NULL);
    write_scope(body);
    jsonw_begin_array(body, "spans");
    while (taken < records.len && spans < SPAN_BATCH_MAX && body->len < SPAN_BATCH_BYTES) {
        struct span_record record;
        memcpy(&record, records.data + taken, sizeof record);
        write_record(&record, records.data + taken + sizeof record, body);
        taken += record.size;
        spans += 1 + (int64_t)record.step_count;
    }
    jsonw_end_array(body);
    jsonw_end_object(body);
    jsonw_end_array(body);
    jsonw_end_object(body);
    jsonw_end_array(body);
    jsonw_end_object(body);
    *ret_taken = taken;
    *ret_spans = spans;
}

#define NS_PER_MS 1000000LL
#define MS_PER_S 1000LL
static const struct backoff backoff = {1000, 60 * 1000, BACKOFF_HALF_JITTER};
#define LONGEST_S 3600 /* so that a slip of the collector is not for ever */

static int64_t now_ns(const struct spans *spans)
{
    return clock_steady_ns(spans->options.clock);
}

/* ---- what is sent ---- */

/* What was filled becomes what is sent, when it is time; else the time until then. */
static bool swap(struct spans *spans, bool stopping, int64_t *ret_wait_ms)
{
    pthread_mutex_lock(&spans->mutex);
    struct span_buffer filled = spans->filling;
    int64_t left_ns = spans->filling_since_ns + SPAN_FLUSH_MS * NS_PER_MS - now_ns(spans);
    bool is_due = filled.len > 0 && (stopping || filled.len >= SPAN_SOON_BYTES || left_ns <= 0);
    if (is_due) {
        spans->filling = (struct span_buffer){spans->sending.bytes, 0};
        spans->sending = filled;
        spans->sent = 0;
    }
    pthread_mutex_unlock(&spans->mutex);
    *ret_wait_ms = filled.len > 0 && !is_due ? left_ns / NS_PER_MS + 1 : -1;
    return is_due;
}

static bool has_left(const struct spans *spans)
{
    return spans->sent < spans->sending.len;
}

static struct str left(const struct spans *spans)
{
    const void *at = spans->sending.bytes + spans->sent;
    return (struct str){at, spans->sending.len - spans->sent};
}

/* The batch is through, in whatever way. */
static void done(struct spans *spans, enum metric_otel outcome, int64_t rejected)
{
    spans->sent += spans->batch;
    spans->batch = 0;
    spans_count(spans, outcome, spans->batch_spans - rejected);
    spans_count(spans, METRIC_OTEL_DROPPED_FAILED, rejected);
}

static void drop(struct spans *spans)
{
    struct buf ignored;
    buf_init(&ignored, SENDER_BODY_MAX);
    while (has_left(spans)) {
        buf_reset(&ignored);
        span_write_batch(&spans->resource, left(spans), &ignored, &spans->batch,
                         &spans->batch_spans);
        done(spans, METRIC_OTEL_DROPPED_FAILED, 0);
    }
    buf_release(&ignored);
}

/* Counts what was not sent, when nothing is sent any more. */
static void span_drop_left(struct spans *spans)
{
    int64_t ignored;
    drop(spans);
    if (swap(spans, true, &ignored))
        drop(spans);
}

static bool pull(void *context, bool stopping, struct buf *body, int64_t *ret_wait_ms)
{
    struct spans *spans = context;
    int64_t left_ns = spans->until_ns - now_ns(spans);
    *ret_wait_ms = -1;
    if (left_ns > 0) {
        *ret_wait_ms = left_ns / NS_PER_MS + 1;
        return false;
    }
    if (!has_left(spans) && !swap(spans, stopping, ret_wait_ms))
        return false;
    span_write_batch(&spans->resource, left(spans), body, &spans->batch, &spans->batch_spans);
    if (!body->failed)
        return true;
    done(spans, METRIC_OTEL_DROPPED_FAILED, 0); /* no memory */
    *ret_wait_ms = 0;
    return false;
}

/* ---- what became of it ---- */

/* RFC 9110 §10.2.3; negative: nothing that can be read. */
static int64_t retry_after_ms(const struct spans *spans, const struct http_reply *reply)
{
    struct str value;
    int64_t seconds;
    if (!http_reply_header(reply, "Retry-After", &value))
        return -1;
    if (!text_parse_int(value, 0, INT64_MAX, &seconds)) {
        if (!text_parse_http_date(value, &seconds))
            return -1;
        seconds -= clock_wall_ms(spans->options.clock) / MS_PER_S;
    }
    if (seconds < 0)
        return 0;
    return (seconds < LONGEST_S ? seconds : LONGEST_S) * MS_PER_S;
}

static void back_off(struct spans *spans, const struct http_reply *reply)
{
    int64_t asked_ms = reply ? retry_after_ms(spans, reply) : -1;
    int64_t wait_ms =
        asked_ms >= 0 ? asked_ms : backoff_ms(&backoff, spans->failures, spans->options.clock);
    spans->failures++;
    spans->until_ns = now_ns(spans) + wait_ms * NS_PER_MS;
}

/* https://opentelemetry.io/docs/specs/otlp/#failures-1: no connection, or one of these. */
static bool is_temporary(const struct http_reply *reply)
{
    return !reply || reply->status == 429 || reply->status == 502 || reply->status == 503 ||
           reply->status == 504;
}

/* {"partialSuccess":{"rejectedSpans":"3"}}; a number is read too. */
static int64_t rejected_spans(const struct http_reply *reply, int64_t most)
{
    int64_t rejected = 0;
    cJSON *document = cJSON_ParseWithLength(buf_text(&reply->body), reply->body.len);
    const cJSON *partial = cJSON_GetObjectItemCaseSensitive(document, "partialSuccess");
    const cJSON *count = cJSON_GetObjectItemCaseSensitive(partial, "rejectedSpans");
    if (cJSON_IsNumber(count) && count->valuedouble > 0)
        rejected = count->valuedouble < (double)most ? (int64_t)count->valuedouble : most;
    else if (!cJSON_IsString(count) ||
             !text_parse_int(str_of(count->valuestring), 0, INT64_MAX, &rejected))
        rejected = 0;
    cJSON_Delete(document);
    return rejected < most ? rejected : most;
}

static void judge(void *context, struct str body, const struct http_reply *reply,
                  const struct err *err)
{
    struct spans *spans = context;
    (void)body;
    (void)err;
    if (is_temporary(reply)) {
        back_off(spans, reply);
        return;
    }
    spans->failures = 0;
    if (reply->status >= 200 && reply->status < 300)
        done(spans, METRIC_OTEL_SENT, rejected_spans(reply, spans->batch_spans));
    else
        done(spans, METRIC_OTEL_DROPPED_FAILED, 0);
}

static enum err_code span_add_receiver(struct spans *spans, struct err *err)
{
    const struct sender_receiver receiver = {.url = spans->url,
                                             .header = "Content-Type: application/json\r\n",
                                             .pull = pull,
                                             .judge = judge,
                                             .context = spans};
    return sender_add(spans->options.sender, &receiver, &spans->lane, err);
}
#define ALIGNED 8

static const size_t text_max[SPAN_TEXT_COUNT] = {
    [SPAN_METHOD] = 16,
    [SPAN_PATH] = 512,
    [SPAN_CLIENT] = 64,
    [SPAN_AGENT] = 256,
    [SPAN_REQUEST_ID] = LIMIT_REQUEST_ID_BYTES,
};

static void spans_count(const struct spans *spans, enum metric_otel outcome, int64_t amount)
{
    const unsigned label = outcome;
    if (amount > 0)
        metrics_add(spans->options.metrics, METRIC_OTEL_SPANS, &label, amount);
}

/* ---- open and close ---- */

/* https://opentelemetry.io/docs/specs/otel/protocol/exporter/: the path of the signal is added to
 * the one that the base URL has. */
static enum err_code make_url(struct spans *spans, struct err *err)
{
    struct str base = str_of(spans->options.config->otlp_endpoint);
    while (base.len > 0 && base.data[base.len - 1] == '/')
        base.len--;
    int len = snprintf(spans->url, sizeof spans->url, "%.*s/v1/traces", (int)base.len, base.data);
    if (len < 0 || (size_t)len >= sizeof spans->url)
        return err_set_internal(err, ERR_INTERNAL, 0, "spans", "no room for the URL");
    return ERR_OK;
}

/* A UUID of this process (https://opentelemetry.io/docs/specs/semconv/registry/attributes/service/). */
static void make_resource(struct spans *spans)
{
    unsigned char bytes[16];
    char hex[33];
    struct span_resource *resource = &spans->resource;
    resource->program = spans->options.program;
    resource->environment = spans->options.config->environment;
    clock_random(spans->options.clock, bytes, sizeof bytes);
    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40); /* UUID version 4 */
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
    text_hex(bytes, sizeof bytes, hex);
    snprintf(resource->instance, sizeof resource->instance, "%.8s-%.4s-%.4s-%.4s-%.12s", hex,
             hex + 8, hex + 12, hex + 16, hex + 20);
}

enum err_code spans_open(struct spans **ret_spans, const struct spans_options *options,
                         struct err *err)
{
    *ret_spans = NULL;
    if (!*options->config->otlp_endpoint)
        return ERR_OK;
    struct spans *spans = calloc(1, sizeof *spans);
    if (!spans)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "spans", "out of memory");
    spans->options = *options;
    pthread_mutex_init(&spans->mutex, NULL);
    make_resource(spans);
    spans->filling.bytes = malloc(SPAN_QUEUE_BYTES);
    spans->sending.bytes = malloc(SPAN_QUEUE_BYTES);
    enum err_code code = ERR_OK;
    if (!spans->filling.bytes || !spans->sending.bytes)
        code = err_set_internal(err, ERR_NO_MEMORY, 0, "spans", "out of memory");
    if (code == ERR_OK)
        code = make_url(spans, err);
    if (code == ERR_OK)
        code = span_add_receiver(spans, err);
    if (code != ERR_OK) {
        spans_close(spans);
        return code;
    }
    *ret_spans = spans;
    return ERR_OK;
}

void spans_close(struct spans *spans)
{
    if (!spans)
        return;
    span_drop_left(spans);
    pthread_mutex_destroy(&spans->mutex);
    free(spans->filling.bytes);
    free(spans->sending.bytes);
    free(spans);
}

/* ---- into the buffer ---- */

struct record_parts {
    const struct span_step *steps;
    struct str texts[SPAN_TEXT_COUNT];
};

static size_t measure(struct span_record *record, const struct record_parts *parts)
{
    size_t size = sizeof *record + record->step_count * sizeof *parts->steps;
    for (size_t i = 0; i < SPAN_TEXT_COUNT; i++) {
        size_t len = parts->texts[i].len;
        record->text_len[i] = (unsigned)(len < text_max[i] ? len : text_max[i]);
        size += record->text_len[i];
    }
    return (size + ALIGNED - 1) / ALIGNED * ALIGNED;
}

static void copy_record(unsigned char *at, const struct span_record *record,
                        const struct record_parts *parts)
{
    memcpy(at, record, sizeof *record);
    at += sizeof *record;
    if (record->step_count > 0)
        memcpy(at, parts->steps, record->step_count * sizeof *parts->steps);
    at += record->step_count * sizeof *parts->steps;
    for (size_t i = 0; i < SPAN_TEXT_COUNT; i++) {
        if (record->text_len[i] > 0)
            memcpy(at, parts->texts[i].data, record->text_len[i]);
        at += record->text_len[i];
    }
}

/* The sender's thread is told when there is a first one, and when there are many. */
static void put(struct spans *spans, struct span_record *record, const struct record_parts *parts)
{
    struct span_buffer *filling = &spans->filling;
    record->size = measure(record, parts);
    pthread_mutex_lock(&spans->mutex);
    size_t before = filling->len;
    bool has_room = record->size <= SPAN_QUEUE_BYTES - before;
    if (has_room) {
        copy_record(filling->bytes + before, record, parts);
        filling->len += record->size;
        if (before == 0)
            spans->filling_since_ns = clock_steady_ns(spans->options.clock);
    }
    size_t after = filling->len;
    pthread_mutex_unlock(&spans->mutex);
    if (!has_room)
        spans_count(spans, METRIC_OTEL_DROPPED_QUEUE, 1 + (int64_t)record->step_count);
    else if (before == 0 || (before < SPAN_SOON_BYTES && after >= SPAN_SOON_BYTES))
        sender_wake(spans->options.sender);
}

/* ---- gateway ---- */

/* Whose span it is: of the trace that the program answered with, else of the caller's, else of a new
 * one. */
static bool identify(const struct spans *spans, const struct span_gateway_line *line,
                     struct span_record *record)
{
    struct trace_caller caller = {.trace_id = ""};
    struct trace_caller program;
    struct trace own;
    char span_id[17];
    bool is_continued = trace_read(line->request_traceparent, &caller);
    if (trace_read(line->answer_traceparent, &program)) {
        trace_gateway_span(program.span_id, span_id);
        is_continued = is_continued && strcmp(caller.trace_id, program.trace_id) == 0;
        memcpy(record->trace_id, program.trace_id, sizeof record->trace_id);
        record->flags = program.flags;
    } else {
        trace_start(&own, spans->options.clock, STR(""), line->request_traceparent);
        memcpy(span_id, own.span_id, sizeof span_id);
        memcpy(record->trace_id, own.trace_id, sizeof record->trace_id);
        record->flags = own.flags;
    }
    record->span = trace_context_read_span(span_id);
    record->parent = is_continued ? trace_context_read_span(caller.span_id) : 0;
    record->has_remote_parent = is_continued;
    return record->flags & 1;
}

void span_gateway(struct spans *spans, const struct span_gateway_line *line)
{
    struct span_record record = {.route = line->route,
                                 .status = line->status,
                                 .is_failed = line->status >= 500,
                                 .start_ns = line->start_ns,
                                 .end_ns = line->start_ns + line->duration_ns,
                                 .received_bytes = line->received_bytes,
                                 .sent_bytes = line->sent_bytes};
    const struct record_parts parts = {.texts = {[SPAN_METHOD] = line->method,
                                                 [SPAN_PATH] = line->path,
                                                 [SPAN_CLIENT] = line->client,
                                                 [SPAN_AGENT] = line->user_agent,
                                                 [SPAN_REQUEST_ID] = line->request_id}};
    if (spans && identify(spans, line, &record))
        put(spans, &record, &parts);
}

/* ---- programs ---- */

void span_request_begin(struct span_request *request, struct spans *spans,
                        const struct trace *trace, int64_t start_ns)
{
    bool is_kept = spans && (trace->flags & 1);
    trace_context_init(&request->context, trace->trace_id, trace->span_id, trace->flags);
    request->context.has_steps = is_kept;
    request->spans = is_kept ? spans : NULL;
    request->trace = trace;
    request->start_ns = start_ns;
    request->wall_ns = is_kept ? clock_wall_ms(spans->options.clock) * NS_PER_MS : 0;
    atomic_init(&request->step_count, 0);
    trace_context_set(&request->context);
}

void span_step(enum metric operations, const unsigned *labels, enum err_code outcome,
               int64_t duration_ns)
{
    struct trace_context *context = trace_context_get();
    if (!context || !context->has_steps)
        return;
    struct span_request *request = (struct span_request *)(void *)context; /* its first member */
    unsigned number = operations == METRIC_STORAGE_OPERATIONS
                          ? trace_context_end_store_step(context)
                          : trace_context_step(context);
    unsigned at = atomic_fetch_add(&request->step_count, 1);
    if (at >= SPAN_STEPS_MAX)
        return;
    request->steps[at] = (struct span_step){
        .number = number,
        .operations = operations,
        .driver = labels[0],
        .operation = labels[1],
        .outcome = outcome,
        .end_ns = clock_steady_ns(request->spans->options.clock),
        .duration_ns = duration_ns,
    };
}

static uint64_t parent_of(const struct trace *trace, const struct spans *spans)
{
    char gateway[17];
    if (!spans->options.has_gateway)
        return *trace->parent_id ? trace_context_read_span(trace->parent_id) : 0;
    trace_gateway_span(trace->span_id, gateway);
    return trace_context_read_span(gateway);
}

void span_request_end(struct span_request *request, const struct span_answer *answer)
{
    struct spans *spans = request->spans;
    const struct trace *trace = request->trace;
    trace_context_set(NULL);
    if (!spans)
        return;
    unsigned steps = atomic_load(&request->step_count);
    struct span_record record = {
        .flags = trace->flags,
        .span = request->context.span,
        .parent = parent_of(trace, spans),
        .start_ns = request->wall_ns,
        .end_ns = request->wall_ns + clock_steady_ns(spans->options.clock) - request->start_ns,
        .route = answer->route,
        .error = answer->error,
        .status = answer->status,
        .is_failed = answer->status >= 500 || answer->is_cut,
        .received_bytes = answer->received_bytes,
        .sent_bytes = answer->sent_bytes,
        .step_count = steps < SPAN_STEPS_MAX ? steps : SPAN_STEPS_MAX,
    };
    record.has_remote_parent = record.parent != 0;
    memcpy(record.trace_id, trace->trace_id, sizeof record.trace_id);
    for (unsigned i = 0; i < record.step_count; i++)
        request->steps[i].end_ns += request->wall_ns - request->start_ns;
    const struct record_parts parts = {.steps = request->steps,
                                       .texts = {[SPAN_METHOD] = answer->method,
                                                 [SPAN_PATH] = answer->path,
                                                 [SPAN_CLIENT] = answer->client,
                                                 [SPAN_AGENT] = answer->user_agent,
                                                 [SPAN_REQUEST_ID] = str_of(trace->request_id)}};
    put(spans, &record, &parts);
    spans_count(spans, METRIC_OTEL_DROPPED_LIMIT, (int64_t)steps - record.step_count);
}
