#include "access/origin.h"

#include "base/address.h"

static bool is_given(const struct request *request, const char *cgi_name)
{
    struct str unused;
    return request_header(request, cgi_name, &unused);
}

static bool peer_is_listed(const struct config *config, const struct request *request)
{
    return address_in_list(str_of(config->trusted_proxies), request->peer_addr);
}

/* Takes the last item from a list with commas. */
static struct str cut_last(struct str *list)
{
    size_t start = list->len;
    while (start > 0 && list->data[start - 1] != ',')
        start--;
    const struct str last = {list->data + start, list->len - start};
    list->len = start > 0 ? start - 1 : 0;
    return str_trim(last);
}

/* Of the addresses that proxies added, nearest last: the first that no setting lists is the client, and
 * it forwarded nothing. lighttpd must have read it in the same way. */
static bool ends_at_client(const struct config *config, const struct request *request,
                           struct str addresses)
{
    while (addresses.len > 0) {
        const struct str address = cut_last(&addresses);
        if (!address_in_list(str_of(config->trusted_proxies), address))
            return addresses.len == 0 && str_equal(address, request->remote_addr);
    }
    return true;
}

static bool chain_is_sound(const struct config *config, const struct request *request)
{
    struct str addresses;
    return !request_header(request, "X_FORWARDED_FOR", &addresses) ||
           ends_at_client(config, request, addresses);
}

void forwarded_apply(const struct config *config, struct request *request)
{
    struct str addresses;
    if (!peer_is_listed(config, request) || !request_header(request, "X_FORWARDED_FOR", &addresses))
        return;
    while (addresses.len > 0) {
        const struct str address = cut_last(&addresses);
        if (address_in_list(str_of(config->trusted_proxies), address))
            continue;
        if (address_is_valid(address))
            request->remote_addr = address;
        return;
    }
}

bool forwarded_by_unlisted(const struct config *config, const struct request *request)
{
    if (is_given(request, "X_COFFER_UNLISTED_PROXY"))
        return true;
    bool forwarded = is_given(request, "X_FORWARDED_FOR") || is_given(request, "FORWARDED") ||
                     is_given(request, "VIA");
    return forwarded && (!peer_is_listed(config, request) || !chain_is_sound(config, request));
}

bool forwarded_client_is_known(const struct config *config, const struct request *request)
{
    if (forwarded_by_unlisted(config, request))
        return false;
    bool other_client = is_given(request, "FORWARDED") || is_given(request, "VIA");
    return !other_client || !address_in_list(str_of(config->trusted_proxies), request->remote_addr);
}

static bool list_has(const char *list, struct str wanted)
{
    struct str rest = str_of(list);
    while (rest.len > 0)
        if (str_equal_nocase(str_trim(str_cut(&rest, ',')), wanted))
            return true;
    return false;
}

/* The host without its port; brackets of an IPv6 literal removed. */
static struct str host_name(struct str host)
{
    if (host.len > 0 && host.data[0] == '[') {
        size_t end = str_find(host, ']');
        return end < host.len ? (struct str){host.data + 1, end - 1} : host;
    }
    return (struct str){host.data, str_find(host, ':')};
}

static bool host_is_allowed(const struct config *config, struct str host)
{
    struct str name = host_name(host);
    return str_equal_nocase(name, STR("localhost")) ||
           address_in_list(STR("127.0.0.0/8,::1"), name) || list_has(config->allowed_hosts, host) ||
           list_has(config->allowed_hosts, name);
}

/* Is the origin "http(s)://" followed by exactly the Host of the request? */
static bool origin_is_own(struct str origin, struct str host)
{
    struct str rest;
    if (str_starts_with(origin, STR("http://")))
        rest = (struct str){origin.data + 7, origin.len - 7};
    else if (str_starts_with(origin, STR("https://")))
        rest = (struct str){origin.data + 8, origin.len - 8};
    else
        return false;
    return str_equal_nocase(rest, host);
}

static bool is_change(enum http_method method)
{
    return method == METHOD_POST || method == METHOD_PUT || method == METHOD_PATCH ||
           method == METHOD_DELETE;
}

/* Probes carry the address of a container, or no Host, and the answers are nobody's secret. */
static bool is_probe(enum route route)
{
    return route == ROUTE_LIVE || route == ROUTE_READY || route == ROUTE_HEALTH;
}

enum err_code origin_check(const struct config *config, const struct request *request,
                           struct err *err)
{
    struct str origin;
    if (config->auth_mode != AUTH_MODE_NONE)
        return ERR_OK;
    if (forwarded_by_unlisted(config, request))
        return err_set(err, ERR_FORBIDDEN, "proxy",
                       "The request came through a proxy that is not in TRUSTED_PROXIES, and "
                       "AUTH_MODE=none makes every client an admin. Set AUTH_MODE=token, or list "
                       "the proxy in TRUSTED_PROXIES.");
    if (!is_probe(request->route) && !host_is_allowed(config, request->host))
        return err_set(err, ERR_FORBIDDEN, "host",
                       "The Host header is neither a loopback name nor in ALLOWED_HOSTS.");
    if (!is_change(request->method))
        return ERR_OK;
    bool given = request_header(request, "ORIGIN", &origin);
    if (given && list_has(config->allowed_origins, origin))
        return ERR_OK;
    if (given && !origin_is_own(origin, request->host))
        return err_set(err, ERR_FORBIDDEN, "origin",
                       "Changes from pages of another origin are refused.");
    if (str_equal(request_header_or_empty(request, "SEC_FETCH_SITE"), STR("cross-site")))
        return err_set(err, ERR_FORBIDDEN, "origin",
                       "Changes from pages of another site are refused.");
    return ERR_OK;
}

enum { FROM_CLIENT = 1, TO_CLIENT = 2, BOTH = FROM_CLIENT | TO_CLIENT };

/* The headers of API.md that pages may not use unless they are listed
 * (https://fetch.spec.whatwg.org/#cors-safelisted-request-header, #cors-safelisted-response-header). */
static const struct {
    const char *name;
    unsigned way;
} cors_headers[] = {
    {"Accept", FROM_CLIENT},
    {"Accept-Encoding", TO_CLIENT},
    {"Accept-Ranges", TO_CLIENT},
    {"Allow", TO_CLIENT},
    {"Authorization", FROM_CLIENT},
    {"Content-Digest", BOTH},
    {"Content-Disposition", BOTH},
    {"Content-Encoding", BOTH},
    {"Content-MD5", FROM_CLIENT},
    {"Content-Range", BOTH},
    {"Content-Security-Policy", TO_CLIENT},
    {"Content-Type", BOTH},
    {"Date", TO_CLIENT},
    {"ETag", TO_CLIENT},
    {"Idempotency-Key", FROM_CLIENT},
    {"Idempotency-Replayed", TO_CLIENT},
    {"If-Match", FROM_CLIENT},
    {"If-Modified-Since", FROM_CLIENT},
    {"If-None-Match", FROM_CLIENT},
    {"If-Range", FROM_CLIENT},
    {"If-Unmodified-Since", FROM_CLIENT},
    {"Last-Event-ID", FROM_CLIENT},
    {"Location", TO_CLIENT},
    {"Range", FROM_CLIENT},
    {"RateLimit", TO_CLIENT},
    {"RateLimit-Policy", TO_CLIENT},
    {"Repr-Digest", BOTH},
    {"Retry-After", TO_CLIENT},
    {"Tus-Checksum-Algorithm", TO_CLIENT},
    {"Tus-Extension", TO_CLIENT},
    {"Tus-Max-Size", TO_CLIENT},
    {"Tus-Resumable", BOTH},
    {"Tus-Version", TO_CLIENT},
    {"Upload-Checksum", FROM_CLIENT},
    {"Upload-Complete", BOTH},
    {"Upload-Defer-Length", BOTH},
    {"Upload-Draft-Interop-Version", BOTH},
    {"Upload-Expires", TO_CLIENT},
    {"Upload-Length", BOTH},
    {"Upload-Limit", TO_CLIENT},
    {"Upload-Metadata", BOTH},
    {"Upload-Offset", BOTH},
    {"Vary", TO_CLIENT},
    {"WWW-Authenticate", TO_CLIENT},
    {"X-Content-Type-Options", TO_CLIENT},
    {"X-Request-Id", BOTH},
    {"traceparent", BOTH},
    {"tracestate", FROM_CLIENT},
};

#define CORS_LIST_MAX 2048

static void fill_list(struct buf *list, unsigned way)
{
    buf_init(list, CORS_LIST_MAX);
    for (size_t i = 0; i < sizeof cors_headers / sizeof *cors_headers; i++)
        if (cors_headers[i].way & way)
            buf_printf(list, "%s%s", list->len ? ", " : "", cors_headers[i].name);
}

static void write_list(struct response *response, const char *name, unsigned way)
{
    struct buf list;
    fill_list(&list, way);
    response->failed = response->failed || list.failed;
    response_header(response, name, buf_str(&list));
    buf_release(&list);
}

/* Has lighttpd refused the request before it had read its headers? */
static bool origin_is_unread(const struct request *request)
{
    switch (request->redirect_status) {
    case 400:
    case 431:
    case 501:
    case 505:
        return true;
    default:
        return false;
    }
}

static struct str origin_of_the_unread(struct str listed)
{
    return str_find(listed, ',') < listed.len ? STR("*") : str_trim(listed);
}

/* "*" where nobody knows who asked: the answer says nothing about anybody, and a page can't send
 * credentials along without one that names it. With one listed origin it is named. */
static struct str allowed_origin(const struct config *config, const struct request *request)
{
    struct str origin;
    const struct str listed = str_of(config->allowed_origins);
    if (request_header(request, "ORIGIN", &origin))
        return list_has(config->allowed_origins, origin) ? origin : (struct str){0};
    if (!origin_is_unread(request))
        return (struct str){0};
    return origin_of_the_unread(listed);
}

void origin_write_cors(const struct config *config, const struct request *request,
                       struct response *response)
{
    if (config->allowed_origins[0] == '\0')
        return;
    response_header_text(response, "Vary", "Origin");
    const struct str origin = allowed_origin(config, request);
    if (origin.len == 0)
        return;
    response_header(response, "Access-Control-Allow-Origin", origin);
    write_list(response, "Access-Control-Expose-Headers", TO_CLIENT);
    if (request->method != METHOD_OPTIONS)
        return;
    response_header_text(response, "Access-Control-Allow-Methods",
                         "GET, HEAD, POST, PUT, PATCH, DELETE");
    write_list(response, "Access-Control-Allow-Headers", FROM_CLIENT);
    response_header_text(response, "Access-Control-Max-Age", "600");
}

static void print_rule(struct str asked, struct str allowed, struct str exposed, struct buf *out)
{
    buf_append_text(out, "$REQUEST_HEADER[\"Origin\"] == \"");
    buf_append_str(out, asked);
    buf_append_text(out, "\" { setenv.set-response-header += ("
                         "\"Access-Control-Allow-Origin\" => \"");
    buf_append_str(out, allowed);
    buf_append_text(out, "\", \"Access-Control-Expose-Headers\" => \"");
    buf_append_str(out, exposed);
    buf_append_text(out, "\") }\n");
}

void origin_print_rules(const struct config *config, struct buf *out)
{
    struct buf exposed;
    struct str rest = str_of(config->allowed_origins);
    if (rest.len == 0)
        return;
    fill_list(&exposed, TO_CLIENT);
    out->failed = out->failed || exposed.failed;
    buf_append_text(out, "setenv.set-response-header += (\"Vary\" => \"Origin\")\n");
    while (rest.len > 0) {
        const struct str origin = str_trim(str_cut(&rest, ','));
        if (origin.len > 0)
            print_rule(origin, origin, buf_str(&exposed), out);
    }
    /* limits.conf: the error handler of a request that was not read has no query. */
    buf_append_text(out, "$HTTP[\"url\"] == \"/-/error\" { $HTTP[\"query-string\"] == \"\" {\n");
    print_rule((struct str){0}, origin_of_the_unread(str_of(config->allowed_origins)),
               buf_str(&exposed), out);
    buf_append_text(out, "} }\n");
    buf_release(&exposed);
}
