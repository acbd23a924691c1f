#include "observe/span.h"

#include <unistd.h>

#include "base/text.h"
#include "observe/span_parts.h"

#define NS_PER_MS 1000000LL
#define ALIGNED 8

static const size_t text_max[SPAN_TEXT_COUNT] = {
    [SPAN_METHOD] = 16,
    [SPAN_PATH] = 512,
    [SPAN_CLIENT] = 64,
    [SPAN_AGENT] = 256,
    [SPAN_REQUEST_ID] = LIMIT_REQUEST_ID_BYTES,
};

void spans_count(const struct spans *spans, enum metric_otel outcome, int64_t amount)
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
