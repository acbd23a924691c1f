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
