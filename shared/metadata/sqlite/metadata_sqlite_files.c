#include "metadata/sqlite/metadata_sqlite.h"

/* ---- insert ---- */

struct insert_args {
    const struct file *file;
    const struct idempotency_answer *answer;
};

static void bind_file(sqlite3_stmt *statement, const struct file *file)
{
    sqlite_bind_text(statement, 1, file->id);
    sqlite_bind_text(statement, 2, file->owner);
    sqlite_bind_text(statement, 3, file->name);
    sqlite_bind_text(statement, 4, file->mime);
    sqlite_bind_text(statement, 5, file->sha256);
    sqlite_bind_text(statement, 6, file->bucket);
    sqlite_bind_text(statement, 7, file->key);
    sqlite_bind_text(statement, 8, file->metadata);
    sqlite3_bind_int64(statement, 9, file->size);
    sqlite3_bind_int64(statement, 10, file->created_ms);
    sqlite3_bind_int64(statement, 11, file->updated_ms);
    sqlite3_bind_int64(statement, 12, file->expires_ms);
    sqlite3_bind_int64(statement, 13, file->version);
    sqlite3_bind_int(statement, 14, (int)file->visibility);
    sqlite3_bind_int(statement, 15, (int)file->status);
    sqlite_bind_text(statement, 16, file->tag);
    sqlite_bind_text(statement, 17, file->charset);
}

static enum err_code insert(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct insert_args *insert = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_FILE_INSERT, &statement, err);
    if (code != ERR_OK)
        return code;
    bind_file(statement, insert->file);
    code = sqlite_finish(connection, statement, "insert file", err);
    int result = sqlite3_extended_errcode(connection->db);
    if (code != ERR_OK &&
        (result == SQLITE_CONSTRAINT_PRIMARYKEY || result == SQLITE_CONSTRAINT_UNIQUE))
        return err_set_internal(err, ERR_EXISTS, 0, "insert file", "The id or key is taken.");
    if (code == ERR_OK && insert->answer)
        code = sqlite_store_answer(connection, insert->answer, insert->file->created_ms, err);
    return code;
}

static enum err_code file_insert(void *state, const struct file *file,
                                 const struct idempotency_answer *answer, struct err *err)
{
    struct insert_args args = {file, answer};
    struct sqlite_change change = {insert, &args, "insert.before_commit", "insert.committed"};
    /* A row that only fences its key is part of a removal. */
    enum err_code code = file->status == FILE_DELETED ? ERR_OK : sqlite_check_space(state, err);
    return code == ERR_OK ? sqlite_write(state, &change, err) : code;
}

/* ---- get ---- */

struct get_args {
    const char *id;
    int64_t now_ms;
    struct file *ret_file;
};

static enum err_code get(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct get_args *get = args;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_FILE_GET, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, get->id);
    sqlite3_bind_int64(statement, 2, get->now_ms);
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        code = sqlite_row_file(statement, get->ret_file, err);
    else if (result == SQLITE_DONE)
        code = err_set(err, ERR_NOT_FOUND, "get file", "There is no such file.");
    else
        code = sqlite_failed(connection, result, "get file", err);
    sqlite3_reset(statement);
    return code;
}

static enum err_code file_get(void *state, const char *id, int64_t now_ms, struct file *ret_file,
                              struct err *err)
{
    struct get_args args = {id, now_ms, ret_file};
    return sqlite_read(state, get, &args, err);
}

/* Why did a change find no row: none that is live, or one of another version? */
static enum err_code not_changed(struct sqlite_connection *connection, const char *id,
                                 int64_t now_ms, struct str owner, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_FILE_VERSION, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, id);
    sqlite3_bind_int64(statement, 2, now_ms);
    sqlite_bind_str(statement, 3, owner);
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        code =
            err_set(err, ERR_CONFLICT, "change file", "The file was changed by another request.");
    else if (result == SQLITE_DONE)
        code = err_set(err, ERR_NOT_FOUND, "change file", "There is no such file.");
    else
        code = sqlite_failed(connection, result, "change file", err);
    sqlite3_reset(statement);
    return code;
}

/* ---- update ---- */

struct update_args {
    const struct file *file;
    int64_t expected_version;
    const struct idempotency_answer *answer;
};

static enum err_code update(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct update_args *update = args;
    const struct file *file = update->file;
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_FILE_UPDATE, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, file->id);
    sqlite3_bind_int64(statement, 2, update->expected_version);
    sqlite_bind_text(statement, 3, file->name);
    sqlite_bind_text(statement, 4, file->metadata);
    sqlite3_bind_int(statement, 5, (int)file->visibility);
    sqlite3_bind_int64(statement, 6, file->expires_ms);
    sqlite3_bind_int64(statement, 7, file->updated_ms);
    sqlite3_bind_int(statement, 8, (int)file->status);
    sqlite3_bind_int64(statement, 9, file->version);
    code = sqlite_finish(connection, statement, "update file", err);
    if (code == ERR_OK && sqlite3_changes(connection->db) == 0)
        code = not_changed(connection, file->id, file->updated_ms, STR(""), err);
    if (code == ERR_OK && update->answer)
        code = sqlite_store_answer(connection, update->answer, file->updated_ms, err);
    return code;
}

static enum err_code file_update(void *state, const struct file *file, int64_t expected_version,
                                 const struct idempotency_answer *answer, struct err *err)
{
    struct update_args args = {file, expected_version, answer};
    struct sqlite_change change = {update, &args, "update.before_commit", "update.committed"};
    enum err_code code = sqlite_check_space(state, err);
    return code == ERR_OK ? sqlite_write(state, &change, err) : code;
}

/* ---- mark deleted, remove ---- */

static enum err_code mark_one(struct sqlite_connection *connection, const struct file_marking *mark,
                              size_t index, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_FILE_MARK_DELETED, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, mark->ids[index]);
    sqlite3_bind_int64(statement, 2, mark->now_ms);
    sqlite3_bind_int64(statement, 3, mark->expected_versions ? mark->expected_versions[index] : 0);
    sqlite_bind_str(statement, 4, mark->owner);
    code = sqlite_finish(connection, statement, "mark deleted", err);
    if (code != ERR_OK || sqlite3_changes(connection->db) > 0)
        return code;
    return not_changed(connection, mark->ids[index], mark->now_ms, mark->owner, err);
}

static enum err_code store_marks_answer(struct sqlite_connection *connection,
                                        const struct file_marking *mark, struct err *err)
{
    struct idempotency_answer answer = {0};
    enum err_code code = mark->answer(mark->context, mark->results, &answer, err);
    return code == ERR_OK ? sqlite_store_answer(connection, &answer, mark->now_ms, err) : code;
}

static enum err_code mark(struct sqlite_connection *connection, void *args, struct err *err)
{
    const struct file_marking *mark = args;
    for (size_t i = 0; i < mark->count; i++) {
        enum err_code code = mark_one(connection, mark, i, err);
        if (code != ERR_OK && code != ERR_NOT_FOUND && code != ERR_CONFLICT)
            return code;
        mark->results[i] = code;
    }
    return mark->answer ? store_marks_answer(connection, mark, err) : ERR_OK;
}

static enum err_code file_mark_deleted(void *state, const struct file_marking *marking,
                                       struct err *err)
{
    struct file_marking args = *marking;
    struct sqlite_change change = {mark, &args, "delete.before_commit", "delete.committed"};
    return sqlite_write(state, &change, err);
}

static enum err_code remove_row(struct sqlite_connection *connection, void *args, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = sqlite_statement(connection, SQL_FILE_REMOVE, &statement, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_text(statement, 1, args);
    code = sqlite_finish(connection, statement, "remove row", err);
    if (code == ERR_OK && sqlite3_changes(connection->db) == 0)
        code = err_set(err, ERR_NOT_FOUND, "remove row", "There is no such file.");
    return code;
}

static enum err_code file_remove(void *state, const char *id, struct err *err)
{
    char copy[ID_SIZE];
    if (!str_copy(copy, sizeof copy, str_of(id)))
        return err_set(err, ERR_NOT_FOUND, "remove row", "There is no such file.");
    struct sqlite_change change = {remove_row, copy, "remove.before_commit", "remove.committed"};
    return sqlite_write(state, &change, err);
}

const struct metadata_files sqlite_files = {
    .insert = file_insert,
    .get = file_get,
    .list = sqlite_file_list,
    .update = file_update,
    .mark_deleted = file_mark_deleted,
    .remove = file_remove,
};
