/*
 * List: a page of what the caller owns, or of everything for an admin (API.md, GET /api/files).
 */
#ifndef COFFER_FILES_FILES_LIST_H
#define COFFER_FILES_FILES_LIST_H

#include "files/files.h"
#include "http/request.h"

/* Reads the raw query string, judges it, and writes the page as JSON into `out`.
 * ERR_BAD_PARAMETER, ERR_BAD_CURSOR, ERR_UNAUTHORIZED, ERR_FORBIDDEN (owner by no admin). */
enum err_code files_list(const struct files *files, const struct principal *principal,
                         struct str raw_query, struct buf *out, struct err *err) ERR_MUST_CHECK;

#endif
