#include "files/migrate_object.h"

#include <string.h>

#include "base/crash.h"
#include "base/digest.h"
#include "base/text.h"
#include "files/file_headers.h"

struct reading {
    struct storage *storage;
    struct storage_wanted wanted;
    struct storage_put *put; /* where the bytes go too, or NULL; also: count them */
};

static enum err_code read_bytes(struct transfer *transfer, struct storage_get *get,
                                struct storage_put *put, struct digest *digest, struct err *err)
{
    size_t len = 0;
    transfer->size = 0;
    do {
        enum err_code code = migration_check_stop(transfer->migration, err);
        if (code == ERR_OK)
            code = storage_get_read(get, transfer->buffer, LIMIT_IO_BUFFER, &len, err);
        if (code == ERR_OK && put && len > 0)
            code = storage_put_write(put, transfer->buffer, len, err);
        if (code != ERR_OK)
            return code;
        digest_update(digest, transfer->buffer, len);
        transfer->size += (int64_t)len;
        if (put) {
            transfer->counted += (int64_t)len;
            migration_count(transfer->migration, &transfer->migration->result->bytes, (int64_t)len);
        }
    } while (len > 0);
    return ERR_OK;
}

static enum err_code read_whole(struct transfer *transfer, const struct reading *reading,
                                unsigned char ret_sha256[DIGEST_MAX_BYTES], struct err *err)
{
    struct storage_get *get = NULL;
    struct digest *digest = NULL;
    enum err_code code = storage_get_open(reading->storage, &reading->wanted, &get, err);
    if (code == ERR_OK)
        code = digest_open(&digest, DIGEST_SHA256, err);
    if (code == ERR_OK)
        code = read_bytes(transfer, get, reading->put, digest, err);
    if (code == ERR_OK)
        code = digest_finish(digest, ret_sha256, err);
    digest_close(digest);
    storage_get_close(get);
    return code;
}

static bool is_rows_hash(const struct file *row, const unsigned char sha256[DIGEST_MAX_BYTES])
{
    char hex[65];
    text_hex(sha256, 32, hex);
    return strcmp(hex, row->sha256) == 0;
}

enum err_code transfer_judge_object(struct transfer *transfer, const char *tag, bool by_hash,
                                    bool *ret_right, struct err *err)
{
    const struct file *row = transfer->row;
    struct storage *storage = transfer->options->target->storage;
    const struct reading reading = {storage, {row->key, row->size, tag, 0, -1}, NULL};
    unsigned char sha256[DIGEST_MAX_BYTES];
    struct storage_stat stat;
    *ret_right = false;
    enum err_code code = storage_stat_object(storage, row->key, &stat, err);
    if (code == ERR_NOT_FOUND)
        return ERR_OK;
    if (code != ERR_OK)
        return code;
    if (stat.size != row->size || (*tag && *stat.tag && strcmp(tag, stat.tag) != 0))
        return ERR_OK;
    if (!by_hash) {
        *ret_right = true;
        return ERR_OK;
    }
    code = read_whole(transfer, &reading, sha256, err);
    if (code == ERR_NOT_FOUND || code == ERR_STORAGE)
        return ERR_OK;
    if (code == ERR_OK && is_rows_hash(row, sha256)) {
        memcpy(transfer->tag, stat.tag, sizeof transfer->tag);
        *ret_right = true;
    }
    return code;
}

/* ---- placing the bytes ---- */

/* From source to target, up to the commit; the row's hash decides, unless it is known to be wrong. */
static enum err_code put_bytes(struct transfer *transfer, struct err *err)
{
    const struct migrate_options *options = transfer->options;
    const struct file *row = transfer->row;
    unsigned char sha256[DIGEST_MAX_BYTES];
    char type[FILE_CONTENT_TYPE_SIZE];
    bool any = transfer_is_damaged(transfer);
    file_content_type(row, type);
    enum err_code code = storage_put_begin(options->target->storage, row->key, any ? -1 : row->size,
                                           &transfer->put, err);
    if (code != ERR_OK)
        return code;
    const struct reading reading = {options->source->storage,
                                    {row->key, any ? -1 : row->size, any ? "" : row->tag, 0, -1},
                                    transfer->put};
    storage_put_set_type(transfer->put, type);
    code = read_whole(transfer, &reading, sha256, err);
    if (code == ERR_OK && !any && !is_rows_hash(row, sha256))
        code = err_set(err, ERR_DIGEST_MISMATCH, "migrate",
                       "the source's bytes have another SHA-256; see `coffer fsck`");
    if (code == ERR_OK)
        code = storage_put_commit(transfer->put, sha256, transfer->tag, err);
    if (code == ERR_OK)
        crash_point("migrate.placed");
    return code;
}

void transfer_close_put(struct transfer *transfer)
{
    storage_put_close(transfer->put);
    transfer->put = NULL;
}

/* Something has the key: what an earlier run left is taken when it is right, and else removed, but
 * never what another row knows. *ret_taken says which. */
static enum err_code take_over(struct transfer *transfer, bool *ret_taken, struct err *err)
{
    const struct files *target = transfer->options->target;
    const char *key = transfer->row->key;
    bool known = false;
    enum err_code code = transfer_judge_object(transfer, "", true, ret_taken, err);
    if (code != ERR_OK || *ret_taken)
        return code;
    if (!transfer->options->is_same_metadata)
        code = metadata_keys_known(target->metadata, &key, 1, &known, err);
    if (code == ERR_OK && known)
        return err_set(err, ERR_EXISTS, "migrate", "another file has this key in the target");
    if (code == ERR_OK)
        code = storage_remove(target->storage, key, err);
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}

static enum err_code put_or_take_over(struct transfer *transfer, struct err *err)
{
    bool taken = false;
    enum err_code code = put_bytes(transfer, err);
    if (code != ERR_EXISTS)
        return code;
    transfer_close_put(transfer);
    code = take_over(transfer, &taken, err);
    return code == ERR_OK && !taken ? put_bytes(transfer, err) : code;
}

/* Both sides read the same objects: is it there? */
static enum err_code find_bytes(struct transfer *transfer, struct err *err)
{
    struct storage_stat stat;
    bool right = false;
    enum err_code code =
        transfer_judge_object(transfer, "", transfer->options->verify, &right, err);
    if (code == ERR_OK && !right)
        code = err_set(err, ERR_STORAGE, "migrate",
                       "the bytes are missing or wrong; see `coffer fsck`");
    if (code == ERR_OK)
        code =
            storage_stat_object(transfer->options->target->storage, transfer->row->key, &stat, err);
    if (code == ERR_OK)
        memcpy(transfer->tag, stat.tag, sizeof transfer->tag);
    return code;
}

enum err_code transfer_place(struct transfer *transfer, struct err *err)
{
    bool right = true;
    if (transfer->options->is_same_storage)
        return transfer_is_damaged(transfer) ? ERR_OK : find_bytes(transfer, err);
    enum err_code code = put_or_take_over(transfer, err);
    if (code == ERR_NOT_FOUND && transfer_is_damaged(transfer))
        return ERR_OK; /* that is why it is quarantined */
    if (code == ERR_OK && !transfer_is_damaged(transfer))
        code =
            transfer_judge_object(transfer, transfer->tag, transfer->options->verify, &right, err);
    if (code == ERR_OK && !right)
        code =
            err_set(err, ERR_STORAGE, "migrate", "the target does not hold what was written to it");
    return code;
}
