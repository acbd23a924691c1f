/*
 * The bytes of a multipart body that are looked at: a fixed window that a source refills, and the
 * search for a delimiter in it. Private to multipart.c. Used by one thread.
 */
#ifndef COFFER_HTTP_MULTIPART_WINDOW_H
#define COFFER_HTTP_MULTIPART_WINDOW_H

#include "base/source.h"

#define WINDOW_BYTES (64 * 1024)

struct window {
    struct source *source; /* borrowed */
    struct str piece;      /* what the source gave and did not fit yet */
    bool ended;            /* the source said so */
    size_t start;          /* bytes[start…end) wait to be used */
    size_t end;
    char bytes[WINDOW_BYTES];
};

static inline struct str window_rest(const struct window *window)
{
    return (struct str){window->bytes + window->start, window->end - window->start};
}

/* Reads until `want` bytes (at most WINDOW_BYTES) wait or the source ended. What was handed out
 * before may move. */
enum err_code window_fill(struct window *window, size_t want, struct err *err) ERR_MUST_CHECK;

/* Where `delimiter` ("\r\n--boundary") begins in `text`; else where an unfinished one begins at its
 * end; else text.len. *ret_whole says if it is all there. Linear: a delimiter holds one CR. */
size_t delimiter_find(struct str text, struct str delimiter, bool *ret_whole);

#endif
