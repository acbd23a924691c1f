#include <string.h>

#include "base/crash.h"
#include "metadata/mongodb/metadata_mongodb.h"

/* Tells of the row whose `field` is the value, if there is one. */
static enum err_code find_row(struct mongodb_session *session, struct mongodb_question question,
                              const char *field, const char *value, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    question.collection = COLLECTION_FILES;
    question.filter = &filter;
    mongodb_put_text(&filter, field, value);
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&filter);
    return code;
}

/* ---- insert ---- */

struct insert_args {
    const struct file *file;
    const struct idempotency_answer *answer;
};

/* The row that is in a new one's way. */
struct row_in_way {
    const bson_t *ours;
    bool found;
    bool is_ours;      /* the key, made for this upload, and the content are */
    bool is_unchanged; /* since it was inserted */
};

static enum err_code judge_row_in_way(void *context, const bson_t *row, struct err *err)
{
    struct row_in_way *in_way = context;
    const bson_t *ours = in_way->ours;
    (void)err;
    in_way->found = true;
    in_way->is_ours =
        str_equal(mongodb_read_str(row, "key"), mongodb_read_str(ours, "key")) &&
        str_equal(mongodb_read_str(row, "detail"), mongodb_read_str(ours, "detail")) &&
        mongodb_read_number(row, "createdMs") == mongodb_read_number(ours, "createdMs");
    in_way->is_unchanged =
        mongodb_read_version(row) == mongodb_read_version(ours) &&
        mongodb_read_number(row, "status") == mongodb_read_number(ours, "status");
    return ERR_OK;
}

/* Which unique index refused the row? Not every server says so. Only where the first run's reply was
 * lost may the row be our own. */
static enum err_code insert_refused(struct mongodb_session *session, const struct file *file,
                                    const bson_t *ours, struct err *err)
{
    struct row_in_way by_id = {.ours = ours};
    struct row_in_way by_key = {.ours = ours};
    const struct mongodb_question ask_id = {.told = judge_row_in_way, .context = &by_id};
    const struct mongodb_question ask_key = {.told = judge_row_in_way, .context = &by_key};
    enum err_code code = find_row(session, ask_id, "_id", file->id, err);
    if (code == ERR_OK && !by_id.found)
        code = find_row(session, ask_key, "key", file->key, err);
    if (code != ERR_OK)
        return code;
    if (session->unknown && by_id.is_ours)
        return by_id.is_unchanged ? ERR_OK : mongodb_doubtful(err);
    if (by_key.found) /* another row has the key: ours cannot be there */
        session->unknown = false;
    if (by_id.found || by_key.found)
        return err_set_internal(err, ERR_EXISTS, 0, "insert file", "The id or key is taken.");
    return session->unknown ? mongodb_doubtful(err) : mongodb_lease_lost(err);
}

static enum err_code insert_row(struct mongodb_session *session, const struct insert_args *insert,
                                struct err *err)
{
    bson_t document = BSON_INITIALIZER;
    enum err_code code = mongodb_put_file(&document, insert->file, err);
    if (code == ERR_OK)
        code = mongodb_put_answer(&document, insert->file, insert->answer, err);
    if (code == ERR_OK)
        code = mongodb_insert(session, COLLECTION_FILES, &document, err);
    if (code == ERR_EXISTS)
        code = insert_refused(session, insert->file, &document, err);
    bson_destroy(&document);
    return code;
}

static enum err_code insert(struct mongodb_session *session, void *args, struct err *err)
{
    const struct insert_args *insert = args;
    enum err_code code = ERR_OK;
    if (insert->answer && !session->unknown)
        code = mongodb_check_lease(session, insert->answer, err);
    crash_point("insert.before_commit");
    if (code == ERR_OK && insert->file->expires_ms)
        code = mongodb_note_expiry(session, insert->file->owner, err);
    if (code == ERR_OK)
        code = insert_row(session, insert, err);
    if (code != ERR_OK)
        return code;
    crash_point("insert.committed");
    if (insert->file->status != FILE_DELETED)
        mongodb_add_total(session, insert->file->owner, 1, insert->file->size);
    crash_point("insert.counted");
    return ERR_OK;
}

static enum err_code file_insert(void *state, const struct file *file,
                                 const struct idempotency_answer *answer, struct err *err)
{
    struct insert_args args = {file, answer};
    return mongodb_run(state, insert, &args, err);
}

/* ---- get ---- */

struct get_args {
    const char *id;
    int64_t now_ms;
    struct file file;
    bool found;
};

static enum err_code read_row(void *context, const bson_t *document, struct err *err)
{
    struct get_args *get = context;
    get->found = mongodb_is_visible(document, get->now_ms);
    return get->found ? mongodb_read_file(document, &get->file, err) : ERR_OK;
}

static enum err_code get(struct mongodb_session *session, void *args, struct err *err)
{
    struct get_args *get = args;
    const struct mongodb_question question = {.told = read_row, .context = get};
    get->found = false;
    enum err_code code = find_row(session, question, "_id", get->id, err);
    if (code == ERR_OK && !get->found)
        code = err_set(err, ERR_NOT_FOUND, "get file", "There is no such file.");
    return code;
}

static enum err_code file_get(void *state, const char *id, int64_t now_ms, struct file *ret_file,
                              struct err *err)
{
    struct get_args args = {.id = id, .now_ms = now_ms};
    enum err_code code = mongodb_run(state, get, &args, err);
    if (code == ERR_OK)
        *ret_file = args.file;
    return code;
}

/* ---- update ---- */

struct update_args {
    const struct file *file;
    int64_t expected_version;
    const struct idempotency_answer *answer;
};

/* What the row need not have any more. */
static void put_unset(bson_t *update, const bson_t *set)
{
    static const char *const names[] = {"metadata", "visibility", "status"};
    bson_t unset = BSON_INITIALIZER;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!mongodb_has(set, names[i]))
            mongodb_put_text(&unset, names[i], "");
    if (!bson_empty(&unset))
        bson_append_document(update, "$unset", -1, &unset);
    bson_destroy(&unset);
}

static enum err_code put_update(bson_t *update, const struct update_args *args, const char *by,
                                struct err *err)
{
    const struct file *file = args->file;
    bson_t set = BSON_INITIALIZER;
    enum err_code code = ERR_OK;
    if (!bson_utf8_validate(file->name, strlen(file->name), false) ||
        !bson_utf8_validate(file->metadata, strlen(file->metadata), false))
        return err_set_internal(err, ERR_INTERNAL, 0, "update file", "A text is no UTF-8.");
    mongodb_put_text(&set, "name", file->name);
    mongodb_put_state(&set, file);
    mongodb_put_number(&set, "updatedMs", file->updated_ms);
    mongodb_put_text(&set, "by", by);
    if (args->answer)
        code = mongodb_put_change(&set, args->answer, file->updated_ms, err);
    bson_append_document(update, "$set", -1, &set);
    put_unset(update, &set);
    bson_destroy(&set);
    return code;
}

static enum err_code update_row(struct mongodb_session *session, const struct update_args *args,
                                bool *ret_matched, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    const struct mongodb_change change = {COLLECTION_FILES, &filter, &update, false};
    mongodb_put_text(&filter, "_id", args->file->id);
    mongodb_put_version(&filter, args->expected_version);
    mongodb_put_visible(&filter, args->file->updated_ms);
    if (args->answer)
        mongodb_put_absent(&filter, "changeKey");
    enum err_code code = put_update(&update, args, session->by, err);
    if (code == ERR_OK)
        code = mongodb_update(session, &change, ret_matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code;
}

static enum err_code settle_row(void *context, const bson_t *document, struct err *err)
{
    return mongodb_settle_change(context, document, err);
}

/* The answer of this change or of one before goes from the row to its request. */
static enum err_code settle(struct mongodb_session *session, const char *id, struct err *err)
{
    const struct mongodb_question question = {.told = settle_row, .context = session};
    return find_row(session, question, "_id", id, err);
}

/* What a change that found no row asks about the row there is. */
struct row_state {
    bool found;
    bool is_visible;
    int64_t version;
    bool is_by_us; /* its last change is this call's own first run */
    bool has_pending_answer;
    int64_t now_ms;
    const char *by;
};

static enum err_code note_state(void *context, const bson_t *document, struct err *err)
{
    struct row_state *state = context;
    (void)err;
    state->found = true;
    state->is_visible = mongodb_is_visible(document, state->now_ms);
    state->version = mongodb_read_version(document);
    state->is_by_us = str_equal(mongodb_read_str(document, "by"), str_of(state->by));
    state->has_pending_answer = mongodb_has(document, "changeKey");
    return ERR_OK;
}

/* Why did an update find no row? ERR_OK: it is done, by our first run; *ret_again: another answer
 * was in its way. */
static enum err_code not_updated(struct mongodb_session *session, const struct update_args *args,
                                 bool *ret_again, struct err *err)
{
    struct row_state row = {.now_ms = args->file->updated_ms, .by = session->by};
    const struct mongodb_question question = {.told = note_state, .context = &row};
    enum err_code code = find_row(session, question, "_id", args->file->id, err);
    *ret_again = false;
    if (code != ERR_OK || (row.found && row.is_by_us))
        return code;
    if (session->unknown)
        return mongodb_doubtful(err);
    if (!row.is_visible)
        return err_set(err, ERR_NOT_FOUND, "change file", "There is no such file.");
    if (row.version == args->expected_version && row.has_pending_answer && args->answer) {
        *ret_again = true;
        return settle(session, args->file->id, err);
    }
    return err_set(err, ERR_CONFLICT, "change file", "The file was changed by another request.");
}

static enum err_code update(struct mongodb_session *session, void *args, struct err *err)
{
    const struct update_args *update = args;
    bool matched = false;
    bool again = true;
    enum err_code code = ERR_OK;
    if (update->answer && !session->unknown)
        code = mongodb_check_lease(session, update->answer, err);
    crash_point("update.before_commit");
    if (code == ERR_OK && update->file->expires_ms)
        code = mongodb_note_expiry(session, update->file->owner, err);
    while (code == ERR_OK && !matched && again) {
        code = update_row(session, update, &matched, err);
        if (code == ERR_OK && !matched)
            code = not_updated(session, update, &again, err);
    }
    if (code != ERR_OK)
        return code;
    crash_point("update.committed");
    if (update->file->status == FILE_DELETED)
        mongodb_add_total(session, update->file->owner, -1, -update->file->size);
    struct err ignored; /* whoever asks for the answer finds it on the row */
    if (update->answer && settle(session, update->file->id, &ignored) != ERR_OK)
        session->again = false;
    return ERR_OK;
}

static enum err_code file_update(void *state, const struct file *file, int64_t expected_version,
                                 const struct idempotency_answer *answer, struct err *err)
{
    struct update_args args = {file, expected_version, answer};
    return mongodb_run(state, update, &args, err);
}

/* ---- remove ---- */

struct remove_args {
    const char *id;
    bool seen; /* by the first run */
    struct mongodb_session *session;
};

static enum err_code save_answers(void *context, const bson_t *document, struct err *err)
{
    struct remove_args *args = context;
    args->seen = true;
    return mongodb_save_answers(args->session, document, err);
}

static enum err_code remove_row(struct mongodb_session *session, void *args, struct err *err)
{
    struct remove_args *wanted = args;
    int64_t removed = 0;
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {
        .collection = COLLECTION_FILES, .filter = &filter, .told = save_answers, .context = wanted};
    wanted->session = session;
    mongodb_put_text(&filter, "_id", wanted->id);
    mongodb_put_number(&filter, "untilMs", 0);
    enum err_code code = mongodb_find(session, &question, err);
    crash_point("remove.before_commit");
    if (code == ERR_OK && wanted->seen)
        code = mongodb_delete(session, COLLECTION_FILES, &filter, &removed, err);
    bson_destroy(&filter);
    if (code != ERR_OK)
        return code;
    crash_point("remove.committed");
    if (removed == 0 && !(wanted->seen && session->unknown))
        return err_set(err, ERR_NOT_FOUND, "remove row", "There is no such file.");
    return ERR_OK;
}

static enum err_code file_remove(void *state, const char *id, struct err *err)
{
    struct remove_args args = {.id = id};
    return mongodb_run(state, remove_row, &args, err);
}

const struct metadata_files mongodb_files = {
    .insert = file_insert,
    .get = file_get,
    .list = mongodb_file_list,
    .update = file_update,
    .mark_deleted = mongodb_mark_deleted,
    .remove = file_remove,
};
