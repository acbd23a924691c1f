#include "base/routes.h"

#include <stddef.h>

#define READ (METHOD_BIT(METHOD_GET) | METHOD_BIT(METHOD_HEAD) | METHOD_BIT(METHOD_OPTIONS))
#define WITH_OPTIONS(method) (METHOD_BIT(method) | METHOD_BIT(METHOD_OPTIONS))

static const struct route_info routes[ROUTE_COUNT] = {
    [ROUTE_FILES] = {"/api/files", READ},
    [ROUTE_UPLOAD] = {"/api/files/upload", WITH_OPTIONS(METHOD_POST)},
    [ROUTE_UPLOAD_NAME] = {"/api/files/upload/:name", WITH_OPTIONS(METHOD_PUT)},
    [ROUTE_PIPE_NAME] = {"/api/files/pipe/:name", WITH_OPTIONS(METHOD_PUT)},
    [ROUTE_BATCH_DELETE] = {"/api/files/delete", WITH_OPTIONS(METHOD_POST)},
    [ROUTE_FILE] = {"/api/files/:id", READ | METHOD_BIT(METHOD_PATCH) | METHOD_BIT(METHOD_DELETE)},
    [ROUTE_FILE_DOWNLOAD] = {"/api/files/:id/download", READ},
    [ROUTE_FILE_META] = {"/api/files/:id/meta", READ},
    [ROUTE_LIVE] = {"/live", READ},
    [ROUTE_READY] = {"/ready", READ},
    [ROUTE_HEALTH] = {"/health", READ},
    [ROUTE_GATEWAY_METRICS] = {"/metrics", READ},
    [ROUTE_METRICS] = {"/api/metrics", READ},
    [ROUTE_ERROR] = {"/-/error", READ},
    [ROUTE_UNKNOWN] = {"unknown", METHOD_BIT(METHOD_OPTIONS)},
};

static const char *const method_names[METHOD_COUNT] = {
    [METHOD_GET] = "GET",         [METHOD_HEAD] = "HEAD",   [METHOD_POST] = "POST",
    [METHOD_PUT] = "PUT",         [METHOD_PATCH] = "PATCH", [METHOD_DELETE] = "DELETE",
    [METHOD_OPTIONS] = "OPTIONS", [METHOD_OTHER] = "OTHER",
};

const struct route_info *route_info(enum route route)
{
    size_t index = (size_t)route;
    return &routes[index < ROUTE_COUNT ? index : ROUTE_UNKNOWN];
}

const char *method_name(enum http_method method)
{
    size_t index = (size_t)method;
    return method_names[index < METHOD_COUNT ? index : METHOD_OTHER];
}
