#include "http/request.h"

#include "base/text.h"
#include "http/route_match.h"
#include "http/token.h"

/* The CGI variables that are more than a copy. */
struct variables {
    struct str script_name;
    struct str path_info;
    struct str content_length;
    struct str redirect_status;
    struct str query_string;  /* of the error handler: the client's method (lighttpd/limits.conf) */
    struct str broken_status; /* what a 500 of lighttpd's own is to be told as; empty: as it is */
};

static enum http_method method_of(struct str text)
{
    for (enum http_method method = METHOD_GET; method < METHOD_OTHER; method++)
        if (str_equal(text, str_of(method_name(method))))
            return method;
    return METHOD_OTHER;
}

static void read_variable(struct request *request, struct variables *variables, struct str name,
                          struct str value)
{
    const struct {
        struct str name;
        struct str *target;
    } known[] = {
        {STR("REQUEST_METHOD"), &request->method_text},
        {STR("REQUEST_URI"), &request->uri},
        {STR("REMOTE_ADDR"), &request->remote_addr},
        {STR("_L_EXTFORWARD_ACTUAL_FOR"), &request->peer_addr}, /* mod_extforward's */
        {STR("CONTENT_TYPE"), &request->content_type},
        {STR("CONTENT_LENGTH"), &variables->content_length},
        {STR("SCRIPT_NAME"), &variables->script_name},
        {STR("PATH_INFO"), &variables->path_info},
        {STR("REDIRECT_STATUS"), &variables->redirect_status},
        {STR("QUERY_STRING"), &variables->query_string},
        {STR("BROKEN_STATUS"), &variables->broken_status},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (str_equal(name, known[i].name))
            *known[i].target = value;
}

static enum err_code add_header(struct request *request, struct str name, struct str value,
                                struct err *err)
{
    for (size_t i = 0; i < request->header_count; i++)
        if (str_equal(request->headers[i].name, name))
            return err_set(err, ERR_BAD_REQUEST, "request", "A request header was sent twice.");
    if (request->header_count == LIMIT_HEADERS)
        return err_set(err, ERR_BAD_REQUEST, "request", "There are more than %d request headers.",
                       LIMIT_HEADERS);
    request->headers[request->header_count++] = (struct request_header){name, value};
    return ERR_OK;
}

/* The first error is kept, the rest is read all the same: the answer needs it. */
static enum err_code read_environment(struct request *request, struct variables *variables,
                                      char *const *envp, struct err *err)
{
    static const struct str prefix = {"HTTP_", 5};
    struct err later;
    enum err_code code = ERR_OK;
    for (; *envp; envp++) {
        struct str value = str_of(*envp);
        struct str name = str_cut(&value, '=');
        if (!str_starts_with(name, prefix)) {
            read_variable(request, variables, name, value);
            continue;
        }
        struct str header = {name.data + prefix.len, name.len - prefix.len};
        enum err_code added = add_header(request, header, value, code ? &later : err);
        code = code ? code : added;
    }
    return code;
}

static void set_uri_parts(struct request *request)
{
    struct str rest = request->uri;
    request->path = str_cut(&rest, '?');
    request->query = rest;
}

static bool is_error_path(const struct variables *variables)
{
    const struct str path = str_of(route_info(ROUTE_ERROR)->template);
    if (!str_starts_with(path, variables->script_name))
        return false;
    const struct str rest = {path.data + variables->script_name.len,
                             path.len - variables->script_name.len};
    return str_equal(rest, variables->path_info);
}

/* Before the gateway's conditions hold, it tells no method; 411 is then for a POST alone. */
static void set_client_method(struct request *request, struct str told)
{
    request->client_method = request->method;
    request->client_method_text = request->method_text;
    if (request->route != ROUTE_ERROR)
        return;
    request->client_method_text =
        told.len == 0 && request->redirect_status == 411 ? STR("POST") : told;
    request->client_method = method_of(request->client_method_text);
}

static void set_route(struct request *request, const struct variables *variables)
{
    int64_t status = 0;
    if (is_error_path(variables)) {
        bool is_error = text_parse_int(variables->redirect_status, 400, 599, &status);
        request->route = is_error ? ROUTE_ERROR : ROUTE_UNKNOWN;
        int64_t told = status;
        if (status == 500 && text_parse_int(variables->broken_status, 400, 599, &told))
            status = told;
        request->redirect_status = (int)status;
        return;
    }
    const struct route_path path = {variables->script_name, variables->path_info, request->path};
    const struct route_found found = route_match(&path);
    request->route = found.route;
    request->id = found.id;
    request->raw_name = found.raw_name;
}

enum err_code request_from_env(struct request *request, char *const *envp, struct err *err)
{
    struct variables variables = {0};
    *request = (struct request){.content_length = -1, .method = METHOD_OTHER};
    enum err_code code = read_environment(request, &variables, envp, err);
    request->method = method_of(request->method_text);
    request->host = request_header_or_empty(request, "HOST");
    if (request->peer_addr.len == 0)
        request->peer_addr = request->remote_addr;
    set_uri_parts(request);
    set_route(request, &variables);
    set_client_method(request, variables.query_string);
    if (variables.content_length.len > 0 &&
        !text_parse_int(variables.content_length, 0, INT64_MAX, &request->content_length) &&
        code == ERR_OK)
        code = err_set(err, ERR_BAD_REQUEST, "request", "The Content-Length is not a number.");
    return code;
}

bool request_header(const struct request *request, const char *cgi_name, struct str *ret_value)
{
    const struct str name = str_of(cgi_name);
    for (size_t i = 0; i < request->header_count; i++) {
        if (str_equal(request->headers[i].name, name)) {
            *ret_value = request->headers[i].value;
            return true;
        }
    }
    return false;
}

struct str request_header_or_empty(const struct request *request, const char *cgi_name)
{
    struct str value = {0};
    (void)request_header(request, cgi_name, &value);
    return value;
}

bool content_coding_is_identity(struct str value)
{
    while (value.len > 0) {
        const struct str coding = str_trim(str_cut(&value, ','));
        if (coding.len > 0 && !str_equal_nocase(coding, STR("identity")))
            return false;
    }
    return true;
}

enum err_code request_check_coding(const struct request *request, struct err *err)
{
    if (content_coding_is_identity(request_header_or_empty(request, "CONTENT_ENCODING")))
        return ERR_OK;
    return err_set(err, ERR_UNSUPPORTED_MEDIA_TYPE, "request",
                   "The body has a Content-Encoding; send it without one.");
}

bool media_type_parse(struct str header, char *target, size_t size)
{
    struct str rest = header;
    const struct str media_type = str_trim(str_cut(&rest, ';'));
    struct str subtype = media_type;
    const struct str type = str_cut(&subtype, '/');
    if (!token_is(type) || !token_is(subtype) || !str_copy(target, size, media_type))
        return false;
    text_lower(target);
    return true;
}

/* A name of RFC 2978 §2.3 that needs no quotes, and is none in quotes that mean nothing. */
static bool is_charset(struct str text)
{
    return token_is(text) && str_find(text, '\'') == text.len;
}

void media_charset_parse(struct str header, char target[LIMIT_CHARSET_BYTES + 1])
{
    size_t type_len = str_find(header, ';');
    struct str rest = {header.data + type_len, header.len - type_len};
    struct parameter parameter;
    target[0] = '\0';
    while (parameter_next(&rest, &parameter) == PARAMETER_FOUND) {
        if (!str_equal_nocase(parameter.name, STR("charset")))
            continue;
        if (is_charset(parameter.value) &&
            str_copy(target, LIMIT_CHARSET_BYTES + 1, parameter.value))
            text_lower(target);
        return;
    }
}

static enum err_code refuse(struct err *err, const char *message)
{
    return err_set(err, ERR_BAD_PARAMETER, "query", "%s", message);
}

static enum err_code decode(struct query *query, struct str encoded, struct str *ret_text,
                            struct err *err)
{
    size_t start = query->text.len;
    if (!text_percent_decode(encoded, true, &query->text))
        return query->text.failed
                   ? err_set_internal(err, ERR_NO_MEMORY, 0, "query", "cannot hold the query")
                   : refuse(err, "The query has a malformed % escape.");
    /* The text moves while it grows: until all is decoded, only lengths are kept. */
    const struct str text = {buf_text(&query->text) + start, query->text.len - start};
    if (str_find(text, '\0') < text.len || !text_is_utf8(text))
        return refuse(err, "The query is not valid UTF-8 text.");
    *ret_text = (struct str){NULL, text.len};
    return ERR_OK;
}

static enum err_code add_parameter(struct query *query, struct str pair, struct err *err)
{
    if (query->count == LIMIT_QUERY_PARAMETERS)
        return err_set(err, ERR_BAD_PARAMETER, "query", "The query has more than %d parameters.",
                       LIMIT_QUERY_PARAMETERS);
    struct query_parameter *parameter = &query->parameters[query->count];
    struct str value = pair;
    const struct str name = str_cut(&value, '=');
    enum err_code code = decode(query, name, &parameter->name, err);
    if (code == ERR_OK)
        code = decode(query, value, &parameter->value, err);
    if (code == ERR_OK)
        query->count++;
    else if (text_is_utf8(name)) /* as it was sent */
        err_subject(err, "parameter", name);
    return code;
}

static void point_into_text(struct query *query)
{
    const char *at = buf_text(&query->text);
    for (size_t i = 0; i < query->count; i++) {
        query->parameters[i].name.data = at;
        at += query->parameters[i].name.len;
        query->parameters[i].value.data = at;
        at += query->parameters[i].value.len;
    }
}

static bool is_allowed(struct str name, const char *const *allowed)
{
    for (; *allowed; allowed++)
        if (str_equal(name, str_of(*allowed)))
            return true;
    return false;
}

static enum err_code check_names(const struct query *query, const char *const *allowed,
                                 struct err *err)
{
    for (size_t i = 0; i < query->count; i++) {
        const struct str name = query->parameters[i].name;
        bool is_twice = false;
        for (size_t j = 0; j < i; j++)
            is_twice = is_twice || str_equal(query->parameters[j].name, name);
        if (is_twice)
            refuse(err, "The parameter is given twice.");
        else if (!is_allowed(name, allowed))
            refuse(err, "The query has a parameter that is not known here.");
        else
            continue;
        err_subject(err, "parameter", name);
        return ERR_BAD_PARAMETER;
    }
    return ERR_OK;
}

/* Does the pair, still encoded, have one of these names? A name that cannot be decoded is none. */
static bool is_known(struct str pair, const char *const *allowed)
{
    struct buf name;
    buf_init(&name, LIMIT_QUERY_BYTES);
    bool found = text_percent_decode(str_cut(&pair, '='), true, &name) &&
                 is_allowed(buf_str(&name), allowed);
    buf_release(&name);
    return found;
}

static enum err_code parse(struct query *query, struct str raw, const char *const *allowed,
                           bool skips_others, struct err *err)
{
    enum err_code code = ERR_OK;
    query->count = 0;
    buf_init(&query->text, LIMIT_QUERY_BYTES);
    if (raw.len > LIMIT_QUERY_BYTES)
        return err_set(err, ERR_BAD_PARAMETER, "query", "The query is longer than %d bytes.",
                       LIMIT_QUERY_BYTES);
    while (raw.len > 0 && code == ERR_OK) {
        const struct str pair = str_cut(&raw, '&');
        if (pair.len > 0 && (!skips_others || is_known(pair, allowed)))
            code = add_parameter(query, pair, err);
    }
    if (code == ERR_OK) {
        point_into_text(query);
        code = check_names(query, allowed, err);
    }
    if (code != ERR_OK)
        query->count = 0;
    return code;
}

enum err_code query_parse(struct query *query, struct str raw, const char *const *allowed,
                          struct err *err)
{
    return parse(query, raw, allowed, false, err);
}

enum err_code query_parse_known(struct query *query, struct str raw, const char *const *allowed,
                                struct err *err)
{
    return parse(query, raw, allowed, true, err);
}

bool query_get(const struct query *query, const char *name, struct str *ret_value)
{
    for (size_t i = 0; i < query->count; i++) {
        if (str_equal(query->parameters[i].name, str_of(name))) {
            *ret_value = query->parameters[i].value;
            return true;
        }
    }
    return false;
}

void query_release(struct query *query)
{
    buf_release(&query->text);
    query->count = 0;
}
