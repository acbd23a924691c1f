#include "access/origin.h"

#include "access/forwarded.h"
#include "base/address.h"

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
    if (!host_is_allowed(config, request->host))
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

void origin_write_cors(const struct config *config, const struct request *request,
                       struct response *response)
{
    struct str origin;
    if (config->allowed_origins[0] == '\0')
        return;
    response_header_text(response, "Vary", "Origin");
    if (!request_header(request, "ORIGIN", &origin) || !list_has(config->allowed_origins, origin))
        return;
    response_header(response, "Access-Control-Allow-Origin", origin);
    response_header_text(response, "Access-Control-Expose-Headers",
                         "Location, ETag, Content-Disposition, Repr-Digest, X-Request-Id, "
                         "Idempotency-Replayed");
    if (request->method != METHOD_OPTIONS)
        return;
    response_header_text(response, "Access-Control-Allow-Methods",
                         "GET, HEAD, POST, PUT, PATCH, DELETE");
    response_header_text(response, "Access-Control-Allow-Headers",
                         "Authorization, Content-Type, Content-Digest, Repr-Digest, Content-MD5, "
                         "Idempotency-Key, If-Match, If-None-Match, Range, X-Request-Id, "
                         "traceparent");
    response_header_text(response, "Access-Control-Max-Age", "600");
}
