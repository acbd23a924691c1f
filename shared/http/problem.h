/*
 * Problem details (RFC 9457) of API.md, "Every answer": one writer for all errors.
 */
#ifndef COFFER_HTTP_PROBLEM_H
#define COFFER_HTTP_PROBLEM_H

#include "base/errors.h"
#include "http/response.h"

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
/* The same for a status the gateway produced (error handler); unknown ones are written as 500. */
void problem_write_status(struct response *response, int status,
                          const struct problem_context *context);

#endif
