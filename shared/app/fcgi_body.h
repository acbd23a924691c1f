/*
 * The body of a FastCGI request, read straight from the connection in large steps and handed out
 * without a copy: libfcgi reads 8 KiB at a time, which costs an upload half its speed. The
 * connection must stand behind the head (fcgi_head_take). Used by one thread.
 */
#ifndef COFFER_APP_FCGI_BODY_H
#define COFFER_APP_FCGI_BODY_H

#include "base/errors.h"
#include "base/str.h"

struct fcgi_body {
    int fd; /* borrowed */
    unsigned char *buffer;
    size_t size;
    size_t start; /* unread bytes are buffer[start…end) */
    size_t end;
    size_t record_left; /* content of the record that is being read */
    size_t padding_left;
};

/* `length` bytes are promised. ERR_NO_MEMORY. Caller frees with fcgi_body_release. */
enum err_code fcgi_body_init(struct fcgi_body *body, int fd, int64_t length, struct err *err)
    ERR_MUST_CHECK;
void fcgi_body_release(struct fcgi_body *body);
/* The next bytes, borrowed until the next call; empty when the body, the connection or the protocol
 * ended before there were any. */
struct str fcgi_body_next(struct fcgi_body *body);

#endif
