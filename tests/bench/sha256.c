/*
 * SHA-256 alone on one core: hashes 50 MiB in steps of 256 KiB, as an upload does, with nothing
 * else to do. Prints the bytes a second of every round as a JSON array.
 *
 *     sha256 ROUNDS
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BODY_BYTES ((size_t)50 * 1024 * 1024)
#define STEP_BYTES ((size_t)256 * 1024)

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int hash_once(const unsigned char *body)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int ok = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;

    for (size_t at = 0; ok && at < BODY_BYTES; at += STEP_BYTES)
        ok = EVP_DigestUpdate(context, body + at, STEP_BYTES) == 1;
    ok = ok && EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    return ok;
}

int main(int argc, char **argv)
{
    long rounds = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    unsigned char *body = malloc(BODY_BYTES);
    int status = EXIT_FAILURE;

    if (rounds < 1 || body == NULL) {
        fputs("usage: sha256 ROUNDS\n", stderr);
        goto out;
    }
    memset(body, 0x5a, BODY_BYTES);
    for (long round = 0; round < rounds; round++) {
        double start = now_seconds();

        if (!hash_once(body))
            goto out;
        printf("%s%.0f", round == 0 ? "[" : ", ", (double)BODY_BYTES / (now_seconds() - start));
    }
    puts("]");
    status = EXIT_SUCCESS;
out:
    free(body);
    return status;
}
