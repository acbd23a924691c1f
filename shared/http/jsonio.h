/*
 * JSON in and out. In: cJSON behind strict checks (valid UTF-8, no NUL, depth and size bounded, no
 * duplicate member names, nothing after the value). Out: an appending writer into a buf, which is
 * faster and smaller than building a tree. Used by one thread.
 */
#ifndef COFFER_HTTP_JSONIO_H
#define COFFER_HTTP_JSONIO_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
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

/* Writer: commas are set by it. `name` NULL inside an array. */
void jsonw_begin_object(struct buf *out, const char *name);
void jsonw_end_object(struct buf *out);
void jsonw_begin_array(struct buf *out, const char *name);
void jsonw_end_array(struct buf *out);
/* Escapes, DEL and C1 controls too; bytes that are not UTF-8 become U+FFFD. */
void jsonw_string(struct buf *out, const char *name, struct str value);
void jsonw_int(struct buf *out, const char *name, int64_t value);
void jsonw_bool(struct buf *out, const char *name, bool value);
void jsonw_null(struct buf *out, const char *name);
/* A value that is JSON text already. */
void jsonw_raw(struct buf *out, const char *name, struct str json);

#endif
