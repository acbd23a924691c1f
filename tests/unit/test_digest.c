#include "base/digest.h"
#include "base/text.h"
#include "check.h"

TEST(digest, gives_known_values_however_the_bytes_are_cut)
{
    static const struct {
        const char *name;
        enum digest_kind kind;
        const char *in;
        const char *want;
    } rows[] = {
        {"empty", DIGEST_SHA256, "",
         "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", DIGEST_SHA256, "abc",
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"md5 abc", DIGEST_MD5, "abc", "900150983cd24fb0d6963f7d28e17f72"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct digest *digest = NULL;
        struct err err = {0};
        unsigned char bytes[DIGEST_MAX_BYTES];
        char hex[65];
        REQUIRE(digest_open(&digest, rows[i].kind, &err) == ERR_OK);
        for (size_t at = 0; at < strlen(rows[i].in); at++)
            digest_update(digest, rows[i].in + at, 1);
        CHECK_ERR_ROW(rows[i].name, digest_finish(digest, bytes, &err), ERR_OK, &err);
        text_hex(bytes, strlen(rows[i].want) / 2, hex);
        CHECK_STR_ROW(rows[i].name, str_of(hex), rows[i].want);
        digest_close(digest);
    }
    digest_close(NULL);
}
