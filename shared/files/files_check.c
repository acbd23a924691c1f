#include "files/files_check.h"

#include <stdlib.h>

#include "base/digest.h"
#include "base/text.h"
#include "files/files_sweep.h"

struct check {
    const struct files *files;
    const struct check_options *options;
    struct check_result *result;
    unsigned char *buffer; /* LIMIT_IO_BUFFER bytes */
};

static void report(const struct check *check, enum check_kind kind, const char *id, const char *key,
                   const char *text)
{
    const struct check_finding finding = {kind, id, key, text};
    if (kind == CHECK_ORPHAN)
        check->result->orphans++;
    else
        check->result->findings++;
    check->options->found(check->options->context, &finding);
}

static enum err_code hash_object(struct check *check, struct storage_get *get,
                                 struct digest *digest, int64_t *ret_size, struct err *err)
{
    size_t len = 0;
    int64_t size = 0;
    do {
        enum err_code code = storage_get_read(get, check->buffer, LIMIT_IO_BUFFER, &len, err);
        if (code != ERR_OK)
            return code;
        digest_update(digest, check->buffer, len);
        size += (int64_t)len;
    } while (len > 0);
    *ret_size = size;
    check->result->bytes += size;
    return ERR_OK;
}

/* What the store holds under the row's key. ERR_NOT_FOUND: nothing. */
static enum err_code read_object(struct check *check, const char *key, int64_t *ret_size,
                                 char ret_sha256[65], struct err *err)
{
    struct storage_get *get = NULL;
    struct digest *digest = NULL;
    unsigned char bytes[DIGEST_MAX_BYTES];
    const struct storage_wanted whole = {key, -1, NULL, 0, -1};
    enum err_code code = storage_get_open(check->files->storage, &whole, &get, err);
    if (code == ERR_OK)
        code = digest_open(&digest, DIGEST_SHA256, err);
    if (code == ERR_OK)
        code = hash_object(check, get, digest, ret_size, err);
    if (code == ERR_OK)
        code = digest_finish(digest, bytes, err);
    if (code == ERR_OK)
        text_hex(bytes, 32, ret_sha256);
    digest_close(digest);
    storage_get_close(get);
    return code;
}

static enum err_code set_status(struct check *check, const struct file *file,
                                enum file_status status, struct err *err)
{
    if (!check->options->repair || file->status == status)
        return ERR_OK;
    check->result->repaired++;
    return metadata_set_status(check->files->metadata, file->id, status, err);
}

static enum err_code judge_damaged(struct check *check, const struct file *file,
                                   enum check_kind kind, const char *text, struct err *err)
{
    /* It may have been deleted since the scan saw it. */
    struct file now;
    enum err_code code = metadata_file_get(check->files->metadata, file->id,
                                           clock_wall_ms(check->files->clock), &now, err);
    if (code == ERR_NOT_FOUND)
        return ERR_OK;
    if (code != ERR_OK)
        return code;
    report(check, file->status == FILE_DAMAGED ? CHECK_QUARANTINED : kind, file->id, file->key,
           text);
    return set_status(check, file, FILE_DAMAGED, err);
}

static enum err_code check_row(void *context, const struct file *file, struct err *err)
{
    struct check *check = context;
    char sha256[65];
    int64_t size = 0;
    if (file->status == FILE_DELETED)
        return ERR_OK;
    enum err_code code = read_object(check, file->key, &size, sha256, err);
    check->result->files++;
    if (code == ERR_NOT_FOUND)
        code = judge_damaged(check, file, CHECK_MISSING, "the bytes are missing", err);
    else if (code == ERR_OK && size != file->size)
        code = judge_damaged(check, file, CHECK_SIZE, "the bytes have another size", err);
    else if (code == ERR_OK && strcmp(sha256, file->sha256) != 0)
        code = judge_damaged(check, file, CHECK_HASH, "the bytes have another SHA-256", err);
    else if (code == ERR_OK)
        code = set_status(check, file, FILE_READY, err);
    if (check->options->progress)
        check->options->progress(check->options->context, check->result);
    return code;
}

static enum err_code check_orphan(void *context, const char *key, int64_t size, struct err *err)
{
    const struct check *check = context;
    (void)size;
    (void)err;
    report(check, CHECK_ORPHAN, "", key, "no row knows these bytes; `coffer gc` removes them");
    return ERR_OK;
}

static enum err_code check_metadata(struct check *check, struct err *err)
{
    struct err finding;
    enum err_code code = metadata_check(check->files->metadata, check->options->repair, &finding);
    if (code != ERR_OK && code != ERR_INTERNAL) {
        *err = finding;
        return code;
    }
    if (code == ERR_INTERNAL)
        report(check, CHECK_METADATA, "", "", finding.message);
    return ERR_OK;
}

enum err_code files_check(const struct files *files, const struct check_options *options,
                          struct check_result *ret_result, struct err *err)
{
    struct check check = {files, options, ret_result, malloc(LIMIT_IO_BUFFER)};
    const struct orphan_search search = {
        .modified_before_ms = INT64_MAX, .found = check_orphan, .context = &check};
    *ret_result = (struct check_result){0};
    if (!check.buffer)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "check", "out of memory");
    enum err_code code = check_metadata(&check, err);
    if (code == ERR_OK)
        code = metadata_scan(files->metadata, check_row, &check, err);
    if (code == ERR_OK)
        code = files_find_orphans(files, &search, err);
    free(check.buffer);
    return code;
}
