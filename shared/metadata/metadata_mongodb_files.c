#include <string.h>

#include "base/crash.h"
#include "metadata/metadata_mongodb.h"

/* ---- looking at one row ---- */

/* What a change that found no row asks about the row there is. */
struct row_state {
    bool found;
    bool live;
    int64_t until_ms;
    int64_t version;
    bool is_by_us; /* its last change is this call's own first run */
    bool has_pending_answer;
    const char *by;
};

static enum err_code note_state(void *context, const bson_t *document, struct err *err)
{
    struct row_state *state = context;
    (void)err;
    state->found = true;
    state->live = mongodb_read_bool(document, "live");
    state->until_ms = mongodb_read_number(document, "untilMs");
    state->version = mongodb_read_number(document, "version");
    state->is_by_us = str_equal(mongodb_read_str(document, "by"), str_of(state->by));
    state->has_pending_answer = mongodb_has(document, "changeKey");
    return ERR_OK;
}

static enum err_code look_up(struct mongodb_session *session, const char *field, const char *value,
                             struct row_state *ret_state, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    *ret_state = (struct row_state){.by = session->by};
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &filter,
                                              .told = note_state,
                                              .context = ret_state};
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

/* Which unique index refused the row? Not every server says so. */
static enum err_code insert_refused(struct mongodb_session *session, const struct file *file,
                                    struct err *err)
{
    struct row_state by_id;
    struct row_state by_key;
    enum err_code code = look_up(session, "_id", file->id, &by_id, err);
    if (code != ERR_OK)
        return code;
    if (by_id.found && by_id.is_by_us)
        return ERR_OK; /* our first run did it, and its reply was lost */
    code = look_up(session, "key", file->key, &by_key, err);
    if (code != ERR_OK)
        return code;
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
    mongodb_put_text(&document, "by", session->by);
    if (code == ERR_OK)
        code = mongodb_insert(session, COLLECTION_FILES, &document, err);
    bson_destroy(&document);
    return code == ERR_EXISTS ? insert_refused(session, insert->file, err) : code;
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
    get->found = mongodb_read_bool(document, "live") &&
                 mongodb_read_number(document, "untilMs") > get->now_ms;
    return get->found ? mongodb_read_file(document, &get->file, err) : ERR_OK;
}

static enum err_code get(struct mongodb_session *session, void *args, struct err *err)
{
    struct get_args *get = args;
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {
        .collection = COLLECTION_FILES, .filter = &filter, .told = read_row, .context = get};
    get->found = false;
    mongodb_put_text(&filter, "_id", get->id);
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&filter);
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

static enum err_code put_update(bson_t *update, const struct update_args *args, const char *by,
                                struct err *err)
{
    const struct file *file = args->file;
    bson_t set;
    enum err_code code = ERR_OK;
    if (!bson_utf8_validate(file->name, strlen(file->name), false) ||
        !bson_utf8_validate(file->metadata, strlen(file->metadata), false))
        return err_set_internal(err, ERR_INTERNAL, 0, "update file", "A text is no UTF-8.");
    bson_append_document_begin(update, "$set", -1, &set);
    mongodb_put_text(&set, "name", file->name);
    mongodb_put_text(&set, "metadata", file->metadata);
    bson_append_int32(&set, "visibility", -1, (int32_t)file->visibility);
    mongodb_put_number(&set, "untilMs", mongodb_until_ms(file));
    mongodb_put_number(&set, "updatedMs", file->updated_ms);
    bson_append_int32(&set, "status", -1, (int32_t)file->status);
    bson_append_bool(&set, "live", -1, file->status != FILE_DELETED);
    mongodb_put_number(&set, "version", file->version);
    mongodb_put_text(&set, "by", by);
    if (args->answer)
        code = mongodb_put_change(&set, args->answer, file->updated_ms, err);
    bson_append_document_end(update, &set);
    return code;
}

static enum err_code update_row(struct mongodb_session *session, const struct update_args *args,
                                bool *ret_matched, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    const struct mongodb_change change = {COLLECTION_FILES, &filter, &update, false};
    mongodb_put_text(&filter, "_id", args->file->id);
    mongodb_put_number(&filter, "version", args->expected_version);
    mongodb_put_live(&filter, args->file->updated_ms);
    if (args->answer) {
        bson_t exists;
        bson_append_document_begin(&filter, "changeKey", -1, &exists);
        bson_append_bool(&exists, "$exists", -1, false);
        bson_append_document_end(&filter, &exists);
    }
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
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {
        .collection = COLLECTION_FILES, .filter = &filter, .told = settle_row, .context = session};
    mongodb_put_text(&filter, "_id", id);
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&filter);
    return code;
}

/* Why did an update find no row? ERR_OK: it is done, by our first run; *ret_again: another answer
 * was in its way. */
static enum err_code not_updated(struct mongodb_session *session, const struct update_args *args,
                                 bool *ret_again, struct err *err)
{
    struct row_state row;
    enum err_code code = look_up(session, "_id", args->file->id, &row, err);
    *ret_again = false;
    if (code != ERR_OK || (row.found && row.is_by_us))
        return code;
    if (session->unknown)
        return mongodb_doubtful(err);
    if (!row.live || row.until_ms <= args->file->updated_ms)
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
    bson_append_bool(&filter, "live", -1, false);
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
