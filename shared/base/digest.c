#include "base/digest.h"

#include <openssl/evp.h>
#include <stddef.h>
#include <stdlib.h>

struct digest {
    EVP_MD_CTX *context;
    bool failed;
};

enum err_code digest_open(struct digest **ret_digest, enum digest_kind kind, struct err *err)
{
    struct digest *digest = calloc(1, sizeof *digest);
    if (!digest)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "digest", "out of memory");
    digest->context = EVP_MD_CTX_new();
    const EVP_MD *type = kind == DIGEST_MD5 ? EVP_md5() : EVP_sha256();
    if (!digest->context || EVP_DigestInit_ex(digest->context, type, NULL) != 1) {
        digest_close(digest);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "digest", "cannot start a digest");
    }
    *ret_digest = digest;
    return ERR_OK;
}

void digest_update(struct digest *digest, const void *data, size_t len)
{
    if (EVP_DigestUpdate(digest->context, data, len) != 1)
        digest->failed = true;
}

enum err_code digest_finish(struct digest *digest, unsigned char *ret_bytes, struct err *err)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (digest->failed || EVP_DigestFinal_ex(digest->context, bytes, &len) != 1 ||
        len > DIGEST_MAX_BYTES)
        return err_set_internal(err, ERR_INTERNAL, 0, "digest", "cannot compute a digest");
    memcpy(ret_bytes, bytes, len);
    return ERR_OK;
}

void digest_close(struct digest *digest)
{
    if (!digest)
        return;
    EVP_MD_CTX_free(digest->context);
    free(digest);
}

enum err_code asserted_digests_check(const struct asserted_digests *asserted,
                                     const unsigned char sha256[32], const unsigned char md5[16],
                                     struct err *err)
{
    if (asserted->has_sha256 && memcmp(asserted->sha256, sha256, 32) != 0)
        return err_set(err, ERR_DIGEST_MISMATCH, "digest",
                       "The body's SHA-256 is not the one the request asserts.");
    if (asserted->has_md5 && memcmp(asserted->md5, md5, 16) != 0)
        return err_set(err, ERR_DIGEST_MISMATCH, "digest",
                       "The body's MD5 is not the one the request asserts.");
    return ERR_OK;
}

static enum err_code check_end(struct digest_source *self, struct err *err)
{
    unsigned char sha256[DIGEST_MAX_BYTES];
    unsigned char md5[DIGEST_MAX_BYTES];
    enum err_code code = digest_finish(self->sha256, sha256, err);
    if (code == ERR_OK)
        code = digest_finish(self->md5, md5, err);
    if (code == ERR_OK)
        code = asserted_digests_check(self->asserted, sha256, md5, err);
    digest_source_close(self); /* checked once; a later call gives the end again */
    return code;
}

static enum err_code next_piece(struct source *source, struct str *ret_piece, struct err *err)
{
    struct digest_source *self =
        (struct digest_source *)(void *)((char *)source - offsetof(struct digest_source, source));
    enum err_code code = source_next(self->inner, ret_piece, err);
    if (code != ERR_OK || !self->sha256)
        return code;
    if (ret_piece->len == 0)
        return check_end(self, err);
    digest_update(self->sha256, ret_piece->data, ret_piece->len);
    digest_update(self->md5, ret_piece->data, ret_piece->len);
    return ERR_OK;
}

enum err_code digest_source_open(struct digest_source *digest_source, struct source *inner,
                                 const struct asserted_digests *asserted, struct err *err)
{
    *digest_source =
        (struct digest_source){.source = {next_piece}, .inner = inner, .asserted = asserted};
    enum err_code code = digest_open(&digest_source->sha256, DIGEST_SHA256, err);
    if (code == ERR_OK)
        code = digest_open(&digest_source->md5, DIGEST_MD5, err);
    return code;
}

void digest_source_close(struct digest_source *digest_source)
{
    digest_close(digest_source->sha256);
    digest_close(digest_source->md5);
    digest_source->sha256 = NULL;
    digest_source->md5 = NULL;
}
