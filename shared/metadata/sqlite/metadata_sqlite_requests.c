/*
 * Requests with an Idempotency-Key: a row is unfinished (status 0) while its request runs under a
 * lease, and holds the answer afterwards. touched_ms is when it was taken or finished.
 */
#include "metadata/sqlite/metadata_sqlite.h"

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
