#include "access/access_token.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/text.h"

#define TOKEN_PREFIX "coffer_"
#define TOKEN_SECRET_BYTES 32
#define TOKEN_SECRET_LENGTH 43 /* base64url of 32 bytes */

static const char id_alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";

static void make_id(const struct clock *clock, char target[TOKEN_ID_LENGTH + 1])
{
    const unsigned char letters = sizeof id_alphabet - 1;
    for (size_t i = 0; i < TOKEN_ID_LENGTH;) {
        unsigned char byte;
        clock_random(clock, &byte, 1);
        if (byte < 256 / letters * letters) /* no letter is likelier than another */
            target[i++] = id_alphabet[byte % letters];
    }
    target[TOKEN_ID_LENGTH] = '\0';
}

void token_make(const struct clock *clock, struct token *token, char ret_text[TOKEN_TEXT_SIZE])
{
    unsigned char secret[TOKEN_SECRET_BYTES];
    struct buf text;
    token->created_ms = clock_wall_ms(clock);
    token->revoked_ms = 0;
    make_id(clock, token->id);
    clock_random(clock, secret, sizeof secret);

    buf_init(&text, TOKEN_TEXT_SIZE - 1);
    buf_printf(&text, TOKEN_PREFIX "%s_", token->id);
    text_base64url(secret, sizeof secret, &text);
    memcpy(ret_text, buf_text(&text), text.len + 1);
    SHA256((const unsigned char *)text.data, text.len, token->digest);
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(text.data, text.len);
    buf_release(&text);
}

bool token_id_of(struct str text, char ret_id[TOKEN_ID_LENGTH + 1])
{
    const size_t prefix = sizeof TOKEN_PREFIX - 1;
    if (text.len != prefix + TOKEN_ID_LENGTH + 1 + TOKEN_SECRET_LENGTH ||
        !str_starts_with(text, STR(TOKEN_PREFIX)) || text.data[prefix + TOKEN_ID_LENGTH] != '_')
        return false;
    struct str id = {text.data + prefix, TOKEN_ID_LENGTH};
    for (size_t i = 0; i < id.len; i++)
        if (id.data[i] == '\0' || !strchr(id_alphabet, id.data[i]))
            return false;
    return str_copy(ret_id, TOKEN_ID_LENGTH + 1, id);
}

bool token_matches(const struct token *token, struct str text, int64_t now_ms)
{
    unsigned char digest[32];
    SHA256((const unsigned char *)text.data, text.len, digest);
    bool same = CRYPTO_memcmp(digest, token->digest, sizeof digest) == 0;
    explicit_bzero(digest, sizeof digest);
    bool expired = token->expires_ms != 0 && token->expires_ms <= now_ms;
    return same && !expired && token->revoked_ms == 0;
}

bool token_parse_scopes(struct str text, unsigned *ret_scopes)
{
    unsigned scopes = 0;
    while (text.len > 0) {
        struct str word = str_trim(str_cut(&text, ','));
        if (str_equal(word, STR("read")))
            scopes |= SCOPE_READ;
        else if (str_equal(word, STR("write")))
            scopes |= SCOPE_WRITE;
        else if (str_equal(word, STR("admin")))
            scopes |= SCOPE_ADMIN;
        else
            return false;
    }
    if (scopes == 0)
        return false;
    *ret_scopes = scopes;
    return true;
}

bool owner_is_valid(struct str owner)
{
    if (owner.len < 1 || owner.len > LIMIT_OWNER_BYTES)
        return false;
    for (size_t i = 0; i < owner.len; i++) {
        char c = owner.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '.' && c != '_' && c != '@' && c != '-')
            return false;
    }
    return true;
}
