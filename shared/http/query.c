#include "base/text.h"
#include "http/request.h"

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
