/*
 * JSON out: an appending writer into a buf, which is faster and smaller than building a tree.
 * Commas are set by it. Whether everything fitted is told by the buf (`failed`). Used by one thread.
 */
#ifndef COFFER_BASE_JSONW_H
#define COFFER_BASE_JSONW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* `name` is NULL inside an array. */
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
