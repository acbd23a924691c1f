#include <inttypes.h>

#include "base/jsonw.h"
#include "base/text.h"
#include "observe/log_redact.h"
#include "observe/metrics_table.h"
#include "observe/report_parts.h"

#define DEBUG_ID_BYTES 16

static void write_address(struct buf *out, const char *name, uintptr_t address)
{
    char text[24];
    int len = snprintf(text, sizeof text, "0x%" PRIxPTR, address);
    jsonw_string(out, name, (struct str){text, (size_t)len});
}

static void write_frame(struct buf *out, const struct stack_frame *frame)
{
    jsonw_begin_object(out, NULL);
    if (frame->function)
        jsonw_string(out, "function", str_of(frame->function));
    if (frame->file)
        jsonw_string(out, "filename", str_of(frame->file));
    if (frame->line > 0)
        jsonw_int(out, "lineno", frame->line);
    write_address(out, "instruction_addr", frame->address);
    jsonw_bool(out, "in_app", frame->in_app);
    jsonw_end_object(out);
}

static void write_frames(struct buf *out, const struct stack_trace *stack)
{
    jsonw_begin_object(out, "stacktrace");
    jsonw_begin_array(out, "frames");
    for (size_t i = 0; i < stack->frame_count; i++)
        write_frame(out, &stack->frames[i]);
    jsonw_end_array(out);
    jsonw_end_object(out);
}

/* A build-id as the debug id of an ELF file: its first bytes as a GUID, whose first three fields
 * are numbers in little-endian order. */
static bool make_debug_id(const char *build_id, char target[37])
{
    static const unsigned char order[DEBUG_ID_BYTES] = {3, 2, 1,  0,  5,  4,  7,  6,
                                                        8, 9, 10, 11, 12, 13, 14, 15};
    unsigned char bytes[DEBUG_ID_BYTES];
    unsigned char guid[DEBUG_ID_BYTES];
    char hex[2 * DEBUG_ID_BYTES + 1];
    struct str digits = str_of(build_id);
    if (digits.len < sizeof hex - 1 ||
        !text_unhex((struct str){digits.data, sizeof hex - 1}, bytes, sizeof bytes))
        return false;
    for (size_t i = 0; i < DEBUG_ID_BYTES; i++)
        guid[i] = bytes[order[i]];
    text_hex(guid, sizeof guid, hex);
    snprintf(target, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
    return true;
}

static void write_image(struct buf *out, const struct stack_image *image)
{
    char debug_id[37];
    if (!image->build_id || !make_debug_id(image->build_id, debug_id))
        return;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "type", STR("elf"));
    jsonw_string(out, "code_id", str_of(image->build_id));
    jsonw_string(out, "debug_id", str_of(debug_id));
    jsonw_string(out, "code_file", str_of(image->file));
    write_address(out, "image_addr", image->start);
    jsonw_int(out, "image_size", (int64_t)image->size);
    jsonw_end_object(out);
}

static void write_images(struct buf *out, const struct stack_trace *stack)
{
    jsonw_begin_object(out, "debug_meta");
    jsonw_begin_array(out, "images");
    for (size_t i = 0; i < stack->image_count; i++)
        write_image(out, &stack->images[i]);
    jsonw_end_array(out);
    jsonw_end_object(out);
}

void report_finish_event(const struct stack_trace *stack, struct buf *out)
{
    if (stack && stack->frame_count > 0)
        write_frames(out, stack);
    jsonw_end_object(out); /* the exception */
    jsonw_end_array(out);
    jsonw_end_object(out);
    if (stack && stack->image_count > 0)
        write_images(out, stack);
    jsonw_end_object(out);
}

/* Where the template has a name, the path has a file's; an unknown path may hold anything. */
struct str report_path(const char *route, struct str path)
{
    if (!route || route[0] != '/' || strstr(route, ":name"))
        return str_of(route);
    return path;
}

struct trail {
    size_t count; /* ever added */
    struct report_crumb crumbs[REPORT_TRAIL_MAX];
};

static _Thread_local struct trail trail;

void report_trail_begin(void)
{
    trail.count = 0;
}

void report_crumb_add(const struct report_crumb *crumb)
{
    trail.crumbs[trail.count++ % REPORT_TRAIL_MAX] = *crumb;
}

struct report_crumb report_crumb_of(enum metric operations, const unsigned *labels)
{
    const struct metric_row *row = &metric_rows[operations];
    return (struct report_crumb){
        .category = operations == METRIC_STORAGE_OPERATIONS ? "storage" : "metadata",
        .driver = metric_label_value(row->labels[0], labels[0]),
        .operation = metric_label_value(row->labels[1], labels[1]),
    };
}

/* Milliseconds with three digits behind the point. */
static void write_duration(struct buf *out, int64_t duration_ns)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%lld.%03lld", (long long)(duration_ns / 1000000),
                       (long long)(duration_ns / 1000 % 1000));
    jsonw_raw(out, "duration_ms", (struct str){text, (size_t)len});
}

static void write_crumb(struct buf *out, const struct report_crumb *crumb)
{
    char time[TEXT_TIME_SIZE];
    const struct err_info *info = err_info(crumb->outcome);
    text_time(crumb->time_ms, time);
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "timestamp", str_of(time));
    jsonw_string(out, "type", STR("default"));
    jsonw_string(out, "category", str_of(crumb->category));
    jsonw_string(out, "message", str_of(crumb->operation));
    jsonw_string(out, "level",
                 crumb->outcome != ERR_OK && info->report ? STR("error") : STR("info"));
    jsonw_begin_object(out, "data");
    jsonw_string(out, "driver", str_of(crumb->driver));
    jsonw_string(out, "outcome", str_of(info->code));
    write_duration(out, crumb->duration_ns > 0 ? crumb->duration_ns : 0);
    jsonw_end_object(out);
    jsonw_end_object(out);
}

/* "breadcrumbs" of this thread; nothing when there are none. */
static void report_write_trail(struct buf *out)
{
    size_t first = trail.count > REPORT_TRAIL_MAX ? trail.count - REPORT_TRAIL_MAX : 0;
    if (trail.count == 0)
        return;
    jsonw_begin_object(out, "breadcrumbs");
    jsonw_begin_array(out, "values");
    for (size_t i = first; i < trail.count; i++)
        write_crumb(out, &trail.crumbs[i % REPORT_TRAIL_MAX]);
    jsonw_end_array(out);
    jsonw_end_object(out);
}

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
