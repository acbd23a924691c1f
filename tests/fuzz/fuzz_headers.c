/*
 * Input: one header value, which is read as every kind of header in turn: ranges, conditions,
 * dates, Content-Disposition, file names, Content-Type, traceparent, Accept.
 */
#include "base/text.h"
#include "fuzz.h"
#include "http/disposition.h"
#include "http/range_condition.h"
#include "observe/metrics.h"
#include "observe/trace.h"

static const struct validators validators = {
    .etag = {"e3b0c442", 8}, .other_etag = {"v1", 2}, .modified_seconds = 784111777};

static struct request request_with(const char *name, struct str value)
{
    return (struct request){
        .method = METHOD_GET, .headers = {{str_of(name), value}}, .header_count = 1};
}

static void check_range(struct str value)
{
    static const int64_t sizes[] = {0, 1, 10, 1000000, INT64_MAX};
    const struct request request = request_with("RANGE", value);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct range range = range_evaluate(&request, &validators, sizes[i]);
        if (range.kind == RANGE_ONE)
            MUST(range.first >= 0 && range.first <= range.last && range.last < sizes[i]);
        if (sizes[i] == 0)
            MUST(range.kind == RANGE_NONE || range.kind == RANGE_UNSATISFIABLE);
    }
}

static void check_if_range(struct str value)
{
    struct request request = request_with("IF_RANGE", value);
    request.headers[1] = (struct request_header){STR("RANGE"), STR("bytes=1-")};
    request.header_count = 2;
    enum range_kind kind = range_evaluate(&request, &validators, 10).kind;
    MUST(kind == RANGE_ONE || kind == RANGE_NONE);
}

static void check_conditions(struct str value)
{
    const struct request match = request_with("IF_MATCH", value);
    const struct request none_match = request_with("IF_NONE_MATCH", value);
    const struct request modified = request_with("IF_MODIFIED_SINCE", value);
    const struct request unmodified = request_with("IF_UNMODIFIED_SINCE", value);
    bool matches = condition_evaluate(&match, &validators) == CONDITION_PASS;
    bool differs = condition_evaluate(&none_match, &validators) == CONDITION_PASS;
    /* What matches strongly matches weakly. */
    MUST(!(matches && differs));
    MUST(condition_evaluate(&modified, &validators) != CONDITION_FAILED);
    MUST(condition_evaluate(&unmodified, &validators) != CONDITION_NOT_MODIFIED);
}

static void check_http_date(struct str value)
{
    int64_t seconds = 0;
    int64_t again = 0;
    char text[TEXT_HTTP_DATE_SIZE];
    /* What was before 1970 is read, but nothing of ours is that old. */
    if (!text_parse_http_date(value, &seconds) || seconds < 0)
        return;
    text_http_date(seconds, text);
    MUST(text_parse_http_date(str_of(text), &again) && again == seconds);
}

static void check_time(struct str value)
{
    int64_t unix_ms = 0;
    int64_t again = 0;
    char text[TEXT_TIME_SIZE];
    if (!text_parse_time(value, &unix_ms))
        return;
    text_time(unix_ms, text);
    MUST(text_parse_time(str_of(text), &again) && again == unix_ms);
}

/* What we write for a name, read as a part's header, gives the name. */
static void check_written(struct str name)
{
    struct buf out;
    struct buf part;
    struct disposition disposition;
    struct err err;
    buf_init(&out, 4096);
    buf_init(&part, 4096);
    disposition_write(&out, false, name);
    MUST(!out.failed);
    for (size_t i = 0; i < out.len; i++)
        MUST(out.data[i] >= 0x20 && out.data[i] < 0x7F);
    buf_printf(&part, "form-data%s", buf_text(&out) + strlen("attachment"));
    MUST(disposition_parse(&disposition, buf_str(&part), &err) == ERR_OK);
    MUST(disposition.has_filename && str_equal(buf_str(&disposition.filename), name));
    disposition_release(&disposition);
    buf_release(&out);
    buf_release(&part);
}

static void check_name(struct str sent)
{
    char name[LIMIT_NAME_BYTES + 1];
    char again[LIMIT_NAME_BYTES + 1];
    struct err err;
    if (file_name_check(sent, &err) == ERR_OK)
        check_written(sent);
    if (file_name_from_path(sent, name, &err) != ERR_OK)
        return;
    MUST(file_name_check(str_of(name), &err) == ERR_OK);
    MUST(file_name_from_path(str_of(name), again, &err) == ERR_OK && strcmp(name, again) == 0);
}

static void check_disposition(struct str value)
{
    struct disposition disposition;
    struct err err;
    enum err_code code = disposition_parse(&disposition, value, &err);
    MUST(code == ERR_OK || code == ERR_BAD_MULTIPART || code == ERR_BAD_NAME);
    if (code == ERR_OK && disposition.has_filename)
        check_name(buf_str(&disposition.filename));
    disposition_release(&disposition);
}

static void check_media_type(struct str value)
{
    char type[LIMIT_MIME_BYTES + 1];
    char again[LIMIT_MIME_BYTES + 1];
    if (media_type_parse(value, type, sizeof type))
        MUST(media_type_parse(str_of(type), again, sizeof again) && strcmp(type, again) == 0);
}

static int64_t fixed_time(const struct clock *clock)
{
    (void)clock;
    return 0;
}

static void fixed_random(const struct clock *clock, void *target, size_t len)
{
    (void)clock;
    memset(target, 0x5A, len);
}

static void check_trace(struct str value)
{
    static const struct clock clock = {fixed_time, fixed_time, fixed_random};
    struct trace trace;
    struct trace next;
    char header[TRACEPARENT_LENGTH + 1];
    trace_start(&trace, &clock, value, value);
    trace_header(&trace, header);
    MUST(strlen(header) == TRACEPARENT_LENGTH);
    MUST(trace.request_id[0] != '\0');
    trace_start(&next, &clock, str_of(trace.request_id), str_of(header));
    MUST(strcmp(next.trace_id, trace.trace_id) == 0);
    MUST(strcmp(next.parent_id, trace.span_id) == 0);
    MUST(strcmp(next.request_id, trace.request_id) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct str value = {(const char *)bytes, size};
    check_range(value);
    check_if_range(value);
    check_conditions(value);
    check_http_date(value);
    check_time(value);
    check_disposition(value);
    check_name(value);
    check_media_type(value);
    check_trace(value);
    (void)metrics_negotiate(value);
    return 0;
}
