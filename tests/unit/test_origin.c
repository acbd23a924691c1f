#include "access/origin.h"
#include "check.h"

static struct request make_request(enum http_method method, const char *host, const char *origin,
                                   const char *site)
{
    struct request request = {.method = method, .host = str_of(host)};
    if (origin)
        request.headers[request.header_count++] =
            (struct request_header){STR("ORIGIN"), str_of(origin)};
    if (site)
        request.headers[request.header_count++] =
            (struct request_header){STR("SEC_FETCH_SITE"), str_of(site)};
    return request;
}

TEST(origin, without_login_only_the_own_machine_and_pages_may_come_in)
{
    static const struct {
        enum http_method method;
        const char *host;
        const char *origin;
        const char *site;
        enum err_code want;
    } rows[] = {
        {METHOD_GET, "127.0.0.1:5921", NULL, NULL, ERR_OK},
        {METHOD_GET, "127.9.8.7", NULL, NULL, ERR_OK},
        {METHOD_GET, "localhost:5921", NULL, NULL, ERR_OK},
        {METHOD_GET, "LOCALHOST", NULL, NULL, ERR_OK},
        {METHOD_GET, "[::1]:5921", NULL, NULL, ERR_OK},
        {METHOD_GET, "files.example", NULL, NULL, ERR_OK},
        {METHOD_GET, "files.example:80", NULL, NULL, ERR_OK},
        {METHOD_GET, "evil.example", NULL, NULL, ERR_FORBIDDEN},
        {METHOD_GET, "127.0.0.1.evil.example", NULL, NULL, ERR_FORBIDDEN},
        {METHOD_GET, "localhost.evil.example", NULL, NULL, ERR_FORBIDDEN},
        {METHOD_GET, "", NULL, NULL, ERR_FORBIDDEN},
        {METHOD_POST, "localhost:5921", "http://localhost:5921", NULL, ERR_OK},
        {METHOD_POST, "localhost:5921", "http://localhost:80", NULL, ERR_FORBIDDEN},
        {METHOD_POST, "localhost:5921", "null", NULL, ERR_FORBIDDEN},
        {METHOD_POST, "localhost:5921", "https://evil.example", NULL, ERR_FORBIDDEN},
        {METHOD_POST, "localhost:5921", "https://app.example", "cross-site", ERR_OK},
        {METHOD_PUT, "localhost:5921", NULL, "cross-site", ERR_FORBIDDEN},
        {METHOD_PATCH, "localhost:5921", NULL, "same-origin", ERR_OK},
        {METHOD_DELETE, "localhost:5921", NULL, "none", ERR_OK},
        {METHOD_GET, "localhost:5921", "https://evil.example", "cross-site", ERR_OK},
    };
    struct config config = {.auth_mode = AUTH_MODE_NONE,
                            .allowed_hosts = "other.example, files.example",
                            .allowed_origins = "https://app.example"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct request request =
            make_request(rows[i].method, rows[i].host, rows[i].origin, rows[i].site);
        CHECK_ERR_ROW(rows[i].host, origin_check(&config, &request, &err), rows[i].want, &err);
    }
    config.auth_mode = AUTH_MODE_TOKEN;
    struct err err = {0};
    struct request request =
        make_request(METHOD_POST, "evil.example", "https://evil.example", "cross-site");
    CHECK_ERR(origin_check(&config, &request, &err), ERR_OK, &err);
}

TEST(origin, probes_have_any_host)
{
    const struct config config = {.auth_mode = AUTH_MODE_NONE};
    const enum route probes[] = {ROUTE_LIVE, ROUTE_READY, ROUTE_HEALTH};
    struct err err = {0};
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        struct request request = make_request(METHOD_GET, "10.244.0.5:5921", NULL, NULL);
        request.route = probes[i];
        CHECK_ERR(origin_check(&config, &request, &err), ERR_OK, &err);
    }
}

static void check_unread(const char *listed, int status, const char *want)
{
    struct config config = {.auth_mode = AUTH_MODE_NONE};
    struct request request = {.route = ROUTE_ERROR, .redirect_status = status};
    struct response response;
    char line[128];
    snprintf(config.allowed_origins, sizeof config.allowed_origins, "%s", listed);
    response_init(&response);
    origin_write_cors(&config, &request, &response);
    snprintf(line, sizeof line, "Access-Control-Allow-Origin: %s\r\n", want);
    if (*want)
        CHECK(strstr(buf_text(&response.headers), line));
    else
        CHECK(!strstr(buf_text(&response.headers), "Access-Control"));
    response_release(&response);
}

TEST(origin, what_lighttpd_refused_unread_names_no_other_origin)
{
    check_unread("https://app.example", 431, "https://app.example");
    check_unread("https://app.example,https://two.example", 501, "*");
    check_unread("https://app.example", 404, "");
}

TEST(origin, cors_is_only_for_listed_origins)
{
    const struct config config = {.allowed_origins = "https://app.example"};
    struct response response;
    struct request listed = make_request(METHOD_OPTIONS, "h", "https://app.example", NULL);
    struct request other = make_request(METHOD_OPTIONS, "h", "https://other.example", NULL);
    response_init(&response);
    origin_write_cors(&config, &listed, &response);
    CHECK(strstr(buf_text(&response.headers), "Access-Control-Allow-Origin: https://app.example"));
    CHECK(strstr(buf_text(&response.headers), "Access-Control-Allow-Methods:"));
    response_reset(&response);
    origin_write_cors(&config, &other, &response);
    CHECK(!strstr(buf_text(&response.headers), "Access-Control"));
    CHECK(strstr(buf_text(&response.headers), "Vary: Origin"));
    response_release(&response);
}
