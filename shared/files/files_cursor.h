/*
 * Opaque cursors of GET /api/files: where the next page begins, bound to the query it belongs to
 * and signed (HMAC-SHA256), so that a forged, cut or foreign one is ERR_BAD_CURSOR. Pure functions.
 */
#ifndef COFFER_FILES_FILES_CURSOR_H
#define COFFER_FILES_FILES_CURSOR_H

#include "base/errors.h"
#include "metadata/metadata.h"

#define CURSOR_SECRET_BYTES 32

/* Appends the cursor for `position` of `query` (its owner, prefix, mime and sort) to `out`. */
void files_cursor_encode(const unsigned char secret[CURSOR_SECRET_BYTES],
                         const struct file_query *query, const struct file_position *position,
                         struct buf *out);
enum err_code files_cursor_decode(const unsigned char secret[CURSOR_SECRET_BYTES],
                                  const struct file_query *query, struct str cursor,
                                  struct file_position *ret_position, struct err *err)
    ERR_MUST_CHECK;

#endif
