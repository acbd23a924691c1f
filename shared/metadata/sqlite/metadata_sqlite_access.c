#include "metadata/sqlite/metadata_sqlite.h"

#define TOKEN_PAGE 100 /* tokens read at once */

static bool read_token(sqlite3_stmt *statement, struct token *token)
{
    const void *digest = sqlite3_column_blob(statement, 2);
    if (!digest || sqlite3_column_bytes(statement, 2) != (int)sizeof token->digest)
        return false;
    memcpy(token->digest, digest, sizeof token->digest);
    token->scopes = (unsigned)sqlite3_column_int(statement, 3);
    token->created_ms = sqlite3_column_int64(statement, 4);
    token->expires_ms = sqlite3_column_int64(statement, 5);
    token->revoked_ms = sqlite3_column_int64(statement, 6);
    return sqlite_copy(statement, 0, token->id, sizeof token->id) &&
           sqlite_copy(statement, 1, token->owner, sizeof token->owner);
}

static enum err_code bad_token(struct err *err)
{
    return err_set_internal(err, ERR_INTERNAL, 0, "read token", "A token's row is malformed.");
}

static enum err_code insert(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct token *token = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_TOKEN_INSERT, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, token->id);
    sqlite_bind_text(statement, 2, token->owner);
    sqlite3_bind_blob(statement, 3, token->digest, sizeof token->digest, SQLITE_STATIC);
    sqlite3_bind_int(statement, 4, (int)token->scopes);
    sqlite3_bind_int64(statement, 5, token->created_ms);
    sqlite3_bind_int64(statement, 6, token->expires_ms);
    sqlite3_bind_int64(statement, 7, token->revoked_ms);
    code = sqlite_finish(connection, statement, "insert token", err);
    if (code != ERR_OK && sqlite3_extended_errcode(connection->db) == SQLITE_CONSTRAINT_PRIMARYKEY)
        return err_set_internal(err, ERR_EXISTS, 0, "insert token", "The token's id is taken.");
    return code;
}

static enum err_code token_insert(void *state, const struct token *token, struct err *err)
{
    struct token copy = *token;
    struct sqlite_change change = {insert, &copy, NULL, NULL};
    enum err_code code = sqlite_check_space(state, err);
    return code == ERR_OK ? sqlite_write(state, &change, err) : code;
}

struct get_args {
    const char *id;
    struct token *ret_token;
};

static enum err_code get(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct get_args *get = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_TOKEN_GET, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, get->id);
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        code = read_token(statement, get->ret_token) ? ERR_OK : bad_token(err);
    else if (result == SQLITE_DONE)
        code = err_set(err, ERR_NOT_FOUND, "get token", "There is no such token.");
    else
        code = sqlite_failed(connection, result, "get token", err);
    sqlite3_reset(statement);
    return code;
}

static enum err_code token_get(void *state, const char *id, struct token *ret_token,
                               struct err *err)
{
    struct token token;
    struct get_args args = {id, &token};
    enum err_code code = sqlite_read(state, get, &args, err);
    if (code == ERR_OK)
        *ret_token = token;
    return code;
}

struct page_args {
    char after[TOKEN_ID_LENGTH + 1];
    struct token tokens[TOKEN_PAGE];
    int count;
};

static enum err_code read_page(struct sqlite_connection *connection, void *args, struct err *err)
{
    struct page_args *page = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_TOKEN_LIST, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = SQLITE_OK;
    sqlite_bind_text(statement, 1, page->after);
    sqlite3_bind_int(statement, 2, TOKEN_PAGE);
    page->count = 0;
    while (code == ERR_OK && (result = sqlite3_step(statement)) == SQLITE_ROW)
        code = read_token(statement, &page->tokens[page->count++]) ? ERR_OK : bad_token(err);
    if (code == ERR_OK && result != SQLITE_DONE)
        code = sqlite_failed(connection, result, "list tokens", err);
    sqlite3_reset(statement);
    return code;
}

/* A page at a time, and the callback without a connection: it may use the handle itself. */
static enum err_code token_list(void *state, token_callback *callback, void *context,
                                struct err *err)
{
    struct page_args page = {.after = "", .count = TOKEN_PAGE};
    enum err_code code = ERR_OK;
    while (code == ERR_OK && page.count == TOKEN_PAGE) {
        code = sqlite_read(state, read_page, &page, err);
        for (int i = 0; code == ERR_OK && i < page.count; i++)
            code = callback(context, &page.tokens[i], err);
        if (page.count > 0)
            memcpy(page.after, page.tokens[page.count - 1].id, sizeof page.after);
    }
    return code;
}

struct revoke_args {
    const char *id;
    int64_t now_ms;
};

static enum err_code revoke(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct revoke_args *revoke = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_TOKEN_REVOKE, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, revoke->id);
    sqlite3_bind_int64(statement, 2, revoke->now_ms);
    code = sqlite_finish(connection, statement, "revoke token", err);
    if (code == ERR_OK && sqlite3_changes(connection->db) == 0)
        code = err_set(err, ERR_NOT_FOUND, "revoke token", "There is no such token.");
    return code;
}

static enum err_code token_revoke(void *state, const char *id, int64_t now_ms, struct err *err)
{
    struct revoke_args args = {id, now_ms};
    struct sqlite_change change = {revoke, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

const struct metadata_access sqlite_access = {
    .token_insert = token_insert,
    .token_get = token_get,
    .token_list = token_list,
    .token_revoke = token_revoke,
};
