/*
 * Open: a file's row, judged for the caller, and the bytes behind it (API.md, GET).
 */
#ifndef COFFER_FILES_FILES_OPEN_H
#define COFFER_FILES_FILES_OPEN_H

#include "files/files.h"

/* ERR_BAD_ID when it can't be one. */
enum err_code files_check_id(struct str id, struct err *err) ERR_MUST_CHECK;
/* The live row, when the principal may read it. ERR_BAD_ID without touching the database,
 * ERR_UNAUTHORIZED, ERR_FORBIDDEN, ERR_NOT_FOUND. */
enum err_code files_open(const struct files *files, const struct principal *principal,
                         struct str id, struct file *ret_file, struct err *err) ERR_MUST_CHECK;
/* The same for a caller that means to change it. */
enum err_code files_open_to_change(const struct files *files, const struct principal *principal,
                                   struct str id, struct file *ret_file, struct err *err)
    ERR_MUST_CHECK;
/* The path the gateway may send. Missing, shorter or quarantined bytes of a live row are
 * ERR_INTERNAL, never "not found" (I2). */
enum err_code files_locate(const struct files *files, const struct file *file, struct buf *ret_path,
                           struct err *err) ERR_MUST_CHECK;
/* What it means that the store answered `failure` for the bytes of a row that was live a moment ago:
 * ERR_NOT_FOUND when the row is gone too; when the bytes are missing, ERR_STORAGE_UNAVAILABLE while
 * the store may still show them, then ERR_INTERNAL; anything else as it is. */
enum err_code files_judge_bytes(const struct files *files, const struct file *file,
                                enum err_code failure, struct err *err) ERR_MUST_CHECK;
/* What it means that the gateway could not send the bytes that files_locate had found: ERR_NOT_FOUND
 * when the row is gone by now, else ERR_STORAGE_UNAVAILABLE. */
enum err_code files_judge_unsent(const struct files *files, struct str id, struct err *err)
    ERR_MUST_CHECK;

#endif
