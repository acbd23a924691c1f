#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "metadata/mongodb/metadata_mongodb.h"

void mongodb_put_text(bson_t *document, const char *name, const char *text)
{
    mongodb_put_str(document, name, str_of(text));
}

void mongodb_put_str(bson_t *document, const char *name, struct str text)
{
    bson_append_utf8(document, name, -1, text.data ? text.data : "", (int)text.len);
}

void mongodb_put_number(bson_t *document, const char *name, int64_t value)
{
    bson_append_int64(document, name, -1, value);
}

void mongodb_put_compared(bson_t *document, const char *name, const char *operator_name,
                          int64_t value)
{
    bson_t inner;
    bson_append_document_begin(document, name, -1, &inner);
    mongodb_put_number(&inner, operator_name, value);
    bson_append_document_end(document, &inner);
}

void mongodb_put_absent(bson_t *filter, const char *name)
{
    bson_t inner;
    bson_append_document_begin(filter, name, -1, &inner);
    bson_append_bool(&inner, "$exists", -1, false);
    bson_append_document_end(filter, &inner);
}

void mongodb_put_any_of(bson_t *document, const char *name, const char *const *values, size_t count)
{
    bson_t inner;
    bson_t list;
    char buffer[16];
    bson_append_document_begin(document, name, -1, &inner);
    bson_append_array_begin(&inner, "$in", -1, &list);
    for (size_t i = 0; i < count; i++) {
        const char *index = NULL;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof buffer);
        mongodb_put_text(&list, index, values[i]);
    }
    bson_append_array_end(&inner, &list);
    bson_append_document_end(document, &inner);
}

void mongodb_put_each(bson_t *document, const char *name, const char *const *members, size_t count,
                      int value)
{
    bson_t inner;
    bson_append_document_begin(document, name, -1, &inner);
    for (size_t i = 0; i < count; i++)
        bson_append_int32(&inner, members[i], -1, value);
    bson_append_document_end(document, &inner);
}

void mongodb_put_one(bson_t *document, const char *name, const char *member)
{
    mongodb_put_each(document, name, &member, 1, 1);
}

bool mongodb_has(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name);
}

struct str mongodb_read_str(const bson_t *document, const char *name)
{
    bson_iter_t at;
    uint32_t len = 0;
    if (!bson_iter_init_find(&at, document, name) || !BSON_ITER_HOLDS_UTF8(&at))
        return (struct str){"", 0};
    const char *text = bson_iter_utf8(&at, &len);
    return (struct str){text, len};
}

bool mongodb_read_text(const bson_t *document, const char *name, char *target, size_t size)
{
    return str_copy(target, size, mongodb_read_str(document, name));
}

int64_t mongodb_read_number(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name) ? bson_iter_as_int64(&at) : 0;
}

bool mongodb_read_bool(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name) && bson_iter_as_bool(&at);
}

bool mongodb_read_document(const bson_t *document, const char *name, bson_t *ret_inner)
{
    bson_iter_t at;
    uint32_t len = 0;
    const uint8_t *bytes = NULL;
    if (!bson_iter_init_find(&at, document, name) || !BSON_ITER_HOLDS_DOCUMENT(&at))
        return false;
    bson_iter_document(&at, &len, &bytes);
    return bson_init_static(ret_inner, bytes, len);
}

/* ---- files ---- */

/*
 * A row of `files` (docs/decisions/0021): what a question asks by is a member of its own, what most
 * rows share is not written, what nothing asks by is one value.
 *   _id name mime size createdMs key
 *   owner charset                  not written when empty
 *   untilMs                        it is seen before then; MONGODB_NEVER; 0: marked deleted
 *   detail                         "<sha256> <bucket> <tag>"
 *   revision                       its version less one, so that $inc counts from no member; not 0
 *   updatedMs                      unless it is createdMs of a row that is not marked deleted
 *   metadata visibility status     unless they are {}, private, ready
 *   by                             which call changed it last
 *   answerKey answer answerMs, changeKey change changeMs    "answers" below
 */
static const struct {
    const char *name;
    size_t offset;
    size_t size;
} texts[] = {
    {"_id", offsetof(struct file, id), sizeof(((struct file *)0)->id)},
    {"owner", offsetof(struct file, owner), sizeof(((struct file *)0)->owner)},
    {"name", offsetof(struct file, name), sizeof(((struct file *)0)->name)},
    {"mime", offsetof(struct file, mime), sizeof(((struct file *)0)->mime)},
    {"charset", offsetof(struct file, charset), sizeof(((struct file *)0)->charset)},
    {"key", offsetof(struct file, key), sizeof(((struct file *)0)->key)},
    {"metadata", offsetof(struct file, metadata), sizeof(((struct file *)0)->metadata)},
};

#define NO_METADATA "{}"
#define SHA256_HEX (sizeof(((struct file *)0)->sha256) - 1)
#define DETAIL_SIZE (SHA256_HEX + LIMIT_BUCKET_BYTES + LIMIT_TAG_BYTES + 3)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static int64_t until_ms_of(const struct file *file)
{
    if (file->status == FILE_DELETED)
        return 0;
    return file->expires_ms ? file->expires_ms : MONGODB_NEVER;
}

/* A fence has neither hash nor bucket. */
static bool is_detail(struct str sha256, struct str bucket)
{
    return (sha256.len == SHA256_HEX || sha256.len == 0) && str_find(sha256, ' ') == sha256.len &&
           str_find(bucket, ' ') == bucket.len;
}

static enum err_code put_detail(bson_t *document, const struct file *file, struct err *err)
{
    char detail[DETAIL_SIZE];
    snprintf(detail, sizeof detail, "%s %s %s", file->sha256, file->bucket, file->tag);
    if (!is_detail(str_of(file->sha256), str_of(file->bucket)) ||
        !bson_utf8_validate(detail, strlen(detail), false))
        return err_set_internal(err, ERR_INTERNAL, 0, "write row",
                                "A hash, bucket or tag cannot be written.");
    mongodb_put_text(document, "detail", detail);
    return ERR_OK;
}

static enum err_code read_detail(const bson_t *document, struct file *file, struct err *err)
{
    struct str rest = mongodb_read_str(document, "detail");
    struct str sha256 = str_cut(&rest, ' ');
    bool is_whole = str_find(rest, ' ') < rest.len;
    struct str bucket = str_cut(&rest, ' ');
    if (is_whole && is_detail(sha256, bucket) &&
        str_copy(file->sha256, sizeof file->sha256, sha256) &&
        str_copy(file->bucket, sizeof file->bucket, bucket) &&
        str_copy(file->tag, sizeof file->tag, rest))
        return ERR_OK;
    return err_set_internal(err, ERR_INTERNAL, 0, "read row", "A row's detail is malformed.");
}

void mongodb_put_state(bson_t *document, const struct file *file)
{
    if (strcmp(file->metadata, NO_METADATA) != 0)
        mongodb_put_text(document, "metadata", file->metadata);
    if (file->visibility != VISIBILITY_PRIVATE)
        bson_append_int32(document, "visibility", -1, (int32_t)file->visibility);
    if (file->status != FILE_READY)
        bson_append_int32(document, "status", -1, (int32_t)file->status);
    mongodb_put_number(document, "untilMs", until_ms_of(file));
    if (file->version != 1)
        mongodb_put_number(document, "revision", file->version - 1);
}

enum err_code mongodb_put_file(bson_t *document, const struct file *file, struct err *err)
{
    const char *base = (const char *)file;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const char *text = base + texts[i].offset;
        if (!bson_utf8_validate(text, strlen(text), false))
            return err_set_internal(err, ERR_INTERNAL, 0, "write row", "%s is no UTF-8.",
                                    texts[i].name);
        if (text != file->metadata && (*text || (text != file->owner && text != file->charset)))
            mongodb_put_text(document, texts[i].name, text);
    }
    mongodb_put_number(document, "size", file->size);
    mongodb_put_number(document, "createdMs", file->created_ms);
    /* Rows marked deleted are found by it. */
    if (file->updated_ms != file->created_ms || file->status == FILE_DELETED)
        mongodb_put_number(document, "updatedMs", file->updated_ms);
    mongodb_put_state(document, file);
    return put_detail(document, file, err);
}

enum err_code mongodb_read_file(const bson_t *document, struct file *ret_file, struct err *err)
{
    char *base = (char *)ret_file;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (!mongodb_read_text(document, texts[i].name, base + texts[i].offset, texts[i].size))
            return err_set_internal(err, ERR_INTERNAL, 0, "read row", "A row's %s is too long.",
                                    texts[i].name);
    if (!mongodb_has(document, "metadata"))
        memcpy(ret_file->metadata, NO_METADATA, sizeof NO_METADATA);
    ret_file->size = mongodb_read_number(document, "size");
    ret_file->created_ms = mongodb_read_number(document, "createdMs");
    ret_file->updated_ms = mongodb_has(document, "updatedMs")
                               ? mongodb_read_number(document, "updatedMs")
                               : ret_file->created_ms;
    ret_file->expires_ms = mongodb_read_number(document, "untilMs");
    if (ret_file->expires_ms == MONGODB_NEVER)
        ret_file->expires_ms = 0;
    ret_file->version = mongodb_read_version(document);
    ret_file->visibility = (enum visibility)mongodb_read_number(document, "visibility");
    ret_file->status = (enum file_status)mongodb_read_number(document, "status");
    return read_detail(document, ret_file, err);
}

int64_t mongodb_read_version(const bson_t *document)
{
    return mongodb_read_number(document, "revision") + 1;
}

void mongodb_put_version(bson_t *filter, int64_t version)
{
    if (version == 1)
        mongodb_put_absent(filter, "revision");
    else
        mongodb_put_number(filter, "revision", version - 1);
}

void mongodb_count_revision(bson_t *update)
{
    bson_t inner;
    bson_append_document_begin(update, "$inc", -1, &inner);
    mongodb_put_number(&inner, "revision", 1);
    bson_append_document_end(update, &inner);
}

void mongodb_put_visible(bson_t *filter, int64_t now_ms)
{
    mongodb_put_compared(filter, "untilMs", "$gt", now_ms);
}

void mongodb_put_expired(bson_t *filter, int64_t now_ms)
{
    bson_t inner;
    bson_append_document_begin(filter, "untilMs", -1, &inner);
    mongodb_put_number(&inner, "$gt", 0);
    mongodb_put_number(&inner, "$lte", now_ms);
    bson_append_document_end(filter, &inner);
}

void mongodb_put_kept(bson_t *filter)
{
    mongodb_put_visible(filter, 0);
}

bool mongodb_is_visible(const bson_t *document, int64_t now_ms)
{
    return mongodb_read_number(document, "untilMs") > now_ms;
}

/*
 * Answers to requests with an Idempotency-Key. The answer of a new file is part of its row until
 * the row goes or the answer is too old; that of a change is part of the row (`change`) until it
 * has been copied to the request ("settled"). So an answer stands and falls with its change, and
 * answerKey, which is unique, makes one file of one key whoever holds the lease.
 */

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

#define SETTINGS_ID "coffer" /* the one document of settings: schema and secret */

/*
 * As in SQLite each order has an index with and without the owner, ending in the id that breaks ties
 * and in untilMs (names also in the type), so that rows are passed over without being read. "until"
 * has what has expired, and at 0 what is marked deleted, oldest first. Only a sparse index of one
 * field leaves rows out: of several, one that a row has is enough to be in it.
 */
const struct mongodb_index mongodb_indexes[] = {
    {COLLECTION_FILES, "key", INDEX_UNIQUE, {"key"}},
    {COLLECTION_FILES, "answer_key", INDEX_UNIQUE_SPARSE, {"answerKey"}},
    {COLLECTION_FILES, "answer_ms", INDEX_SPARSE, {"answerMs"}},
    {COLLECTION_FILES, "change_key", INDEX_SPARSE, {"changeKey"}},
    {COLLECTION_FILES, "created", INDEX_PLAIN, {"createdMs", "_id", "untilMs"}},
    {COLLECTION_FILES, "name", INDEX_PLAIN, {"name", "_id", "untilMs", "mime"}},
    {COLLECTION_FILES, "size", INDEX_PLAIN, {"size", "_id", "untilMs"}},
    {COLLECTION_FILES, "mime", INDEX_PLAIN, {"mime", "createdMs", "_id", "untilMs"}},
    {COLLECTION_FILES, "owner_created", INDEX_PLAIN, {"owner", "createdMs", "_id", "untilMs"}},
    {COLLECTION_FILES, "owner_name", INDEX_PLAIN, {"owner", "name", "_id", "untilMs", "mime"}},
    {COLLECTION_FILES, "owner_size", INDEX_PLAIN, {"owner", "size", "_id", "untilMs"}},
    {COLLECTION_FILES, "owner_mime", INDEX_PLAIN, {"owner", "mime", "createdMs", "_id", "untilMs"}},
    {COLLECTION_FILES, "until", INDEX_PLAIN, {"untilMs", "updatedMs", "_id"}},
    {COLLECTION_FILES, "owner_until", INDEX_PLAIN, {"owner", "untilMs"}},
    {COLLECTION_REQUESTS, "touched", INDEX_PLAIN, {"touchedMs"}},
    {COLLECTION_REQUESTS, "ends", INDEX_ENDS_ROWS, {"endsAt"}},
};
const size_t mongodb_index_count = sizeof mongodb_indexes / sizeof mongodb_indexes[0];

/* ---- looking ---- */

struct settings {
    bool found;
    int64_t schema;
    bool has_secret;
    unsigned char secret[METADATA_SECRET_BYTES];
};

static enum err_code read_settings(void *context, const bson_t *document, struct err *err)
{
    struct settings *settings = context;
    bson_iter_t at;
    bson_subtype_t kind = BSON_SUBTYPE_BINARY;
    uint32_t len = 0;
    const uint8_t *bytes = NULL;
    (void)err;
    settings->found = true;
    settings->schema = mongodb_read_number(document, "schema");
    if (bson_iter_init_find(&at, document, "secret") && BSON_ITER_HOLDS_BINARY(&at))
        bson_iter_binary(&at, &kind, &len, &bytes);
    settings->has_secret = len == sizeof settings->secret;
    if (settings->has_secret)
        memcpy(settings->secret, bytes, len);
    return ERR_OK;
}

static enum err_code judge_settings(const struct settings *settings, struct err *err)
{
    if (!settings->found)
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "check schema",
                                "The MongoDB database is empty: set MONGODB_DATABASE to the one in "
                                "use, restore it, or run `coffer init` for a first start.");
    if (settings->schema > MONGODB_SCHEMA)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "The MongoDB database was written by a newer version of coffer "
                                "(schema %d, this one knows %d).",
                                (int)settings->schema, MONGODB_SCHEMA);
    if (settings->schema < MONGODB_SCHEMA)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "The MongoDB database has schema %d, this version reads %d only: "
                                "copy its files to SQLite by `coffer migrate` of the version "
                                "that wrote it, and from there to an empty database by this one.",
                                (int)settings->schema, MONGODB_SCHEMA);
    if (!settings->has_secret)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "The MongoDB database has lost its secret: restore it from a "
                                "backup.");
    return ERR_OK;
}

enum err_code mongodb_check_schema(struct mongodb_session *session,
                                   unsigned char ret_secret[METADATA_SECRET_BYTES], struct err *err)
{
    struct settings settings = {.found = false};
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_SETTINGS,
                                              .filter = &filter,
                                              .told = read_settings,
                                              .context = &settings};
    mongodb_put_text(&filter, "_id", SETTINGS_ID);
    enum err_code code = mongodb_find(session, &question, err);
    if (code == ERR_OK)
        code = judge_settings(&settings, err);
    if (code == ERR_OK && ret_secret)
        memcpy(ret_secret, settings.secret, sizeof settings.secret);
    explicit_bzero(&settings, sizeof settings);
    atomic_store_explicit(&session->db->ready, code == ERR_OK, memory_order_release);
    bson_destroy(&filter);
    return code;
}

enum err_code mongodb_missing_index(struct mongodb_session *session,
                                    const struct mongodb_index **ret_index, struct err *err)
{
    bson_error_t error = {0};
    bool found[sizeof mongodb_indexes / sizeof mongodb_indexes[0]] = {false};
    *ret_index = NULL;
    for (int i = 0; i < COLLECTION_COUNT; i++) {
        const bson_t *index = NULL;
        mongoc_collection_t *target = mongodb_collection(session, (enum mongodb_collection)i);
        mongoc_cursor_t *cursor = mongoc_collection_find_indexes_with_opts(target, NULL);
        while (mongoc_cursor_next(cursor, &index))
            for (size_t j = 0; j < mongodb_index_count; j++)
                found[j] |=
                    mongodb_indexes[j].collection == (enum mongodb_collection)i &&
                    str_equal(mongodb_read_str(index, "name"), str_of(mongodb_indexes[j].name));
        bool failed = mongoc_cursor_error(cursor, &error);
        mongoc_cursor_destroy(cursor);
        mongoc_collection_destroy(target);
        if (failed)
            return mongodb_failed(session, false, &error, "check indexes", err);
    }
    for (size_t j = mongodb_index_count; j-- > 0;)
        if (!found[j] && mongodb_indexes[j].kind != INDEX_ENDS_ROWS)
            *ret_index = &mongodb_indexes[j];
    return ERR_OK;
}

/* ---- init ---- */

static void describe(const struct mongodb_index *index, bson_t *command)
{
    bson_t list;
    bson_t one;
    bson_t fields;
    mongodb_put_text(command, "createIndexes", mongodb_collection_name(index->collection));
    bson_append_array_begin(command, "indexes", -1, &list);
    bson_append_document_begin(&list, "0", -1, &one);
    bson_append_document_begin(&one, "key", -1, &fields);
    for (size_t i = 0; i < sizeof index->fields / sizeof index->fields[0] && index->fields[i]; i++)
        bson_append_int32(&fields, index->fields[i], -1, 1);
    bson_append_document_end(&one, &fields);
    mongodb_put_text(&one, "name", index->name);
    if (index->kind == INDEX_UNIQUE || index->kind == INDEX_UNIQUE_SPARSE)
        bson_append_bool(&one, "unique", -1, true);
    if (index->kind == INDEX_SPARSE || index->kind == INDEX_UNIQUE_SPARSE)
        bson_append_bool(&one, "sparse", -1, true);
    if (index->kind == INDEX_ENDS_ROWS)
        bson_append_int32(&one, "expireAfterSeconds", -1, 0);
    bson_append_document_end(&list, &one);
    bson_append_array_end(command, &list);
}

/* One index a command: making what is there already is nothing. */
static enum err_code make_index(struct mongodb_session *session, const struct mongodb_index *index,
                                struct err *err)
{
    bson_error_t error = {0};
    bson_t command = BSON_INITIALIZER;
    enum err_code code = ERR_OK;
    describe(index, &command);
    mongoc_database_t *database =
        mongoc_client_get_database(session->client, session->db->database);
    if (!mongoc_database_write_command_with_opts(database, &command, NULL, NULL, &error))
        code = mongodb_failed(session, true, &error, "make index", err);
    mongoc_database_destroy(database);
    bson_destroy(&command);
    return code == ERR_INTERNAL && index->kind == INDEX_ENDS_ROWS ? ERR_OK : code;
}

static enum err_code note_document(void *context, const bson_t *document, struct err *err)
{
    (void)document;
    (void)err;
    *(bool *)context = true;
    return ERR_OK;
}

/* Files without settings: another program's database, or one that lost its settings. */
static enum err_code refuse_foreign(struct mongodb_session *session, struct err *err)
{
    bool has_files = false;
    bson_t all = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &all,
                                              .options = &options,
                                              .told = note_document,
                                              .context = &has_files};
    mongodb_put_number(&options, "limit", 1);
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&all);
    if (code == ERR_OK && has_files)
        code = err_set_internal(err, ERR_CONFIG, 0, "init",
                                "The MongoDB database holds files but no settings of coffer: it "
                                "is another program's, or must be restored from a backup.");
    return code;
}

static enum err_code write_settings(struct mongodb_session *session, struct err *err)
{
    unsigned char secret[METADATA_SECRET_BYTES];
    bson_t document = BSON_INITIALIZER;
    clock_random(session->db->clock, secret, sizeof secret);
    mongodb_put_text(&document, "_id", SETTINGS_ID);
    mongodb_put_number(&document, "schema", MONGODB_SCHEMA);
    bson_append_binary(&document, "secret", -1, BSON_SUBTYPE_BINARY, secret, sizeof secret);
    explicit_bzero(secret, sizeof secret);
    enum err_code code = mongodb_insert(session, COLLECTION_SETTINGS, &document, err);
    bson_destroy(&document);
    if (code == ERR_EXISTS && session->repeated)
        return ERR_OK;
    return code;
}

/* The settings come last: until then it is no database of ours, and init begins again. */
static enum err_code init(struct mongodb_session *session, void *args, struct err *err)
{
    (void)args;
    enum err_code code = mongodb_check_schema(session, NULL, err);
    bool is_current = code == ERR_OK;
    if (!is_current && (code != ERR_METADATA_UNAVAILABLE || session->again))
        return code;
    code = is_current ? ERR_OK : refuse_foreign(session, err);
    for (size_t i = 0; code == ERR_OK && i < mongodb_index_count; i++)
        code = make_index(session, &mongodb_indexes[i], err);
    if (code == ERR_OK && is_current)
        code = err_set_internal(err, ERR_EXISTS, 0, "init", "The database is there already.");
    else if (code == ERR_OK)
        code = write_settings(session, err);
    return code;
}

enum err_code mongodb_init(const struct config *config, const struct clock *clock, struct err *err)
{
    struct metadata_mongodb db = {.clock = clock};
    enum err_code code = mongodb_pool_open(&db, config, err);
    if (code == ERR_OK)
        code = mongodb_run_any(&db, init, NULL, err);
    if (db.pool)
        mongoc_client_pool_destroy(db.pool);
    return code;
}
