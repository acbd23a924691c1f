/*
 * Opaque tokens: "coffer_<id>_<secret>". The id finds the row, the SHA-256 of the whole text is
 * compared in constant time; the text itself is stored nowhere.
 */
#ifndef COFFER_ACCESS_ACCESS_TOKEN_H
#define COFFER_ACCESS_ACCESS_TOKEN_H

#include "base/clock.h"
#include "metadata/metadata.h"

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
