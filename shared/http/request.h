/*
 * One request as the gateway handed it over: method, route, query, headers, conditions. Built from
 * the CGI variables (RFC 3875) without copying: every slice is borrowed from the environment and
 * lives as long as the request. Used by one thread.
 *
 * Only Authorization and REMOTE_ADDR are trusted; a header name that arrives twice is refused.
 * The route comes from the normalised path the gateway chose the program by
 * (SCRIPT_NAME + PATH_INFO); {name} is the last segment of the raw REQUEST_URI, left encoded.
 */
#ifndef COFFER_HTTP_REQUEST_H
#define COFFER_HTTP_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
#include "base/limits.h"
#include "base/routes.h"
#include "base/str.h"

struct request_header {
    struct str name; /* CGI form without HTTP_: "IF_NONE_MATCH" */
    struct str value;
};

struct request {
    enum http_method method;
    struct str method_text; /* as sent */
    /* The client's, for logs and metrics: the gateway asks for the answer to its own errors by GET.
     * METHOD_OTHER and empty where it does not tell, as it could not read the request. */
    enum http_method client_method;
    struct str client_method_text;
    enum route route;
    struct str uri;         /* raw REQUEST_URI; may be empty for a gateway error */
    struct str path;        /* raw path of uri, without the query */
    struct str query;       /* raw, without "?" */
    struct str id;          /* {id} of the route, not yet checked; else empty */
    struct str raw_name;    /* {name}, still percent-encoded; else empty */
    struct str remote_addr; /* of the client, as far as TRUSTED_PROXIES tell */
    struct str peer_addr;   /* of the other end of the connection */
    struct str host;
    struct str content_type;
    int64_t content_length; /* bytes; -1 when none was given */
    int redirect_status;    /* status of a gateway error (REDIRECT_STATUS), or 0 */
    struct request_header headers[LIMIT_HEADERS];
    size_t header_count;
};

/* Fills *request from `envp` ("NAME=value", NULL at the end). On ERR_BAD_REQUEST (duplicate header,
 * too many headers, bad length) the fields read so far are usable for the answer. */
enum err_code request_from_env(struct request *request, char *const *envp, struct err *err)
    ERR_MUST_CHECK;

/* The value of a header by its CGI name ("IF_MATCH"); false when it was not sent. */
bool request_header(const struct request *request, const char *cgi_name, struct str *ret_value);
/* The same, an absent header gives the empty slice. */
struct str request_header_or_empty(const struct request *request, const char *cgi_name);

/* Does a Content-Encoding value (RFC 9110 §8.4) name no coding but identity? */
bool content_coding_is_identity(struct str value);
/* ERR_UNSUPPORTED_MEDIA_TYPE when the request's body is encoded: nothing here decodes. */
enum err_code request_check_coding(const struct request *request, struct err *err) ERR_MUST_CHECK;

/* Query parameters, decoded ("+" is a space). A parameter given twice, a malformed escape, a NUL or
 * invalid UTF-8 is ERR_BAD_PARAMETER; so is, in query_parse, a name not in `allowed`. */
struct query_parameter {
    struct str name; /* borrowed from the struct query */
    struct str value;
};
struct query {
    struct buf text;
    struct query_parameter parameters[LIMIT_QUERY_PARAMETERS];
    size_t count;
};
/* `allowed` ends in NULL. Caller frees with query_release, also on failure. */
enum err_code query_parse(struct query *query, struct str raw, const char *const *allowed,
                          struct err *err) ERR_MUST_CHECK;
/* The same of an address that others have added parameters to: only `allowed` ones are looked at. */
enum err_code query_parse_known(struct query *query, struct str raw, const char *const *allowed,
                                struct err *err) ERR_MUST_CHECK;
bool query_get(const struct query *query, const char *name, struct str *ret_value);
void query_release(struct query *query);

/* The media type of a Content-Type header without parameters, lower case, into target; false when
 * it is not type "/" subtype of RFC 9110 §8.3.1 or does not fit. */
bool media_type_parse(struct str header, char *target, size_t size);
/* Its `charset` parameter, lower case and without quotes; "" when there is none that could be the
 * name of one. */
void media_charset_parse(struct str header, char target[LIMIT_CHARSET_BYTES + 1]);

#endif
