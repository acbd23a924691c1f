/*
 * One answer: status, headers, and one of: nothing, a body in memory, a file the gateway sends
 * itself (X-Sendfile), or bytes pulled from a source. Handlers fill it; app writes it. Header
 * values with control characters are refused (the header is left out and `failed` is set). Used by
 * one thread.
 */
#ifndef COFFER_HTTP_RESPONSE_H
#define COFFER_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
#include "base/source.h"
#include "base/str.h"

#define RESPONSE_HEADERS_MAX (16 * 1024)

struct response {
    int status;
    struct buf headers; /* "Name: value\r\n" each */
    struct buf body;
    struct buf sendfile_path; /* absolute path; empty: no X-Sendfile */
    bool sendfile_part;       /* only content_length bytes of it from sendfile_first on */
    int64_t sendfile_first;
    struct source *source;  /* borrowed until the answer was sent, or NULL */
    int64_t content_length; /* bytes the file or source will send, -1 for body */
    bool failed;
};

/* Empty, status 200, nothing allocated. */
void response_init(struct response *response);
void response_release(struct response *response);
/* Forgets everything said so far, to answer something else. */
void response_reset(struct response *response);

void response_header(struct response *response, const char *name, struct str value);
void response_header_text(struct response *response, const char *name, const char *value);
void response_header_int(struct response *response, const char *name, int64_t value);

/* The CGI head ("Status: 200 OK\r\n" … "\r\n\r\n"), Content-Length and X-Sendfile included, to be
 * followed by the body. ERR_INTERNAL when a header was refused or a buffer overflowed. */
enum err_code response_head(const struct response *response, struct buf *out, struct err *err)
    ERR_MUST_CHECK;

/*
 * Problem details (RFC 9457) of API.md, "Every answer": one writer for all errors.
 */

struct problem_context {
    const char *trace_id;
    const char *request_id;
    struct str path; /* raw path of the request; made valid UTF-8, control characters escaped */
    int64_t now_ms;
};

/* Replaces *response by the problem for *err: status, application/problem+json, no-store,
 * Accept-Ranges: none, WWW-Authenticate on 401, Retry-After on 503, Connection handling none. */
void problem_write(struct response *response, const struct err *err,
                   const struct problem_context *context);
/* The error behind a status that the gateway produced (error handler): fills *err and returns its
 * code, whose status is the same; ERR_INTERNAL for one that the gateway has no reason to produce. */
enum err_code problem_of_status(int status, struct err *err);

#endif
