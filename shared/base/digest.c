#include "base/digest.h"

#include <openssl/evp.h>
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
