/*
 * JSON in and out. In: cJSON behind strict checks (valid UTF-8, no NUL, depth and size bounded, no
 * duplicate member names, nothing after the value). Out: the writer of base/jsonw.h. Used by one
 * thread.
 */
#ifndef COFFER_HTTP_JSONIO_H
#define COFFER_HTTP_JSONIO_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
#include "base/jsonw.h"
#include "base/str.h"

/* Parses one JSON text of at most LIMIT_JSON_BODY_BYTES. ERR_BAD_JSON says what is wrong. Names
 * are case-sensitive: look them up so. Caller frees with cJSON_Delete. */
enum err_code jsonio_parse(struct str text, cJSON **ret_value, struct err *err) ERR_MUST_CHECK;

/* Checks that `object` is an object of strings and writes it compactly (keys in their order) into
 * `out`; ERR_BAD_PARAMETER naming "metadata" when it is not, or is longer than
 * LIMIT_METADATA_BYTES as written. */
enum err_code jsonio_metadata(const cJSON *object, struct buf *out, struct err *err) ERR_MUST_CHECK;
/* RFC 7396 merge of `patch` (an object of strings or nulls, of no more names than could matter)
 * into the metadata text `current`; errors as above. */
enum err_code jsonio_merge_metadata(struct str current, const cJSON *patch, struct buf *out,
                                    struct err *err) ERR_MUST_CHECK;

#endif
