/*
 * File names in headers: Content-Disposition of a part (RFC 7578 §4.2, read) and of an answer
 * (RFC 6266 with RFC 8187, written), and what a file may be called (ABUSE rows 19–25).
 */
#ifndef COFFER_HTTP_DISPOSITION_H
#define COFFER_HTTP_DISPOSITION_H

#include <stdbool.h>

#include "base/errors.h"
#include "base/limits.h"
#include "base/str.h"

struct disposition {
    char name[256]; /* form field, "" when absent */
    bool has_filename;
    struct buf filename; /* raw filename or decoded filename*; not yet a file name */
};

/* Reads `form-data; name="…"; filename="…"` or filename*=UTF-8''…; ERR_BAD_MULTIPART when it is
 * anything else or gives a parameter twice. As browsers do it, a backslash in a quoted value
 * escapes only a quote (none that ends the header), and %22, %0D, %0A in `name`/`filename` stay as
 * they are; %00 in `filename` is ERR_BAD_NAME. Where both stand, filename* wins, as RFC 6266 §4.3
 * says: RFC 7578 forbids it, but who sends both (.NET does) spoils the plain one.
 * Caller frees with disposition_release, also on failure. */
enum err_code disposition_parse(struct disposition *disposition, struct str value, struct err *err)
    ERR_MUST_CHECK;
void disposition_release(struct disposition *disposition);

/* The name in a path, still percent-encoded, into `target` (NULL: only checked). ERR_BAD_NAME as
 * file_name_check, and for a malformed escape. */
enum err_code file_name_decode(struct str raw_name, char *target, size_t size, struct err *err)
    ERR_MUST_CHECK;
/* The file name to keep for what a client sent: what stands after the last "/" or "\\" of a path
 * ("C:\x" gives "x"); 1–255 bytes of UTF-8 without control (C0, C1, DEL) and bidi characters, not
 * "." or "..". ERR_BAD_NAME otherwise. A trailing slash gives ERR_BAD_NAME.
 * A backslash counts as a separator only in what looks like a path (a drive letter, or ".." before
 * it); otherwise "a\b" is a name. */
enum err_code file_name_from_path(struct str sent, char target[LIMIT_NAME_BYTES + 1],
                                  struct err *err) ERR_MUST_CHECK;
/* The same rules for a name given as such (PATCH): "/" is refused. */
enum err_code file_name_check(struct str name, struct err *err) ERR_MUST_CHECK;

/* `attachment; filename="ascii fallback"; filename*=UTF-8''…` (the second only when needed). */
void disposition_write(struct buf *out, bool is_inline, struct str name);

#endif
