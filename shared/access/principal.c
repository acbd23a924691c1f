#include "access/principal.h"

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

#define LOCAL_OWNER "local"

static enum err_code refuse_token(struct err *err)
{
    return err_set(err, ERR_UNAUTHORIZED, "authenticate",
                   "The bearer token is missing, malformed, expired or revoked.");
}

static enum err_code find_token(const struct authority *authority, struct str text,
                                struct principal *ret_principal, struct err *err)
{
    struct token token;
    char id[TOKEN_ID_LENGTH + 1];
    if (!token_id_of(text, id))
        return refuse_token(err);
    enum err_code code = metadata_token_get(authority->metadata, id, &token, err);
    if (code == ERR_NOT_FOUND)
        return refuse_token(err);
    if (code != ERR_OK)
        return code;
    if (!token_matches(&token, text, clock_wall_ms(authority->clock)))
        return refuse_token(err);
    *ret_principal = (struct principal){.scopes = token.scopes};
    if (token.scopes & SCOPE_ADMIN)
        ret_principal->scopes |= SCOPE_READ | SCOPE_WRITE;
    memcpy(ret_principal->owner, token.owner, sizeof token.owner);
    return ERR_OK;
}

enum err_code principal_authenticate(const struct authority *authority,
                                     const struct str *authorization,
                                     struct principal *ret_principal, struct err *err)
{
    const struct str scheme = STR("Bearer ");
    if (authority->config->auth_mode == AUTH_MODE_NONE) {
        *ret_principal = (struct principal){.owner = LOCAL_OWNER,
                                            .scopes = SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN};
        return ERR_OK;
    }
    if (!authorization) {
        *ret_principal = (struct principal){.anonymous = true};
        return ERR_OK;
    }
    if (authorization->len <= scheme.len ||
        !str_equal_nocase((struct str){authorization->data, scheme.len}, scheme))
        return refuse_token(err);
    struct str text = {authorization->data + scheme.len, authorization->len - scheme.len};
    while (text.len > 0 && text.data[0] == ' ') { /* 1*SP of RFC 9110 §11.4 */
        text.data++;
        text.len--;
    }
    return find_token(authority, text, ret_principal, err);
}

enum err_code principal_require(const struct principal *principal, enum token_scope scope,
                                struct err *err)
{
    if (principal->anonymous)
        return err_set(err, ERR_UNAUTHORIZED, "authorize", "This call needs a bearer token.");
    if (!(principal->scopes & (unsigned)scope))
        return err_set(err, ERR_FORBIDDEN, "authorize", "The token lacks the scope \"%s\".",
                       scope == SCOPE_READ    ? "read"
                       : scope == SCOPE_WRITE ? "write"
                                              : "admin");
    return ERR_OK;
}

bool principal_is_admin(const struct principal *principal)
{
    return (principal->scopes & SCOPE_ADMIN) != 0;
}

static enum err_code require_owner(const struct principal *principal, const struct file *file,
                                   struct err *err)
{
    bool visible =
        file && (principal_is_admin(principal) || strcmp(file->owner, principal->owner) == 0);
    return visible ? ERR_OK : err_set(err, ERR_NOT_FOUND, "authorize", "There is no such file.");
}

enum err_code principal_may_read(const struct principal *principal, const struct file *file,
                                 struct err *err)
{
    if (file && file->visibility == VISIBILITY_PUBLIC)
        return ERR_OK;
    enum err_code code = principal_require(principal, SCOPE_READ, err);
    return code == ERR_OK ? require_owner(principal, file, err) : code;
}

enum err_code principal_may_write(const struct principal *principal, const struct file *file,
                                  struct err *err)
{
    enum err_code code = principal_require(principal, SCOPE_WRITE, err);
    return code == ERR_OK ? require_owner(principal, file, err) : code;
}
