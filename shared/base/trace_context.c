#include "base/trace_context.h"

#include <inttypes.h>

#include "base/text.h"

static _Thread_local struct trace_context *current;

uint64_t trace_context_read_span(const char *span_id)
{
    unsigned char bytes[8] = {0};
    uint64_t span = 0;
    if (!text_unhex(str_of(span_id), bytes, sizeof bytes))
        return 1;
    for (size_t i = 0; i < sizeof bytes; i++)
        span = span << 8 | bytes[i];
    return span;
}

void trace_context_init(struct trace_context *context, const char *trace_id, const char *span_id,
                        unsigned char flags)
{
    if (!str_copy(context->trace_id, sizeof context->trace_id, str_of(trace_id)))
        context->trace_id[0] = '\0';
    context->span = trace_context_read_span(span_id);
    context->flags = flags;
    context->has_steps = false;
    atomic_init(&context->last_step, 0);
    atomic_init(&context->store_step, 0);
}

void trace_context_set(struct trace_context *context)
{
    current = context;
}

struct trace_context *trace_context_get(void)
{
    return current;
}

unsigned trace_context_step(struct trace_context *context)
{
    return atomic_fetch_add(&context->last_step, 1) + 1;
}

unsigned trace_context_end_store_step(struct trace_context *context)
{
    unsigned number = atomic_exchange(&context->store_step, 0);
    return number ? number : trace_context_step(context);
}

static unsigned store_step(struct trace_context *context)
{
    unsigned number = atomic_load(&context->store_step);
    if (number)
        return number;
    unsigned none = 0;
    number = trace_context_step(context);
    return atomic_compare_exchange_strong(&context->store_step, &none, number) ? number : none;
}

bool trace_context_header(char target[TRACE_CONTEXT_HEADER_SIZE])
{
    if (!current)
        return false;
    uint64_t span = current->span;
    if (current->has_steps)
        span = trace_context_span(span, store_step(current));
    snprintf(target, TRACE_CONTEXT_HEADER_SIZE, "00-%.32s-%016" PRIx64 "-%02x", current->trace_id,
             span, (unsigned)current->flags);
    return true;
}

/* The finalizer of SplitMix64: every bit of the sum changes about half of the result's. */
uint64_t trace_context_span(uint64_t span, unsigned number)
{
    uint64_t mixed = span + (number + 1ULL) * 0x9e3779b97f4a7c15ULL;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebULL;
    mixed ^= mixed >> 31;
    return mixed ? mixed : 1;
}
