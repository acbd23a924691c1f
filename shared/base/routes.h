/*
 * Every route of the API: its template (the `route` label of metrics and logs) and the methods it
 * knows (the Allow header). One table; http/route matches paths against it, lighttpd/coffer.conf
 * sends them to programs.
 */
#ifndef COFFER_BASE_ROUTES_H
#define COFFER_BASE_ROUTES_H

#include <stdbool.h>

enum http_method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_PATCH,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_OTHER,
    METHOD_COUNT
};

#define METHOD_BIT(method) (1u << (method))

enum route {
    ROUTE_FILES,           /* /api/files */
    ROUTE_UPLOAD,          /* /api/files/upload */
    ROUTE_UPLOAD_NAME,     /* /api/files/upload/:name */
    ROUTE_PIPE_NAME,       /* /api/files/pipe/:name */
    ROUTE_BATCH_DELETE,    /* /api/files/delete */
    ROUTE_FILE,            /* /api/files/:id */
    ROUTE_FILE_DOWNLOAD,   /* /api/files/:id/download */
    ROUTE_FILE_META,       /* /api/files/:id/meta */
    ROUTE_LIVE,            /* /live and /api/health/live */
    ROUTE_READY,           /* /ready and /api/health/ready */
    ROUTE_HEALTH,          /* /health and /api/health */
    ROUTE_GATEWAY_METRICS, /* /metrics */
    ROUTE_METRICS,         /* /api/metrics */
    ROUTE_ERROR,           /* /-/error, lighttpd's error handler */
    ROUTE_UNKNOWN,         /* anything else */
    ROUTE_COUNT
};

struct route_info {
    const char *template; /* e.g. "/api/files/:id" */
    unsigned methods;     /* METHOD_BIT()s, HEAD beside GET, OPTIONS always */
};

/* Never NULL; a route out of range gives the row of ROUTE_UNKNOWN. */
const struct route_info *route_info(enum route route);
/* "GET" …; METHOD_OTHER is "OTHER". Never NULL. */
const char *method_name(enum http_method method);

#endif
