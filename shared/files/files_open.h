/*
 * Open: a file's row, judged for the caller, and the bytes behind it (API.md, GET).
 */
#ifndef COFFER_FILES_FILES_OPEN_H
#define COFFER_FILES_FILES_OPEN_H

#include "base/source.h"
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
/* What it means that the gateway could not send the bytes that files_locate had found: ERR_NOT_FOUND
 * when the row is gone by now, else ERR_STORAGE_UNAVAILABLE. */
enum err_code files_judge_unsent(const struct files *files, struct str id, struct err *err)
    ERR_MUST_CHECK;

/*
 * Download: the bytes of a file where the gateway can't send them itself, read from the store piece
 * by piece in constant memory. What the store returns is checked before its last byte leaves: the size
 * when it is opened, the SHA-256 when the whole file is read, the store's tag for a range. A small file is read and
 * checked whole before anything is answered. Used by one thread.
 */

struct download;

/* How the bytes of files reach the client. */
enum download_way {
    DOWNLOAD_BY_GATEWAY,  /* files_locate says which file it sends */
    DOWNLOAD_BY_STREAM,   /* files_download_open */
    DOWNLOAD_BY_REDIRECT, /* files_download_url says where the client goes */
};

/* Which bytes. */
struct download_part {
    int64_t offset;
    int64_t length;
};

enum download_way files_download_way(const struct files *files);

/* ERR_NOT_FOUND when it was deleted meanwhile, ERR_INTERNAL when the
 * bytes of a live row are missing or quarantined (I2), ERR_STORAGE when they are not what the row
 * says, and what the store says. Caller frees with files_download_close. */
enum err_code files_download_open(const struct files *files, const struct file *file,
                                  const struct download_part *part, struct download **ret_download,
                                  struct err *err) ERR_MUST_CHECK;
/* The bytes; borrowed until close. ERR_STORAGE in place of the last piece when they are wrong. */
struct source *files_download_source(struct download *download);
/* NULL is allowed. */
void files_download_close(struct download *download);

/* Are the bytes there with the right size? Errors as files_download_open. */
enum err_code files_download_probe(const struct files *files, const struct file *file,
                                   struct err *err) ERR_MUST_CHECK;

#define DOWNLOAD_URL_SECONDS 60
/* A URL of the store that gives the file as an attachment for DOWNLOAD_URL_SECONDS; nobody is asked
 * whether the bytes are there. */
enum err_code files_download_url(const struct files *files, const struct file *file,
                                 struct buf *ret_url, struct err *err) ERR_MUST_CHECK;

#endif
