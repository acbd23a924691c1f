#include "access/principal.h"

#include "access/access_token.h"

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
