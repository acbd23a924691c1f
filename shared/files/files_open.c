#include "files/files_open.h"

enum err_code files_parse_id(struct str text, char ret_id[ID_SIZE], struct err *err)
{
    if (!id_is_valid(text) || !str_copy(ret_id, ID_SIZE, text))
        return err_set(err, ERR_BAD_ID, "id", "The id is not a lower-case UUIDv7.");
    return ERR_OK;
}

/* Looks the row up; *ret_found is `file`, or NULL when there is none. */
static enum err_code find_row(const struct files *files, struct str id_text, struct file *file,
                              const struct file **ret_found, struct err *err)
{
    char id[ID_SIZE];
    enum err_code code = files_parse_id(id_text, id, err);
    if (code != ERR_OK)
        return code;
    code = metadata_file_get(files->metadata, id, clock_wall_ms(files->clock), file, err);
    if (code != ERR_OK && code != ERR_NOT_FOUND)
        return code;
    *ret_found = code == ERR_OK ? file : NULL;
    return ERR_OK;
}

enum err_code files_open(const struct files *files, const struct principal *principal,
                         struct str id, struct file *ret_file, struct err *err)
{
    const struct file *found;
    enum err_code code = find_row(files, id, ret_file, &found, err);
    return code == ERR_OK ? principal_may_read(principal, found, err) : code;
}

enum err_code files_open_to_change(const struct files *files, const struct principal *principal,
                                   struct str id, struct file *ret_file, struct err *err)
{
    const struct file *found;
    enum err_code code = find_row(files, id, ret_file, &found, err);
    return code == ERR_OK ? principal_may_write(principal, found, err) : code;
}

enum err_code files_locate(const struct files *files, const struct file *file, struct buf *ret_path,
                           struct err *err)
{
    if (file->status != FILE_READY)
        return err_set_internal(err, ERR_INTERNAL, 0, "locate", "file %s is quarantined", file->id);
    enum err_code code =
        storage_sendfile_path(files->storage, file->key, file->size, ret_path, err);
    if (code == ERR_NOT_FOUND || code == ERR_STORAGE) {
        /* A delete may have won between the row and the bytes. */
        struct file again;
        code =
            metadata_file_get(files->metadata, file->id, clock_wall_ms(files->clock), &again, err);
        if (code == ERR_OK)
            code =
                err_set_internal(err, ERR_INTERNAL, 0, "locate",
                                 "the bytes of file %s are missing or have another size", file->id);
        else if (code == ERR_NOT_FOUND)
            code = err_set(err, ERR_NOT_FOUND, "locate", "There is no such file.");
    }
    return code;
}
