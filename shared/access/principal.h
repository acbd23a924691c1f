/*
 * Who is asking: every request has a principal, every use case asks it. AUTH_MODE=none makes one
 * local admin; AUTH_MODE=token reads `Authorization: Bearer` (API.md, "Identity"). Plain values.
 */
#ifndef COFFER_ACCESS_PRINCIPAL_H
#define COFFER_ACCESS_PRINCIPAL_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/config.h"
#include "metadata/metadata.h"

struct principal {
    char owner[LIMIT_OWNER_BYTES + 1]; /* "" when anonymous */
    unsigned scopes;                   /* enum token_scope bits; admin implies the others */
    bool anonymous;                    /* no credentials were given */
};

/* What credentials are judged by; borrowed. */
struct authority {
    const struct config *config;
    struct metadata *metadata;
    const struct clock *clock;
};

/* `authorization` is the header's value, or NULL when there was none: then the principal is
 * anonymous. ERR_UNAUTHORIZED for anything but one valid token in force. */
enum err_code principal_authenticate(const struct authority *authority,
                                     const struct str *authorization,
                                     struct principal *ret_principal, struct err *err)
    ERR_MUST_CHECK;

/* ERR_UNAUTHORIZED for an anonymous principal, ERR_FORBIDDEN when `scope` is lacking. */
enum err_code principal_require(const struct principal *principal, enum token_scope scope,
                                struct err *err) ERR_MUST_CHECK;
bool principal_is_admin(const struct principal *principal);
/* May it read the file: public, its own, or an admin's view. ERR_UNAUTHORIZED, ERR_FORBIDDEN, and
 * ERR_NOT_FOUND without a hint whether the file exists. `file` NULL: there is no such file. */
enum err_code principal_may_read(const struct principal *principal, const struct file *file,
                                 struct err *err) ERR_MUST_CHECK;
/* The same for changing it; public makes no difference. */
enum err_code principal_may_write(const struct principal *principal, const struct file *file,
                                  struct err *err) ERR_MUST_CHECK;

/*
 * Opaque tokens: "coffer_<id>_<secret>". The id finds the row, the SHA-256 of the whole text is
 * compared in constant time; the text itself is stored nowhere.
 */

#define TOKEN_TEXT_SIZE 80

/* Makes a token of token->owner with its scopes and expiry: fills in the rest and its text, which
 * the caller wipes after showing it once. */
void token_make(const struct clock *clock, struct token *token, char ret_text[TOKEN_TEXT_SIZE]);
/* Copies the public id out of a well-formed token text; false when it is not one. */
bool token_id_of(struct str text, char ret_id[TOKEN_ID_LENGTH + 1]);
/* Does the text belong to the row, in constant time, and is the row in force at now_ms? */
bool token_matches(const struct token *token, struct str text, int64_t now_ms);
/* "read,write" to scope bits; false for an unknown or missing scope. */
bool token_parse_scopes(struct str text, unsigned *ret_scopes);
/* 1–128 of [A-Za-z0-9._@-]. */
bool owner_is_valid(struct str owner);

#endif
