#include "base/jsonw.h"
#include "base/text.h"
#include "observe/log_redact.h"
#include "observe/report_parts.h"

#define CLIENT_NAME "coffer"
#define TAG_MAX 200 /* bytes of a tag's value that trackers take */
#define USER_AGENT_MAX 256

static bool has(const char *text)
{
    return text && *text;
}

static void write_text(struct buf *out, const char *name, const char *text)
{
    if (has(text))
        jsonw_string(out, name, str_of(text));
}

static void write_cut(struct buf *out, const char *name, struct str text, size_t max)
{
    if (text.len > 0)
        jsonw_string(out, name, (struct str){text.data, text.len < max ? text.len : max});
}

static void write_client(struct buf *out)
{
    jsonw_begin_object(out, "sdk");
    jsonw_string(out, "name", STR(CLIENT_NAME));
    jsonw_string(out, "version", STR(COFFER_VERSION));
    jsonw_end_object(out);
}

static void write_head(const struct report_source *source, const struct report_event *event,
                       struct buf *out)
{
    char text[128];
    jsonw_string(out, "event_id", str_of(source->event_id));
    text_time(source->time_ms, text);
    jsonw_string(out, "timestamp", str_of(text));
    jsonw_string(out, "platform", STR("native"));
    jsonw_string(out, "level", event->level == REPORT_FATAL ? STR("fatal") : STR("error"));
    snprintf(text, sizeof text, CLIENT_NAME ".%.48s", source->program);
    jsonw_string(out, "logger", str_of(text));
    write_text(out, "server_name", source->server_name);
    snprintf(text, sizeof text, CLIENT_NAME "@%.64s",
             has(event->release) ? event->release : COFFER_VERSION);
    jsonw_string(out, "release", str_of(text));
    write_text(out, "environment", source->environment);
    write_text(out, "transaction", event->route);
    write_client(out);
}

static void write_tags(const struct report_source *source, const struct report_event *event,
                       struct buf *out)
{
    jsonw_begin_object(out, "tags");
    write_text(out, "program", source->program);
    write_text(out, "route", event->route);
    write_text(out, "code", event->type);
    write_text(out, "operation", event->operation);
    if (event->status > 0) {
        char status[16];
        snprintf(status, sizeof status, "%d", event->status);
        jsonw_string(out, "status", str_of(status));
    }
    if (event->trace) {
        write_cut(out, "request_id", str_of(event->trace->request_id), TAG_MAX);
        write_text(out, "trace_id", event->trace->trace_id);
    }
    jsonw_end_object(out);
}

/* What makes two reports equal: nothing of the message, which has ids and numbers in it. */
static void write_fingerprint(const struct report_source *source, const struct report_event *event,
                              struct buf *out)
{
    const char *const parts[] = {source->program, event->type, event->operation, event->route};
    jsonw_begin_array(out, "fingerprint");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        jsonw_string(out, NULL, has(parts[i]) ? str_of(parts[i]) : STR("-"));
    jsonw_end_array(out);
}

static void write_request(const struct report_event *event, struct buf *out)
{
    if (event->method.len == 0)
        return;
    jsonw_begin_object(out, "request");
    write_cut(out, "method", event->method, TAG_MAX);
    write_cut(out, "url", report_path(event->route, event->path), CONFIG_TEXT_SIZE);
    if (event->user_agent.len > 0) {
        jsonw_begin_object(out, "headers");
        write_cut(out, "User-Agent", event->user_agent, USER_AGENT_MAX);
        jsonw_end_object(out);
    }
    jsonw_end_object(out);
}

static void write_trace(const struct trace *trace, struct buf *out)
{
    jsonw_begin_object(out, "trace");
    jsonw_string(out, "trace_id", str_of(trace->trace_id));
    jsonw_string(out, "span_id", str_of(trace->span_id));
    write_text(out, "parent_span_id", trace->parent_id);
    jsonw_string(out, "op", STR("http.server"));
    jsonw_end_object(out);
}

static void write_contexts(const struct report_event *event, struct buf *out)
{
    if (!event->trace && event->status <= 0)
        return;
    jsonw_begin_object(out, "contexts");
    if (event->trace)
        write_trace(event->trace, out);
    if (event->status > 0) {
        jsonw_begin_object(out, "response");
        jsonw_string(out, "type", STR("response"));
        jsonw_int(out, "status_code", event->status);
        jsonw_end_object(out);
    }
    jsonw_end_object(out);
}

static void write_extra(const struct report_source *source, const struct report_event *event,
                        struct buf *out)
{
    if (event->os_errno == 0 && event->remote_status == 0 && source->suppressed == 0)
        return;
    jsonw_begin_object(out, "extra");
    if (event->os_errno != 0) {
        const char *name = strerrorname_np(event->os_errno);
        jsonw_string(out, "errno", name ? str_of(name) : STR("unknown"));
    }
    if (event->remote_status != 0)
        jsonw_int(out, "remote_status", event->remote_status);
    if (source->suppressed != 0)
        jsonw_int(out, "equal_reports_left_out", source->suppressed);
    jsonw_end_object(out);
}

static void write_mechanism(const struct report_event *event, struct buf *out)
{
    jsonw_begin_object(out, "mechanism");
    write_text(out, "type", has(event->mechanism) ? event->mechanism : "generic");
    jsonw_bool(out, "handled", !event->is_unhandled);
    if (event->signal > 0) {
        jsonw_begin_object(out, "meta");
        jsonw_begin_object(out, "signal");
        jsonw_int(out, "number", event->signal);
        jsonw_int(out, "code", event->signal_code);
        write_text(out, "name", event->type);
        jsonw_end_object(out);
        jsonw_end_object(out);
    }
    jsonw_end_object(out);
}

static void write_exception(const struct report_event *event, struct buf *out)
{
    struct buf value;
    buf_init(&value, 2 * ERR_MESSAGE_MAX);
    log_redact(event->value, &value);
    jsonw_begin_object(out, "exception");
    jsonw_begin_array(out, "values");
    jsonw_begin_object(out, NULL);
    write_text(out, "type", has(event->type) ? event->type : "unknown");
    jsonw_string(out, "value", buf_str(&value));
    write_mechanism(event, out);
    buf_release(&value);
}

void report_write_event(const struct report_source *source, const struct report_event *event,
                        struct buf *out)
{
    jsonw_begin_object(out, NULL);
    write_head(source, event, out);
    write_tags(source, event, out);
    write_fingerprint(source, event, out);
    write_request(event, out);
    write_contexts(event, out);
    if (event->has_trail)
        report_write_trail(out);
    write_extra(source, event, out);
    write_exception(event, out);
}

void report_write_envelope(const char *event_id, struct str event, struct buf *out)
{
    buf_printf(out,
               "{\"event_id\":\"%s\",\"sdk\":{\"name\":\"" CLIENT_NAME
               "\",\"version\":\"" COFFER_VERSION "\"}}\n"
               "{\"type\":\"event\",\"content_type\":\"application/json\",\"length\":%zu}\n",
               event_id, event.len);
    buf_append_str(out, event);
    buf_append_char(out, '\n');
}
