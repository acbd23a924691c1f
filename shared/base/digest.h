/*
 * Message digests of bytes that arrive piece by piece (OpenSSL EVP). Used by one thread at a time.
 */
#ifndef COFFER_BASE_DIGEST_H
#define COFFER_BASE_DIGEST_H

#include <stddef.h>

#include "base/errors.h"

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

#endif
