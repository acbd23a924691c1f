/*
 * The grammar of RFC 8259, checked before a parser that is laxer sees the text. Pure function.
 */
#ifndef COFFER_HTTP_JSONIO_SCAN_H
#define COFFER_HTTP_JSONIO_SCAN_H

#include "base/str.h"

/* NULL when `text` is one JSON value and nothing else but blanks, nested at most LIMIT_JSON_DEPTH
 * deep, in valid UTF-8, without U+0000 and lone surrogates, with numbers short enough to be read;
 * else what is wrong, as a sentence (static text). Linear time, bounded stack. */
const char *jsonio_scan(struct str text);

#endif
