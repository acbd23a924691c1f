/*
 * Requests with an Idempotency-Key: a row is unfinished (status 0) while its request runs under a
 * lease, and holds the answer afterwards. touched_ms is when it was taken or finished.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

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

static enum err_code read_token_page(struct sqlite_connection *connection, void *args,
                                     struct err *err)
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
        code = sqlite_read(state, read_token_page, &page, err);
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

static enum err_code revoke_row(struct sqlite_connection *connection, void *args, struct err *err)
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
    struct sqlite_change change = {revoke_row, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

const struct metadata_access sqlite_access = {
    .token_insert = token_insert,
    .token_get = token_get,
    .token_list = token_list,
    .token_revoke = token_revoke,
};

#define PURGE_ROWS 1000 /* rows removed in one transaction */

/* ---- rows in pages ---- */

static void bind_page(sqlite3_stmt *statement, const struct file_rows *rows)
{
    int at = 1;
    if (rows->is_deleted)
        sqlite3_bind_int64(statement, at++, rows->after_ms);
    sqlite_bind_text(statement, at++, rows->after_id);
    sqlite3_bind_int(statement, at, rows->limit);
}

static enum err_code read_page(struct sqlite_connection *connection, void *args, struct err *err)
{
    struct file_rows *rows = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(
        connection, rows->is_deleted ? SQL_FILE_DELETED : SQL_FILE_SCAN, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = SQLITE_OK;
    bind_page(statement, rows);
    rows->count = 0;
    while (code == ERR_OK && (result = sqlite3_step(statement)) == SQLITE_ROW)
        code = sqlite_row_file(statement, &rows->files[rows->count++], err);
    if (code == ERR_OK && result != SQLITE_DONE)
        code = sqlite_failed(connection, result, "read rows", err);
    sqlite3_reset(statement);
    return code;
}

static enum err_code read_rows(void *state, struct file_rows *rows, struct err *err)
{
    return sqlite_read(state, read_page, rows, err);
}

/* ---- small changes ---- */

struct sweep_args {
    enum sqlite_sql sql;
    int64_t until_ms;
    int limit;
    int changed;
};

static enum err_code sweep(struct sqlite_connection *connection, void *args, struct err *err)
{
    struct sweep_args *sweep = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, sweep->sql, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite3_bind_int64(statement, 1, sweep->until_ms);
    sqlite3_bind_int(statement, 2, sweep->limit);
    code = sqlite_finish(connection, statement, "sweep", err);
    sweep->changed = sqlite3_changes(connection->db);
    return code;
}

static enum err_code mark_expired(void *state, int64_t now_ms, int limit, int *ret_marked,
                                  struct err *err)
{
    struct sweep_args args = {SQL_FILE_MARK_EXPIRED, now_ms, limit, 0};
    struct sqlite_change change = {sweep, &args, NULL, NULL};
    enum err_code code = sqlite_write(state, &change, err);
    if (code == ERR_OK)
        *ret_marked = args.changed;
    return code;
}

static enum err_code purge_requests(void *state, int64_t now_ms, int *ret_purged, struct err *err)
{
    struct sweep_args args = {SQL_REQUEST_PURGE, now_ms - LIMIT_IDEMPOTENCY_KEEP_MS, PURGE_ROWS,
                              PURGE_ROWS};
    struct sqlite_change change = {sweep, &args, NULL, NULL};
    int purged = 0;
    while (args.changed == PURGE_ROWS) {
        enum err_code code = sqlite_write(state, &change, err);
        if (code != ERR_OK)
            return code;
        purged += args.changed;
    }
    *ret_purged = purged;
    return ERR_OK;
}

struct status_args {
    const char *id;
    enum file_status status;
};

/* Never a row that is marked deleted: nobody reads it again. */
static enum err_code change_status(struct sqlite_connection *connection, void *args,
                                   struct err *err)
{
    const struct status_args *wanted = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_FILE_SET_STATUS, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, wanted->id);
    sqlite3_bind_int(statement, 2, (int)wanted->status);
    code = sqlite_finish(connection, statement, "set status", err);
    if (code == ERR_OK && sqlite3_changes(connection->db) == 0)
        code = err_set(err, ERR_NOT_FOUND, "set status", "There is no such file.");
    return code;
}

static enum err_code set_status(void *state, const char *id, enum file_status status,
                                struct err *err)
{
    struct status_args args = {id, status};
    struct sqlite_change change = {change_status, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

struct named_lease_args {
    const struct named_lease *lease;
    bool held;
};

static enum err_code take_lease(struct sqlite_connection *connection, void *args, struct err *err)
{
    struct named_lease_args *taking = args;
    const struct named_lease *lease = taking->lease;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_LEASE, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, lease->name);
    sqlite_bind_text(statement, 2, lease->holder);
    sqlite3_bind_int64(statement, 3, lease->until_ms);
    sqlite3_bind_int64(statement, 4, lease->now_ms);
    sqlite3_bind_int64(statement, 5, lease->until_ms + LIMIT_CLOCK_SKEW_MS);
    code = sqlite_finish(connection, statement, "lease", err);
    taking->held = sqlite3_changes(connection->db) > 0;
    return code;
}

static enum err_code lease(void *state, const struct named_lease *lease, bool *ret_held,
                           struct err *err)
{
    struct named_lease_args args = {lease, false};
    struct sqlite_change change = {take_lease, &args, NULL, NULL};
    enum err_code code = sqlite_write(state, &change, err);
    if (code == ERR_OK)
        *ret_held = args.held;
    return code;
}

/* ---- questions ---- */

struct keys_args {
    const char *const *keys;
    size_t count;
    bool *ret_known;
};

static enum err_code find_keys(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct keys_args *asked = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_KEY_KNOWN, &statement, err);
    for (size_t i = 0; code == ERR_OK && i < asked->count; i++) {
        sqlite_bind_text(statement, 1, asked->keys[i]);
        int result = sqlite3_step(statement);
        if (result != SQLITE_ROW && result != SQLITE_DONE)
            code = sqlite_failed(connection, result, "find key", err);
        asked->ret_known[i] = result == SQLITE_ROW;
        sqlite3_reset(statement);
    }
    return code;
}

static enum err_code keys_known(void *state, const char *const *keys, size_t count, bool *ret_known,
                                struct err *err)
{
    struct keys_args args = {keys, count, ret_known};
    return sqlite_read(state, find_keys, &args, err);
}

static enum err_code read_secret(struct sqlite_connection *connection, void *args, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_SECRET, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW && sqlite3_column_bytes(statement, 0) == METADATA_SECRET_BYTES)
        memcpy(args, sqlite3_column_blob(statement, 0), METADATA_SECRET_BYTES);
    else if (result == SQLITE_ROW || result == SQLITE_DONE)
        code = err_set_internal(err, ERR_INTERNAL, 0, "secret", "The secret is missing.");
    else
        code = sqlite_failed(connection, result, "secret", err);
    sqlite3_reset(statement);
    return code;
}

static enum err_code secret(void *state, unsigned char ret_secret[32], struct err *err)
{
    return sqlite_read(state, read_secret, ret_secret, err);
}

/* ---- the mark ---- */

static enum err_code find_mark(struct sqlite_connection *connection, void *args, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_MARK_GET, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        const struct str text = {sqlite3_column_blob(statement, 0),
                                 (size_t)sqlite3_column_bytes(statement, 0)};
        if (!str_copy(args, METADATA_MARK_SIZE, text))
            code = err_set_internal(err, ERR_CONFIG, 0, "read mark",
                                    "The database's mark is not one of coffer.");
    } else if (result == SQLITE_DONE) {
        code = err_set_internal(err, ERR_NOT_FOUND, 0, "read mark", "There is no mark.");
    } else {
        code = sqlite_failed(connection, result, "read mark", err);
    }
    sqlite3_reset(statement);
    return code;
}

static enum err_code read_mark(void *state, char ret_text[METADATA_MARK_SIZE], struct err *err)
{
    return sqlite_read(state, find_mark, ret_text, err);
}

struct mark_args {
    const char *expected;
    const char *text;
};

static void bind_mark(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_blob(statement, index, text, (int)strlen(text), SQLITE_STATIC);
}

static enum err_code change_mark(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct mark_args *mark = args;
    bool is_new = *mark->expected == '\0';
    sqlite3_stmt *statement = NULL;
    enum err_code code =
        sqlite_statement(connection, is_new ? SQL_MARK_INSERT : SQL_MARK_UPDATE, &statement, err);
    if (code != ERR_OK)
        return code;
    bind_mark(statement, 1, mark->text);
    if (!is_new)
        bind_mark(statement, 2, mark->expected);
    code = sqlite_finish(connection, statement, "write mark", err);
    if (code == ERR_OK && sqlite3_changes(connection->db) == 0)
        code = err_set(err, ERR_CONFLICT, "write mark", "The mark has changed meanwhile.");
    return code;
}

static enum err_code write_mark(void *state, const char *expected, const char *text,
                                struct err *err)
{
    struct mark_args args = {expected, text};
    const struct sqlite_change change = {change_mark, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

static enum err_code probe(struct sqlite_connection *connection, void *args, struct err *err)
{
    unsigned char secret[METADATA_SECRET_BYTES];
    enum err_code code = read_secret(connection, secret, err);
    explicit_bzero(secret, sizeof secret);
    /* A file system mounted read-only is found without writing. */
    if (code == ERR_OK && faccessat(AT_FDCWD, args, W_OK, AT_EACCESS) != 0)
        code = err_set_internal(err, ERR_METADATA_UNAVAILABLE, errno, "ping",
                                "The database cannot be written.");
    return code;
}

static enum err_code ping(void *state, struct err *err)
{
    struct metadata_sqlite *db = state;
    return sqlite_read(db, probe, db->path, err);
}

/* ---- check ---- */

static const char totals_differ[] =
    "SELECT owner FROM (SELECT owner, count(*) AS n, sum(size) AS b FROM files WHERE status <> 1"
    " GROUP BY owner UNION ALL SELECT '', count(*), coalesce(sum(size), 0) FROM files"
    " WHERE status <> 1) AS counted LEFT JOIN usage USING (owner)"
    " WHERE n IS NOT usage.files OR b IS NOT usage.bytes"
    " UNION ALL SELECT owner FROM usage WHERE (files <> 0 OR bytes <> 0) AND owner <> ''"
    " AND owner NOT IN (SELECT owner FROM files WHERE status <> 1) LIMIT 1";

static const char recount[] =
    "DELETE FROM usage;"
    "INSERT INTO usage SELECT owner, count(*), sum(size) FROM files WHERE status <> 1"
    " GROUP BY owner;"
    "INSERT INTO usage SELECT '', count(*), coalesce(sum(size), 0) FROM files WHERE status <> 1";

/* The first column of the first row as text; "" when there is none. */
static enum err_code first_text(struct sqlite_connection *connection, const char *sql,
                                char target[ERR_MESSAGE_MAX], struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_prepare(connection, sql, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_step(statement);
    target[0] = '\0';
    if (result == SQLITE_ROW)
        snprintf(target, ERR_MESSAGE_MAX, "%.200s",
                 (const char *)sqlite3_column_text(statement, 0));
    else if (result != SQLITE_DONE)
        code = sqlite_failed(connection, result, "check", err);
    sqlite3_finalize(statement);
    return code;
}

static enum err_code check_database(struct sqlite_connection *connection, void *args,
                                    struct err *err)
{
    char text[ERR_MESSAGE_MAX];
    (void)args;
    enum err_code code = first_text(connection, "PRAGMA integrity_check(1)", text, err);
    if (code == ERR_OK && strcmp(text, "ok") != 0)
        return err_set_internal(err, ERR_INTERNAL, 0, "check", "integrity_check: %s", text);
    return code;
}

static enum err_code check_totals(struct sqlite_connection *connection, void *args, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    (void)args;
    enum err_code code = sqlite_prepare(connection, totals_differ, &statement, err);
    if (code != ERR_OK)
        return code;
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        code = err_set_internal(err, ERR_INTERNAL, 0, "check",
                                "The kept totals differ from the rows (owner \"%.128s\").",
                                (const char *)sqlite3_column_text(statement, 0));
    else if (result != SQLITE_DONE)
        code = sqlite_failed(connection, result, "check", err);
    sqlite3_finalize(statement);
    return code;
}

static enum err_code recount_totals(struct sqlite_connection *connection, void *args,
                                    struct err *err)
{
    (void)args;
    int result = sqlite3_exec(connection->db, recount, NULL, NULL, NULL);
    return result == SQLITE_OK ? ERR_OK : sqlite_failed(connection, result, "recount", err);
}

static enum err_code check(void *state, bool repair, struct err *err)
{
    struct sqlite_change change = {recount_totals, NULL, NULL, NULL};
    enum err_code code = sqlite_read(state, check_database, NULL, err);
    if (code == ERR_OK && repair)
        code = sqlite_write(state, &change, err);
    return code == ERR_OK ? sqlite_read(state, check_totals, NULL, err) : code;
}

const struct metadata_upkeep sqlite_upkeep = {
    .read_rows = read_rows,
    .mark_expired = mark_expired,
    .keys_known = keys_known,
    .set_status = set_status,
    .purge_requests = purge_requests,
    .lease = lease,
    .secret = secret,
    .read_mark = read_mark,
    .write_mark = write_mark,
    .check = check,
    .ping = ping,
};

struct begin_args {
    const struct idempotency_claim *claim;
    struct idempotency_record *ret_record;
    enum err_code space; /* ERR_OK: a new key may be taken; else space_err says why not */
    struct err space_err;
};

static void bind_claim(sqlite3_stmt *statement, const struct idempotency_claim *claim)
{
    sqlite_bind_str(statement, 1, claim->owner);
    sqlite_bind_str(statement, 2, claim->key);
    sqlite_bind_str(statement, 3, claim->nonce);
}

/* ---- begin ---- */

static enum err_code copy_answer(sqlite3_stmt *statement, struct idempotency_record *record,
                                 struct err *err)
{
    record->state = IDEMPOTENCY_DONE;
    record->status = sqlite3_column_int(statement, 3);
    bool fits = sqlite_copy(statement, 4, record->fingerprint, sizeof record->fingerprint);
    buf_reset(&record->location); /* a change may be run again */
    buf_reset(&record->etag);
    buf_reset(&record->body);
    buf_append_str(&record->location, sqlite_column(statement, 5));
    buf_append_str(&record->etag, sqlite_column(statement, 6));
    buf_append_str(&record->body, sqlite_column(statement, 7));
    if (fits && !record->location.failed && !record->etag.failed && !record->body.failed)
        return ERR_OK;
    return err_set_internal(err, ERR_NO_MEMORY, 0, "begin request", "The answer does not fit.");
}

/* What the row says: *ret_free when the key may be taken, else the record is filled. */
static enum err_code judge_row(sqlite3_stmt *statement, const struct begin_args *begin,
                               bool *ret_free, struct err *err)
{
    bool is_ours = str_equal(sqlite_column(statement, 0), begin->claim->nonce);
    int64_t lease_until_ms = sqlite3_column_int64(statement, 1);
    int64_t touched_ms = sqlite3_column_int64(statement, 2);
    bool is_finished = sqlite3_column_int(statement, 3) != 0;
    *ret_free = false;
    if (is_finished && touched_ms > begin->claim->now_ms - LIMIT_IDEMPOTENCY_KEEP_MS)
        return copy_answer(statement, begin->ret_record, err);
    if (!is_finished && !is_ours &&
        lease_holds(lease_until_ms, begin->claim->now_ms, begin->claim->lease_until_ms)) {
        begin->ret_record->state = IDEMPOTENCY_RUNNING;
        return ERR_OK;
    }
    *ret_free = true;
    return ERR_OK;
}

static enum err_code look_up(struct sqlite_connection *connection, const struct begin_args *begin,
                             bool *ret_free, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_REQUEST_GET, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_str(statement, 1, begin->claim->owner);
    sqlite_bind_str(statement, 2, begin->claim->key);
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        code = judge_row(statement, begin, ret_free, err);
    else if (result == SQLITE_DONE)
        *ret_free = true;
    else
        code = sqlite_failed(connection, result, "begin request", err);
    sqlite3_reset(statement);
    return code;
}

static enum err_code begin(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct begin_args *begin = args;
    sqlite3_stmt *statement = NULL;
    bool is_free = false;
    enum err_code code = look_up(connection, begin, &is_free, err);
    if (code != ERR_OK || !is_free)
        return code;
    if (begin->space != ERR_OK) { /* what was answered before is answered again all the same */
        *err = begin->space_err;
        return begin->space;
    }
    code = sqlite_statement(connection, SQL_REQUEST_TAKE, &statement, err);
    if (code != ERR_OK)
        return code;
    bind_claim(statement, begin->claim);
    sqlite3_bind_int64(statement, 4, begin->claim->lease_until_ms);
    sqlite3_bind_int64(statement, 5, begin->claim->now_ms);
    begin->ret_record->state = IDEMPOTENCY_STARTED;
    return sqlite_finish(connection, statement, "begin request", err);
}

static enum err_code idempotency_begin(void *state, const struct idempotency_claim *claim,
                                       struct idempotency_record *ret_record, struct err *err)
{
    struct idempotency_record record;
    idempotency_record_init(&record);
    struct begin_args args = {.claim = claim, .ret_record = &record};
    args.space = sqlite_check_space(state, &args.space_err);
    struct sqlite_change change = {begin, &args, NULL, NULL};
    enum err_code code = sqlite_write(state, &change, err);
    if (code != ERR_OK) {
        idempotency_record_release(&record);
        return code;
    }
    idempotency_record_release(ret_record);
    *ret_record = record;
    return ERR_OK;
}

/* ---- renew, finish, release ---- */

static enum err_code lease_lost(struct err *err)
{
    return err_set(err, ERR_CONFLICT, "idempotency lease",
                   "Another request with the same Idempotency-Key has taken over.");
}

static enum err_code renew(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct idempotency_claim *claim = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_REQUEST_RENEW, &statement, err);
    if (code != ERR_OK)
        return code;
    bind_claim(statement, claim);
    sqlite3_bind_int64(statement, 4, claim->lease_until_ms);
    code = sqlite_finish(connection, statement, "renew request", err);
    return code == ERR_OK && sqlite3_changes(connection->db) == 0 ? lease_lost(err) : code;
}

static enum err_code idempotency_renew(void *state, const struct idempotency_claim *claim,
                                       struct err *err)
{
    struct idempotency_claim args = *claim;
    struct sqlite_change change = {renew, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

enum err_code sqlite_store_answer(struct sqlite_connection *connection,
                                  const struct idempotency_answer *answer, int64_t now_ms,
                                  struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_REQUEST_FINISH, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_str(statement, 1, answer->owner);
    sqlite_bind_str(statement, 2, answer->key);
    sqlite_bind_str(statement, 3, answer->nonce);
    sqlite3_bind_int64(statement, 4, now_ms);
    sqlite_bind_str(statement, 5, answer->fingerprint);
    sqlite3_bind_int(statement, 6, answer->status);
    sqlite_bind_str(statement, 7, answer->location);
    sqlite_bind_str(statement, 8, answer->etag);
    sqlite_bind_str(statement, 9, answer->body);
    code = sqlite_finish(connection, statement, "finish request", err);
    return code == ERR_OK && sqlite3_changes(connection->db) == 0 ? lease_lost(err) : code;
}

struct finish_args {
    const struct idempotency_answer *answer;
    int64_t now_ms;
};

static enum err_code finish(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct finish_args *finish = args;
    return sqlite_store_answer(connection, finish->answer, finish->now_ms, err);
}

static enum err_code idempotency_finish(void *state, const struct idempotency_answer *answer,
                                        int64_t now_ms, struct err *err)
{
    struct finish_args args = {answer, now_ms};
    struct sqlite_change change = {finish, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

static enum err_code release(struct sqlite_connection *connection, void *args, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_REQUEST_RELEASE, &statement, err);
    if (code != ERR_OK)
        return code;
    bind_claim(statement, args);
    return sqlite_finish(connection, statement, "release request", err);
}

static enum err_code idempotency_release(void *state, const struct idempotency_claim *claim,
                                         struct err *err)
{
    struct idempotency_claim args = *claim;
    struct sqlite_change change = {release, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

/* ---- trim ---- */

static enum err_code trim(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct idempotency_bounds *bounds = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_REQUEST_TRIM, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_str(statement, 1, bounds->owner);
    sqlite3_bind_int64(statement, 2, bounds->keys);
    sqlite3_bind_int64(statement, 3, bounds->bytes);
    return sqlite_finish(connection, statement, "trim requests", err);
}

static enum err_code idempotency_trim(void *state, const struct idempotency_bounds *bounds,
                                      struct err *err)
{
    struct idempotency_bounds args = *bounds;
    struct sqlite_change change = {trim, &args, NULL, NULL};
    return sqlite_write(state, &change, err);
}

const struct metadata_requests sqlite_requests = {
    .idempotency_begin = idempotency_begin,
    .idempotency_renew = idempotency_renew,
    .idempotency_finish = idempotency_finish,
    .idempotency_release = idempotency_release,
    .idempotency_trim = idempotency_trim,
};
