#include "files/migrate_file.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/crash.h"
#include "base/digest.h"
#include "base/text.h"
#include "files/file_json.h"
#include "files/files_remove.h"

/*
 * One file's bytes on their way from store to store.
 */

struct transfer {
    struct migration *migration;
    const struct migrate_options *options;
    const struct file *row;  /* the source's */
    struct storage_put *put; /* open until the row is recorded, so that its claim holds */
    int64_t counted;         /* bytes told of as progress */
    int64_t size;            /* of the object that was placed */
    char tag[STORAGE_TAG_SIZE];
    unsigned char *buffer; /* LIMIT_IO_BUFFER bytes */
};

/* Quarantined: its bytes contradict its row's size and hash, or are missing. */
static inline bool transfer_is_damaged(const struct transfer *transfer)
{
    return transfer->row->status == FILE_DAMAGED;
}

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

/* Is the target's object what the row says: its size, its tag where both have one, and its bytes
 * when by_hash? Missing is not right. */
static enum err_code transfer_judge_object(struct transfer *transfer, const char *tag, bool by_hash,
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

/* Ends the put, after the row is recorded or the file given up. */
static void transfer_close_put(struct transfer *transfer)
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

/* Brings the object into the target's store, verified, and sets transfer->tag; where both sides read
 * the same objects it only looks. ERR_NOT_FOUND and ERR_STORAGE for the source's bytes,
 * ERR_DIGEST_MISMATCH, ERR_EXISTS (the key is another file's). */
static enum err_code transfer_place(struct transfer *transfer, struct err *err)
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

#define ATTEMPTS 5
#define FIRST_PAUSE_MS 1000 /* doubled each time: 15 s in all */
#define PAUSE_STEP_MS 100

/* ---- rows ---- */

static void count_copied(struct transfer *transfer)
{
    struct migrate_result *result = transfer->migration->result;
    migration_count(transfer->migration, &result->copied, 1);
    migration_count(transfer->migration, &result->copied_bytes, transfer->row->size);
}

static enum err_code insert_row(const struct transfer *transfer, struct err *err)
{
    const struct files *target = transfer->options->target;
    bool is_fs = storage_capabilities(target->storage) & STORAGE_CAN_SENDFILE;
    struct file row = *transfer->row;
    memcpy(row.tag, transfer->tag, sizeof row.tag);
    if (!str_copy(row.bucket, sizeof row.bucket,
                  str_of(is_fs ? FILES_BUCKET : target->config->s3_bucket)))
        return err_set(err, ERR_CONFIG, "migrate", "S3_BUCKET is too long.");
    enum err_code code = metadata_file_insert(target->metadata, &row, NULL, err);
    if (code == ERR_EXISTS)
        code = err_set(err, ERR_EXISTS, "migrate",
                       "a deleted file has this id or key in the target; run `coffer gc` there, "
                       "then this again");
    return code;
}

static enum err_code copy_new(struct transfer *transfer, struct err *err)
{
    enum err_code code = ERR_OK;
    if (!transfer->options->dry_run) {
        code = transfer_place(transfer, err);
        if (code == ERR_OK)
            code = insert_row(transfer, err);
        if (code == ERR_OK)
            crash_point("migrate.recorded");
        transfer_close_put(transfer);
    }
    if (code == ERR_OK)
        count_copied(transfer);
    return code;
}

/* The rows are one: only the object is copied, and must fit the tag that the row has. */
static enum err_code copy_object(struct transfer *transfer, struct err *err)
{
    enum err_code code = ERR_OK;
    if (!transfer->options->dry_run) {
        code = transfer_place(transfer, err);
        if (code == ERR_OK && *transfer->row->tag && *transfer->tag &&
            strcmp(transfer->row->tag, transfer->tag) != 0)
            code = err_set(err, ERR_STORAGE, "migrate",
                           "the row has another tag of the store; migrate the metadata too");
        transfer_close_put(transfer);
    }
    if (code == ERR_OK)
        count_copied(transfer);
    return code;
}

/* The row is in the target, but its bytes are missing or wrong: both go, to be copied anew. */
static enum err_code drop(struct transfer *transfer, const struct file *known, struct err *err)
{
    const struct files *target = transfer->options->target;
    const char *id = known->id;
    enum err_code result = ERR_OK;
    const struct file_marking marking = {.ids = &id,
                                         .expected_versions = &known->version,
                                         .count = 1,
                                         .now_ms = 0,
                                         .results = &result};
    enum err_code code = metadata_file_mark_deleted(target->metadata, &marking, err);
    if (code == ERR_OK && result != ERR_OK)
        code = err_set(err, ERR_CONFLICT, "migrate", "the file is being changed in the target");
    return code == ERR_OK ? files_remove_marked(target, known->id, known->key, err) : code;
}

/* Each change moves the version by one, so the last version is reached in as many steps. */
static enum err_code update_row(struct transfer *transfer, const struct file *known,
                                struct err *err)
{
    struct file row = *transfer->row;
    enum err_code code = ERR_OK;
    for (row.version = known->version + 1;
         code == ERR_OK && !transfer->options->dry_run && row.version <= transfer->row->version;
         row.version++)
        code = metadata_file_update(transfer->options->target->metadata, &row, row.version - 1,
                                    NULL, err);
    if (code == ERR_OK)
        migration_count(transfer->migration, &transfer->migration->result->updated, 1);
    return code;
}

/* What no change of a file changes. */
static bool is_same_file(const struct file *row, const struct file *known)
{
    return strcmp(row->sha256, known->sha256) == 0 && strcmp(row->key, known->key) == 0 &&
           strcmp(row->owner, known->owner) == 0 && row->size == known->size &&
           row->created_ms == known->created_ms;
}

static bool is_same_version(const struct file *row, const struct file *known)
{
    return strcmp(row->name, known->name) == 0 && strcmp(row->metadata, known->metadata) == 0 &&
           row->visibility == known->visibility && row->expires_ms == known->expires_ms &&
           row->updated_ms == known->updated_ms && row->status == known->status;
}

static enum err_code follow(struct transfer *transfer, const struct file *known, struct err *err)
{
    const struct file *row = transfer->row;
    bool right = true;
    if (!is_same_file(row, known))
        return err_set(err, ERR_EXISTS, "migrate", "another file has this id in the target");
    if (known->version > row->version ||
        (known->version == row->version && !is_same_version(row, known))) {
        migration_report(transfer->migration, MIGRATE_NEWER, row,
                         "the file was changed in the target and is left as it is there");
        return ERR_OK;
    }
    enum err_code code = ERR_OK;
    if (!transfer_is_damaged(transfer))
        code = transfer_judge_object(transfer, known->tag, transfer->options->verify, &right, err);
    if (code == ERR_OK && !right && transfer->options->is_same_storage)
        return err_set(err, ERR_STORAGE, "migrate",
                       "the bytes are missing or wrong; see `coffer fsck`");
    if (code == ERR_OK && !right) {
        if (!transfer->options->dry_run)
            code = drop(transfer, known, err);
        return code == ERR_OK ? copy_new(transfer, err) : code;
    }
    if (code == ERR_OK && known->version < row->version)
        return update_row(transfer, known, err);
    if (code == ERR_OK)
        migration_count(transfer->migration, &transfer->migration->result->skipped, 1);
    return code;
}

static enum err_code follow_object(struct transfer *transfer, struct err *err)
{
    bool right = false;
    enum err_code code =
        transfer_judge_object(transfer, transfer->row->tag, transfer->options->verify, &right, err);
    if (code == ERR_OK && !right)
        return copy_object(transfer, err);
    if (code == ERR_OK)
        migration_count(transfer->migration, &transfer->migration->result->skipped, 1);
    return code;
}

static enum err_code bring(struct transfer *transfer, struct err *err)
{
    struct file known;
    if (transfer->options->target_is_empty)
        return copy_new(transfer, err);
    if (transfer->options->is_same_metadata)
        return follow_object(transfer, err);
    /* At time 0 nothing has expired: what waits for the sweep is still in our way. */
    enum err_code code =
        metadata_file_get(transfer->options->target->metadata, transfer->row->id, 0, &known, err);
    if (code == ERR_NOT_FOUND)
        return copy_new(transfer, err);
    return code == ERR_OK ? follow(transfer, &known, err) : code;
}

/* ---- failures ---- */

/* Said of one file, however well the stores are. */
static bool is_of_file(enum err_code code)
{
    return code == ERR_NOT_FOUND || code == ERR_EXISTS || code == ERR_BUSY ||
           code == ERR_CONFLICT || code == ERR_DIGEST_MISMATCH || code == ERR_STORAGE;
}

static bool ends_everything(enum err_code code)
{
    return code == ERR_CLIENT_GONE || code == ERR_NO_MEMORY || code == ERR_DISK_FULL ||
           code == ERR_CONFIG;
}

static bool are_well(const struct files *files)
{
    struct err ignored;
    return storage_ping(files->storage, &ignored) == ERR_OK &&
           metadata_ping(files->metadata, &ignored) == ERR_OK;
}

static enum err_code pause_for(const struct migration *migration, int64_t ms, struct err *err)
{
    const struct timespec step = {0, PAUSE_STEP_MS * 1000000L};
    enum err_code code = ERR_OK;
    for (; ms > 0 && code == ERR_OK; ms -= PAUSE_STEP_MS) {
        nanosleep(&step, NULL);
        code = migration_check_stop(migration, err);
    }
    return code;
}

/* Deleted in the source since we read its row? */
static bool is_gone(const struct transfer *transfer)
{
    struct file row;
    struct err ignored;
    const struct files *source = transfer->options->source;
    return metadata_file_get(source->metadata, transfer->row->id, clock_wall_ms(source->clock),
                             &row, &ignored) == ERR_NOT_FOUND;
}

static void uncount(struct transfer *transfer)
{
    migration_count(transfer->migration, &transfer->migration->result->bytes, -transfer->counted);
    transfer->counted = 0;
}

/* A store that is away for a moment is waited for. */
static enum err_code try_to_bring(struct transfer *transfer, struct err *err)
{
    int64_t pause_ms = FIRST_PAUSE_MS;
    enum err_code code = ERR_OK;
    for (int attempt = 1;; attempt++) {
        code = bring(transfer, err);
        if (code == ERR_OK)
            return ERR_OK;
        transfer_close_put(transfer);
        uncount(transfer);
        if (is_of_file(code) || ends_everything(code) || attempt == ATTEMPTS)
            return code;
        code = pause_for(transfer->migration, pause_ms, err);
        if (code != ERR_OK)
            return code;
        pause_ms *= 2;
    }
}

static enum err_code judge_failure(struct transfer *transfer, enum err_code code,
                                   const struct err *err)
{
    struct migration *migration = transfer->migration;
    if (ends_everything(code))
        return code;
    if (is_gone(transfer)) {
        migration_count(migration, &migration->result->gone, 1);
        return ERR_OK;
    }
    /* Everybody is well but this file. */
    if (!is_of_file(code) &&
        (!are_well(transfer->options->source) || !are_well(transfer->options->target)))
        return code;
    migration_report(migration, MIGRATE_FAILED, transfer->row,
                     code == ERR_NOT_FOUND ? "the source's bytes are missing; see `coffer fsck`"
                                           : err->message);
    return ERR_OK;
}

static enum err_code transfer_file(struct transfer *transfer, struct err *err)
{
    enum err_code code = try_to_bring(transfer, err);
    if (code != ERR_OK)
        code = judge_failure(transfer, code, err);
    if (code == ERR_OK) {
        struct migrate_result *result = transfer->migration->result;
        migration_count(transfer->migration, &result->files, 1);
        migration_count(transfer->migration, &result->bytes,
                        transfer->row->size - transfer->counted);
    }
    return code;
}

enum err_code migrate_file(void *context, const struct file *row, struct err *err)
{
    struct migration *migration = context;
    struct transfer transfer = {.migration = migration,
                                .options = migration->options,
                                .row = row,
                                .buffer = malloc(LIMIT_IO_BUFFER)};
    enum err_code code = migration_check_stop(migration, err);
    if (code == ERR_OK && !transfer.buffer)
        code = err_set_internal(err, ERR_NO_MEMORY, 0, "migrate", "Out of memory.");
    if (code == ERR_OK)
        code = transfer_file(&transfer, err);
    free(transfer.buffer);
    return code;
}
