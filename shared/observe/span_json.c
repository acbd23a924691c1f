#include <inttypes.h>

#include "base/jsonw.h"
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

void span_write_batch(const struct span_resource *resource, struct str records, struct buf *body,
                      size_t *ret_taken, int64_t *ret_spans)
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
