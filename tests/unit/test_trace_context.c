#include "base/trace_context.h"

#include <pthread.h>

#include "base/str.h"
#include "check.h"

#define TRACE_ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN_ID "00f067aa0ba902b7"

static void span_of_step(const struct trace_context *context, unsigned number, char target[17])
{
    snprintf(target, 17, "%016llx", (unsigned long long)trace_context_span(context->span, number));
}

TEST(trace_context, a_thread_has_none_of_its_own)
{
    char header[TRACE_CONTEXT_HEADER_SIZE];
    trace_context_set(NULL);
    CHECK(trace_context_get() == NULL);
    CHECK(!trace_context_header(header));
}

TEST(trace_context, names_the_request_where_steps_have_no_spans)
{
    struct trace_context context;
    char header[TRACE_CONTEXT_HEADER_SIZE];
    trace_context_init(&context, TRACE_ID, SPAN_ID, 1);
    trace_context_set(&context);
    CHECK(trace_context_header(header));
    CHECK_TEXT(header, "00-" TRACE_ID "-" SPAN_ID "-01");
    trace_context_init(&context, TRACE_ID, SPAN_ID, 0);
    CHECK(trace_context_header(header));
    CHECK_TEXT(header, "00-" TRACE_ID "-" SPAN_ID "-00");
    trace_context_set(NULL);
}

TEST(trace_context, names_the_step_of_the_store_until_it_ends)
{
    struct trace_context context;
    char header[TRACE_CONTEXT_HEADER_SIZE];
    char want[17];
    trace_context_init(&context, TRACE_ID, SPAN_ID, 1);
    context.has_steps = true;
    trace_context_set(&context);
    CHECK_INT(trace_context_step(&context), 1); /* of the metadata */
    CHECK(trace_context_header(header));
    span_of_step(&context, 2, want);
    CHECK(strstr(header, want) == header + 36);
    CHECK_INT(trace_context_step(&context), 3); /* meanwhile */
    CHECK(trace_context_header(header));
    CHECK(strstr(header, want) == header + 36);
    CHECK_INT(trace_context_end_store_step(&context), 2);
    CHECK_INT(trace_context_end_store_step(&context), 4); /* it sent nothing before it ended */
    CHECK(trace_context_header(header));
    span_of_step(&context, 5, want);
    CHECK(strstr(header, want) == header + 36);
    trace_context_set(NULL);
}

TEST(trace_context, derived_spans_differ_and_are_never_zero)
{
    static const uint64_t spans[] = {1, 2, UINT64_MAX, 0x00f067aa0ba902b7ULL};
    enum { NUMBERS = 200, SPANS = 4 };
    uint64_t seen[SPANS * NUMBERS];
    size_t count = 0;
    for (size_t i = 0; i < SPANS; i++)
        for (unsigned number = 0; number < NUMBERS; number++)
            seen[count++] = trace_context_span(spans[i], number);
    for (size_t i = 0; i < count; i++) {
        CHECK(seen[i] != 0);
        for (size_t j = 0; j < i; j++)
            CHECK(seen[i] != seen[j]);
    }
    /* The sum that mixes to 0 is 0. */
    CHECK_INT((int64_t)trace_context_span(0 - 0x9e3779b97f4a7c15ULL, 0), 1);
}

TEST(trace_context, reads_span_ids)
{
    CHECK(trace_context_read_span("ffffffffffffffff") == UINT64_MAX);
    CHECK(trace_context_read_span("0000000000000102") == 0x102);
    CHECK(trace_context_read_span("no hex digits !!") == 1);
    CHECK(trace_context_read_span("") == 1);
}

static void *send_part(void *argument)
{
    char header[TRACE_CONTEXT_HEADER_SIZE];
    bool had_none = !trace_context_header(header);
    trace_context_set(argument);
    return had_none && trace_context_header(header) ? argument : NULL;
}

TEST(trace_context, is_each_threads_own_and_may_be_shared)
{
    struct trace_context context;
    pthread_t threads[4];
    trace_context_init(&context, TRACE_ID, SPAN_ID, 1);
    context.has_steps = true;
    trace_context_set(&context);
    for (int i = 0; i < 4; i++)
        REQUIRE(pthread_create(&threads[i], NULL, send_part, &context) == 0);
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        CHECK(result == &context);
    }
    unsigned number = trace_context_end_store_step(&context); /* one for all of them */
    CHECK(number >= 1 && number <= 4);
    CHECK(trace_context_end_store_step(&context) > number);
    trace_context_set(NULL);
}
