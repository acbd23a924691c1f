#include <cjson/cJSON.h>

#include "check.h"
#include "observe/report_parts.h"

static const struct report_source source = {
    .program = "files_get",
    .environment = "test",
    .server_name = "host",
    .event_id = "0123456789abcdef0123456789abcdef",
    .time_ms = 1795255200123,
};

static cJSON *written(const struct report_source *of, const struct report_event *event,
                      const struct stack_trace *stack)
{
    struct buf out;
    buf_init(&out, REPORT_EVENT_MAX);
    report_write_event(of, event, &out);
    report_finish_event(stack, &out);
    CHECK(!out.failed);
    cJSON *json = cJSON_ParseWithLengthOpts(buf_text(&out), out.len + 1, NULL, true);
    CHECK_ROW(buf_text(&out), json != NULL);
    buf_release(&out);
    return json;
}

/* "a/b/0" is the first of b of a. */
static const cJSON *find(const cJSON *json, const char *path)
{
    struct str rest = str_of(path);
    while (json && rest.len > 0) {
        char name[64];
        struct str part = str_cut(&rest, '/');
        if (!str_copy(name, sizeof name, part))
            return NULL;
        json = cJSON_IsArray(json) ? cJSON_GetArrayItem(json, name[0] - '0')
                                   : cJSON_GetObjectItemCaseSensitive(json, name);
    }
    return json;
}

static void check_text(const cJSON *json, const char *path, const char *want)
{
    const char *text = cJSON_GetStringValue(find(json, path));
    CHECK_STR_ROW(path, str_of(text), want);
}

static int64_t number(const cJSON *json, const char *path)
{
    return (int64_t)cJSON_GetNumberValue(find(json, path));
}

static int64_t length(const cJSON *json, const char *path)
{
    return (int64_t)str_of(cJSON_GetStringValue(find(json, path))).len;
}

static const struct trace trace = {.request_id = "request-1",
                                   .trace_id = "11111111111111111111111111111111",
                                   .span_id = "2222222222222222",
                                   .parent_id = "3333333333333333"};

static struct report_event failed_request(void)
{
    return (struct report_event){
        .type = "internal",
        .value = STR("the bytes are missing"),
        .operation = "open",
        .os_errno = 5,
        .remote_status = 403,
        .trace = &trace,
        .method = STR("GET"),
        .route = "/api/files/:id",
        .path = STR("/api/files/7"),
        .user_agent = STR("curl/8"),
        .status = 500,
        .has_trail = true,
    };
}

TEST(report_event, tells_of_a_failed_request)
{
    struct report_event event = failed_request();
    report_trail_begin();
    cJSON *json = written(&source, &event, NULL);
    check_text(json, "event_id", "0123456789abcdef0123456789abcdef");
    check_text(json, "timestamp", "2026-11-21T10:00:00.123Z");
    check_text(json, "platform", "native");
    check_text(json, "level", "error");
    check_text(json, "logger", "coffer.files_get");
    check_text(json, "server_name", "host");
    check_text(json, "release", "coffer@" COFFER_VERSION);
    check_text(json, "environment", "test");
    check_text(json, "transaction", "/api/files/:id");
    check_text(json, "tags/program", "files_get");
    check_text(json, "tags/route", "/api/files/:id");
    check_text(json, "tags/code", "internal");
    check_text(json, "tags/operation", "open");
    check_text(json, "tags/status", "500");
    check_text(json, "tags/request_id", "request-1");
    check_text(json, "tags/trace_id", trace.trace_id);
    check_text(json, "request/method", "GET");
    check_text(json, "request/url", "/api/files/7");
    check_text(json, "request/headers/User-Agent", "curl/8");
    check_text(json, "contexts/trace/trace_id", trace.trace_id);
    check_text(json, "contexts/trace/span_id", trace.span_id);
    check_text(json, "contexts/trace/parent_span_id", trace.parent_id);
    check_text(json, "contexts/trace/op", "http.server");
    check_text(json, "extra/errno", "EIO");
    CHECK_INT(number(json, "extra/remote_status"), 403);
    check_text(json, "exception/values/0/type", "internal");
    check_text(json, "exception/values/0/value", "the bytes are missing");
    check_text(json, "exception/values/0/mechanism/type", "generic");
    CHECK(cJSON_IsTrue(find(json, "exception/values/0/mechanism/handled")));
    CHECK(!find(json, "breadcrumbs") && !find(json, "user") && !find(json, "debug_meta"));
    CHECK(!find(json, "exception/values/0/stacktrace"));
    cJSON_Delete(json);
}

TEST(report_event, of_a_start_has_neither_request_nor_contexts)
{
    const struct report_event event = {.level = REPORT_FATAL,
                                       .is_unhandled = true,
                                       .mechanism = "start",
                                       .type = "internal",
                                       .value = STR("no folder")};
    struct report_source unnamed = source;
    unnamed.server_name = "";
    cJSON *json = written(&unnamed, &event, NULL);
    check_text(json, "level", "fatal");
    check_text(json, "exception/values/0/mechanism/type", "start");
    CHECK(cJSON_IsFalse(find(json, "exception/values/0/mechanism/handled")));
    CHECK(!find(json, "request") && !find(json, "contexts") && !find(json, "extra"));
    CHECK(!find(json, "transaction") && !find(json, "server_name"));
    check_text(json, "fingerprint/2", "-");
    cJSON_Delete(json);
}

TEST(report_event, hostile_text_stays_text)
{
    struct report_event event = failed_request();
    event.user_agent = STR("\",\"user\":{\"id\":\"x\"},\"a\":\"\n\xff\x01");
    event.value = STR("quote \" and \xc3 and \x1b[31m");
    cJSON *json = written(&source, &event, NULL);
    CHECK(!find(json, "request/headers/user") && !find(json, "user"));
    check_text(json, "request/headers/User-Agent",
               "\",\"user\":{\"id\":\"x\"},\"a\":\"\n\xEF\xBF\xBD\x01");
    check_text(json, "exception/values/0/value", "quote \" and \xEF\xBF\xBD and \x1b[31m");
    cJSON_Delete(json);
}

TEST(report_event, long_text_is_cut)
{
    struct report_event event = failed_request();
    struct buf text;
    buf_init(&text, 100000);
    for (size_t i = 0; i < 100000; i++)
        buf_append_char(&text, 'x');
    event.user_agent = buf_str(&text);
    event.path = buf_str(&text);
    event.method = buf_str(&text);
    cJSON *json = written(&source, &event, NULL);
    CHECK_INT(length(json, "request/headers/User-Agent"), 256);
    CHECK_INT(length(json, "request/url"), CONFIG_TEXT_SIZE);
    cJSON_Delete(json);
    buf_release(&text);
}

TEST(report_event, a_path_with_a_name_in_it_is_not_told)
{
    static const struct {
        const char *route;
        const char *path;
        const char *want;
    } rows[] = {
        {"/api/files/:id", "/api/files/7", "/api/files/7"},
        {"/api/files/upload/:name", "/api/files/upload/private.pdf", "/api/files/upload/:name"},
        {"/api/files/pipe/:name", "/api/files/pipe/private.pdf", "/api/files/pipe/:name"},
        {"unknown", "/somebody's secret", "unknown"},
        {NULL, "/x", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_STR_ROW(rows[i].path, report_path(rows[i].route, str_of(rows[i].path)), rows[i].want);
}

TEST(report_event, credentials_are_masked)
{
    struct report_event event = failed_request();
    event.value = STR("mongodb://user:pass@host/db: token=abc"); /* more: test_log_redact.c */
    cJSON *json = written(&source, &event, NULL);
    check_text(json, "exception/values/0/value", "mongodb://***@host/db: token=***");
    cJSON_Delete(json);
}

TEST(report_event, equal_faults_have_one_fingerprint_and_others_another)
{
    struct report_event event = failed_request();
    const uint64_t hash = report_fingerprint_hash("files_get", &event);
    event.value = STR("another message");
    event.path = STR("/api/files/8");
    event.trace = NULL;
    event.status = 503;
    CHECK(report_fingerprint_hash("files_get", &event) == hash);
    cJSON *json = written(&source, &event, NULL);
    check_text(json, "fingerprint/0", "files_get");
    check_text(json, "fingerprint/1", "internal");
    check_text(json, "fingerprint/2", "open");
    check_text(json, "fingerprint/3", "/api/files/:id");
    CHECK_INT(cJSON_GetArraySize(find(json, "fingerprint")), 4);
    cJSON_Delete(json);
    CHECK(report_fingerprint_hash("files_list", &event) != hash);
    event.type = "storage_error";
    CHECK(report_fingerprint_hash("files_get", &event) != hash);
    event = failed_request();
    event.operation = "read";
    CHECK(report_fingerprint_hash("files_get", &event) != hash);
    event = failed_request();
    event.route = "/api/files/:id/meta";
    CHECK(report_fingerprint_hash("files_get", &event) != hash);
}

TEST(report_event, has_the_last_steps_of_the_request)
{
    static const unsigned put[] = {METRIC_STORAGE_S3, 0, 0};
    static const unsigned insert[] = {METRIC_METADATA_SQLITE, 0, 0};
    struct report_event event = failed_request();
    struct report_crumb crumb = report_crumb_of(METRIC_STORAGE_OPERATIONS, put);
    report_trail_begin();
    crumb.time_ms = source.time_ms;
    crumb.outcome = ERR_UPSTREAM_TIMEOUT;
    crumb.duration_ns = 1234567;
    report_crumb_add(&crumb);
    cJSON *json = written(&source, &event, NULL);
    CHECK_INT(cJSON_GetArraySize(find(json, "breadcrumbs/values")), 1);
    check_text(json, "breadcrumbs/values/0/category", "storage");
    check_text(json, "breadcrumbs/values/0/message", "put");
    check_text(json, "breadcrumbs/values/0/level", "error");
    check_text(json, "breadcrumbs/values/0/timestamp", "2026-11-21T10:00:00.123Z");
    check_text(json, "breadcrumbs/values/0/data/driver", "s3");
    check_text(json, "breadcrumbs/values/0/data/outcome", "upstream_timeout");
    CHECK(cJSON_GetNumberValue(find(json, "breadcrumbs/values/0/data/duration_ms")) == 1.234);
    cJSON_Delete(json);

    crumb = report_crumb_of(METRIC_METADATA_OPERATIONS, insert);
    for (int i = 0; i < REPORT_TRAIL_MAX; i++) {
        crumb.duration_ns = i * 1000000;
        report_crumb_add(&crumb);
    }
    json = written(&source, &event, NULL);
    CHECK_INT(cJSON_GetArraySize(find(json, "breadcrumbs/values")), REPORT_TRAIL_MAX);
    check_text(json, "breadcrumbs/values/0/category", "metadata");
    check_text(json, "breadcrumbs/values/0/message", "file_insert");
    check_text(json, "breadcrumbs/values/0/level", "info");
    CHECK(cJSON_GetNumberValue(find(json, "breadcrumbs/values/1/data/duration_ms")) == 1);
    cJSON_Delete(json);

    event.has_trail = false;
    json = written(&source, &event, NULL);
    CHECK(!find(json, "breadcrumbs"));
    cJSON_Delete(json);
    event.has_trail = true;
    report_trail_begin();
    json = written(&source, &event, NULL);
    CHECK(!find(json, "breadcrumbs"));
    cJSON_Delete(json);
}

TEST(report_event, has_the_stack_and_its_images)
{
    static const struct stack_frame frames[] = {
        {.address = 0x1000},
        {"fs_get", "shared/storage/fs/storage_fs.c", 42, 0x55aa, true},
    };
    static const struct stack_image images[] = {
        {"/usr/bin/files_get", "00112233445566778899aabbccddeeff01234567", 0x5000, 8192},
        {"/usr/lib/without", "", 0x9000, 1},
    };
    static const struct stack_trace stack = {frames, 2, images, 2};
    const struct report_event event = failed_request();
    cJSON *json = written(&source, &event, &stack);
    const cJSON *first = find(json, "exception/values/0/stacktrace/frames/0");
    const cJSON *last = find(json, "exception/values/0/stacktrace/frames/1");
    check_text(first, "instruction_addr", "0x1000");
    CHECK(!find(first, "function") && !find(first, "filename") && !find(first, "lineno"));
    CHECK(cJSON_IsFalse(find(first, "in_app")));
    check_text(last, "function", "fs_get");
    check_text(last, "filename", "shared/storage/fs/storage_fs.c");
    check_text(last, "instruction_addr", "0x55aa");
    CHECK_INT(number(last, "lineno"), 42);
    CHECK(cJSON_IsTrue(find(last, "in_app")));
    CHECK_INT(cJSON_GetArraySize(find(json, "debug_meta/images")), 1);
    check_text(json, "debug_meta/images/0/type", "elf");
    check_text(json, "debug_meta/images/0/code_id", "00112233445566778899aabbccddeeff01234567");
    check_text(json, "debug_meta/images/0/debug_id", "33221100-5544-7766-8899-aabbccddeeff");
    check_text(json, "debug_meta/images/0/image_addr", "0x5000");
    CHECK_INT(number(json, "debug_meta/images/0/image_size"), 8192);
    cJSON_Delete(json);
}

TEST(report_event, tells_how_many_were_left_out)
{
    struct report_source after_storm = source;
    struct report_event event = failed_request();
    after_storm.suppressed = 1234;
    event.os_errno = event.remote_status = 0;
    cJSON *json = written(&after_storm, &event, NULL);
    CHECK_INT(number(json, "extra/equal_reports_left_out"), 1234);
    CHECK(!find(json, "extra/errno") && !find(json, "extra/remote_status"));
    cJSON_Delete(json);
}

TEST(report_event, the_envelope_tells_its_length)
{
    struct buf out;
    buf_init(&out, 1000);
    report_write_envelope("0123456789abcdef0123456789abcdef", STR("{\"a\":1}"), &out);
    CHECK_STR(buf_str(&out),
              "{\"event_id\":\"0123456789abcdef0123456789abcdef\",\"sdk\":{\"name\":\"coffer\","
              "\"version\":\"" COFFER_VERSION "\"}}\n"
              "{\"type\":\"event\",\"content_type\":\"application/json\",\"length\":7}\n"
              "{\"a\":1}\n");
    buf_release(&out);
}

#define NS_PER_S 1000000000LL

TEST(report_event, so_many_equal_ones_a_minute)
{
    static struct report_storm storm = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    int64_t suppressed = -1;
    for (int i = 0; i < REPORT_SAME_MAX; i++) {
        CHECK(report_storm_admit(&storm, 1, i * NS_PER_S, &suppressed));
        CHECK_INT(suppressed, 0);
    }
    for (int i = 0; i < 5; i++)
        CHECK(!report_storm_admit(&storm, 1, 59 * NS_PER_S, &suppressed));
    CHECK(report_storm_admit(&storm, 2, 59 * NS_PER_S, &suppressed));
    CHECK_INT(suppressed, 0);
    CHECK(report_storm_admit(&storm, 1, 60 * NS_PER_S, &suppressed));
    CHECK_INT(suppressed, 5);
    CHECK(report_storm_admit(&storm, 1, 61 * NS_PER_S, &suppressed));
    CHECK_INT(suppressed, 0);
}

TEST(report_event, more_kinds_than_slots_forget_the_oldest)
{
    static struct report_storm storm = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    int64_t suppressed = 0;
    for (int i = 0; i <= REPORT_SAME_MAX; i++)
        report_storm_admit(&storm, 1, 0, &suppressed);
    CHECK(!report_storm_admit(&storm, 1, 1, &suppressed));
    for (unsigned i = 0; i < REPORT_STORM_SLOTS; i++)
        CHECK(report_storm_admit(&storm, 100 + i, 2 + i, &suppressed));
    CHECK(report_storm_admit(&storm, 1, 1000, &suppressed));
}
