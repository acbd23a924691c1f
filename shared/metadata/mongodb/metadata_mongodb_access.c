#include <string.h>

#include "metadata/mongodb/metadata_mongodb.h"

#define TOKEN_PAGE 100 /* tokens read at once */

static bool read_token(const bson_t *document, struct token *token)
{
    bson_iter_t at;
    bson_subtype_t kind = BSON_SUBTYPE_BINARY;
    uint32_t len = 0;
    const uint8_t *digest = NULL;
    if (!bson_iter_init_find(&at, document, "digest") || !BSON_ITER_HOLDS_BINARY(&at))
        return false;
    bson_iter_binary(&at, &kind, &len, &digest);
    if (len != sizeof token->digest)
        return false;
    memcpy(token->digest, digest, len);
    token->scopes = (unsigned)mongodb_read_number(document, "scopes");
    token->created_ms = mongodb_read_number(document, "createdMs");
    token->expires_ms = mongodb_read_number(document, "expiresMs");
    token->revoked_ms = mongodb_read_number(document, "revokedMs");
    return mongodb_read_text(document, "_id", token->id, sizeof token->id) &&
           mongodb_read_text(document, "owner", token->owner, sizeof token->owner);
}

static enum err_code bad_token(struct err *err)
{
    return err_set_internal(err, ERR_INTERNAL, 0, "read token", "A token's row is malformed.");
}

static enum err_code no_token(const char *operation, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, operation, "There is no such token.");
}

/* ---- pages of tokens, in the order of their ids ---- */

struct page {
    const char *id; /* only this one, or NULL */
    char after[TOKEN_ID_LENGTH + 1];
    struct token tokens[TOKEN_PAGE];
    int count;
};

static enum err_code note_token(void *context, const bson_t *document, struct err *err)
{
    struct page *page = context;
    if (page->count == TOKEN_PAGE || !read_token(document, &page->tokens[page->count]))
        return bad_token(err);
    page->count++;
    return ERR_OK;
}

static enum err_code read_page(struct mongodb_session *session, void *args, struct err *err)
{
    struct page *page = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    bson_t inner;
    const struct mongodb_question question = {.collection = COLLECTION_TOKENS,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = note_token,
                                              .context = page};
    if (page->id) {
        mongodb_put_text(&filter, "_id", page->id);
    } else {
        bson_append_document_begin(&filter, "_id", -1, &inner);
        mongodb_put_text(&inner, "$gt", page->after);
        bson_append_document_end(&filter, &inner);
    }
    mongodb_put_one(&options, "sort", "_id");
    mongodb_put_number(&options, "limit", TOKEN_PAGE);
    page->count = 0;
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static enum err_code token_get(void *state, const char *id, struct token *ret_token,
                               struct err *err)
{
    struct page page = {.id = id};
    enum err_code code = mongodb_run(state, read_page, &page, err);
    if (code == ERR_OK && page.count == 0)
        code = no_token("get token", err);
    if (code == ERR_OK)
        *ret_token = page.tokens[0];
    return code;
}

/* A page at a time, and the callback without a client: it may use the handle itself. */
static enum err_code token_list(void *state, token_callback *callback, void *context,
                                struct err *err)
{
    struct page page = {.count = TOKEN_PAGE};
    enum err_code code = ERR_OK;
    while (code == ERR_OK && page.count == TOKEN_PAGE) {
        code = mongodb_run(state, read_page, &page, err);
        for (int i = 0; code == ERR_OK && i < page.count; i++)
            code = callback(context, &page.tokens[i], err);
        if (page.count > 0)
            memcpy(page.after, page.tokens[page.count - 1].id, sizeof page.after);
    }
    return code;
}

/* ---- changes ---- */

/* Was it our first run that made the token there is? */
static enum err_code insert_refused(struct mongodb_session *session, const struct token *token,
                                    struct err *err)
{
    struct page page = {.id = token->id};
    enum err_code code = session->unknown ? read_page(session, &page, err) : ERR_OK;
    if (code != ERR_OK || (page.count == 1 &&
                           memcmp(page.tokens[0].digest, token->digest, sizeof token->digest) == 0))
        return code;
    if (session->unknown && page.count == 0)
        return mongodb_doubtful(err);
    return err_set_internal(err, ERR_EXISTS, 0, "insert token", "The token's id is taken.");
}

static enum err_code insert(struct mongodb_session *session, void *args, struct err *err)
{
    const struct token *token = args;
    bson_t document = BSON_INITIALIZER;
    mongodb_put_text(&document, "_id", token->id);
    mongodb_put_text(&document, "owner", token->owner);
    bson_append_binary(&document, "digest", -1, BSON_SUBTYPE_BINARY, token->digest,
                       sizeof token->digest);
    bson_append_int32(&document, "scopes", -1, (int32_t)token->scopes);
    mongodb_put_number(&document, "createdMs", token->created_ms);
    mongodb_put_number(&document, "expiresMs", token->expires_ms);
    mongodb_put_number(&document, "revokedMs", token->revoked_ms);
    enum err_code code = mongodb_insert(session, COLLECTION_TOKENS, &document, err);
    bson_destroy(&document);
    return code == ERR_EXISTS ? insert_refused(session, token, err) : code;
}

static enum err_code token_insert(void *state, const struct token *token, struct err *err)
{
    struct token copy = *token;
    return mongodb_run(state, insert, &copy, err);
}

struct revoke_args {
    const char *id;
    int64_t now_ms;
};

static enum err_code revoke_token(struct mongodb_session *session, void *args, struct err *err)
{
    const struct revoke_args *revoke = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t set;
    bool matched = false;
    struct page page = {.id = revoke->id};
    const struct mongodb_change change = {COLLECTION_TOKENS, &filter, &update, false};
    mongodb_put_text(&filter, "_id", revoke->id);
    mongodb_put_number(&filter, "revokedMs", 0); /* the first time counts */
    bson_append_document_begin(&update, "$set", -1, &set);
    mongodb_put_number(&set, "revokedMs", revoke->now_ms);
    bson_append_document_end(&update, &set);
    enum err_code code = mongodb_update(session, &change, &matched, err);
    if (code == ERR_OK && !matched)
        code = read_page(session, &page, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code == ERR_OK && !matched && page.count == 0 ? no_token("revoke token", err) : code;
}

static enum err_code token_revoke(void *state, const char *id, int64_t now_ms, struct err *err)
{
    struct revoke_args args = {id, now_ms};
    return mongodb_run(state, revoke_token, &args, err);
}

const struct metadata_access mongodb_access = {
    .token_insert = token_insert,
    .token_get = token_get,
    .token_list = token_list,
    .token_revoke = token_revoke,
};
