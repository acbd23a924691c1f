/*
 * Remove: from the answer on nobody can read the file (API.md, DELETE): mark and commit →
 * remove the bytes → remove the row. What the last two steps leave is the sweep's.
 */
#ifndef COFFER_FILES_FILES_REMOVE_H
#define COFFER_FILES_FILES_REMOVE_H

#include "files/files.h"
#include "http/request.h"

/* Removes the file the request names, when If-Match and If-Unmodified-Since allow it.
 * ERR_PRECONDITION_FAILED, and those of files_open_to_change; of two at once one gets
 * ERR_NOT_FOUND. */
enum err_code files_remove(const struct files *files, const struct principal *principal,
                           const struct request *request, char ret_id[ID_SIZE], struct err *err)
    ERR_MUST_CHECK;

struct batch_request {
    const struct principal *principal;
    struct str json; /* {"ids": […]} */
    struct idempotency *idempotency;
};

/* POST /api/files/delete: judges each id by itself and writes the answer as JSON into `out` (or,
 * when *ret_replayed, leaves it in the Idempotency-Key's record). What a request with the same key
 * had begun is carried out, and answered as it would have been. */
enum err_code files_remove_batch(const struct files *files, const struct batch_request *asked,
                                 struct buf *out, bool *ret_replayed, struct err *err)
    ERR_MUST_CHECK;

/* Removes the bytes and then the row of a file that is marked deleted; bytes already gone are
 * fine. Also a step of the sweep. */
enum err_code files_remove_marked(const struct files *files, const char *id, const char *key,
                                  struct err *err) ERR_MUST_CHECK;

#endif
