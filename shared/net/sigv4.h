/*
 * AWS Signature Version 4 for S3: header signing and presigned URLs (AWS "Signature Version 4
 * signing process", "Authenticating Requests: Using Query Parameters"). Pure functions of their
 * arguments: no clock, no network. Thread-safe.
 *
 * Errors of all: ERR_NO_MEMORY when `out` is too small (what was there stays) or memory ran out,
 * ERR_INTERNAL for what can't be signed: a control character, more than SIGV4_PAIRS_MAX pairs.
 */
#ifndef COFFER_NET_SIGV4_H
#define COFFER_NET_SIGV4_H

#include <stdint.h>

#include "base/errors.h"
#include "base/str.h"

#define SIGV4_PAIRS_MAX 32      /* query parameters and headers of the caller */
#define SIGV4_SIGNATURE_SIZE 65 /* 64 hexadecimal digits and a NUL */
#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"

struct sigv4_credentials {
    const char *access_key;
    const char *secret_key;
    const char *session_token; /* "" or NULL: none */
    const char *region;
    const char *service; /* "" or NULL: "s3", whose requests say their payload's hash */
};

/* A name and a value, not encoded; order does not matter. */
struct sigv4_pair {
    struct str name;
    struct str value;
};

struct sigv4_request {
    const char *method;
    const char *scheme;             /* "http" or "https"; presigned URLs only */
    const char *host;               /* as in the Host header, with the port if not the default */
    struct str path;                /* "/bucket/key", not encoded */
    const struct sigv4_pair *query; /* not encoded */
    size_t query_count;
    const struct sigv4_pair *headers; /* to be signed beside host, x-amz-date and what follows */
    size_t header_count;
    const char *payload_sha256; /* 64 hex digits, or SIGV4_UNSIGNED; not for URLs of "s3" */
    int64_t now_ms;             /* wall time */
};

/* The path and query as they must be sent: encoded the way they are signed. */
void sigv4_target(const struct sigv4_request *request, struct buf *out);
/* Appends the header lines "x-amz-date", "x-amz-content-sha256", "x-amz-security-token" (with a
 * session), request->headers, and "Authorization", each "Name: value\r\n". Host is not among them:
 * whoever sends must send request->host. */
enum err_code sigv4_sign(const struct sigv4_credentials *credentials,
                         const struct sigv4_request *request, struct buf *out, struct err *err)
    ERR_MUST_CHECK;
/* Appends the whole URL, valid for `seconds` (1…604800) from request->now_ms. Who uses it must send
 * request->headers as they are here. */
enum err_code sigv4_presign(const struct sigv4_credentials *credentials,
                            const struct sigv4_request *request, int64_t seconds, struct buf *out,
                            struct err *err) ERR_MUST_CHECK;

/* The signature of any text on a day, in hexadecimal: what the two above end in. */
enum err_code sigv4_signature(const struct sigv4_credentials *credentials, int64_t now_ms,
                              struct str text, char ret_hex[SIGV4_SIGNATURE_SIZE], struct err *err)
    ERR_MUST_CHECK;

#endif
