#include "observe/trace.h"

#include <inttypes.h>

#include "base/text.h"
#include "base/trace_context.h"

#define TRACE_BYTES 16
#define SPAN_BYTES 8

static bool is_lower_hex(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
    }
    return true;
}

static bool is_all_zero(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != '0')
            return false;
    return true;
}

static struct str slice(struct str text, size_t at, size_t len)
{
    return (struct str){text.data + at, len};
}

/* Trace Context §3.2: 00-<32>-<16>-<2>. A later version may append "-…" and is read as far as
 * version 00 goes; version ff is never valid. */
static bool traceparent_is_valid(struct str header)
{
    if (header.len < TRACEPARENT_LENGTH || header.data[2] != '-' || header.data[35] != '-' ||
        header.data[52] != '-')
        return false;
    struct str version = slice(header, 0, 2);
    struct str trace_id = slice(header, 3, 32);
    struct str parent_id = slice(header, 36, 16);
    if (!is_lower_hex(version) || !is_lower_hex(trace_id) || !is_lower_hex(parent_id) ||
        !is_lower_hex(slice(header, 53, 2)))
        return false;
    if (str_equal(version, STR("ff")) || is_all_zero(trace_id) || is_all_zero(parent_id))
        return false;
    if (header.len == TRACEPARENT_LENGTH)
        return true;
    return !str_equal(version, STR("00")) && header.data[TRACEPARENT_LENGTH] == '-';
}

static bool request_id_is_valid(struct str id)
{
    if (id.len == 0 || id.len > LIMIT_REQUEST_ID_BYTES)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        char c = id.data[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

static void set_text(char *target, struct str text)
{
    memcpy(target, text.data, text.len);
    target[text.len] = '\0';
}

/* An id of zeros is invalid (§3.2.2.3, §3.2.2.4). */
static void set_id(char *target, unsigned char *random, size_t len)
{
    random[len - 1] |= 1;
    text_hex(random, len, target);
}

bool trace_read(struct str traceparent, struct trace_caller *ret_caller)
{
    unsigned char flags = 0;
    if (!traceparent_is_valid(traceparent) ||
        !text_unhex(slice(traceparent, 53, 2), &flags, sizeof flags))
        return false;
    set_text(ret_caller->trace_id, slice(traceparent, 3, 32));
    set_text(ret_caller->span_id, slice(traceparent, 36, 16));
    ret_caller->flags = flags & 1; /* §3.2.2.5: what this version doesn't know is sent as zero */
    return true;
}

void trace_gateway_span(const char span_id[17], char target[17])
{
    uint64_t span = trace_context_span(trace_context_read_span(span_id), 0);
    snprintf(target, 17, "%016" PRIx64, span);
}

void trace_start(struct trace *trace, const struct clock *clock, struct str request_id,
                 struct str traceparent)
{
    struct trace_caller caller;
    unsigned char random[SPAN_BYTES + 2 * TRACE_BYTES]; /* one system call for all three */
    clock_random(clock, random, sizeof random);
    set_id(trace->span_id, random, SPAN_BYTES);
    if (trace_read(traceparent, &caller)) {
        set_text(trace->trace_id, str_of(caller.trace_id));
        set_text(trace->parent_id, str_of(caller.span_id));
        trace->flags = caller.flags;
    } else {
        set_id(trace->trace_id, random + SPAN_BYTES, TRACE_BYTES);
        trace->parent_id[0] = '\0';
        trace->flags = 1;
    }
    if (request_id_is_valid(request_id))
        set_text(trace->request_id, request_id);
    else
        text_hex(random + SPAN_BYTES + TRACE_BYTES, TRACE_BYTES, trace->request_id);
}

void trace_header(const struct trace *trace, char target[TRACEPARENT_LENGTH + 1])
{
    snprintf(target, TRACEPARENT_LENGTH + 1, "00-%.32s-%.16s-%02x", trace->trace_id, trace->span_id,
             (unsigned)trace->flags);
}
