/*
 * Message digests of bytes that arrive piece by piece (OpenSSL EVP). Used by one thread at a time.
 */
#ifndef COFFER_BASE_DIGEST_H
#define COFFER_BASE_DIGEST_H

#include <stddef.h>

#include "base/errors.h"
#include "base/source.h"

enum digest_kind { DIGEST_SHA256, DIGEST_MD5 };

#define DIGEST_MAX_BYTES 32

struct digest;

/* ERR_NO_MEMORY. Caller frees with digest_close. */
enum err_code digest_open(struct digest **ret_digest, enum digest_kind kind, struct err *err)
    ERR_MUST_CHECK;
void digest_update(struct digest *digest, const void *data, size_t len);
/* 32 bytes for SHA-256, 16 for MD5; nothing may be added afterwards. ERR_INTERNAL when any step
 * failed. */
enum err_code digest_finish(struct digest *digest, unsigned char *ret_bytes, struct err *err)
    ERR_MUST_CHECK;
/* NULL is allowed. */
void digest_close(struct digest *digest);

/*
 * A source that hashes what passes through it and, at the verified end, compares it with what the
 * client asserted about the whole body: a mismatch is ERR_DIGEST_MISMATCH instead of the end.
 */

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
