/*
 * Update: a JSON merge patch (RFC 7396) of a file's originalName, metadata, visibility and
 * expiresAt (API.md, PATCH).
 */
#ifndef COFFER_FILES_FILES_UPDATE_H
#define COFFER_FILES_FILES_UPDATE_H

#include "files/files.h"
#include "http/request.h"

struct update_request {
    const struct principal *principal;
    const struct request *request; /* names the file, and the version it must have */
    struct str json;               /* the patch */
    struct idempotency *idempotency;
};

/* Applies the patch when If-Match and If-Unmodified-Since allow it. *ret_file is the file as it is
 * now, unless *ret_replayed: then the stored answer of the request's Idempotency-Key is in its
 * record. ERR_BAD_JSON, ERR_BAD_PARAMETER, ERR_BAD_NAME, ERR_PRECONDITION_FAILED, ERR_CONFLICT
 * (another change was faster; the client may try again), ERR_IDEMPOTENCY_MISMATCH and those of
 * files_open_to_change. */
enum err_code files_update(const struct files *files, const struct update_request *asked,
                           struct file *ret_file, bool *ret_replayed, struct err *err)
    ERR_MUST_CHECK;

#endif
