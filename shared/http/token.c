#include "http/token.h"

bool token_has(char byte)
{
    if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
        (byte >= '0' && byte <= '9'))
        return true;
    return byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL;
}

static size_t token_length(struct str text)
{
    size_t len = 0;
    while (len < text.len && token_has(text.data[len]))
        len++;
    return len;
}

bool token_is(struct str text)
{
    return text.len > 0 && token_length(text) == text.len;
}

static void skip(struct str *text, size_t len)
{
    text->data += len;
    text->len -= len;
}

static bool is_separator(char byte)
{
    return byte == ';' || byte == ' ' || byte == '\t';
}

static bool quote_closes(struct str text, size_t at)
{
    return text.data[at] == '"' && (text.data[at - 1] != '\\' || at + 1 == text.len);
}

/* *rest stands at the opening quote. */
static bool take_quoted(struct str *rest, struct str *ret_value)
{
    size_t at = 1;
    while (at < rest->len && !quote_closes(*rest, at))
        at++;
    if (at == rest->len)
        return false;
    *ret_value = (struct str){rest->data + 1, at - 1};
    skip(rest, at + 1);
    return true;
}

static bool take_unquoted(struct str *rest, struct str *ret_value)
{
    size_t len = 0;
    while (len < rest->len && !is_separator(rest->data[len]))
        len++;
    *ret_value = (struct str){rest->data, len};
    skip(rest, len);
    return len > 0;
}

enum parameter_result parameter_next(struct str *rest, struct parameter *ret_parameter)
{
    struct parameter parameter = {0};
    *rest = str_trim(*rest);
    if (rest->len == 0)
        return PARAMETER_END;
    if (rest->data[0] != ';')
        return PARAMETER_MALFORMED;
    while (rest->len > 0 && is_separator(rest->data[0]))
        skip(rest, 1);
    if (rest->len == 0)
        return PARAMETER_END;
    parameter.name = (struct str){rest->data, token_length(*rest)};
    skip(rest, parameter.name.len);
    if (parameter.name.len == 0 || rest->len < 2 || rest->data[0] != '=')
        return PARAMETER_MALFORMED;
    skip(rest, 1);
    parameter.quoted = rest->data[0] == '"';
    if (parameter.quoted ? !take_quoted(rest, &parameter.value)
                         : !take_unquoted(rest, &parameter.value))
        return PARAMETER_MALFORMED;
    *ret_parameter = parameter;
    return PARAMETER_FOUND;
}
