#include "metadata/sqlite/metadata_sqlite.h"

static bool copy_texts(sqlite3_stmt *statement, struct file *file)
{
    return sqlite_copy(statement, 0, file->id, sizeof file->id) &&
           sqlite_copy(statement, 1, file->owner, sizeof file->owner) &&
           sqlite_copy(statement, 2, file->name, sizeof file->name) &&
           sqlite_copy(statement, 3, file->mime, sizeof file->mime) &&
           sqlite_copy(statement, 4, file->sha256, sizeof file->sha256) &&
           sqlite_copy(statement, 5, file->bucket, sizeof file->bucket) &&
           sqlite_copy(statement, 6, file->key, sizeof file->key) &&
           sqlite_copy(statement, 7, file->metadata, sizeof file->metadata) &&
           sqlite_copy(statement, 15, file->tag, sizeof file->tag) &&
           sqlite_copy(statement, 16, file->charset, sizeof file->charset);
}

enum err_code sqlite_row_file(sqlite3_stmt *statement, struct file *ret_file, struct err *err)
{
    if (!copy_texts(statement, ret_file))
        return err_set_internal(err, ERR_INTERNAL, 0, "read row",
                                "A row holds a text that is too long.");
    ret_file->size = sqlite3_column_int64(statement, 8);
    ret_file->created_ms = sqlite3_column_int64(statement, 9);
    ret_file->updated_ms = sqlite3_column_int64(statement, 10);
    ret_file->expires_ms = sqlite3_column_int64(statement, 11);
    ret_file->version = sqlite3_column_int64(statement, 12);
    ret_file->visibility = (enum visibility)sqlite3_column_int(statement, 13);
    ret_file->status = (enum file_status)sqlite3_column_int(statement, 14);
    return ERR_OK;
}

/*
 * Listings. Every one names its index, so that no plan depends on statistics: a page is read in
 * index order from where the page before it ended. A filter that matches at most LIMIT_COUNT rows
 * ("narrow") walks its own index instead and sorts what it finds; a wider one is met often enough
 * on the way along the sort's index. Deferred columns: rows passed over are not read.
 */

#define LIST_SQL_MAX 2048

/* Numbers of the parameters; a statement uses those it needs and the last. */
enum parameter {
    PARAMETER_OWNER = 1,
    PARAMETER_NOW,
    PARAMETER_PREFIX,
    PARAMETER_PREFIX_END,
    PARAMETER_MIME,
    PARAMETER_AFTER_VALUE,
    PARAMETER_AFTER_ID,
    PARAMETER_LIMIT,
    PARAMETER_OFFSET
};

static const struct {
    const char *column;
    const char *order; /* the column and the id, forward or back */
    const char *index;
    const char *comparison;
} sorts[] = {
    [SORT_CREATED] = {"created_ms", "created_ms, id", "created", ">"},
    [SORT_CREATED_DESC] = {"created_ms", "created_ms DESC, id DESC", "created", "<"},
    [SORT_NAME] = {"name", "name, id", "name", ">"},
    [SORT_SIZE] = {"size", "size, id", "size", ">"},
};

static const char *index_of(unsigned variant)
{
    enum file_sort sort = (enum file_sort)(variant & LIST_SORT_MASK);
    bool by_created = sort == SORT_CREATED || sort == SORT_CREATED_DESC;
    bool by_filter = variant & (LIST_NARROW | LIST_COUNT);
    if ((variant & LIST_PREFIX) && by_filter)
        return "name";
    if ((variant & LIST_MIME) && (by_filter || by_created))
        return "mime";
    return sorts[sort].index;
}

static void append_conditions(unsigned variant, struct buf *out)
{
    enum file_sort sort = (enum file_sort)(variant & LIST_SORT_MASK);
    bool after = variant & LIST_AFTER;
    buf_append_text(out, " WHERE status <> 1 AND (expires_ms = 0 OR expires_ms > ?2)");
    if (variant & LIST_OWNER)
        buf_append_text(out, " AND owner = ?1");
    /* Two lower bounds would make SQLite choose one; the position is the higher. */
    if ((variant & LIST_PREFIX) && !(after && sort == SORT_NAME))
        buf_append_text(out, " AND name >= ?3");
    if (variant & LIST_PREFIX)
        buf_append_text(out, " AND name < ?4");
    if (variant & LIST_MIME)
        buf_append_text(out, " AND mime = ?5");
    if (after)
        buf_printf(out, " AND (%s, id) %s (?6, ?7)", sorts[sort].column, sorts[sort].comparison);
}

void sqlite_list_sql(unsigned variant, struct buf *out)
{
    bool count = variant & LIST_COUNT;
    buf_append_text(out, count ? "SELECT count(*) FROM (SELECT 1" : "SELECT " FILE_COLUMNS);
    buf_printf(out, " FROM files INDEXED BY files_%s%s", variant & LIST_OWNER ? "owner_" : "",
               index_of(variant));
    append_conditions(variant, out);
    if (count)
        buf_append_text(out, " LIMIT ?8)");
    else
        buf_printf(out, " ORDER BY %s LIMIT ?8 OFFSET ?9", sorts[variant & LIST_SORT_MASK].order);
}

static enum err_code list_statement(struct sqlite_connection *connection, unsigned variant,
                                    sqlite3_stmt **ret_statement, struct err *err)
{
    enum err_code code = ERR_OK;
    if (!connection->lists[variant]) {
        struct buf sql;
        buf_init(&sql, LIST_SQL_MAX);
        sqlite_list_sql(variant, &sql);
        code = sql.failed
                   ? err_set_internal(err, ERR_NO_MEMORY, 0, "list", "Out of memory.")
                   : sqlite_prepare(connection, buf_text(&sql), &connection->lists[variant], err);
        buf_release(&sql);
    }
    if (code == ERR_OK)
        *ret_statement = connection->lists[variant];
    return code;
}

struct list_args {
    const struct file_query *query;
    int64_t now_ms;
    const struct file_listing *listing;
    struct file_page page;
    unsigned variant;
    char prefix_end[LIMIT_NAME_BYTES + 1];
    size_t prefix_end_len;
};

/* The first text that sorts after all that begin with the prefix. UTF-8 holds no 0xFF, so there
 * always is one. */
static void set_prefix_end(struct list_args *list)
{
    struct str prefix = list->query->prefix;
    memcpy(list->prefix_end, prefix.data, prefix.len);
    list->prefix_end_len = prefix.len;
    char *last = &list->prefix_end[prefix.len - 1];
    *last = (char)((unsigned char)*last + 1);
}

static bool is_before(const char *name, struct str prefix)
{
    size_t len = strlen(name);
    int order = memcmp(name, prefix.data, len < prefix.len ? len : prefix.len);
    return order < 0 || (order == 0 && len < prefix.len);
}

static void set_variant(struct list_args *list)
{
    const struct file_query *query = list->query;
    list->variant = (unsigned)query->sort;
    if (query->owner.len > 0)
        list->variant |= LIST_OWNER;
    if (query->prefix.len > 0) {
        list->variant |= LIST_PREFIX;
        set_prefix_end(list);
    }
    if (query->mime.len > 0)
        list->variant |= LIST_MIME;
    /* A position before all names with the prefix is none. */
    if (query->after.id[0] != '\0' && !(query->sort == SORT_NAME && query->prefix.len > 0 &&
                                        is_before(query->after.name, query->prefix)))
        list->variant |= LIST_AFTER;
}

static void bind_filter(sqlite3_stmt *statement, const struct list_args *list)
{
    const struct file_query *query = list->query;
    sqlite_bind_str(statement, PARAMETER_OWNER, query->owner);
    sqlite3_bind_int64(statement, PARAMETER_NOW, list->now_ms);
    sqlite_bind_str(statement, PARAMETER_PREFIX, query->prefix);
    sqlite_bind_str(statement, PARAMETER_PREFIX_END,
                    (struct str){list->prefix_end, list->prefix_end_len});
    sqlite_bind_str(statement, PARAMETER_MIME, query->mime);
}

static enum err_code step_number(struct sqlite_connection *connection, sqlite3_stmt *statement,
                                 int64_t *ret_number, struct err *err)
{
    enum err_code code = ERR_OK;
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        *ret_number = sqlite3_column_int64(statement, 0);
    else if (result == SQLITE_DONE)
        *ret_number = 0;
    else
        code = sqlite_failed(connection, result, "count", err);
    sqlite3_reset(statement);
    return code;
}

static enum err_code count_filtered(struct sqlite_connection *connection, struct list_args *list,
                                    struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int64_t total = 0;
    unsigned variant = (list->variant & (LIST_OWNER | LIST_PREFIX | LIST_MIME)) | LIST_COUNT;
    enum err_code code = list_statement(connection, variant, &statement, err);
    if (code != ERR_OK)
        return code;
    bind_filter(statement, list);
    sqlite3_bind_int(statement, PARAMETER_LIMIT, LIMIT_COUNT + 1);
    code = step_number(connection, statement, &total, err);
    if (code == ERR_OK)
        list->page.total = total > LIMIT_COUNT ? -1 : total;
    if (code == ERR_OK && total <= LIMIT_COUNT)
        list->variant |= LIST_NARROW;
    return code;
}

/* What is kept, less what has expired and waits for the sweep. */
static enum err_code count_kept(struct sqlite_connection *connection, struct list_args *list,
                                struct err *err)
{
    sqlite3_stmt *usage = NULL;
    sqlite3_stmt *expired = NULL;
    int64_t kept = 0;
    int64_t gone = 0;
    bool by_owner = list->variant & LIST_OWNER;
    enum err_code code = sqlite_statement(connection, SQL_USAGE, &usage, err);
    if (code == ERR_OK)
        code = sqlite_statement(connection, by_owner ? SQL_EXPIRED_COUNT_OWNER : SQL_EXPIRED_COUNT,
                                &expired, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_str(usage, PARAMETER_OWNER, list->query->owner);
    code = step_number(connection, usage, &kept, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_str(expired, PARAMETER_OWNER, list->query->owner);
    sqlite3_bind_int64(expired, PARAMETER_NOW, list->now_ms);
    code = step_number(connection, expired, &gone, err);
    list->page.total = kept - gone;
    return code;
}

static void bind_page(sqlite3_stmt *statement, const struct list_args *list)
{
    const struct file_query *query = list->query;
    bind_filter(statement, list);
    if (query->sort == SORT_NAME)
        sqlite_bind_text(statement, PARAMETER_AFTER_VALUE, query->after.name);
    else
        sqlite3_bind_int64(statement, PARAMETER_AFTER_VALUE, query->after.number);
    sqlite_bind_text(statement, PARAMETER_AFTER_ID, query->after.id);
    sqlite3_bind_int(statement, PARAMETER_LIMIT, query->limit + 1);
    sqlite3_bind_int(statement, PARAMETER_OFFSET, query->after.id[0] == '\0' ? query->offset : 0);
}

static void set_last(struct list_args *list, const struct file *file)
{
    struct file_position *last = &list->page.last;
    memcpy(last->id, file->id, sizeof last->id);
    memcpy(last->name, file->name, sizeof last->name);
    last->number = list->query->sort == SORT_SIZE ? file->size : file->created_ms;
}

/* One row more than asked for is read, to know whether there is one. */
static enum err_code read_rows(struct sqlite_connection *connection, sqlite3_stmt *statement,
                               struct list_args *list, struct err *err)
{
    struct file file;
    int result = SQLITE_OK;
    for (int rows = 0; (result = sqlite3_step(statement)) == SQLITE_ROW; rows++) {
        if (rows == list->query->limit) {
            list->page.more = true;
            return ERR_OK;
        }
        enum err_code code = sqlite_row_file(statement, &file, err);
        if (code == ERR_OK)
            code = list->listing->callback(list->listing->context, &file, err);
        if (code != ERR_OK)
            return code;
        set_last(list, &file);
    }
    return result == SQLITE_DONE ? ERR_OK : sqlite_failed(connection, result, "list", err);
}

static enum err_code list_page(struct sqlite_connection *connection, struct list_args *list,
                               struct err *err)
{
    sqlite3_stmt *statement = NULL;
    enum err_code code = list->variant & (LIST_PREFIX | LIST_MIME)
                             ? count_filtered(connection, list, err)
                             : count_kept(connection, list, err);
    if (code == ERR_OK)
        code = list_statement(connection, list->variant, &statement, err);
    if (code != ERR_OK)
        return code;
    bind_page(statement, list);
    code = read_rows(connection, statement, list, err);
    sqlite3_reset(statement);
    return code;
}

/* Total and rows from one snapshot. */
static enum err_code list_files(struct sqlite_connection *connection, void *args, struct err *err)
{
    struct err ignored;
    enum err_code code = sqlite_simple(connection, SQL_BEGIN, err);
    if (code != ERR_OK)
        return code;
    code = list_page(connection, args, err);
    if (sqlite_simple(connection, SQL_COMMIT, &ignored) != ERR_OK)
        connection->broken = true;
    return code;
}

static enum err_code sqlite_file_list(void *state, const struct file_query *query, int64_t now_ms,
                                      struct file_listing *listing, struct err *err)
{
    struct list_args list = {.query = query, .now_ms = now_ms, .listing = listing};
    if (query->limit < 1 || query->limit > LIMIT_PAGE || query->offset < 0 ||
        query->offset > LIMIT_OFFSET || query->prefix.len > LIMIT_NAME_BYTES)
        return err_set_internal(err, ERR_INTERNAL, 0, "list", "A query outside its limits.");
    set_variant(&list);
    enum err_code code = sqlite_read(state, list_files, &list, err);
    if (code == ERR_OK)
        listing->page = list.page;
    return code;
}

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
