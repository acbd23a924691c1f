#include "files/files_open.h"

#include "base/crash.h"

enum err_code files_check_id(struct str id, struct err *err)
{
    if (id_is_valid(id))
        return ERR_OK;
    err_set(err, ERR_BAD_ID, "id", "The id is not a lower-case UUIDv7.");
    err_subject(err, "parameter", STR("id"));
    return ERR_BAD_ID;
}

static enum err_code parse_id(struct str text, char ret_id[ID_SIZE], struct err *err)
{
    enum err_code code = files_check_id(text, err);
    if (code == ERR_OK && !str_copy(ret_id, ID_SIZE, text))
        code = err_set_internal(err, ERR_INTERNAL, 0, "id", "an id of another length");
    return code;
}

/* Looks the row up; *ret_found is `file`, or NULL when there is none. */
static enum err_code find_row(const struct files *files, struct str id_text, struct file *file,
                              const struct file **ret_found, struct err *err)
{
    char id[ID_SIZE];
    enum err_code code = parse_id(id_text, id, err);
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

/* Either way: the row may come from a node whose clock is ahead. */
static bool may_still_appear(const struct files *files, const struct file *file)
{
    int64_t age_ms = clock_wall_ms(files->clock) - file->created_ms;
    return (storage_capabilities(files->storage) & STORAGE_MAY_LAG) && age_ms < LIMIT_VISIBLE_MS &&
           age_ms > -LIMIT_VISIBLE_MS;
}

static enum err_code missing(const struct files *files, const struct file *file, struct err *err)
{
    if (may_still_appear(files, file))
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "judge bytes",
                                "the store does not show the bytes of file %s yet", file->id);
    return err_set_internal(err, ERR_INTERNAL, 0, "judge bytes", "the bytes of file %s are missing",
                            file->id);
}

enum err_code files_judge_bytes(const struct files *files, const struct file *file,
                                enum err_code failure, struct err *err)
{
    struct file again;
    if (failure != ERR_NOT_FOUND && failure != ERR_STORAGE)
        return failure;
    struct err wrong = *err;
    /* A delete may have won between the row and the bytes. */
    enum err_code code =
        metadata_file_get(files->metadata, file->id, clock_wall_ms(files->clock), &again, err);
    if (code == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "judge bytes", "There is no such file.");
    if (code != ERR_OK)
        return code;
    if (failure == ERR_NOT_FOUND)
        return missing(files, file, err);
    *err = wrong;
    return failure;
}

enum err_code files_judge_unsent(const struct files *files, struct str id, struct err *err)
{
    struct file file;
    const struct file *found;
    enum err_code code = find_row(files, id, &file, &found, err);
    if (code != ERR_OK)
        return code;
    if (!found)
        return err_set(err, ERR_NOT_FOUND, "judge bytes", "There is no such file.");
    return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "judge bytes",
                            "the gateway could not read the bytes of file %s", file.id);
}

enum err_code files_locate(const struct files *files, const struct file *file, struct buf *ret_path,
                           struct err *err)
{
    if (crash_or_fail("step.get"))
        return err_set_internal(err, ERR_INTERNAL, 0, "locate", "a test has it fail");
    if (file->status != FILE_READY)
        return err_set_internal(err, ERR_INTERNAL, 0, "locate", "file %s is quarantined", file->id);
    enum err_code code =
        storage_sendfile_path(files->storage, file->key, file->size, ret_path, err);
    if (code == ERR_OK)
        return ERR_OK;
    code = files_judge_bytes(files, file, code, err);
    if (code == ERR_STORAGE) /* the disk is ours: nobody else answered */
        code = err_set_internal(err, ERR_INTERNAL, 0, "locate",
                                "the bytes of file %s have another size", file->id);
    return code;
}
