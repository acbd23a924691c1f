#include "files/files_sweep.h"

#include <stdlib.h>

#include "files/files_installation.h"
#include "files/files_orphans.h"
#include "files/files_remove.h"

#define SWEEP_BATCH 200
#define ORPHANS_FIRST 64 /* room that is made at first, and doubled */

struct marked {
    char id[ID_SIZE];
    char key[LIMIT_KEY_BYTES + 1];
};

struct marked_list {
    struct marked rows[SWEEP_BATCH];
    int count;
    int64_t now_ms;
};

/* Rows come oldest first; a fence has the time when it is due. */
static enum err_code keep_marked(void *context, const struct file *file, struct err *err)
{
    (void)err;
    struct marked_list *list = context;
    if (file->updated_ms > list->now_ms)
        return ERR_OK;
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
    list->now_ms = clock_wall_ms(files->clock);
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

/* How to sweep. */
struct sweep_wish {
    int64_t grace_seconds;
    bool with_objects;
    bool no_limit; /* to the orphans that may go at once */
};

struct orphan {
    char key[LIMIT_KEY_BYTES + 1];
    int64_t size;
};

struct orphan_sweep {
    const struct files *files;
    struct sweep_result *result;
    int64_t now_ms; /* wall time */
    int64_t grace_ms;
    /* Found and not removed yet, at most LIMIT_ORPHANS_KEPT; the next sweep finds the rest. */
    struct orphan *kept;
    size_t count;
    size_t room;
};

static enum err_code key_is_known(void *context, const char *key, bool *ret_known, struct err *err)
{
    const struct orphan_sweep *sweep = context;
    return metadata_keys_known(sweep->files->metadata, &key, 1, ret_known, err);
}

/* Takes the key for a row that is marked deleted, unless it has a row. */
static enum err_code fence_key(void *context, const char *key, bool *ret_known, struct err *err)
{
    const struct orphan_sweep *sweep = context;
    struct file fence = {.created_ms = sweep->now_ms,
                         .updated_ms = sweep->now_ms + sweep->grace_ms,
                         .version = 1,
                         .status = FILE_DELETED};
    id_new(sweep->files->clock, fence.id);
    snprintf(fence.key, sizeof fence.key, "%s", key);
    snprintf(fence.metadata, sizeof fence.metadata, "{}");
    enum err_code code = metadata_file_insert(sweep->files->metadata, &fence, NULL, err);
    *ret_known = code == ERR_EXISTS;
    return code == ERR_EXISTS ? ERR_OK : code;
}

static enum err_code sweep_orphan(void *context, const char *key, int64_t size, struct err *err)
{
    struct orphan_sweep *sweep = context;
    struct storage *storage = sweep->files->storage;
    bool has_claims = storage_capabilities(storage) & STORAGE_CAN_CLAIM;
    const struct orphan_question question = {has_claims ? key_is_known : fence_key, sweep};
    bool removed = false;
    enum err_code code = storage_remove_orphan(storage, key, &question, &removed, err);
    if (code == ERR_BUSY || code == ERR_NOT_FOUND)
        return ERR_OK;
    if (code == ERR_OK && removed) {
        sweep->result->orphans++;
        sweep->result->orphan_bytes += size;
    }
    return code;
}

/* Keeps an orphan until all of them are counted. */
static enum err_code keep_orphan(void *context, const char *key, int64_t size, struct err *err)
{
    struct orphan_sweep *sweep = context;
    sweep->result->held_back++;
    sweep->result->held_back_bytes += size;
    if (sweep->count == LIMIT_ORPHANS_KEPT)
        return ERR_OK;
    if (sweep->count == sweep->room) {
        size_t room = sweep->room ? 2 * sweep->room : ORPHANS_FIRST;
        struct orphan *kept = realloc(sweep->kept, room * sizeof *kept);
        if (!kept)
            return err_set_internal(err, ERR_NO_MEMORY, 0, "sweep", "out of memory");
        sweep->kept = kept;
        sweep->room = room;
    }
    struct orphan *next = &sweep->kept[sweep->count++];
    snprintf(next->key, sizeof next->key, "%s", key);
    next->size = size;
    return ERR_OK;
}

static int64_t limit_of(const struct files *files, int64_t seen)
{
    int64_t share = seen / 100;
    if (files->config->sweep_max_orphans > 0)
        return files->config->sweep_max_orphans;
    return share > LIMIT_ORPHANS_AT_LEAST ? share : LIMIT_ORPHANS_AT_LEAST;
}

/* Removes what was kept, each as if it had just been found. */
static enum err_code sweep_kept(struct orphan_sweep *sweep, struct err *err)
{
    enum err_code code = ERR_OK;
    struct sweep_result *result = sweep->result;
    result->limit = limit_of(sweep->files, result->seen);
    if (result->held_back > result->limit)
        return ERR_OK;
    result->held_back = 0;
    result->held_back_bytes = 0;
    for (size_t i = 0; code == ERR_OK && i < sweep->count; i++)
        code = sweep_orphan(sweep, sweep->kept[i].key, sweep->kept[i].size, err);
    return code;
}

static enum err_code sweep_objects(const struct files *files, const struct sweep_wish *wish,
                                   struct sweep_result *result, struct err *err)
{
    int purged = 0;
    int64_t now_ms = clock_wall_ms(files->clock);
    struct orphan_sweep sweep = {
        .files = files, .result = result, .now_ms = now_ms, .grace_ms = wish->grace_seconds * 1000};
    const struct orphan_search search = {.modified_before_ms = now_ms - sweep.grace_ms,
                                         .found = wish->no_limit ? sweep_orphan : keep_orphan,
                                         .context = &sweep,
                                         .seen = &result->seen};
    enum err_code code = files_find_orphans(files, &search, err);
    if (code == ERR_OK)
        code = sweep_kept(&sweep, err);
    free(sweep.kept);
    if (code == ERR_OK)
        code = storage_purge_unfinished(files->storage, now_ms - LIMIT_UNFINISHED_KEEP_MS, &purged,
                                        err);
    result->unfinished = purged;
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
    metrics_add(files->metrics, METRIC_SWEEPS_HELD_BACK, NULL, result->held_back > 0);
}

enum err_code files_sweep_deleted(const struct files *files, struct sweep_result *ret_result,
                                  struct err *err)
{
    *ret_result = (struct sweep_result){0};
    enum err_code code = sweep_deleted(files, ret_result, err);
    count_swept(files, ret_result);
    return code;
}

static enum err_code sweep(const struct files *files, const struct sweep_wish *wish,
                           struct sweep_result *ret_result, struct err *err)
{
    int purged = 0;
    *ret_result = (struct sweep_result){0};
    /* Only a listing can take what is another installation's: other keys are those of our rows. */
    enum err_code code = wish->with_objects ? files_installation_settle(files, err) : ERR_OK;
    if (code == ERR_OK)
        code = sweep_expired(files, ret_result, err);
    if (code == ERR_OK)
        code = sweep_deleted(files, ret_result, err);
    if (code == ERR_OK && wish->with_objects)
        code = sweep_objects(files, wish, ret_result, err);
    if (code == ERR_OK)
        code = metadata_purge_requests(files->metadata, clock_wall_ms(files->clock), &purged, err);
    ret_result->requests = purged;
    count_swept(files, ret_result);
    return code;
}

enum err_code files_sweep(const struct files *files, int64_t grace_seconds,
                          struct sweep_result *ret_result, struct err *err)
{
    const struct sweep_wish wish = {grace_seconds, true, false};
    return sweep(files, &wish, ret_result, err);
}

enum err_code files_sweep_without_limit(const struct files *files, int64_t grace_seconds,
                                        struct sweep_result *ret_result, struct err *err)
{
    const struct sweep_wish wish = {grace_seconds, true, true};
    return sweep(files, &wish, ret_result, err);
}

/* From now on for so many seconds. */
static struct named_lease lease_of(const struct files *files, const char *name, const char *holder,
                                   int64_t seconds)
{
    int64_t now_ms = clock_wall_ms(files->clock);
    return (struct named_lease){name, holder, now_ms, now_ms + seconds * 1000};
}

enum err_code files_sweep_if_due(const struct files *files, const char *holder, bool *ret_swept,
                                 struct sweep_result *ret_result, struct err *err)
{
    const struct config *config = files->config;
    char turn[ID_SIZE]; /* a new holder each time, so that its own lease holds it off too */
    bool with_objects = config->orphan_interval_seconds <= config->sweep_interval_seconds;
    const struct named_lease lease =
        lease_of(files, "sweep", holder, config->sweep_interval_seconds);
    *ret_swept = false;
    enum err_code code = metadata_lease(files->metadata, &lease, ret_swept, err);
    if (code != ERR_OK || !*ret_swept)
        return code;
    id_new(files->clock, turn);
    const struct named_lease objects =
        lease_of(files, "objects", turn, config->orphan_interval_seconds);
    if (!with_objects)
        code = metadata_lease(files->metadata, &objects, &with_objects, err);
    const struct sweep_wish wish = {config->sweep_grace_seconds, with_objects, false};
    return code == ERR_OK ? sweep(files, &wish, ret_result, err) : code;
}
