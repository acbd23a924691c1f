/*
 * A request as lighttpd's mod_proxy sends it: HTTP/1.1 (RFC 9112), one a connection. FastCGI has no way
 * for it to pass on a body whose length it does not know yet (docs/decisions/0028), so a program that
 * takes uploads understands both on its socket. What lighttpd has checked is not checked again; what
 * does not look as it sends it is refused. Used by one thread.
 */
#ifndef COFFER_APP_PROXIED_H
#define COFFER_APP_PROXIED_H

#include <stdatomic.h>
#include <stdbool.h>

#include "app/watchdog.h"
#include "base/limits.h"
#include "base/str.h"

#define PROXIED_VARIABLES (LIMIT_HEADERS + 16)

struct proxied {
    int fd; /* borrowed */
    struct buf text;
    char *variables[PROXIED_VARIABLES + 1]; /* CGI variables, "NAME=value" … NULL, within text */
    size_t offsets[PROXIED_VARIABLES];      /* where they begin: the text moves while it grows */
    size_t variable_count;
    int64_t left;     /* bytes until the end of the body or of the chunk */
    bool is_chunked;  /* of unknown length */
    bool in_chunk;    /* the line end of a chunk is still to come */
    bool is_complete; /* the whole body has been given */
    bool is_refused;  /* the answer comes before the end of the body: what is there of it is read */
    bool head_sent;
    char *buffer; /* unread bytes are buffer[start…end) */
    size_t start;
    size_t end;
};

/* Do these first bytes of a connection begin such a request? */
bool proxied_begins(const unsigned char *bytes, size_t len);
/* Reads the head and makes the variables of it: the last address of X-Forwarded-For, which lighttpd
 * adds, is REMOTE_ADDR. False when it is none or *timed_out was set. Caller releases it either way. */
bool proxied_read_head(struct proxied *proxied, int fd, const atomic_bool *timed_out);
void proxied_release(struct proxied *proxied);
/* The next bytes of the body, borrowed until the next call; empty at its end (is_complete), and where
 * the connection or the protocol ended before. */
struct str proxied_body_next(struct proxied *proxied);
/* Sends a piece of an answer, of which the first begins with the whole CGI head. False when lighttpd is
 * gone or the watch was ended. */
bool proxied_send(struct proxied *proxied, struct str piece, struct watch *watch);
/* Says that the answer is complete, and waits a little for lighttpd to close: closing before it has
 * read all would take the answer back. The caller closes. */
void proxied_finish(struct proxied *proxied);

#endif
