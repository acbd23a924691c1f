#include "http/request.h"

#include <stdio.h>

#include "check.h"

#define ID "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77"

struct env {
    char texts[8][256];
    char *list[9];
    size_t count;
};

static void env_set(struct env *env, const char *name, const char *value)
{
    snprintf(env->texts[env->count], sizeof env->texts[0], "%s=%s", name, value);
    env->list[env->count] = env->texts[env->count];
    env->list[++env->count] = NULL;
}

static void env_init(struct env *env, const char *script, const char *info, const char *uri)
{
    env->count = 0;
    env_set(env, "REQUEST_METHOD", "GET");
    env_set(env, "SCRIPT_NAME", script);
    env_set(env, "PATH_INFO", info);
    env_set(env, "REQUEST_URI", uri);
}

static enum err_code read_env(struct request *request, struct env *env)
{
    struct err err;
    return request_from_env(request, env->list, &err);
}

struct route_row {
    const char *name, *script, *info, *uri;
    enum route route;
    const char *id, *raw_name;
};

static void check_routes(const struct route_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct route_row *row = &rows[i];
        struct env env;
        struct request request;
        env_init(&env, row->script, row->info, row->uri);
        CHECK_INT_ROW(row->name, read_env(&request, &env), ERR_OK);
        CHECK_INT_ROW(row->name, request.route, row->route);
        CHECK_STR_ROW(row->name, request.id, row->id);
        CHECK_STR_ROW(row->name, request.raw_name, row->raw_name);
    }
}
#define CHECK_ROUTES(rows) check_routes((rows), sizeof(rows) / sizeof *(rows))

TEST(request, every_template_is_found)
{
    static const struct route_row rows[] = {
        {"list", "/api/files", "", "/api/files?limit=1", ROUTE_FILES, "", ""},
        {"post", "/api/files", "/upload", "/api/files/upload", ROUTE_UPLOAD, "", ""},
        {"put", "/api/files", "/upload/a b", "/api/files/upload/a%20b", ROUTE_UPLOAD_NAME, "",
         "a%20b"},
        {"pipe", "/api/files/pipe", "/a.tar", "/api/files/pipe/a.tar", ROUTE_PIPE_NAME, "",
         "a.tar"},
        {"batch", "/api/files/delete", "", "/api/files/delete", ROUTE_BATCH_DELETE, "", ""},
        {"file", "/api/files", "/" ID, "/api/files/" ID, ROUTE_FILE, ID, ""},
        {"download", "/api/files", "/" ID "/download", "/", ROUTE_FILE_DOWNLOAD, ID, ""},
        {"meta", "/api/files", "/" ID "/meta", "/", ROUTE_FILE_META, ID, ""},
        {"live", "/live", "", "/live", ROUTE_LIVE, "", ""},
        {"ready", "/ready", "", "/ready", ROUTE_READY, "", ""},
        {"health", "/health", "", "/health", ROUTE_HEALTH, "", ""},
        {"api live", "/api/health", "/live", "/api/health/live", ROUTE_LIVE, "", ""},
        {"api ready", "/api/health", "/ready", "/api/health/ready", ROUTE_READY, "", ""},
        {"api health", "/api/health", "", "/api/health", ROUTE_HEALTH, "", ""},
        {"metrics", "/metrics", "", "/metrics", ROUTE_GATEWAY_METRICS, "", ""},
        {"api metrics", "/api/metrics", "", "/api/metrics", ROUTE_METRICS, "", ""},
    };
    CHECK_ROUTES(rows);
}

TEST(request, where_the_gateway_cuts_the_path_makes_no_difference)
{
    static const struct route_row rows[] = {
        {"all in script", "/api/files/" ID "/meta", "", "/", ROUTE_FILE_META, ID, ""},
        {"all in info", "", "/api/files/" ID "/meta", "/", ROUTE_FILE_META, ID, ""},
        {"root script", "/", "/api/files/" ID "/meta", "/", ROUTE_FILE_META, ID, ""},
        {"cut within a segment", "/api/fi", "les", "/api/files", ROUTE_UNKNOWN, "", ""},
        {"no slash", "api", "/files", "/api/files", ROUTE_UNKNOWN, "", ""},
        {"nothing", "", "", "", ROUTE_UNKNOWN, "", ""},
        {"asterisk", "*", "", "*", ROUTE_UNKNOWN, "", ""},
    };
    CHECK_ROUTES(rows);
}

TEST(request, literal_segments_win_over_parameters)
{
    static const struct route_row rows[] = {
        {"upload/meta is a name", "/api/files", "/upload/meta", "/api/files/upload/meta",
         ROUTE_UPLOAD_NAME, "", "meta"},
        {"pipe is an id", "/api/files", "/pipe", "/api/files/pipe", ROUTE_FILE, "pipe", ""},
        {"case counts", "/api/files", "/Upload", "/api/files/Upload", ROUTE_FILE, "Upload", ""},
        {"a colon is no parameter", "/api/files", "/:id", "/api/files/:id", ROUTE_FILE, ":id", ""},
    };
    CHECK_ROUTES(rows);
}

TEST(request, abuse_52_trailing_and_double_slashes_lead_nowhere_but_to_the_empty_name)
{
    static const struct route_row rows[] = {
        {"list/", "/api/files", "/", "/api/files/", ROUTE_UNKNOWN, "", ""},
        {"file/", "/api/files", "/" ID "/", "/", ROUTE_UNKNOWN, "", ""},
        {"meta/", "/api/files", "/" ID "/meta/", "/", ROUTE_UNKNOWN, "", ""},
        {"no id", "/api/files", "//meta", "/", ROUTE_UNKNOWN, "", ""},
        {"double", "/api//files", "", "/", ROUTE_UNKNOWN, "", ""},
        {"live/", "/live", "/", "/live/", ROUTE_UNKNOWN, "", ""},
        {"upload/", "/api/files", "/upload/", "/api/files/upload/", ROUTE_UPLOAD_NAME, "", ""},
        {"pipe/", "/api/files", "/pipe/", "/api/files/pipe/?a=/b", ROUTE_PIPE_NAME, "", ""},
        {"delete/", "/api/files", "/delete/", "/api/files/delete/", ROUTE_UNKNOWN, "", ""},
        {"too deep", "/api/files", "/" ID "/meta/x/y/z", "/", ROUTE_UNKNOWN, "", ""},
    };
    CHECK_ROUTES(rows);
}

TEST(request, a_name_is_taken_raw_and_may_hold_an_encoded_slash)
{
    static const struct route_row rows[] = {
        {"encoded slash", "/api/files", "/upload/a/b", "/api/files/upload/a%2Fb", ROUTE_UPLOAD_NAME,
         "", "a%2Fb"},
        {"two of them", "/api/files", "/pipe/a/b/c", "/api/files/pipe/a%2Fb%2fc?x", ROUTE_PIPE_NAME,
         "", "a%2Fb%2fc"},
        {"a real folder", "/api/files", "/upload/a/b", "/api/files/upload/a/b", ROUTE_UNKNOWN, "",
         ""},
        {"not for ids", "/api/files", "/a/meta/x", "/api/files/a%2Fmeta/x", ROUTE_UNKNOWN, "", ""},
        {"twice encoded", "/api/files", "/upload/%2e", "/api/files/upload/%252e", ROUTE_UPLOAD_NAME,
         "", "%252e"},
        {"a question mark in the query", "/api/files", "/upload/a", "/api/files/upload/a?b?/c",
         ROUTE_UPLOAD_NAME, "", "a"},
    };
    CHECK_ROUTES(rows);
}

TEST(request, a_gateway_error_needs_the_status_only_the_gateway_can_set)
{
    static const struct {
        const char *name, *status;
        enum route route;
        int redirect_status;
    } rows[] = {
        {"404", "404", ROUTE_ERROR, 404},    {"505", "505", ROUTE_ERROR, 505},
        {"called", "200", ROUTE_UNKNOWN, 0}, {"redirect", "302", ROUTE_UNKNOWN, 0},
        {"absent", NULL, ROUTE_UNKNOWN, 0},  {"garbage", "4x4", ROUTE_UNKNOWN, 0},
        {"huge", "40400", ROUTE_UNKNOWN, 0}, {"empty", "", ROUTE_UNKNOWN, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct env env;
        struct request request;
        env_init(&env, "/-", "/error", "/api/files/none?x=1");
        if (rows[i].status)
            env_set(&env, "REDIRECT_STATUS", rows[i].status);
        CHECK_INT_ROW(rows[i].name, read_env(&request, &env), ERR_OK);
        CHECK_INT_ROW(rows[i].name, request.route, rows[i].route);
        CHECK_INT_ROW(rows[i].name, request.redirect_status, rows[i].redirect_status);
        CHECK_STR_ROW(rows[i].name, request.path, "/api/files/none");
    }
}

TEST(request, what_a_500_of_the_gateway_means_is_set_there)
{
    static const struct {
        const char *status, *broken;
        int want;
    } rows[] = {
        {"500", "503", 503}, {"500", "", 500},    {"500", "5x", 500},
        {"500", "200", 500}, {"502", "503", 502}, {"404", "503", 404},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct env env;
        struct request request;
        env_init(&env, "/-", "/error", "/api/files");
        env_set(&env, "REDIRECT_STATUS", rows[i].status);
        env_set(&env, "BROKEN_STATUS", rows[i].broken);
        CHECK_INT_ROW(rows[i].broken, read_env(&request, &env), ERR_OK);
        CHECK_INT_ROW(rows[i].broken, request.redirect_status, rows[i].want);
    }
}

TEST(request, a_gateway_error_tells_the_clients_method)
{
    static const struct {
        const char *name, *status, *query, *want;
        enum http_method method;
    } rows[] = {
        {"put", "413", "PUT", "PUT", METHOD_PUT},
        {"other", "501", "OTHER", "OTHER", METHOD_OTHER},
        {"unread", "431", "", "", METHOD_OTHER},
        {"a POST without a length", "411", "", "POST", METHOD_POST},
        {"called", "200", "PUT", "GET", METHOD_GET},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct env env;
        struct request request;
        env_init(&env, "/-", "/error", "/api/files?x=1");
        env_set(&env, "REDIRECT_STATUS", rows[i].status);
        env_set(&env, "QUERY_STRING", rows[i].query);
        CHECK_INT_ROW(rows[i].name, read_env(&request, &env), ERR_OK);
        CHECK_INT_ROW(rows[i].name, request.client_method, rows[i].method);
        CHECK_STR_ROW(rows[i].name, request.client_method_text, rows[i].want);
        CHECK_STR_ROW(rows[i].name, request.query, "x=1");
    }
}

TEST(request, a_redirect_status_elsewhere_means_nothing)
{
    struct env env;
    struct request request;
    env_init(&env, "/live", "", "/live");
    env_set(&env, "REDIRECT_STATUS", "404");
    CHECK_INT(read_env(&request, &env), ERR_OK);
    CHECK_INT(request.route, ROUTE_LIVE);
    CHECK_INT(request.redirect_status, 0);
}

TEST(request, methods_are_case_sensitive)
{
    static const struct {
        const char *text;
        enum http_method method;
    } rows[] = {
        {"GET", METHOD_GET},         {"HEAD", METHOD_HEAD},   {"POST", METHOD_POST},
        {"PUT", METHOD_PUT},         {"PATCH", METHOD_PATCH}, {"DELETE", METHOD_DELETE},
        {"OPTIONS", METHOD_OPTIONS}, {"get", METHOD_OTHER},   {"TRACE", METHOD_OTHER},
        {"OTHER", METHOD_OTHER},     {"", METHOD_OTHER},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct env env = {.count = 0};
        struct request request;
        env_set(&env, "REQUEST_METHOD", rows[i].text);
        CHECK_INT_ROW(rows[i].text, read_env(&request, &env), ERR_OK);
        CHECK_INT_ROW(rows[i].text, request.method, rows[i].method);
        CHECK_STR_ROW(rows[i].text, request.method_text, rows[i].text);
    }
}

TEST(request, a_content_length_is_digits_or_absent)
{
    static const struct {
        const char *text;
        enum err_code code;
        int64_t length;
    } rows[] = {
        {NULL, ERR_OK, -1},
        {"", ERR_OK, -1},
        {"0", ERR_OK, 0},
        {"52428800", ERR_OK, 52428800},
        {"9223372036854775807", ERR_OK, INT64_MAX},
        {"9223372036854775808", ERR_BAD_REQUEST, -1},
        {"-1", ERR_BAD_REQUEST, -1},
        {"+5", ERR_BAD_REQUEST, -1},
        {"5 ", ERR_BAD_REQUEST, -1},
        {"5, 5", ERR_BAD_REQUEST, -1},
        {"0x10", ERR_BAD_REQUEST, -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct env env;
        struct request request;
        env_init(&env, "/api/files", "/upload", "/api/files/upload");
        if (rows[i].text)
            env_set(&env, "CONTENT_LENGTH", rows[i].text);
        CHECK_INT_ROW(rows[i].text, read_env(&request, &env), rows[i].code);
        CHECK_INT_ROW(rows[i].text, request.content_length, rows[i].length);
        CHECK_INT_ROW(rows[i].text, request.route, ROUTE_UPLOAD);
    }
}

TEST(request, the_uri_is_split_once)
{
    struct env env;
    struct request request;
    env_init(&env, "/api/files", "", "/api/%66iles?limit=5?x&y=a=b");
    env_set(&env, "REMOTE_ADDR", "127.0.0.1");
    env_set(&env, "HTTP_HOST", "localhost:5921");
    env_set(&env, "CONTENT_TYPE", "text/plain");
    CHECK_INT(read_env(&request, &env), ERR_OK);
    CHECK_STR(request.uri, "/api/%66iles?limit=5?x&y=a=b");
    CHECK_STR(request.path, "/api/%66iles");
    CHECK_STR(request.query, "limit=5?x&y=a=b");
    CHECK_STR(request.remote_addr, "127.0.0.1");
    CHECK_STR(request.host, "localhost:5921");
    CHECK_STR(request.content_type, "text/plain");
}

TEST(request, headers_are_found_by_their_cgi_name)
{
    struct env env;
    struct request request;
    struct str value = STR("unchanged");
    env_init(&env, "/live", "", "/live");
    env_set(&env, "HTTP_IF_MATCH", "\"a=b\"");
    env_set(&env, "HTTP_EMPTY", "");
    CHECK_INT(read_env(&request, &env), ERR_OK);
    CHECK(request_header(&request, "IF_MATCH", &value));
    CHECK_STR(value, "\"a=b\"");
    CHECK(request_header(&request, "EMPTY", &value));
    CHECK_STR(value, "");
    value = STR("unchanged");
    CHECK(!request_header(&request, "IF_MATC", &value));
    CHECK(!request_header(&request, "if_match", &value));
    CHECK_STR(value, "unchanged");
    CHECK_STR(request_header_or_empty(&request, "IF_RANGE"), "");
}

TEST(request, abuse_45_a_header_that_arrives_twice_is_refused_but_the_rest_is_readable)
{
    struct env env;
    struct request request;
    env_init(&env, "/live", "", "/live");
    env_set(&env, "HTTP_X_API_KEY", "a");
    env_set(&env, "HTTP_X_API_KEY", "a");
    env_set(&env, "HTTP_X_REQUEST_ID", "later");
    CHECK_INT(read_env(&request, &env), ERR_BAD_REQUEST);
    CHECK_INT(request.route, ROUTE_LIVE);
    CHECK_STR(request_header_or_empty(&request, "X_REQUEST_ID"), "later");
}

TEST(request, as_many_headers_as_the_limit_are_taken_and_not_one_more)
{
    static char texts[LIMIT_HEADERS + 1][32];
    char *list[LIMIT_HEADERS + 2] = {NULL};
    struct request request;
    struct err err;
    for (size_t i = 0; i < LIMIT_HEADERS; i++) {
        snprintf(texts[i], sizeof texts[i], "HTTP_H%zu=v", i);
        list[i] = texts[i];
    }
    CHECK_ERR(request_from_env(&request, list, &err), ERR_OK, &err);
    CHECK(request.header_count == LIMIT_HEADERS);
    snprintf(texts[LIMIT_HEADERS], sizeof texts[0], "HTTP_LAST=v");
    list[LIMIT_HEADERS] = texts[LIMIT_HEADERS];
    CHECK_ERR(request_from_env(&request, list, &err), ERR_BAD_REQUEST, &err);
    CHECK(request.header_count == LIMIT_HEADERS);
}

TEST(request, entries_without_a_value_do_no_harm)
{
    char *list[] = {(char[]){"REQUEST_METHOD"}, (char[]){""}, (char[]){"="}, (char[]){"HTTP_"},
                    NULL};
    struct request request;
    struct err err;
    CHECK_ERR(request_from_env(&request, list, &err), ERR_OK, &err);
    CHECK_INT(request.route, ROUTE_UNKNOWN);
    CHECK_INT(request.content_length, -1);
}

static const char *const allowed[] = {"limit", "prefix", "a", "b", NULL};

TEST(query, parameters_are_decoded_once)
{
    static const struct {
        const char *raw, *prefix;
    } rows[] = {
        {"prefix=a", "a"},
        {"limit=1&prefix=a+b%20c", "a b c"},
        {"prefix=%2541", "%41"},
        {"prefix=", ""},
        {"prefix", ""},
        {"&&prefix=x&", "x"},
        {"prefix=a=b", "a=b"},
        {"pref%69x=y", "y"},
        {"prefix=%C3%A4%F0%9F%98%80", "\xC3\xA4\xF0\x9F\x98\x80"},
        {"prefix=%2B%26%3D", "+&="},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct query query;
        struct err err;
        struct str value = STR("not set");
        CHECK_ERR_ROW(rows[i].raw, query_parse(&query, str_of(rows[i].raw), allowed, &err), ERR_OK,
                      &err);
        CHECK_ROW(rows[i].raw, query_get(&query, "prefix", &value));
        CHECK_STR_ROW(rows[i].raw, value, rows[i].prefix);
        CHECK_ROW(rows[i].raw, !query_get(&query, "pre", &value));
        query_release(&query);
    }
}

TEST(query, abuse_51_and_56_what_is_malformed_unknown_or_repeated_is_refused)
{
    static const char *const rows[] = {
        "limit=1&limit=1",
        "limit=1&l%69mit=2",
        "other=1",
        "Limit=1",
        "prefix=%",
        "prefix=%4",
        "prefix=%zz",
        "prefix=%00",
        "prefix=%ff",
        "prefix=%c0%ae",
        "prefix=%ED%A0%80",
        "=1",
        "=",
        "limit=1&[$ne]=1",
        "lim\x80it=1",
        "prefix=%F4%90%80%80",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct query query;
        struct err err;
        CHECK_ERR_ROW(rows[i], query_parse(&query, str_of(rows[i]), allowed, &err),
                      ERR_BAD_PARAMETER, &err);
        CHECK_ROW(rows[i], query.count == 0);
        query_release(&query);
    }
}

TEST(query, the_empty_query_has_no_parameters)
{
    struct query query;
    struct err err;
    struct str value;
    CHECK_ERR(query_parse(&query, STR(""), allowed, &err), ERR_OK, &err);
    CHECK(query.count == 0);
    CHECK(!query_get(&query, "limit", &value));
    query_release(&query);
}

static enum err_code parse_long(size_t len)
{
    static char raw[LIMIT_QUERY_BYTES + 2];
    struct query query;
    struct err err;
    memset(raw, 'x', sizeof raw);
    raw[0] = 'a';
    raw[1] = '=';
    enum err_code code = query_parse(&query, (struct str){raw, len}, allowed, &err);
    query_release(&query);
    return code;
}

TEST(query, length_is_bounded)
{
    CHECK_INT(parse_long(LIMIT_QUERY_BYTES), ERR_OK);
    CHECK_INT(parse_long(LIMIT_QUERY_BYTES + 1), ERR_BAD_PARAMETER);
}

TEST(query, the_number_of_parameters_is_bounded)
{
    struct buf raw;
    struct query query;
    struct err err;
    buf_init(&raw, 4096);
    for (int i = 0; i <= LIMIT_QUERY_PARAMETERS; i++)
        buf_printf(&raw, "a%d=1&", i);
    CHECK_ERR(query_parse(&query, buf_str(&raw), allowed, &err), ERR_BAD_PARAMETER, &err);
    CHECK(strstr(err.message, "more than") != NULL);
    query_release(&query);
    buf_release(&raw);
}

TEST(media_type, is_taken_without_parameters_in_lower_case)
{
    static const struct {
        const char *header, *want;
    } rows[] = {
        {"text/plain", "text/plain"},
        {"Text/HTML; charset=UTF-8", "text/html"},
        {"  application/x+json ;a=b", "application/x+json"},
        {"image/svg+xml;", "image/svg+xml"},
        {"a/b;garbage \"", "a/b"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char target[LIMIT_MIME_BYTES + 1];
        CHECK_ROW(rows[i].header, media_type_parse(str_of(rows[i].header), target, sizeof target));
        CHECK_STR_ROW(rows[i].header, str_of(target), rows[i].want);
    }
}

TEST(media_type, abuse_26_garbage_is_none)
{
    static const char *const rows[] = {
        "",      "text",     "text/",        "/plain",        "text/plain/x", "te xt/plain",
        "text/", "a/b, c/d", "text/pl\"ain", "t\xE4xt/plain", "a/b\r\nX: y",  "*/ *",
        ";a/b",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char target[LIMIT_MIME_BYTES + 1];
        CHECK_ROW(rows[i], !media_type_parse(str_of(rows[i]), target, sizeof target));
    }
}

TEST(media_type, must_fit_as_a_whole)
{
    char header[LIMIT_MIME_BYTES + 2];
    char target[LIMIT_MIME_BYTES + 1];
    memset(header, 'a', sizeof header);
    header[4] = '/';
    CHECK(media_type_parse((struct str){header, LIMIT_MIME_BYTES}, target, sizeof target));
    CHECK(!media_type_parse((struct str){header, LIMIT_MIME_BYTES + 1}, target, sizeof target));
}
