/*
 * What no log line and no report may hold, in one table (log_redact.c): every text goes through here
 * on its way there. Masked, as "***", are
 *   - values behind the name of a secret: token=…, "password": "…", X-Amz-Signature=…, also where
 *     the sign between them is percent-encoded; of Authorization and Cookie the rest of the line
 *   - words behind the name of a scheme: Bearer …, Basic …
 *   - our access tokens and JSON web tokens, wherever they stand
 *   - user and password in URLs, and every value in their queries
 * Never written at all, because no field holds them: bodies, header fields but User-Agent, queries
 * of requests, file contents.
 *
 * Linear in the text; no allocation. Pure functions.
 */
#ifndef COFFER_OBSERVE_LOG_REDACT_H
#define COFFER_OBSERVE_LOG_REDACT_H

#include "base/str.h"

#define LOG_REDACTED "***"

struct log_secret {
    size_t from; /* text.len: there is none */
    size_t to;
};

/* The next bytes at or after `at` that are to be masked. */
struct log_secret log_redact_next(struct str text, size_t at);
/* Appends `text` with what is to be masked as LOG_REDACTED. */
void log_redact(struct str text, struct buf *out);

#endif
