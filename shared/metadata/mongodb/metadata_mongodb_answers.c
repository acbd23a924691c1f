/*
 * Answers to requests with an Idempotency-Key. The answer of a new file is part of its row until
 * the row goes or the answer is too old; that of a change is part of the row (`change`) until it
 * has been copied to the request ("settled"). So an answer stands and falls with its change, and
 * answerKey, which is unique, makes one file of one key whoever holds the lease.
 */
#include "base/crash.h"
#include "metadata/mongodb/metadata_mongodb.h"
#include <stdio.h>

#define DAY_MS (24LL * 3600 * 1000)

enum err_code mongodb_request_id(struct str owner, struct str key,
                                 struct mongodb_request *ret_request, struct err *err)
{
    if (owner.len <= LIMIT_OWNER_BYTES && key.len <= LIMIT_IDEMPOTENCY_KEY_BYTES) {
        int digits = snprintf(NULL, 0, "%zu", owner.len);
        int len = snprintf(ret_request->id, sizeof ret_request->id, "%zu:%.*s:%.*s", owner.len,
                           (int)owner.len, owner.data ? owner.data : "", (int)key.len,
                           key.data ? key.data : "");
        if ((size_t)len == (size_t)digits + owner.len + key.len + 2) /* no NUL in it */
            return ERR_OK;
    }
    return err_set_internal(err, ERR_INTERNAL, 0, "request", "An owner or key that cannot be.");
}

static enum err_code answer_key(const struct idempotency_answer *answer,
                                char target[MONGODB_ANSWER_KEY_SIZE], struct err *err)
{
    struct mongodb_request request;
    enum err_code code = mongodb_request_id(answer->owner, answer->key, &request, err);
    if (code == ERR_OK)
        snprintf(target, MONGODB_ANSWER_KEY_SIZE, "k:%s", request.id);
    return code;
}

void mongodb_make_answer(bson_t *document, const struct idempotency_answer *answer)
{
    mongodb_put_str(document, "nonce", answer->nonce);
    mongodb_put_str(document, "fingerprint", answer->fingerprint);
    bson_append_int32(document, "status", -1, answer->status);
    mongodb_put_str(document, "location", answer->location);
    mongodb_put_str(document, "etag", answer->etag);
    mongodb_put_str(document, "body", answer->body);
}

static void append_answer(bson_t *document, const char *name,
                          const struct idempotency_answer *answer)
{
    bson_t inner;
    bson_append_document_begin(document, name, -1, &inner);
    mongodb_make_answer(&inner, answer);
    bson_append_document_end(document, &inner);
}

enum err_code mongodb_read_answer(const bson_t *answer, struct idempotency_record *record,
                                  struct err *err)
{
    record->state = IDEMPOTENCY_DONE;
    record->status = (int)mongodb_read_number(answer, "status");
    bool fits =
        mongodb_read_text(answer, "fingerprint", record->fingerprint, sizeof record->fingerprint);
    buf_reset(&record->location);
    buf_reset(&record->etag);
    buf_reset(&record->body);
    buf_append_str(&record->location, mongodb_read_str(answer, "location"));
    buf_append_str(&record->etag, mongodb_read_str(answer, "etag"));
    buf_append_str(&record->body, mongodb_read_str(answer, "body"));
    if (fits && !record->location.failed && !record->etag.failed && !record->body.failed)
        return ERR_OK;
    return err_set_internal(err, ERR_NO_MEMORY, 0, "begin request", "The answer does not fit.");
}

enum err_code mongodb_put_answer(bson_t *document, const struct file *file,
                                 const struct idempotency_answer *answer, struct err *err)
{
    char key[MONGODB_ANSWER_KEY_SIZE] = "";
    if (!answer)
        return ERR_OK;
    enum err_code code = answer_key(answer, key, err);
    mongodb_put_text(document, "answerKey", key);
    append_answer(document, "answer", answer);
    mongodb_put_number(document, "answerMs", file->created_ms);
    return code;
}

enum err_code mongodb_put_change(bson_t *set, const struct idempotency_answer *answer,
                                 int64_t now_ms, struct err *err)
{
    char key[MONGODB_ANSWER_KEY_SIZE] = "";
    enum err_code code = answer_key(answer, key, err);
    mongodb_put_text(set, "changeKey", key);
    append_answer(set, "change", answer);
    mongodb_put_number(set, "changeMs", now_ms);
    return code;
}

/* ---- the lease ---- */

enum err_code mongodb_lease_lost(struct err *err)
{
    return err_set(err, ERR_CONFLICT, "idempotency lease",
                   "Another request with the same Idempotency-Key has taken over.");
}

struct lease_question {
    struct str nonce;
    bool is_ours;
};

static enum err_code judge_lease(void *context, const bson_t *document, struct err *err)
{
    struct lease_question *question = context;
    (void)err;
    question->is_ours = !mongodb_read_bool(document, "finished") &&
                        str_equal(mongodb_read_str(document, "nonce"), question->nonce);
    return ERR_OK;
}

enum err_code mongodb_check_lease(struct mongodb_session *session,
                                  const struct idempotency_answer *answer, struct err *err)
{
    struct mongodb_request request;
    struct lease_question lease = {answer->nonce, false};
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_REQUESTS,
                                              .filter = &filter,
                                              .told = judge_lease,
                                              .context = &lease};
    enum err_code code = mongodb_request_id(answer->owner, answer->key, &request, err);
    mongodb_put_text(&filter, "_id", request.id);
    if (code == ERR_OK)
        code = mongodb_find(session, &question, err);
    if (code == ERR_OK && !lease.is_ours)
        code = mongodb_lease_lost(err);
    bson_destroy(&filter);
    return code;
}

/* ---- requests ---- */

/* Bytes, as a document begins with them: a bson_t's own member may be read at its alignment only, which
 * sanitizers' stacks don't keep. */
static int64_t document_size(const bson_t *document)
{
    uint32_t size = 0;
    memcpy(&size, bson_get_data(document), sizeof size);
    return BSON_UINT32_FROM_LE(size);
}

void mongodb_put_finished(bson_t *set, const bson_t *answer, int64_t now_ms)
{
    bson_append_bool(set, "finished", -1, true);
    bson_append_document(set, "answer", -1, answer);
    mongodb_put_number(set, "size", document_size(answer));
    mongodb_put_number(set, "touchedMs", now_ms);
    mongodb_put_ends(set, now_ms);
}

/* A day later than the answer is asked for, so that the server's clock may be another. */
void mongodb_put_ends(bson_t *set, int64_t now_ms)
{
    bson_append_date_time(set, "endsAt", -1, now_ms + LIMIT_IDEMPOTENCY_KEEP_MS + DAY_MS);
}

/* The request has this answer from now on, unless it has one. */
static enum err_code settle(struct mongodb_session *session, struct str request,
                            const bson_t *answer, int64_t now_ms, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t set;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_REQUESTS, &filter, &update, true};
    mongodb_put_str(&filter, "_id", request);
    bson_append_bool(&filter, "finished", -1, false);
    bson_append_document_begin(&update, "$set", -1, &set);
    mongodb_put_finished(&set, answer, now_ms);
    bson_append_document_end(&update, &set);
    enum err_code code = mongodb_update(session, &change, &matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code == ERR_EXISTS ? ERR_OK : code;
}

/* ---- answers on rows ---- */

/* Where a row holds an answer. */
struct place {
    const char *key;
    const char *answer;
    const char *ms;
};
static const struct place place_new = {"answerKey", "answer", "answerMs"};
static const struct place place_change = {"changeKey", "change", "changeMs"};

/* Copies the answer, where the row has one, to its request. */
static enum err_code save(struct mongodb_session *session, const bson_t *row,
                          const struct place *place, struct err *err)
{
    bson_t answer;
    struct str key = mongodb_read_str(row, place->key);
    if (!str_starts_with(key, STR("k:")) || !mongodb_read_document(row, place->answer, &answer))
        return ERR_OK;
    const struct str request = {key.data + 2, key.len - 2};
    return settle(session, request, &answer, mongodb_read_number(row, place->ms), err);
}

/* Takes the answer off the row, unless it is another by now. */
static enum err_code take_off(struct mongodb_session *session, const bson_t *row,
                              const struct place *place, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t unset;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_FILES, &filter, &update, false};
    mongodb_put_str(&filter, "_id", mongodb_read_str(row, "_id"));
    mongodb_put_str(&filter, place->key, mongodb_read_str(row, place->key));
    bson_append_document_begin(&update, "$unset", -1, &unset);
    mongodb_put_text(&unset, place->answer, "");
    mongodb_put_text(&unset, place->ms, "");
    mongodb_put_text(&unset, place->key, "");
    bson_append_document_end(&update, &unset);
    enum err_code code = mongodb_update(session, &change, &matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code;
}

enum err_code mongodb_settle_change(struct mongodb_session *session, const bson_t *row,
                                    struct err *err)
{
    enum err_code code = save(session, row, &place_change, err);
    crash_point("update.settled");
    return code == ERR_OK ? take_off(session, row, &place_change, err) : code;
}

enum err_code mongodb_save_answers(struct mongodb_session *session, const bson_t *row,
                                   struct err *err)
{
    enum err_code code = save(session, row, &place_new, err);
    return code == ERR_OK ? save(session, row, &place_change, err) : code;
}

enum err_code mongodb_drop_answer(struct mongodb_session *session, const bson_t *row,
                                  struct err *err)
{
    return take_off(session, row, &place_new, err);
}
