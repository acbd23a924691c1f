/*
 * A streaming reader of multipart/form-data (RFC 7578, RFC 2046 §5.1.1) over a source. Memory is
 * constant, time is linear, nothing is guessed: what a row of ABUSE 2–26 forbids is
 * ERR_BAD_MULTIPART. Used by one thread.
 *
 * Use: multipart_open; multipart_next until ret_part is NULL; the part's body is read to its end
 * with part->source (or is skipped by the next call). ret_part == NULL means the closing boundary
 * was seen and the source ended as promised (epilogue at most LIMIT_PREAMBLE_BYTES). A body without
 * a part is refused, a failure is final. The pieces of a long part are 32 KiB and more.
 */
#ifndef COFFER_HTTP_MULTIPART_H
#define COFFER_HTTP_MULTIPART_H

#include "base/source.h"
#include "http/disposition.h"

struct multipart;

struct multipart_part {
    struct source *source;          /* the part's bytes; borrowed until the next multipart_next */
    struct disposition disposition; /* owned by the multipart */
    char content_type[LIMIT_MIME_BYTES + 1]; /* media type, lower case; "" when absent or garbage */
    char charset[LIMIT_CHARSET_BYTES + 1];   /* of content_type; "" when absent */
};

/* Reads the boundary of a Content-Type value. ERR_UNSUPPORTED_MEDIA_TYPE when it is not
 * multipart/form-data; ERR_BAD_MULTIPART for a missing, doubled or malformed boundary.
 * `body` is borrowed. Caller frees with multipart_close. */
enum err_code multipart_open(struct multipart **ret_multipart, struct str content_type,
                             struct source *body, struct err *err) ERR_MUST_CHECK;
void multipart_close(struct multipart *multipart);
/* The next part, or NULL at the verified end. The part is borrowed until the next call. */
enum err_code multipart_next(struct multipart *multipart, struct multipart_part **ret_part,
                             struct err *err) ERR_MUST_CHECK;

#endif
