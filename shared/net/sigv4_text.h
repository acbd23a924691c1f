/*
 * The texts that a Signature Version 4 is made of: stamps, scopes, encoded paths and queries, headers
 * in canonical form. Used by sigv4.c and sigv4_post.c. Pure functions, thread-safe; what does not
 * fit marks the buffer.
 */
#ifndef COFFER_NET_SIGV4_TEXT_H
#define COFFER_NET_SIGV4_TEXT_H

#include <stdbool.h>

#include "net/sigv4.h"

#define SIGV4_STAMP_SIZE 32 /* "20130524T000000Z"; room for text_time's form */

/* "s3" unless the credentials say otherwise. */
const char *sigv4_service(const struct sigv4_credentials *credentials);
void sigv4_stamp(int64_t now_ms, char target[SIGV4_STAMP_SIZE]);
/* "20130524/us-east-1/s3/aws4_request" */
void sigv4_scope(const struct sigv4_credentials *credentials, const char *stamp, struct buf *out);

/* Without control characters. */
bool sigv4_is_printable(struct str text);
/* RFC 9110 §5.6.2: the name of a header. */
bool sigv4_is_token(struct str text);

/* Slashes stay, an empty path becomes "/". */
void sigv4_encode_path(struct str path, struct buf *out);
/* "name=value&…", in the order given. */
void sigv4_encode_query(const struct sigv4_pair *query, size_t count, struct buf *out);
/* By encoded name, then encoded value. */
void sigv4_sort_query(struct sigv4_pair *query, size_t count);

/* By name in lower case; equal names keep their order. */
void sigv4_sort_headers(struct sigv4_pair *headers, size_t count);
/* The rest takes sorted headers: "name:value\n" each, values of one name joined by commas. */
void sigv4_canonical_headers(const struct sigv4_pair *headers, size_t count, struct buf *out);
/* "host;x-amz-date" */
void sigv4_signed_headers(const struct sigv4_pair *headers, size_t count, struct buf *out);

#endif
