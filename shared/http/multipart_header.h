/*
 * Header values of multipart/form-data: the boundary of a body, the headers of a part. Private to
 * multipart.c. Pure functions.
 */
#ifndef COFFER_HTTP_MULTIPART_HEADER_H
#define COFFER_HTTP_MULTIPART_HEADER_H

#include "http/multipart.h"

/* Which headers of a part were seen: each at most once. */
struct part_headers {
    bool has_disposition;
    bool has_content_type;
    bool has_transfer_encoding;
    bool has_range;
    bool has_encoding;
};

/* Copies the boundary of a Content-Type value into `target`. */
enum err_code multipart_boundary(struct str content_type, char target[LIMIT_BOUNDARY_BYTES + 1],
                                 struct err *err) ERR_MUST_CHECK;
/* Reads one header line, without its line end, into *part. */
enum err_code multipart_header(struct multipart_part *part, struct part_headers *seen,
                               struct str line, struct err *err) ERR_MUST_CHECK;

#endif
