#include "files/files_sweep.h"

#include <stdlib.h>

#include "files/files_remove.h"

#define SWEEP_BATCH 200

struct marked {
    char id[ID_SIZE];
    char key[LIMIT_KEY_BYTES + 1];
};

struct marked_list {
    struct marked rows[SWEEP_BATCH];
    int count;
};

static enum err_code keep_marked(void *context, const struct file *file, struct err *err)
{
    (void)err;
    struct marked_list *list = context;
    struct marked *row = &list->rows[list->count++];
    memcpy(row->id, file->id, sizeof row->id);
    memcpy(row->key, file->key, sizeof row->key);
    return ERR_OK;
}

static enum err_code sweep_expired(const struct files *files, struct sweep_result *result,
                                   struct err *err)
{
    int marked = 0;
    do {
        enum err_code code = metadata_mark_expired(files->metadata, clock_wall_ms(files->clock),
                                                   SWEEP_BATCH, &marked, err);
        if (code != ERR_OK)
            return code;
        result->expired += marked;
    } while (marked == SWEEP_BATCH);
    return ERR_OK;
}

/* One batch of marked rows; what can't be removed now stays for the next sweep. */
static enum err_code sweep_batch(const struct files *files, struct marked_list *list,
                                 struct sweep_result *result, struct err *err)
{
    list->count = 0;
    enum err_code code =
        metadata_list_deleted(files->metadata, SWEEP_BATCH, keep_marked, list, err);
    for (int i = 0; code == ERR_OK && i < list->count; i++) {
        code = files_remove_marked(files, list->rows[i].id, list->rows[i].key, err);
        if (code == ERR_OK)
            result->deleted++;
    }
    return code;
}

static enum err_code sweep_deleted(const struct files *files, struct sweep_result *result,
                                   struct err *err)
{
    struct marked_list *list = malloc(sizeof *list);
    enum err_code code = ERR_OK;
    if (!list)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "sweep", "out of memory");
    do {
        code = sweep_batch(files, list, result, err);
    } while (code == ERR_OK && list->count == SWEEP_BATCH);
    free(list);
    return code;
}

struct orphan_sweep {
    const struct files *files;
    struct sweep_result *result;
    int64_t older_than_ms; /* wall time */
};

static enum err_code key_is_known(void *context, const char *key, bool *ret_known, struct err *err)
{
    const struct orphan_sweep *sweep = context;
    return metadata_key_known(sweep->files->metadata, key, ret_known, err);
}

static enum err_code sweep_object(void *context, const char *key, const struct storage_stat *stat,
                                  struct err *err)
{
    struct orphan_sweep *sweep = context;
    bool known = false;
    bool removed = false;
    const struct orphan_question question = {key_is_known, sweep};
    if (stat->modified_ms > sweep->older_than_ms)
        return ERR_OK;
    enum err_code code = key_is_known(sweep, key, &known, err);
    if (code != ERR_OK || known)
        return code;
    code = storage_remove_orphan(sweep->files->storage, key, &question, &removed, err);
    if (code == ERR_BUSY || code == ERR_NOT_FOUND)
        return ERR_OK;
    if (code == ERR_OK && removed) {
        sweep->result->orphans++;
        sweep->result->orphan_bytes += stat->size;
    }
    return code;
}

static void count_swept(const struct files *files, const struct sweep_result *result)
{
    const int64_t amounts[SWEPT_COUNT] = {
        [SWEPT_DELETED] = result->deleted,
        [SWEPT_EXPIRED] = result->expired,
        [SWEPT_ORPHAN] = result->orphans,
    };
    for (unsigned kind = 0; kind < SWEPT_COUNT; kind++)
        metrics_add(files->metrics, METRIC_SWEPT_OBJECTS, &kind, amounts[kind]);
}

enum err_code files_sweep(const struct files *files, int64_t grace_seconds,
                          struct sweep_result *ret_result, struct err *err)
{
    int purged = 0;
    *ret_result = (struct sweep_result){0};
    int64_t now_ms = clock_wall_ms(files->clock);
    struct orphan_sweep orphans = {files, ret_result, now_ms - grace_seconds * 1000};
    enum err_code code = sweep_expired(files, ret_result, err);
    if (code == ERR_OK)
        code = sweep_deleted(files, ret_result, err);
    if (code == ERR_OK)
        code = storage_list(files->storage, sweep_object, &orphans, err);
    if (code == ERR_OK)
        code = metadata_purge_requests(files->metadata, now_ms, &purged, err);
    ret_result->requests = purged;
    count_swept(files, ret_result);
    return code;
}

enum err_code files_sweep_if_due(const struct files *files, const char *holder, bool *ret_swept,
                                 struct sweep_result *ret_result, struct err *err)
{
    int64_t now_ms = clock_wall_ms(files->clock);
    const struct named_lease lease = {"sweep", holder, now_ms,
                                      now_ms + files->config->sweep_interval_seconds * 1000};
    *ret_swept = false;
    enum err_code code = metadata_lease(files->metadata, &lease, ret_swept, err);
    if (code != ERR_OK || !*ret_swept)
        return code;
    return files_sweep(files, files->config->sweep_grace_seconds, ret_result, err);
}
