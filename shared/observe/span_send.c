#include <cjson/cJSON.h>

#include "base/text.h"
#include "observe/span_parts.h"

#define NS_PER_MS 1000000LL
#define MS_PER_S 1000LL
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS (60 * 1000)
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

void span_drop_left(struct spans *spans)
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

/* Doubling, with jitter from half of it on, so that many programs don't come back at once. */
static int64_t backoff_ms(const struct spans *spans)
{
    uint32_t random = 0;
    int64_t wait_ms = BACKOFF_MIN_MS;
    for (unsigned i = 0; i < spans->failures && wait_ms < BACKOFF_MAX_MS; i++)
        wait_ms *= 2;
    if (wait_ms > BACKOFF_MAX_MS)
        wait_ms = BACKOFF_MAX_MS;
    clock_random(spans->options.clock, &random, sizeof random);
    return wait_ms / 2 + random % (wait_ms / 2 + 1);
}

static void back_off(struct spans *spans, const struct http_reply *reply)
{
    int64_t asked_ms = reply ? retry_after_ms(spans, reply) : -1;
    int64_t wait_ms = asked_ms >= 0 ? asked_ms : backoff_ms(spans);
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

enum err_code span_add_receiver(struct spans *spans, struct err *err)
{
    const struct sender_receiver receiver = {.url = spans->url,
                                             .header = "Content-Type: application/json\r\n",
                                             .pull = pull,
                                             .judge = judge,
                                             .context = spans};
    return sender_add(spans->options.sender, &receiver, &spans->lane, err);
}
