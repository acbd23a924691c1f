/*
 * Range and conditional requests of RFC 9110 §13 and §14. Pure functions over header values.
 */
#ifndef COFFER_HTTP_RANGE_CONDITION_H
#define COFFER_HTTP_RANGE_CONDITION_H

#include <stdbool.h>
#include <stdint.h>

#include "http/request.h"

/* What is compared: the strong entity tags of the representation and its last change. */
struct validators {
    struct str etag;          /* opaque part without quotes; the content's (sha256 hex) */
    struct str other_etag;    /* a second strong tag that also matches (the version's), or empty */
    int64_t modified_seconds; /* since 1970 */
};

enum condition { CONDITION_PASS, CONDITION_NOT_MODIFIED, CONDITION_FAILED };

/* Evaluates If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since in the order of RFC
 * 9110 §13.2.2. NOT_MODIFIED only for GET and HEAD. Bad dates are ignored; garbage in a tag list
 * matches nothing. */
enum condition condition_evaluate(const struct request *request,
                                  const struct validators *validators);

enum range_kind {
    RANGE_NONE,         /* send the whole: no Range, another unit, If-Range that fails */
    RANGE_MULTIPLE,     /* more than one range: send the whole */
    RANGE_ONE,          /* first…last, inclusive, within the size */
    RANGE_UNSATISFIABLE /* 416: start >= size, reversed, "-0", malformed bytes= */
};

struct range {
    enum range_kind kind;
    int64_t first; /* bytes, RANGE_ONE only */
    int64_t last;
    bool is_saturated; /* a number was 2^63 - 1 or more, which the gateway does not read */
};

/* Judges Range and If-Range of a GET against a representation of `size` bytes. Other methods give
 * NONE. If-Range is compared with `etag` alone: ranges are cut from the content. */
struct range range_evaluate(const struct request *request, const struct validators *validators,
                            int64_t size);

#endif
