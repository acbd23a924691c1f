#include "observe/span.h"

#include <stdlib.h>

#include "check.h"
#include "span_collector.h"

/* ---- reading what was sent ---- */

static const char *text_at(const cJSON *parent, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(parent, name);
    return cJSON_IsString(found) ? found->valuestring : "(none)";
}

static const char *attribute(const cJSON *owner, const char *key)
{
    const cJSON *each = NULL;
    cJSON_ArrayForEach(each, span_at(owner, "attributes"))
    {
        const cJSON *value = span_at(each, "value");
        if (strcmp(text_at(each, "key"), key) == 0)
            return cJSON_HasObjectItem(value, "intValue") ? text_at(value, "intValue")
                                                          : text_at(value, "stringValue");
    }
    return "(none)";
}

/* The only document that was sent. */
static cJSON *sent(struct span_fixture *fixture)
{
    span_stop(fixture);
    cJSON *document = cJSON_Parse(buf_text(&fixture->collector.bodies));
    CHECK_INT(http_server_requests(fixture->collector.server), 1);
    CHECK(document != NULL);
    return document;
}

static int64_t time_at(const cJSON *span, const char *name)
{
    return strtoll(text_at(span, name), NULL, 10);
}

static void check_hex(const cJSON *span, const char *name, size_t digits)
{
    const char *text = text_at(span, name);
    CHECK_INT_ROW(name, (int64_t)strlen(text), (int64_t)digits);
    CHECK_INT_ROW(name, (int64_t)strspn(text, "0123456789abcdef"), (int64_t)digits);
}

/* ---- documents ---- */

TEST(span, is_posted_below_the_endpoints_path)
{
    struct span_fixture f;
    span_setup(&f, NULL, span_answer_ok);
    span_serve(&f, "", &span_plain);
    span_stop(&f);
    const char *head = buf_text(&f.collector.heads);
    CHECK(strstr(head, "POST /otlp/v1/traces HTTP/1.1\r\n") == head);
    CHECK(strstr(head, "Content-Type: application/json\r\n") != NULL);
    CHECK_INT(http_server_requests(f.collector.server), 1);
    CHECK_INT(span_counted(&f, "sent"), 3);
    span_teardown(&f);
}

TEST(span, resource_says_who_sends)
{
    struct span_fixture f;
    span_setup(&f, NULL, span_answer_ok);
    span_serve(&f, "", &span_plain);
    cJSON *document = sent(&f);
    const cJSON *resource =
        span_at(cJSON_GetArrayItem(span_at(document, "resourceSpans"), 0), "resource");
    CHECK_TEXT(attribute(resource, "service.name"), "coffer-files_get");
    CHECK_TEXT(attribute(resource, "service.version"), COFFER_VERSION);
    CHECK_TEXT(attribute(resource, "deployment.environment"), "unit \"test\"");
    CHECK_TEXT(attribute(resource, "deployment.environment.name"), "unit \"test\"");
    CHECK_INT((int64_t)strlen(attribute(resource, "service.instance.id")), 36);
    cJSON_Delete(document);
    span_teardown(&f);
}

TEST(span, of_a_request_has_what_the_conventions_name)
{
    struct span_fixture f;
    span_setup(&f, NULL, span_answer_ok);
    int64_t before_ns = clock_wall_ms(&clock_system) * 1000000;
    struct trace trace = span_serve(&f, SPAN_SAMPLED, &span_plain);
    int64_t after_ns = (clock_wall_ms(&clock_system) + 1) * 1000000;
    cJSON *document = sent(&f);
    const cJSON *span = cJSON_GetArrayItem(span_list(document), 0);
    CHECK_TEXT(text_at(span, "traceId"), SPAN_TRACE_ID);
    CHECK_TEXT(text_at(span, "spanId"), trace.span_id);
    CHECK_TEXT(text_at(span, "parentSpanId"), SPAN_CALLER);
    CHECK_TEXT(text_at(span, "name"), "GET /api/files/:id");
    CHECK_INT(span_at(span, "kind")->valueint, 2);
    CHECK_INT(span_at(span, "flags")->valueint, 0x301);
    CHECK(!cJSON_HasObjectItem(span, "status"));
    CHECK_TEXT(attribute(span, "http.request.method"), "GET");
    CHECK_TEXT(attribute(span, "http.route"), "/api/files/:id");
    CHECK_TEXT(attribute(span, "url.path"), "/api/files/abc");
    CHECK_TEXT(attribute(span, "url.scheme"), "http");
    CHECK_TEXT(attribute(span, "http.response.status_code"), "200");
    CHECK_TEXT(attribute(span, "http.request.body.size"), "0");
    CHECK_TEXT(attribute(span, "http.response.body.size"), "48213");
    CHECK_TEXT(attribute(span, "client.address"), "192.0.2.1");
    CHECK_TEXT(attribute(span, "user_agent.original"), "a \"client\"\n");
    CHECK_TEXT(attribute(span, "http.request.id"), "request-1");
    CHECK_TEXT(attribute(span, "error.type"), "(none)");
    int64_t start_ns = time_at(span, "startTimeUnixNano");
    int64_t end_ns = time_at(span, "endTimeUnixNano");
    CHECK(start_ns >= before_ns && end_ns >= start_ns && end_ns <= after_ns);
    cJSON_Delete(document);
    span_teardown(&f);
}

TEST(span, steps_are_children_of_the_request)
{
    struct span_fixture f;
    span_setup(&f, NULL, span_answer_ok);
    struct trace trace = span_serve(&f, "", &span_plain);
    cJSON *document = sent(&f);
    const cJSON *spans = span_list(document);
    REQUIRE(cJSON_GetArraySize(spans) == 3);
    const cJSON *request = cJSON_GetArrayItem(spans, 0);
    const cJSON *metadata = cJSON_GetArrayItem(spans, 1);
    const cJSON *storage = cJSON_GetArrayItem(spans, 2);
    CHECK(!cJSON_HasObjectItem(request, "parentSpanId"));
    CHECK_INT(span_at(request, "flags")->valueint, 0x101);
    const cJSON *each = NULL;
    cJSON_ArrayForEach(each, spans)
    {
        CHECK_TEXT(text_at(each, "traceId"), trace.trace_id);
        check_hex(each, "spanId", 16);
        CHECK(each == request || strcmp(text_at(each, "parentSpanId"), trace.span_id) == 0);
    }
    CHECK(strcmp(text_at(metadata, "spanId"), text_at(storage, "spanId")) != 0);
    CHECK_INT(span_at(metadata, "kind")->valueint, 3); /* another service: client */
    CHECK_TEXT(attribute(metadata, "db.system.name"), "mongodb");
    CHECK_TEXT(attribute(metadata, "coffer.outcome"), "ok");
    CHECK(strncmp(text_at(metadata, "name"), "metadata ", 9) == 0);
    CHECK(!cJSON_HasObjectItem(metadata, "status"));
    CHECK_INT(span_at(storage, "kind")->valueint, 1); /* this program: internal */
    CHECK_TEXT(attribute(storage, "coffer.storage.driver"), "fs");
    CHECK_TEXT(attribute(storage, "coffer.outcome"), "storage_error");
    CHECK_TEXT(attribute(storage, "error.type"), "storage_error");
    CHECK_INT(span_at(span_at(storage, "status"), "code")->valueint, 2);
    CHECK_INT(time_at(storage, "endTimeUnixNano") - time_at(storage, "startTimeUnixNano"), 1500000);
    cJSON_Delete(document);
    span_teardown(&f);
}

TEST(span, failed_ones_say_so)
{
    static const struct {
        const char *name;
        int status;
        bool is_cut;
        const char *error;
        const char *want; /* error.type; NULL: not failed */
    } rows[] = {
        {"served", 200, false, NULL, NULL},
        {"the caller's fault", 404, false, "not_found", NULL},
        {"ours", 500, false, "internal", "internal"},
        {"ours, unnamed", 503, false, NULL, "503"},
        {"cut short", 200, true, "storage_error", "storage_error"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span_fixture f;
        struct span_answer answer = span_plain;
        answer.status = rows[i].status;
        answer.is_cut = rows[i].is_cut;
        answer.error = rows[i].error;
        span_setup(&f, NULL, span_answer_ok);
        span_serve(&f, "", &answer);
        cJSON *document = sent(&f);
        const cJSON *span = cJSON_GetArrayItem(span_list(document), 0);
        CHECK_STR_ROW(rows[i].name, str_of(attribute(span, "error.type")),
                      rows[i].want ? rows[i].want : "(none)");
        CHECK_ROW(rows[i].name, cJSON_HasObjectItem(span, "status") == (rows[i].want != NULL));
        cJSON_Delete(document);
        span_teardown(&f);
    }
}

TEST(span, names_of_files_and_unknown_paths_are_not_told)
{
    static const struct {
        const char *route, *name, *path;
    } rows[] = {
        {"/api/files/upload/:name", "PUT /api/files/upload/:name", "/api/files/upload/:name"},
        {"unknown", "PUT", "(none)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span_fixture f;
        struct span_answer answer = span_plain;
        answer.method = STR("PUT");
        answer.route = rows[i].route;
        answer.path = STR("/api/files/upload/salaries.pdf");
        span_setup(&f, NULL, span_answer_ok);
        span_serve(&f, "", &answer);
        cJSON *document = sent(&f);
        const cJSON *span = cJSON_GetArrayItem(span_list(document), 0);
        CHECK_TEXT(text_at(span, "name"), rows[i].name);
        CHECK_TEXT(attribute(span, "url.path"), rows[i].path);
        CHECK(strstr(buf_text(&f.collector.bodies), "salaries") == NULL);
        cJSON_Delete(document);
        span_teardown(&f);
    }
}

TEST(span, long_and_broken_texts_are_cut_and_stay_json)
{
    struct span_fixture f;
    struct span_answer answer = span_plain;
    char text[5000];
    memset(text, '\xc3', sizeof text);
    span_setup(&f, NULL, span_answer_ok);
    answer.path = answer.user_agent = answer.method = answer.client =
        (struct str){text, sizeof text};
    span_serve(&f, "", &answer);
    cJSON *document = sent(&f);
    const cJSON *span = cJSON_GetArrayItem(span_list(document), 0);
    /* 512 bytes, each of them U+FFFD in three */
    CHECK_INT((int64_t)strlen(attribute(span, "url.path")), 3 * 512);
    cJSON_Delete(document);
    span_teardown(&f);
}

/* ---- gateway ---- */

static struct span_gateway_line line_of(const char *answered, const char *asked)
{
    return (struct span_gateway_line){.answer_traceparent = str_of(answered),
                                      .request_traceparent = str_of(asked),
                                      .request_id = STR("request-1"),
                                      .method = STR("GET"),
                                      .route = "/api/files/:id",
                                      .path = STR("/api/files/abc"),
                                      .client = STR("192.0.2.1"),
                                      .status = 200,
                                      .received_bytes = -1,
                                      .sent_bytes = 12,
                                      .start_ns = 1700000000123456789,
                                      .duration_ns = 1000};
}

TEST(span, gateway_stands_between_caller_and_program)
{
    struct span_fixture f;
    char answered[TRACEPARENT_LENGTH + 1];
    char gateway[17];
    span_setup(&f, NULL, span_answer_ok);
    f.options.has_gateway = true;
    span_stop(&f);
    span_open(&f);
    struct trace trace = span_serve(&f, SPAN_SAMPLED, &span_plain);
    trace_header(&trace, answered);
    struct span_gateway_line line = line_of(answered, SPAN_SAMPLED);
    span_gateway(f.spans, &line);
    cJSON *document = sent(&f);
    const cJSON *spans = span_list(document);
    const cJSON *request = cJSON_GetArrayItem(spans, 0);
    const cJSON *span = cJSON_GetArrayItem(spans, 3);
    REQUIRE(cJSON_GetArraySize(spans) == 4);
    trace_gateway_span(trace.span_id, gateway);
    CHECK_TEXT(text_at(request, "parentSpanId"), gateway);
    CHECK_TEXT(text_at(span, "spanId"), gateway);
    CHECK_TEXT(text_at(span, "traceId"), SPAN_TRACE_ID);
    CHECK_TEXT(text_at(span, "parentSpanId"), SPAN_CALLER);
    CHECK_INT(span_at(span, "kind")->valueint, 2);
    CHECK_TEXT(text_at(span, "startTimeUnixNano"), "1700000000123456789");
    CHECK_TEXT(text_at(span, "endTimeUnixNano"), "1700000000123457789");
    CHECK_TEXT(attribute(span, "http.request.body.size"), "(none)");
    CHECK_TEXT(attribute(span, "http.response.body.size"), "12");
    CHECK_TEXT(attribute(span, "http.request.id"), "request-1");
    cJSON_Delete(document);
    span_teardown(&f);
}

TEST(span, gateway_that_answered_by_itself)
{
    static const struct {
        const char *name, *answered, *asked;
        bool has_parent;
    } rows[] = {
        {"in the caller's trace", "", SPAN_SAMPLED, true},
        {"in a new one", "", "", false},
        {"after nonsense", "nonsense", "00-x", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span_fixture f;
        span_setup(&f, NULL, span_answer_ok);
        struct span_gateway_line line = line_of(rows[i].answered, rows[i].asked);
        span_gateway(f.spans, &line);
        cJSON *document = sent(&f);
        const cJSON *span = cJSON_GetArrayItem(span_list(document), 0);
        check_hex(span, "traceId", 32);
        check_hex(span, "spanId", 16);
        CHECK_STR_ROW(rows[i].name, str_of(text_at(span, "parentSpanId")),
                      rows[i].has_parent ? SPAN_CALLER : "(none)");
        CHECK_ROW(rows[i].name,
                  (strcmp(text_at(span, "traceId"), SPAN_TRACE_ID) == 0) == rows[i].has_parent);
        cJSON_Delete(document);
        span_teardown(&f);
    }
}

/* ---- what is not sent ---- */

TEST(span, of_what_is_not_sampled_is_none)
{
    struct span_fixture f;
    span_setup(&f, NULL, span_answer_ok);
    struct trace trace = span_serve(&f, SPAN_NOT_SAMPLED, &span_plain);
    char answered[TRACEPARENT_LENGTH + 1];
    trace_header(&trace, answered);
    struct span_gateway_line line = line_of(answered, SPAN_NOT_SAMPLED);
    span_gateway(f.spans, &line);
    line = line_of("", SPAN_NOT_SAMPLED);
    span_gateway(f.spans, &line);
    span_stop(&f);
    CHECK_INT(http_server_requests(f.collector.server), 0);
    CHECK_INT(span_counted(&f, "sent"), 0);
    span_teardown(&f);
}

TEST(span, without_an_endpoint_is_nothing_but_the_context)
{
    struct config config = {.otlp_endpoint = ""};
    const struct spans_options options = {.config = &config, .clock = &clock_system};
    struct spans *spans = (struct spans *)&config;
    struct span_request request;
    struct trace trace;
    struct err err;
    char header[TRACE_CONTEXT_HEADER_SIZE];
    const struct span_gateway_line line = line_of("", "");
    CHECK_ERR(spans_open(&spans, &options, &err), ERR_OK, &err);
    CHECK(spans == NULL);
    trace_start(&trace, &clock_system, STR(""), STR(SPAN_SAMPLED));
    span_request_begin(&request, spans, &trace, 0);
    span_told(METRIC_STORAGE_OPERATIONS, METRIC_STORAGE_FS, ERR_OK);
    CHECK(trace_context_header(header));
    CHECK(strstr(header, trace.span_id) != NULL);
    span_request_end(&request, &span_plain);
    CHECK(!trace_context_header(header));
    span_told(METRIC_STORAGE_OPERATIONS, METRIC_STORAGE_FS, ERR_OK);
    span_gateway(spans, &line);
    spans_close(spans);
}

TEST(span, so_many_steps_of_a_request)
{
    struct span_fixture f;
    struct trace trace;
    struct span_request request;
    span_setup(&f, NULL, span_answer_ok);
    trace_start(&trace, &clock_system, STR(""), STR(""));
    span_request_begin(&request, f.spans, &trace, clock_steady_ns(&clock_system));
    for (int i = 0; i < SPAN_STEPS_MAX + 10; i++)
        span_told(METRIC_METADATA_OPERATIONS, METRIC_METADATA_SQLITE, ERR_OK);
    span_request_end(&request, &span_plain);
    cJSON *document = sent(&f);
    CHECK_INT(cJSON_GetArraySize(span_list(document)), 1 + SPAN_STEPS_MAX);
    CHECK_INT(span_counted(&f, "sent"), 1 + SPAN_STEPS_MAX);
    CHECK_INT(span_counted(&f, "dropped_limit"), 10);
    cJSON_Delete(document);
    span_teardown(&f);
}
