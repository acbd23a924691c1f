/*
 * List: a page of what the caller owns, or of everything for an admin (API.md, GET /api/files).
 */
#ifndef COFFER_FILES_FILES_LIST_H
#define COFFER_FILES_FILES_LIST_H

#include "base/errors.h"
#include "files/files.h"
#include "http/request.h"
#include "metadata/metadata.h"

/* Reads the raw query string, judges it, and writes the page as JSON into `out`.
 * ERR_BAD_PARAMETER, ERR_BAD_CURSOR, ERR_UNAUTHORIZED, ERR_FORBIDDEN (owner by no admin). */
enum err_code files_list(const struct files *files, const struct principal *principal,
                         struct str raw_query, struct buf *out, struct err *err) ERR_MUST_CHECK;

/*
 * Opaque cursors of GET /api/files: where the next page begins, bound to the query it belongs to
 * and signed (HMAC-SHA256), so that a forged, cut or foreign one is ERR_BAD_CURSOR. Pure functions.
 */

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
