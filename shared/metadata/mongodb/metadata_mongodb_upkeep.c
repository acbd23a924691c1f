#include <stdlib.h>
#include <string.h>

#include "metadata/mongodb/metadata_mongodb.h"

#define PURGE_ROWS 500   /* requests removed, or answers taken off rows, in one go */
#define PENDING_MS 60000 /* an answer that is pending for so long was left by a dead process */

/* ---- rows in pages ---- */

static enum err_code note_row(void *context, const bson_t *document, struct err *err)
{
    struct file_rows *rows = context;
    if (rows->count == rows->limit)
        return ERR_OK;
    return mongodb_read_file(document, &rows->files[rows->count++], err);
}

static void put_after_id(bson_t *filter, const struct file_rows *rows)
{
    bson_t inner;
    bson_append_document_begin(filter, "_id", -1, &inner);
    mongodb_put_text(&inner, "$gt", rows->after_id);
    bson_append_document_end(filter, &inner);
}

static void put_deleted_after(bson_t *filter, const struct file_rows *rows)
{
    bson_t branches;
    bson_t branch;
    bson_append_array_begin(filter, "$or", -1, &branches);
    bson_append_document_begin(&branches, "0", -1, &branch);
    mongodb_put_number(&branch, "untilMs", 0);
    mongodb_put_compared(&branch, "updatedMs", "$gt", rows->after_ms);
    bson_append_document_end(&branches, &branch);
    bson_append_document_begin(&branches, "1", -1, &branch);
    mongodb_put_number(&branch, "untilMs", 0);
    mongodb_put_compared(&branch, "updatedMs", "$eq", rows->after_ms);
    put_after_id(&branch, rows);
    bson_append_document_end(&branches, &branch);
    bson_append_array_end(filter, &branches);
}

static void put_page_options(bson_t *options, const struct file_rows *rows)
{
    static const char *const order[] = {"updatedMs", "_id"};
    static const char *const left_out[] = {"answer", "change"};
    mongodb_put_each(options, "sort", rows->is_deleted ? order : order + 1,
                     rows->is_deleted ? 2 : 1, 1);
    mongodb_put_each(options, "projection", left_out, 2, 0);
    mongodb_put_number(options, "limit", rows->limit);
    mongodb_put_text(options, "hint", rows->is_deleted ? "until" : "_id_");
}

static enum err_code read_page(struct mongodb_session *session, void *args, struct err *err)
{
    struct file_rows *rows = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = note_row,
                                              .context = rows};
    if (rows->is_deleted)
        put_deleted_after(&filter, rows);
    else
        put_after_id(&filter, rows);
    put_page_options(&options, rows);
    rows->count = 0;
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static enum err_code read_rows(void *state, struct file_rows *rows, struct err *err)
{
    return mongodb_run(state, read_page, rows, err);
}

/* ---- small changes ---- */

struct status_args {
    const char *id;
    enum file_status status;
};

/* Never a row that is marked deleted: nobody reads it again. Nor does it mark: mark_deleted does. */
static enum err_code change_status(struct mongodb_session *session, void *args, struct err *err)
{
    const struct status_args *wanted = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t inner;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_FILES, &filter, &update, false};
    mongodb_put_text(&filter, "_id", wanted->id);
    mongodb_put_kept(&filter);
    bson_append_document_begin(&update, wanted->status == FILE_READY ? "$unset" : "$set", -1,
                               &inner);
    bson_append_int32(&inner, "status", -1, (int32_t)wanted->status);
    bson_append_document_end(&update, &inner);
    mongodb_count_revision(&update);
    enum err_code code = mongodb_update(session, &change, &matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    if (code == ERR_OK && !matched)
        code = err_set(err, ERR_NOT_FOUND, "set status", "There is no such file.");
    return code;
}

static enum err_code set_status(void *state, const char *id, enum file_status status,
                                struct err *err)
{
    struct status_args args = {id, status};
    if (status == FILE_DELETED)
        return err_set_internal(err, ERR_INTERNAL, 0, "set status", "Rows are marked otherwise.");
    return mongodb_run(state, change_status, &args, err);
}

struct lease_args {
    const struct named_lease *lease;
    bool held;
};

static enum err_code take_lease(struct mongodb_session *session, void *args, struct err *err)
{
    struct lease_args *taking = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t inner;
    bson_t branch;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_LEASES, &filter, &update, true};
    mongodb_put_text(&filter, "_id", taking->lease->name);
    bson_append_array_begin(&filter, "$or", -1, &inner);
    bson_append_document_begin(&inner, "0", -1, &branch);
    mongodb_put_text(&branch, "holder", taking->lease->holder);
    bson_append_document_end(&inner, &branch);
    bson_append_document_begin(&inner, "1", -1, &branch);
    mongodb_put_compared(&branch, "untilMs", "$lte", taking->lease->now_ms);
    bson_append_document_end(&inner, &branch);
    bson_append_document_begin(&inner, "2", -1, &branch);
    mongodb_put_compared(&branch, "untilMs", "$gt", taking->lease->until_ms + LIMIT_CLOCK_SKEW_MS);
    bson_append_document_end(&inner, &branch);
    bson_append_array_end(&filter, &inner);
    bson_append_document_begin(&update, "$set", -1, &inner);
    mongodb_put_text(&inner, "holder", taking->lease->holder);
    mongodb_put_number(&inner, "untilMs", taking->lease->until_ms);
    bson_append_document_end(&update, &inner);
    enum err_code code = mongodb_update(session, &change, &matched, err);
    taking->held = code == ERR_OK;
    bson_destroy(&update);
    bson_destroy(&filter);
    return code == ERR_EXISTS ? ERR_OK : code; /* another holds it */
}

static enum err_code lease(void *state, const struct named_lease *lease, bool *ret_held,
                           struct err *err)
{
    struct lease_args args = {lease, false};
    enum err_code code = mongodb_run(state, take_lease, &args, err);
    if (code == ERR_OK)
        *ret_held = args.held;
    return code;
}

/* ---- what a dead process left, and what is too old ---- */

struct settling {
    struct mongodb_session *session;
    bool changes; /* pending answers of changes; else answers that are too old */
    int64_t until_ms;
    int count;
};

static enum err_code settle_row(void *context, const bson_t *row, struct err *err)
{
    struct settling *settling = context;
    settling->count++;
    return settling->changes ? mongodb_settle_change(settling->session, row, err)
                             : mongodb_drop_answer(settling->session, row, err);
}

static enum err_code settle_some(struct settling *settling, struct err *err)
{
    const char *field = settling->changes ? "changeMs" : "answerMs";
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    bson_t inner;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = settle_row,
                                              .context = settling};
    if (settling->changes) { /* along its index, which only such rows are in */
        bson_append_document_begin(&filter, "changeKey", -1, &inner);
        mongodb_put_text(&inner, "$gte", "");
        bson_append_document_end(&filter, &inner);
    }
    mongodb_put_compared(&filter, field, "$lte", settling->until_ms);
    mongodb_put_number(&options, "limit", PURGE_ROWS);
    settling->count = 0;
    enum err_code code = mongodb_find(settling->session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static enum err_code settle_all(struct mongodb_session *session, bool changes, int64_t until_ms,
                                struct err *err)
{
    struct settling settling = {session, changes, until_ms, PURGE_ROWS};
    enum err_code code = ERR_OK;
    while (code == ERR_OK && settling.count == PURGE_ROWS)
        code = settle_some(&settling, err);
    return code;
}

struct purge_args {
    int64_t now_ms;
    size_t count;
    int64_t purged;
    char ids[PURGE_ROWS][MONGODB_REQUEST_SIZE];
    const char *pointers[PURGE_ROWS];
};

static enum err_code note_request(void *context, const bson_t *document, struct err *err)
{
    struct purge_args *purge = context;
    if (purge->count == PURGE_ROWS ||
        !mongodb_read_text(document, "_id", purge->ids[purge->count], MONGODB_REQUEST_SIZE))
        return err_set_internal(err, ERR_INTERNAL, 0, "purge", "A request's id is wrong.");
    purge->pointers[purge->count] = purge->ids[purge->count];
    purge->count++;
    return ERR_OK;
}

/* In portions, so that no command runs for long; a request that was taken again stays. */
static enum err_code purge_some(struct mongodb_session *session, struct purge_args *purge,
                                struct err *err)
{
    int64_t removed = 0;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_REQUESTS,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = note_request,
                                              .context = purge};
    mongodb_put_compared(&filter, "touchedMs", "$lte", purge->now_ms - LIMIT_IDEMPOTENCY_KEEP_MS);
    mongodb_put_number(&options, "limit", PURGE_ROWS);
    mongodb_put_one(&options, "projection", "_id");
    purge->count = 0;
    enum err_code code = mongodb_find(session, &question, err);
    if (code == ERR_OK && purge->count > 0) {
        mongodb_put_any_of(&filter, "_id", purge->pointers, purge->count);
        code = mongodb_delete(session, COLLECTION_REQUESTS, &filter, &removed, err);
    }
    purge->purged += removed;
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static enum err_code purge(struct mongodb_session *session, void *args, struct err *err)
{
    struct purge_args *purge = args;
    char wrong[LIMIT_OWNER_BYTES + 1];
    enum err_code code = settle_all(session, false, purge->now_ms - LIMIT_IDEMPOTENCY_KEEP_MS, err);
    if (code == ERR_OK)
        code = settle_all(session, true, purge->now_ms - PENDING_MS, err);
    do {
        if (code == ERR_OK)
            code = purge_some(session, purge, err);
    } while (code == ERR_OK && purge->count == PURGE_ROWS);
    return code == ERR_OK ? mongodb_settle_totals(session, wrong, err) : code;
}

static enum err_code purge_requests(void *state, int64_t now_ms, int *ret_purged, struct err *err)
{
    struct purge_args *args = calloc(1, sizeof *args);
    if (!args)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "purge", "Out of memory.");
    args->now_ms = now_ms;
    enum err_code code = mongodb_run(state, purge, args, err);
    if (code == ERR_OK)
        *ret_purged = (int)args->purged;
    free(args);
    return code;
}

/* ---- questions ---- */

struct keys_args {
    const char *const *keys;
    size_t count;
    bool *known;
};

static enum err_code note_key(void *context, const bson_t *document, struct err *err)
{
    const struct keys_args *asked = context;
    struct str key = mongodb_read_str(document, "key");
    (void)err;
    for (size_t i = 0; i < asked->count; i++)
        if (str_equal(key, str_of(asked->keys[i])))
            asked->known[i] = true;
    return ERR_OK;
}

static enum err_code find_keys(struct mongodb_session *session, void *args, struct err *err)
{
    struct keys_args *asked = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = note_key,
                                              .context = asked};
    mongodb_put_any_of(&filter, "key", asked->keys, asked->count);
    mongodb_put_one(&options, "projection", "key");
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static enum err_code keys_known(void *state, const char *const *keys, size_t count, bool *ret_known,
                                struct err *err)
{
    bool known[LIMIT_KEYS_ASKED] = {false};
    struct keys_args args = {keys, count, known};
    if (count > LIMIT_KEYS_ASKED)
        return err_set_internal(err, ERR_INTERNAL, 0, "find keys", "Too many keys at once.");
    enum err_code code = count > 0 ? mongodb_run(state, find_keys, &args, err) : ERR_OK;
    if (code == ERR_OK)
        memcpy(ret_known, known, count * sizeof *known);
    return code;
}

static enum err_code read_secret(struct mongodb_session *session, void *args, struct err *err)
{
    return mongodb_check_schema(session, args, err);
}

static enum err_code secret(void *state, unsigned char ret_secret[32], struct err *err)
{
    unsigned char bytes[METADATA_SECRET_BYTES];
    enum err_code code = mongodb_run(state, read_secret, bytes, err);
    if (code == ERR_OK)
        memcpy(ret_secret, bytes, sizeof bytes);
    explicit_bzero(bytes, sizeof bytes);
    return code;
}

/* Reads from the primary: without one, or without our settings, no call would succeed. */
static enum err_code ping(void *state, struct err *err)
{
    enum err_code code = mongodb_run_any(state, read_secret, NULL, err);
    if (code == ERR_CONFIG)
        code = err->code = ERR_METADATA_UNAVAILABLE;
    return code;
}

/* ---- the mark: a document of its own among the settings ---- */

#define MARK_ID "installation"

static enum err_code note_mark(void *context, const bson_t *document, struct err *err)
{
    if (mongodb_read_text(document, "text", context, METADATA_MARK_SIZE) && *(char *)context)
        return ERR_OK;
    return err_set_internal(err, ERR_CONFIG, 0, "read mark",
                            "The database's mark is not one of coffer.");
}

static enum err_code find_mark(struct mongodb_session *session, void *args, struct err *err)
{
    char *text = args;
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {
        .collection = COLLECTION_SETTINGS, .filter = &filter, .told = note_mark, .context = text};
    mongodb_put_text(&filter, "_id", MARK_ID);
    text[0] = '\0';
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&filter);
    if (code == ERR_OK && text[0] == '\0')
        code = err_set_internal(err, ERR_NOT_FOUND, 0, "read mark", "There is no mark.");
    return code;
}

static enum err_code read_mark(void *state, char ret_text[METADATA_MARK_SIZE], struct err *err)
{
    return mongodb_run(state, find_mark, ret_text, err);
}

struct mark_args {
    const char *expected;
    const char *text;
};

static enum err_code insert_mark(struct mongodb_session *session, const struct mark_args *mark,
                                 struct err *err)
{
    bson_t document = BSON_INITIALIZER;
    mongodb_put_text(&document, "_id", MARK_ID);
    mongodb_put_text(&document, "text", mark->text);
    enum err_code code = mongodb_insert(session, COLLECTION_SETTINGS, &document, err);
    bson_destroy(&document);
    return code == ERR_EXISTS ? ERR_CONFLICT : code;
}

static enum err_code update_mark(struct mongodb_session *session, const struct mark_args *mark,
                                 struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t inner;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_SETTINGS, &filter, &update, false};
    mongodb_put_text(&filter, "_id", MARK_ID);
    mongodb_put_text(&filter, "text", mark->expected);
    bson_append_document_begin(&update, "$set", -1, &inner);
    mongodb_put_text(&inner, "text", mark->text);
    bson_append_document_end(&update, &inner);
    enum err_code code = mongodb_update(session, &change, &matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code == ERR_OK && !matched ? ERR_CONFLICT : code;
}

/* A second run may find what the first one wrote. */
static enum err_code change_mark(struct mongodb_session *session, void *args, struct err *err)
{
    const struct mark_args *mark = args;
    char there[METADATA_MARK_SIZE];
    enum err_code code =
        *mark->expected ? update_mark(session, mark, err) : insert_mark(session, mark, err);
    if (code != ERR_CONFLICT)
        return code;
    if (session->repeated && find_mark(session, there, err) == ERR_OK &&
        strcmp(there, mark->text) == 0)
        return ERR_OK;
    return err_set(err, ERR_CONFLICT, "write mark", "The mark has changed meanwhile.");
}

static enum err_code write_mark(void *state, const char *expected, const char *text,
                                struct err *err)
{
    struct mark_args args = {expected, text};
    return mongodb_run(state, change_mark, &args, err);
}

/* ---- check ---- */

static enum err_code check_database(struct mongodb_session *session, void *args, struct err *err)
{
    char wrong[LIMIT_OWNER_BYTES + 1] = "";
    const struct mongodb_index *missing = NULL;
    (void)args;
    enum err_code code = mongodb_missing_index(session, &missing, err);
    if (code == ERR_OK && missing)
        return err_set_internal(err, ERR_INTERNAL, 0, "check",
                                "The index \"%s\" of %s is missing: run `coffer init`.",
                                missing->name, mongodb_collection_name(missing->collection));
    if (code == ERR_OK)
        code = settle_all(session, true, INT64_MAX, err);
    if (code == ERR_OK)
        code = mongodb_settle_totals(session, wrong, err);
    if (code == ERR_OK && wrong[0] != '\0')
        return err_set_internal(err, ERR_INTERNAL, 0, "check",
                                "The kept totals differ from the rows (owner \"%.128s\").", wrong);
    return code;
}

/* What a process left half done when it died is put right in either case. */
static enum err_code check(void *state, bool repair, struct err *err)
{
    (void)repair;
    return mongodb_run(state, check_database, NULL, err);
}

const struct metadata_upkeep mongodb_upkeep = {
    .read_rows = read_rows,
    .mark_expired = mongodb_mark_expired,
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

/*
 * Bounds on the answers that are kept of an owner's requests. A file's own answer is on its row, and as
 * bounded as the owner's files; what is dropped here are documents of finished requests.
 */

#define TRIM_ROWS 200 /* removed in one go */
#define ROW_BYTES 256 /* about what a document takes besides its answer */

struct trim_args {
    const struct idempotency_bounds *bounds;
    int64_t keys; /* seen, the newest first */
    int64_t bytes;
    size_t count; /* beyond the bounds */
    char ids[TRIM_ROWS][MONGODB_REQUEST_SIZE];
    const char *pointers[TRIM_ROWS];
};

static enum err_code note_beyond(void *context, const bson_t *document, struct err *err)
{
    struct trim_args *trim = context;
    trim->keys++;
    trim->bytes += ROW_BYTES + mongodb_read_number(document, "size");
    if ((trim->keys <= trim->bounds->keys && trim->bytes <= trim->bounds->bytes) ||
        trim->count == TRIM_ROWS)
        return ERR_OK;
    if (!mongodb_read_text(document, "_id", trim->ids[trim->count], MONGODB_REQUEST_SIZE))
        return err_set_internal(err, ERR_INTERNAL, 0, "trim", "A request's id is wrong.");
    trim->pointers[trim->count] = trim->ids[trim->count];
    trim->count++;
    return ERR_OK;
}

/* Its documents' ids begin with the owner; ';' follows ':'. */
static enum err_code put_finished_of(bson_t *filter, struct str owner, struct err *err)
{
    struct mongodb_request first;
    bson_t inner;
    enum err_code code = mongodb_request_id(owner, STR(""), &first, err);
    if (code != ERR_OK)
        return code;
    bson_append_document_begin(filter, "_id", -1, &inner);
    mongodb_put_text(&inner, "$gte", first.id);
    first.id[strlen(first.id) - 1] = ';';
    mongodb_put_text(&inner, "$lt", first.id);
    bson_append_document_end(filter, &inner);
    bson_append_bool(filter, "finished", -1, true);
    return ERR_OK;
}

static enum err_code find_beyond(struct mongodb_session *session, struct trim_args *trim,
                                 struct err *err)
{
    static const char *const members[] = {"size", "touchedMs"};
    static const char *const order[] = {"touchedMs"};
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_REQUESTS,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = note_beyond,
                                              .context = trim};
    mongodb_put_each(&options, "sort", order, 1, -1);
    mongodb_put_each(&options, "projection", members, 2, 1);
    trim->keys = trim->bytes = 0;
    trim->count = 0;
    enum err_code code = put_finished_of(&filter, trim->bounds->owner, err);
    if (code == ERR_OK)
        code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static enum err_code trim_some(struct mongodb_session *session, void *args, struct err *err)
{
    struct trim_args *trim = args;
    int64_t removed = 0;
    bson_t filter = BSON_INITIALIZER;
    enum err_code code = find_beyond(session, trim, err);
    mongodb_put_any_of(&filter, "_id", trim->pointers, trim->count);
    bson_append_bool(&filter, "finished", -1, true);
    if (code == ERR_OK && trim->count > 0)
        code = mongodb_delete(session, COLLECTION_REQUESTS, &filter, &removed, err);
    bson_destroy(&filter);
    return code;
}

enum err_code mongodb_trim_answers(void *state, const struct idempotency_bounds *bounds,
                                   struct err *err)
{
    struct trim_args *args = calloc(1, sizeof *args);
    enum err_code code = ERR_OK;
    if (!args)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "trim", "Out of memory.");
    args->bounds = bounds;
    do {
        code = mongodb_run(state, trim_some, args, err);
    } while (code == ERR_OK && args->count == TRIM_ROWS);
    free(args);
    return code;
}
