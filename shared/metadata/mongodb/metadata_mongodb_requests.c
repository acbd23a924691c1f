/*
 * Requests with an Idempotency-Key: {_id, nonce, leaseMs, touchedMs, finished, answer}. Taking one is
 * an insert, or a change of exactly what was seen; then the rows are asked whether a request that
 * had lost the key made or changed a file after all. A request that changes several rows notes its
 * answer first (`plan`): who takes the key after it was interrupted carries the plan out.
 */
#include <string.h>

#include "metadata/mongodb/metadata_mongodb.h"

#define TRIES 8 /* to take a key that others take and leave meanwhile */

struct begin_args {
    const struct idempotency_claim *claim;
    struct idempotency_record *record;
    struct mongodb_session *session;
    struct mongodb_request request;
    char answer_key[MONGODB_ANSWER_KEY_SIZE];
    bool done; /* the record is filled */
    /* the request's document, as it was seen */
    bool found;
    bool running; /* by another */
    bson_t *seen;
};

static bool is_kept(const struct begin_args *begin, int64_t ms)
{
    return ms > begin->claim->now_ms - LIMIT_IDEMPOTENCY_KEEP_MS;
}

/* ---- answers that rows hold ---- */

static enum err_code judge_row(void *context, const bson_t *row, struct err *err)
{
    struct begin_args *begin = context;
    struct str wanted = str_of(begin->answer_key);
    bson_t answer;
    enum err_code code = ERR_OK;
    if (str_equal(mongodb_read_str(row, "answerKey"), wanted) &&
        mongodb_read_document(row, "answer", &answer)) {
        begin->done = is_kept(begin, mongodb_read_number(row, "answerMs"));
        return begin->done ? mongodb_read_answer(&answer, begin->record, err)
                           : mongodb_drop_answer(begin->session, row, err);
    }
    if (!str_equal(mongodb_read_str(row, "changeKey"), wanted) ||
        !mongodb_read_document(row, "change", &answer))
        return ERR_OK;
    begin->done = is_kept(begin, mongodb_read_number(row, "changeMs"));
    if (begin->done)
        code = mongodb_read_answer(&answer, begin->record, err);
    return code == ERR_OK ? mongodb_settle_change(begin->session, row, err) : code;
}

static enum err_code ask_rows(struct begin_args *begin, struct err *err)
{
    static const char *const fields[] = {"answerKey", "changeKey"};
    enum err_code code = ERR_OK;
    for (size_t i = 0; code == ERR_OK && !begin->done && i < 2; i++) {
        bson_t filter = BSON_INITIALIZER;
        const struct mongodb_question question = {
            .collection = COLLECTION_FILES, .filter = &filter, .told = judge_row, .context = begin};
        mongodb_put_text(&filter, fields[i], begin->answer_key);
        code = mongodb_find(begin->session, &question, err);
        bson_destroy(&filter);
    }
    return code;
}

/* ---- the request's document ---- */

static void put_claim(bson_t *document, const struct idempotency_claim *claim)
{
    mongodb_put_str(document, "nonce", claim->nonce);
    mongodb_put_number(document, "leaseMs", claim->lease_until_ms);
    mongodb_put_number(document, "touchedMs", claim->now_ms);
    bson_append_bool(document, "finished", -1, false);
    mongodb_put_ends(document, claim->now_ms);
}

static enum err_code take_new(struct begin_args *begin, struct err *err)
{
    bson_t document = BSON_INITIALIZER;
    mongodb_put_text(&document, "_id", begin->request.id);
    put_claim(&document, begin->claim);
    enum err_code code = mongodb_insert(begin->session, COLLECTION_REQUESTS, &document, err);
    bson_destroy(&document);
    return code;
}

static enum err_code judge_request(void *context, const bson_t *document, struct err *err)
{
    struct begin_args *begin = context;
    bson_t answer;
    bool finished = mongodb_read_bool(document, "finished");
    begin->found = true;
    bson_destroy(begin->seen);
    begin->seen = bson_copy(document);
    if (finished && is_kept(begin, mongodb_read_number(document, "touchedMs")) &&
        mongodb_read_document(document, "answer", &answer)) {
        begin->done = true;
        return mongodb_read_answer(&answer, begin->record, err);
    }
    begin->running = !finished &&
                     lease_holds(mongodb_read_number(document, "leaseMs"), begin->claim->now_ms,
                                 begin->claim->lease_until_ms) &&
                     !str_equal(mongodb_read_str(document, "nonce"), begin->claim->nonce);
    if (!finished && is_kept(begin, mongodb_read_number(document, "touchedMs")) &&
        mongodb_read_document(document, "plan", &answer))
        return mongodb_read_answer(&answer, begin->record, err);
    begin->record->fingerprint[0] = '\0';
    return ERR_OK;
}

static enum err_code ask_request(struct begin_args *begin, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_REQUESTS,
                                              .filter = &filter,
                                              .told = judge_request,
                                              .context = begin};
    begin->found = false;
    begin->running = false;
    mongodb_put_text(&filter, "_id", begin->request.id);
    enum err_code code = mongodb_find(begin->session, &question, err);
    bson_destroy(&filter);
    return code;
}

/* Takes the document over if it still is what was seen. */
static enum err_code take_over(struct begin_args *begin, bool *ret_taken, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t inner;
    const struct mongodb_change change = {COLLECTION_REQUESTS, &filter, &update, false};
    mongodb_put_text(&filter, "_id", begin->request.id);
    mongodb_put_str(&filter, "nonce", mongodb_read_str(begin->seen, "nonce"));
    mongodb_put_number(&filter, "leaseMs", mongodb_read_number(begin->seen, "leaseMs"));
    mongodb_put_number(&filter, "touchedMs", mongodb_read_number(begin->seen, "touchedMs"));
    bson_append_bool(&filter, "finished", -1, mongodb_read_bool(begin->seen, "finished"));
    bson_append_document_begin(&update, "$set", -1, &inner);
    put_claim(&inner, begin->claim);
    bson_append_document_end(&update, &inner);
    bson_append_document_begin(&update, "$unset", -1, &inner);
    mongodb_put_text(&inner, "answer", "");
    if (begin->record->fingerprint[0] == '\0')
        mongodb_put_text(&inner, "plan", "");
    bson_append_document_end(&update, &inner);
    enum err_code code = mongodb_update(begin->session, &change, ret_taken, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code;
}

/* ---- begin ---- */

/* The request's document while it is held by the nonce. */
static enum err_code put_ours(bson_t *filter, const struct idempotency_claim *claim,
                              struct err *err)
{
    struct mongodb_request request;
    enum err_code code = mongodb_request_id(claim->owner, claim->key, &request, err);
    if (code != ERR_OK)
        return code;
    mongodb_put_text(filter, "_id", request.id);
    mongodb_put_str(filter, "nonce", claim->nonce);
    bson_append_bool(filter, "finished", -1, false);
    return ERR_OK;
}

/* The request's document is free from now on, with what else it holds. */
static enum err_code end_lease(struct mongodb_session *session,
                               const struct idempotency_claim *claim, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t set;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_REQUESTS, &filter, &update, false};
    enum err_code code = put_ours(&filter, claim, err);
    bson_append_document_begin(&update, "$set", -1, &set);
    mongodb_put_number(&set, "leaseMs", 0);
    bson_append_document_end(&update, &set);
    if (code == ERR_OK)
        code = mongodb_update(session, &change, &matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code;
}

/* A plan stays: rows may have been changed by it. */
static enum err_code drop(struct mongodb_session *session, const struct idempotency_claim *claim,
                          struct err *err)
{
    int64_t removed = 0;
    bson_t filter = BSON_INITIALIZER;
    enum err_code code = put_ours(&filter, claim, err);
    mongodb_put_absent(&filter, "plan");
    if (code == ERR_OK)
        code = mongodb_delete(session, COLLECTION_REQUESTS, &filter, &removed, err);
    bson_destroy(&filter);
    return code == ERR_OK && removed == 0 ? end_lease(session, claim, err) : code;
}

/* One try: *ret_taken when the key is ours now; else the record says why not, or neither. */
static enum err_code try_to_take(struct begin_args *begin, bool *ret_taken, struct err *err)
{
    begin->record->fingerprint[0] = '\0';
    enum err_code code = take_new(begin, err);
    *ret_taken = code == ERR_OK;
    if (code != ERR_EXISTS)
        return code;
    code = ask_request(begin, err);
    if (code != ERR_OK || begin->done || !begin->found)
        return code;
    return begin->running ? ask_rows(begin, err) : take_over(begin, ret_taken, err);
}

static enum err_code begin_request(struct mongodb_session *session, void *args, struct err *err)
{
    struct begin_args *begin = args;
    bool taken = false;
    enum err_code code = ERR_OK;
    begin->session = session;
    for (int i = 0; code == ERR_OK && i < TRIES; i++) {
        begin->done = begin->running = false;
        code = try_to_take(begin, &taken, err);
        if (code != ERR_OK || begin->done)
            return code;
        if (begin->running || taken)
            break;
    }
    begin->record->state = taken ? IDEMPOTENCY_STARTED : IDEMPOTENCY_RUNNING;
    if (code == ERR_OK && taken)
        code = ask_rows(begin, err);
    return code == ERR_OK && taken && begin->done ? drop(session, begin->claim, err) : code;
}

static enum err_code idempotency_begin(void *state, const struct idempotency_claim *claim,
                                       struct idempotency_record *ret_record, struct err *err)
{
    struct idempotency_record record;
    struct begin_args args = {.claim = claim, .record = &record};
    enum err_code code = mongodb_request_id(claim->owner, claim->key, &args.request, err);
    if (code != ERR_OK)
        return code;
    snprintf(args.answer_key, sizeof args.answer_key, "k:%s", args.request.id);
    idempotency_record_init(&record);
    code = mongodb_run(state, begin_request, &args, err);
    bson_destroy(args.seen);
    if (code != ERR_OK) {
        idempotency_record_release(&record);
        return code;
    }
    idempotency_record_release(ret_record);
    *ret_record = record;
    return ERR_OK;
}

/* ---- renew, finish, release ---- */

static enum err_code renew(struct mongodb_session *session, void *args, struct err *err)
{
    const struct idempotency_claim *claim = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t set;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_REQUESTS, &filter, &update, false};
    enum err_code code = put_ours(&filter, claim, err);
    bson_append_document_begin(&update, "$set", -1, &set);
    mongodb_put_number(&set, "leaseMs", claim->lease_until_ms);
    bson_append_document_end(&update, &set);
    if (code == ERR_OK)
        code = mongodb_update(session, &change, &matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code == ERR_OK && !matched ? mongodb_lease_lost(err) : code;
}

static enum err_code idempotency_renew(void *state, const struct idempotency_claim *claim,
                                       struct err *err)
{
    struct idempotency_claim args = *claim;
    return mongodb_run(state, renew, &args, err);
}

struct finish_args {
    const struct idempotency_answer *answer;
    int64_t now_ms;
};

struct finished {
    struct str nonce;
    bool is_ours;
};

static enum err_code judge_finished(void *context, const bson_t *document, struct err *err)
{
    struct finished *finished = context;
    (void)err;
    finished->is_ours = mongodb_read_bool(document, "finished") &&
                        str_equal(mongodb_read_str(document, "nonce"), finished->nonce);
    return ERR_OK;
}

/* Did our first run finish it? */
static enum err_code not_finished(struct mongodb_session *session,
                                  const struct idempotency_answer *answer, struct err *err)
{
    struct mongodb_request request;
    struct finished finished = {answer->nonce, false};
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_REQUESTS,
                                              .filter = &filter,
                                              .told = judge_finished,
                                              .context = &finished};
    enum err_code code = mongodb_request_id(answer->owner, answer->key, &request, err);
    mongodb_put_text(&filter, "_id", request.id);
    if (code == ERR_OK && session->unknown)
        code = mongodb_find(session, &question, err);
    bson_destroy(&filter);
    if (code != ERR_OK || finished.is_ours)
        return code;
    return session->unknown ? mongodb_doubtful(err) : mongodb_lease_lost(err);
}

/* `update` of the request that is to be the answer's. */
static enum err_code change_request(struct mongodb_session *session,
                                    const struct idempotency_answer *answer, const bson_t *update,
                                    struct err *err)
{
    const struct idempotency_claim claim = {
        .owner = answer->owner, .key = answer->key, .nonce = answer->nonce};
    bson_t filter = BSON_INITIALIZER;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_REQUESTS, &filter, update, false};
    enum err_code code = put_ours(&filter, &claim, err);
    if (code == ERR_OK)
        code = mongodb_update(session, &change, &matched, err);
    bson_destroy(&filter);
    return code == ERR_OK && !matched ? not_finished(session, answer, err) : code;
}

enum err_code mongodb_plan_answer(struct mongodb_session *session,
                                  const struct idempotency_answer *answer, struct err *err)
{
    bson_t update = BSON_INITIALIZER;
    bson_t set;
    bson_t plan;
    bson_append_document_begin(&update, "$set", -1, &set);
    bson_append_document_begin(&set, "plan", -1, &plan);
    mongodb_make_answer(&plan, answer);
    bson_append_document_end(&set, &plan);
    bson_append_document_end(&update, &set);
    enum err_code code = change_request(session, answer, &update, err);
    bson_destroy(&update);
    return code;
}

enum err_code mongodb_finish_request(struct mongodb_session *session,
                                     const struct idempotency_answer *answer, int64_t now_ms,
                                     struct err *err)
{
    bson_t update = BSON_INITIALIZER;
    bson_t document = BSON_INITIALIZER;
    bson_t inner;
    mongodb_make_answer(&document, answer);
    bson_append_document_begin(&update, "$set", -1, &inner);
    mongodb_put_finished(&inner, &document, now_ms);
    bson_append_document_end(&update, &inner);
    bson_append_document_begin(&update, "$unset", -1, &inner);
    mongodb_put_text(&inner, "plan", "");
    bson_append_document_end(&update, &inner);
    enum err_code code = change_request(session, answer, &update, err);
    bson_destroy(&document);
    bson_destroy(&update);
    return code;
}

static enum err_code finish(struct mongodb_session *session, void *args, struct err *err)
{
    const struct finish_args *finish = args;
    return mongodb_finish_request(session, finish->answer, finish->now_ms, err);
}

static enum err_code idempotency_finish(void *state, const struct idempotency_answer *answer,
                                        int64_t now_ms, struct err *err)
{
    struct finish_args args = {answer, now_ms};
    return mongodb_run(state, finish, &args, err);
}

static enum err_code release(struct mongodb_session *session, void *args, struct err *err)
{
    return drop(session, args, err);
}

static enum err_code idempotency_release(void *state, const struct idempotency_claim *claim,
                                         struct err *err)
{
    struct idempotency_claim args = *claim;
    return mongodb_run(state, release, &args, err);
}

const struct metadata_requests mongodb_requests = {
    .idempotency_begin = idempotency_begin,
    .idempotency_renew = idempotency_renew,
    .idempotency_finish = idempotency_finish,
    .idempotency_release = idempotency_release,
    .idempotency_trim = mongodb_trim_answers,
};

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
