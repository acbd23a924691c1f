/*
 * Tokens and parameters, the grammar that header values share (RFC 9110 §5.6.2, §5.6.6; RFC 2045
 * §5.1 says the same for part headers). Pure functions over slices.
 */
#ifndef COFFER_HTTP_TOKEN_H
#define COFFER_HTTP_TOKEN_H

#include <stdbool.h>

#include "base/str.h"

/* A letter, a digit, or one of !#$%&'*+-.^_`|~ */
bool token_has(char byte);
/* One or more of them and nothing else. */
bool token_is(struct str text);

struct parameter {
    struct str name;
    struct str value; /* without the quotes, escapes as they were sent */
    bool quoted;
};

enum parameter_result { PARAMETER_FOUND, PARAMETER_END, PARAMETER_MALFORMED };

/* Takes the next `; name=value` off *rest, in linear time; an empty one (";;" or a last ";") is
 * passed over. Inside quotes a backslash keeps the quote after it from closing, unless that quote
 * ends *rest: a name may end in a backslash. An unquoted value ends at a space, tab or ";" and is
 * otherwise unchecked. */
enum parameter_result parameter_next(struct str *rest, struct parameter *ret_parameter);

#endif
