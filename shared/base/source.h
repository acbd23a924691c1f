/*
 * A source gives the bytes of a body piece by piece, without copying. The FastCGI input, a
 * multipart file part and a test's buffer are sources. Used by one thread.
 */
#ifndef COFFER_BASE_SOURCE_H
#define COFFER_BASE_SOURCE_H

#include "base/errors.h"
#include "base/str.h"

struct source {
    /* The next piece, borrowed until the next call; an empty piece is the verified end: all
     * bytes that were promised have arrived. Errors: ERR_CLIENT_GONE, ERR_REQUEST_TIMEOUT, and
     * what the format says (ERR_BAD_MULTIPART, ERR_FILE_TOO_LARGE). */
    enum err_code (*next)(struct source *source, struct str *ret_piece, struct err *err);
};

static inline enum err_code source_next(struct source *source, struct str *ret_piece,
                                        struct err *err)
{
    return source->next(source, ret_piece, err);
}

#endif
