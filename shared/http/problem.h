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
/* The error behind a status that the gateway produced (error handler): fills *err and returns its
 * code, whose status is the same; ERR_INTERNAL for one that the gateway has no reason to produce. */
enum err_code problem_of_status(int status, struct err *err);

#endif
