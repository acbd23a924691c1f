#include "base/routes.h"
#include "check.h"

static void list_methods(unsigned methods, struct buf *out)
{
    for (int method = 0; method < METHOD_COUNT; method++)
        if (methods & METHOD_BIT(method))
            buf_printf(out, "%s%s", out->len ? " " : "", method_name((enum http_method)method));
}

TEST(routes, table_says_what_the_contract_says)
{
    static const struct {
        enum route in;
        const char *template, *methods;
    } rows[] = {
        {ROUTE_FILES, "/api/files", "GET HEAD OPTIONS"},
        {ROUTE_UPLOAD, "/api/files/upload", "POST OPTIONS"},
        {ROUTE_UPLOAD_NAME, "/api/files/upload/:name", "PUT OPTIONS"},
        {ROUTE_PIPE_NAME, "/api/files/pipe/:name", "PUT OPTIONS"},
        {ROUTE_BATCH_DELETE, "/api/files/delete", "POST OPTIONS"},
        {ROUTE_FILE, "/api/files/:id", "GET HEAD PATCH DELETE OPTIONS"},
        {ROUTE_FILE_DOWNLOAD, "/api/files/:id/download", "GET HEAD OPTIONS"},
        {ROUTE_FILE_META, "/api/files/:id/meta", "GET HEAD OPTIONS"},
        {ROUTE_LIVE, "/live", "GET HEAD OPTIONS"},
        {ROUTE_READY, "/ready", "GET HEAD OPTIONS"},
        {ROUTE_HEALTH, "/health", "GET HEAD OPTIONS"},
        {ROUTE_GATEWAY_METRICS, "/metrics", "GET HEAD OPTIONS"},
        {ROUTE_METRICS, "/api/metrics", "GET HEAD OPTIONS"},
        {ROUTE_ERROR, "/-/error", "GET HEAD OPTIONS"},
        {ROUTE_UNKNOWN, "unknown", "OPTIONS"},
    };
    const size_t count = sizeof rows / sizeof rows[0];
    CHECK_INT((int64_t)count, ROUTE_COUNT);
    for (size_t i = 0; i < count; i++) {
        struct buf methods;
        buf_init(&methods, 100);
        list_methods(route_info(rows[i].in)->methods, &methods);
        CHECK_STR_ROW(rows[i].template, str_of(route_info(rows[i].in)->template), rows[i].template);
        CHECK_STR_ROW(rows[i].template, buf_str(&methods), rows[i].methods);
        buf_release(&methods);
    }
}

TEST(routes, out_of_range_is_unknown)
{
    CHECK(route_info(ROUTE_COUNT) == route_info(ROUTE_UNKNOWN));
    CHECK(route_info((enum route) - 1) == route_info(ROUTE_UNKNOWN));
    CHECK_TEXT(method_name(METHOD_COUNT), "OTHER");
    CHECK_TEXT(method_name((enum http_method) - 1), "OTHER");
}
