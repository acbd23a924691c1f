/* Log entry field completeness: whatever requests and events bring along, every line has every
 * member, each once, nothing of it forged, and is not too long. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/serve.h"
#include "check.h"
#include "log_file.h"
#include "observe/log.h"

#define ROUNDS 2000
#define TEXT_MAX 12000

/* What a client may try: ends of strings, lines and objects, members of ours, secrets, halves of
 * characters. */
static const char *const pieces[] = {
    "a",
    "0",
    " ",
    "/",
    "%0a",
    "\"",
    "\\",
    "\\\"",
    "\n",
    "\r\n",
    "\t",
    "\x01",
    "\x1b[31m",
    "\x7f",
    "\xff",
    "\xc0\xaf",
    "\xe2\x82",
    "\xed\xa0\x80",
    "\xf0\x9f\x98\x80",
    "\xe2\x80\xa8",
    "\xc2\x85",
    "\"}\n{\"message\":\"forged\",",
    "\",\"log.level\":\"forged\",\"x\":\"",
    "\"level\":\"forged\"",
    "\\u0022,\\u000a",
    "token=hunter2",
    "Authorization: Bearer hunter2\n",
    "http://u:hunter2@h/?a=b",
    "</script>",
    "${jndi:ldap://x}",
    "\xef\xbb\xbf",
    "\xc3\xa9",
    "report.pdf",
};

struct hostile {
    char text[TEXT_MAX];
    size_t len;
};

/* Mostly short, sometimes longer than any line. */
static struct str hostile_text(struct hostile *hostile, unsigned *seed)
{
    size_t max = rand_r(seed) % 8 == 0 ? TEXT_MAX : 60;
    size_t wanted = (size_t)rand_r(seed) % max;
    hostile->len = 0;
    while (hostile->len < wanted) {
        const char *piece = pieces[(size_t)rand_r(seed) % (sizeof pieces / sizeof pieces[0])];
        size_t len = strlen(piece);
        if (len > wanted - hostile->len)
            break;
        memcpy(hostile->text + hostile->len, piece, len);
        hostile->len += len;
    }
    hostile->text[hostile->len] = '\0';
    return (struct str){hostile->text, hostile->len};
}

static const char *const required[] = {
    "@timestamp", "log.level", "message",   "ecs.version", "service.name", "service.environment",
    "level",      "service",   "host.name", "process.pid", "event.id"};
static const char *const of_requests[] = {"trace.id",
                                          "trace_id",
                                          "span.id",
                                          "http.request.id",
                                          "http.request.method",
                                          "http.response.status_code",
                                          "http.route",
                                          "url.path",
                                          "event.duration",
                                          "http.request.body.bytes",
                                          "http.response.body.bytes",
                                          "client.ip"};

static void check_members(const char *label, const cJSON *object, const char *const *names,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int found = 0;
        const cJSON *member;
        cJSON_ArrayForEach(member, object) found += strcmp(member->string, names[i]) == 0;
        char text[128];
        snprintf(text, sizeof text, "%.80s %s", label, names[i]);
        CHECK_INT_ROW(text, found, 1);
    }
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "(none)";
}

/* One of ours, and no other: its level and both of its names agree, its values are those given. */
static void check_line(const char *label, struct str line, enum err_level level)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    cJSON *object = cJSON_ParseWithLength(line.data, line.len);
    check_members(label, object, required, sizeof required / sizeof required[0]);
    CHECK_STR_ROW(label, str_of(text_of(object, "log.level")), levels[level]);
    CHECK_STR_ROW(label, str_of(text_of(object, "level")), levels[level]);
    CHECK_STR_ROW(label, str_of(text_of(object, "service")), "coffer-files_get");
    CHECK_STR_ROW(label, str_of(text_of(object, "service.name")), "coffer-files_get");
    const char *leak = memmem(line.data, line.len, "hunter2", 7);
    if (leak)
        fprintf(stderr, "LEAK %.*s\n", 160, leak - 100);
    CHECK_ROW(label, !memmem(line.data, line.len, "hunter2", 7));
    cJSON_Delete(object);
}

/* Lines are checked in groups, each against what it was made of. */
#define GROUP 100

struct expected {
    enum err_level level;
    struct trace trace;
};

struct group {
    struct log_file file;
    const char *const *members; /* besides those of every line */
    size_t member_count;
    unsigned seed; /* the first one */
    int round;
    size_t count;
    struct expected lines[GROUP];
};

static void check_group(struct group *group)
{
    struct buf text = log_file_written(&group->file);
    struct str rest = buf_str(&text);
    char label[64];
    snprintf(label, sizeof label, "seed %u to round %d", group->seed, group->round);
    CHECK_INT_ROW(label, log_file_check_lines(label, rest), (int64_t)group->count);
    for (size_t i = 0; i < group->count; i++) {
        struct str line = str_cut(&rest, '\n');
        cJSON *object = cJSON_ParseWithLength(line.data, line.len);
        check_line(label, line, group->lines[i].level);
        check_members(label, object, group->members, group->member_count);
        if (group->lines[i].trace.trace_id[0]) {
            CHECK_STR_ROW(label, str_of(text_of(object, "trace.id")),
                          group->lines[i].trace.trace_id);
            CHECK_STR_ROW(label, str_of(text_of(object, "trace_id")),
                          group->lines[i].trace.trace_id);
        }
        cJSON_Delete(object);
    }
    CHECK_INT_ROW(label, truncate(group->file.path, 0), 0);
    buf_release(&text);
    group->count = 0;
}

static void expect(struct group *group, enum err_level level, const struct trace *trace)
{
    struct expected *expected = &group->lines[group->count++];
    *expected = (struct expected){.level = level};
    if (trace)
        expected->trace = *trace;
    group->round++;
    if (group->count == GROUP)
        check_group(group);
}

TEST(log_fields, events_with_hostile_texts_are_complete)
{
    static struct hostile texts[8];
    static struct group group;
    const struct trace trace = {.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"};
    group = (struct group){.file = log_file_open(), .seed = check_seed()};
    unsigned seed = group.seed;
    for (int round = 0; round < ROUNDS; round++) {
        struct log_field fields[7];
        size_t count = (size_t)rand_r(&seed) % 8;
        for (size_t i = 0; i < count; i++)
            fields[i] = LOG_FIELD_STR("coffer.text", hostile_text(&texts[i], &seed));
        hostile_text(&texts[7], &seed);
        enum err_level level = (enum err_level)(rand_r(&seed) % 4);
        const struct trace *given = round % 2 ? &trace : NULL;
        log_write(group.file.log, level, given, texts[7].text, (struct log_fields){fields, count});
        expect(&group, level, given);
    }
    CHECK_INT((int64_t)log_dropped(group.file.log), 0);
    log_close(group.file.log);
}

/* What a client, or a store's answer, put into a request. */
static enum err_level fill_request(struct app_ctx *ctx, unsigned *seed)
{
    static struct hostile path;
    static struct hostile agent;
    static struct hostile other;
    trace_start(&ctx->trace, &clock_system, hostile_text(&other, seed), hostile_text(&path, seed));
    ctx->request.method_text = rand_r(seed) % 2 ? STR("GET") : hostile_text(&other, seed);
    ctx->request.remote_addr = STR("127.0.0.1");
    ctx->request.route = (enum route)((unsigned)rand_r(seed) % ROUTE_COUNT);
    ctx->request.path = hostile_text(&path, seed);
    ctx->request.headers[0] =
        (struct request_header){STR("USER_AGENT"), hostile_text(&agent, seed)};
    ctx->request.header_count = 1;
    ctx->response.status = 200;
    ctx->started_ns = clock_steady_ns(&clock_system);
    snprintf(ctx->principal.owner, sizeof ctx->principal.owner, "%.100s", agent.text);
    if (rand_r(seed) % 2)
        return ERR_LEVEL_INFO;
    ctx->err.code = (enum err_code)(1 + (unsigned)rand_r(seed) % (ERR_CODE_COUNT - 1));
    ctx->err.operation = "test";
    snprintf(ctx->err.message, sizeof ctx->err.message, "%.239s", agent.text);
    return err_info(ctx->err.code)->level;
}

TEST(log_fields, requests_with_hostile_texts_are_complete)
{
    static struct group group;
    group = (struct group){.file = log_file_open(),
                           .members = of_requests,
                           .member_count = sizeof of_requests / sizeof of_requests[0],
                           .seed = check_seed()};
    unsigned seed = group.seed;
    for (int round = 0; round < ROUNDS; round++) {
        struct files files = {.clock = &clock_system};
        struct app_ctx ctx = {.files = &files, .log = group.file.log};
        enum err_level level = fill_request(&ctx, &seed);
        request_log_write(&ctx);
        expect(&group, level, &ctx.trace);
    }
    CHECK_INT((int64_t)log_dropped(group.file.log), 0);
    log_close(group.file.log);
}
