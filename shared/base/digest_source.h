/*
 * A source that hashes what passes through it and, at the verified end, compares it with what the
 * client asserted about the whole body: a mismatch is ERR_DIGEST_MISMATCH instead of the end.
 */
#ifndef COFFER_BASE_DIGEST_SOURCE_H
#define COFFER_BASE_DIGEST_SOURCE_H

#include "base/digest.h"
#include "base/source.h"

/* What is asserted about some bytes. */
struct asserted_digests {
    bool has_sha256;
    bool has_md5;
    unsigned char sha256[32];
    unsigned char md5[16];
};

/* ERR_DIGEST_MISMATCH unless every asserted digest is the one given. */
enum err_code asserted_digests_check(const struct asserted_digests *asserted,
                                     const unsigned char sha256[32], const unsigned char md5[16],
                                     struct err *err) ERR_MUST_CHECK;

struct digest_source {
    struct source source;
    struct source *inner;                    /* borrowed */
    const struct asserted_digests *asserted; /* borrowed */
    struct digest *sha256;
    struct digest *md5;
};

/* ERR_NO_MEMORY. Caller frees with digest_source_close, also on failure. */
enum err_code digest_source_open(struct digest_source *digest_source, struct source *inner,
                                 const struct asserted_digests *asserted, struct err *err)
    ERR_MUST_CHECK;
void digest_source_close(struct digest_source *digest_source);

#endif
