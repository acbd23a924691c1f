#include "files/files_migrate.h"

#include <stdlib.h>
#include <string.h>

#include "base/errors.h"
#include "base/work_queue.h"
#include "files/files_installation.h"
#include "files/files_remove.h"
#include "files/migrate_file.h"
#include "metadata/file.h"

/*
 * Jobs: a few threads that each work on one file's row at a time, fed by one thread, so memory stays
 * bounded however many rows there are. The first failure ends them all.
 */

/* Called by many threads at once; a code other than ERR_OK ends everything with it. */
typedef enum err_code migrate_job(void *context, const struct file *row, struct err *err);

struct migrate_jobs;

struct migrate_slot {
    struct work work; /* first member: run_slot gets the slot back from it */
    struct migrate_jobs *jobs;
    struct migrate_slot *next_free;
    struct file row;
};

struct migrate_jobs {
    migrate_job *run;
    void *context;
    struct work_queue *queue;
    struct migrate_slot *slots;
    pthread_mutex_t mutex;
    pthread_cond_t freed;
    /* guarded by mutex */
    struct migrate_slot *free_slots;
    enum err_code failed; /* the first failure */
    struct err err;
};

static void fail(struct migrate_jobs *jobs, enum err_code code, const struct err *err)
{
    pthread_mutex_lock(&jobs->mutex);
    if (jobs->failed == ERR_OK) {
        jobs->failed = code;
        jobs->err = *err;
    }
    pthread_mutex_unlock(&jobs->mutex);
}

static enum err_code failure(struct migrate_jobs *jobs, struct err *err)
{
    pthread_mutex_lock(&jobs->mutex);
    enum err_code code = jobs->failed;
    if (code != ERR_OK)
        *err = jobs->err;
    pthread_mutex_unlock(&jobs->mutex);
    return code;
}

static void free_slot(struct migrate_slot *slot)
{
    struct migrate_jobs *jobs = slot->jobs;
    pthread_mutex_lock(&jobs->mutex);
    slot->next_free = jobs->free_slots;
    jobs->free_slots = slot;
    pthread_cond_signal(&jobs->freed);
    pthread_mutex_unlock(&jobs->mutex);
}

static void run_slot(struct work *work)
{
    struct migrate_slot *slot = (struct migrate_slot *)work;
    struct migrate_jobs *jobs = slot->jobs;
    struct err err;
    if (failure(jobs, &err) == ERR_OK) {
        enum err_code code = jobs->run(jobs->context, &slot->row, &err);
        if (code != ERR_OK)
            fail(jobs, code, &err);
    }
    free_slot(slot);
}

/* Waits until all rows are done, or after a failure those begun, and frees. Returns `code` when it
 * is a failure already (the feeder's), else the first failure of a job. NULL is allowed. */
static enum err_code migrate_jobs_close(struct migrate_jobs *jobs, enum err_code code,
                                        struct err *err)
{
    if (!jobs)
        return code;
    if (code != ERR_OK)
        fail(jobs, code, err);
    work_queue_close(jobs->queue);
    if (code == ERR_OK)
        code = failure(jobs, err);
    pthread_cond_destroy(&jobs->freed);
    pthread_mutex_destroy(&jobs->mutex);
    free(jobs->slots);
    free(jobs);
    return code;
}

/* ERR_NO_MEMORY. The caller ends it with migrate_jobs_close. */
static enum err_code migrate_jobs_open(struct migrate_jobs **ret_jobs, int threads,
                                       migrate_job *run, void *context, struct err *err)
{
    size_t slots = 2 * (size_t)threads; /* for each one that runs one that waits */
    struct migrate_jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "migrate", "Out of memory.");
    jobs->run = run;
    jobs->context = context;
    pthread_mutex_init(&jobs->mutex, NULL);
    pthread_cond_init(&jobs->freed, NULL);
    jobs->slots = calloc(slots, sizeof *jobs->slots);
    enum err_code code = jobs->slots
                             ? work_queue_open(&jobs->queue, threads, 0, err)
                             : err_set_internal(err, ERR_NO_MEMORY, 0, "migrate", "Out of memory.");
    if (code != ERR_OK)
        return migrate_jobs_close(jobs, code, err);
    for (size_t i = 0; i < slots; i++) {
        jobs->slots[i].work.run = run_slot;
        jobs->slots[i].jobs = jobs;
        free_slot(&jobs->slots[i]);
    }
    *ret_jobs = jobs;
    return ERR_OK;
}

static struct migrate_slot *take_slot(struct migrate_jobs *jobs)
{
    pthread_mutex_lock(&jobs->mutex);
    while (!jobs->free_slots)
        pthread_cond_wait(&jobs->freed, &jobs->mutex);
    struct migrate_slot *slot = jobs->free_slots;
    jobs->free_slots = slot->next_free;
    pthread_mutex_unlock(&jobs->mutex);
    work_queue_wait(jobs->queue, &slot->work); /* its thread may be about to let go of it */
    return slot;
}

/* Waits for a place in the queue and copies the row; the failure that ended everything, if any. */
static enum err_code migrate_jobs_add(struct migrate_jobs *jobs, const struct file *row,
                                      struct err *err)
{
    struct migrate_slot *slot = take_slot(jobs);
    enum err_code code = failure(jobs, err);
    if (code != ERR_OK) {
        free_slot(slot);
        return code;
    }
    slot->row = *row;
    work_queue_submit(jobs->queue, &slot->work);
    return ERR_OK;
}

void migration_count(struct migration *migration, int64_t *member, int64_t amount)
{
    const struct migrate_options *options = migration->options;
    pthread_mutex_lock(&migration->mutex);
    *member += amount;
    if (options->progress)
        options->progress(options->context, migration->result);
    pthread_mutex_unlock(&migration->mutex);
}

void migration_report(struct migration *migration, enum migrate_kind kind, const struct file *row,
                      const char *text)
{
    const struct migrate_finding finding = {kind, row->id, row->key, text};
    struct migrate_result *result = migration->result;
    int64_t *const members[] = {
        [MIGRATE_FAILED] = &result->failed,
        [MIGRATE_DAMAGED] = &result->damaged,
        [MIGRATE_NEWER] = &result->newer,
        [MIGRATE_EXTRA] = &result->extra,
    };
    pthread_mutex_lock(&migration->mutex);
    ++*members[kind];
    migration->options->found(migration->options->context, &finding);
    pthread_mutex_unlock(&migration->mutex);
}

enum err_code migration_check_stop(const struct migration *migration, struct err *err)
{
    const atomic_bool *stop = migration->options->stop;
    if (!stop || !atomic_load(stop))
        return ERR_OK;
    return err_set(err, ERR_CLIENT_GONE, "migrate", "It was stopped.");
}

/* A row on the feeding thread's way from a scan to the jobs. */
struct feed {
    struct migration *migration;
    struct migrate_jobs *jobs;
    int64_t now_ms;
};

static bool is_live(const struct file *row, int64_t now_ms)
{
    return row->status != FILE_DELETED && (row->expires_ms == 0 || row->expires_ms > now_ms);
}

/* ---- counting ---- */

static enum err_code count_row(void *context, const struct file *row, struct err *err)
{
    const struct feed *feed = context;
    struct migrate_result *result = feed->migration->result;
    if (is_live(row, feed->now_ms)) {
        result->total_files++;
        result->total_bytes += row->size;
    }
    return migration_check_stop(feed->migration, err);
}

static enum err_code count_all(struct migration *migration, struct err *err)
{
    const struct files *source = migration->options->source;
    struct feed feed = {migration, NULL, clock_wall_ms(source->clock)};
    return metadata_scan(source->metadata, count_row, &feed, err);
}

/* ---- tokens ---- */

/* A token that was revoked in the source since it was copied is revoked in the target. */
static enum err_code follow_token(struct migration *migration, const struct token *token,
                                  struct err *err)
{
    struct metadata *target = migration->options->target->metadata;
    struct token known;
    enum err_code code = metadata_token_get(target, token->id, &known, err);
    if (code != ERR_OK || !token->revoked_ms || known.revoked_ms)
        return code;
    if (!migration->options->dry_run)
        code = metadata_token_revoke(target, token->id, token->revoked_ms, err);
    if (code == ERR_OK)
        migration_count(migration, &migration->result->tokens, 1);
    return code;
}

static enum err_code copy_token(void *context, const struct token *token, struct err *err)
{
    struct migration *migration = context;
    const struct migrate_options *options = migration->options;
    enum err_code code = migration_check_stop(migration, err);
    if (code != ERR_OK)
        return code;
    if (!options->target_is_empty) {
        code = follow_token(migration, token, err);
        if (code != ERR_NOT_FOUND)
            return code;
    }
    code = options->dry_run ? ERR_OK : metadata_token_insert(options->target->metadata, token, err);
    if (code == ERR_OK)
        migration_count(migration, &migration->result->tokens, 1);
    return code;
}

/* ---- files ---- */

static enum err_code feed_row(void *context, const struct file *row, struct err *err)
{
    const struct feed *feed = context;
    struct migration *migration = feed->migration;
    enum err_code code = migration_check_stop(migration, err);
    if (code != ERR_OK || !is_live(row, feed->now_ms))
        return code;
    if (row->status == FILE_DAMAGED)
        migration_report(migration, MIGRATE_DAMAGED, row,
                         migration->options->include_damaged
                             ? "quarantined in the source, and so in the target"
                             : "quarantined in the source and left out");
    if (row->status == FILE_DAMAGED && !migration->options->include_damaged) {
        migration_count(migration, &migration->result->files, 1);
        migration_count(migration, &migration->result->bytes, row->size);
        return ERR_OK;
    }
    return migrate_jobs_add(feed->jobs, row, err);
}

/* Scans one side's rows and gives them to jobs. */
static enum err_code run_jobs(struct migration *migration, const struct files *scanned,
                              file_callback *feeder, migrate_job *job, struct err *err)
{
    struct feed feed = {migration, NULL, clock_wall_ms(scanned->clock)};
    enum err_code code =
        migrate_jobs_open(&feed.jobs, migration->options->jobs, job, migration, err);
    if (code == ERR_OK)
        code = metadata_scan(scanned->metadata, feeder, &feed, err);
    return migrate_jobs_close(feed.jobs, code, err);
}

/* ---- what the source doesn't have ---- */

/* Objects that both sides read stay: they are the source's to remove. */
static enum err_code prune(const struct migrate_options *options, const struct file *row,
                           bool *ret_pruned, struct err *err)
{
    const char *id = row->id;
    enum err_code result = ERR_OK;
    const struct file_marking marking = {.ids = &id,
                                         .expected_versions = &row->version,
                                         .count = 1,
                                         .now_ms = clock_wall_ms(options->target->clock),
                                         .results = &result};
    enum err_code code = metadata_file_mark_deleted(options->target->metadata, &marking, err);
    if (code != ERR_OK || result != ERR_OK)
        return code;
    *ret_pruned = true;
    if (!options->is_same_storage)
        return files_remove_marked(options->target, row->id, row->key, err);
    code = metadata_file_remove(options->target->metadata, row->id, err);
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}

static enum err_code judge_extra(void *context, const struct file *row, struct err *err)
{
    struct migration *migration = context;
    const struct migrate_options *options = migration->options;
    struct file unused;
    bool pruned = false;
    enum err_code code = migration_check_stop(migration, err);
    if (code == ERR_OK)
        code = metadata_file_get(options->source->metadata, row->id,
                                 clock_wall_ms(options->source->clock), &unused, err);
    if (code != ERR_NOT_FOUND)
        return code;
    code = options->prune && !options->dry_run ? prune(options, row, &pruned, err) : ERR_OK;
    if (code != ERR_OK)
        return code;
    migration_report(migration, MIGRATE_EXTRA, row,
                     pruned ? "the source does not have it: removed from the target"
                            : "the source does not have it");
    if (pruned)
        migration_count(migration, &migration->result->pruned, 1);
    return ERR_OK;
}

static enum err_code feed_known(void *context, const struct file *row, struct err *err)
{
    const struct feed *feed = context;
    return is_live(row, feed->now_ms) ? migrate_jobs_add(feed->jobs, row, err) : ERR_OK;
}

/* ---- all of it ---- */

static enum err_code check_prune(const struct migration *migration, struct err *err)
{
    if (!migration->options->prune || migration->result->total_files > 0)
        return ERR_OK;
    return err_set(err, ERR_CONFIG, "migrate",
                   "the source has no files, so --prune would empty the target");
}

static enum err_code migrate(struct migration *migration, struct err *err)
{
    const struct migrate_options *options = migration->options;
    enum err_code code = count_all(migration, err);
    if (code == ERR_OK)
        code = check_prune(migration, err);
    if (code == ERR_OK && !options->is_same_metadata)
        code = metadata_token_list(options->source->metadata, copy_token, migration, err);
    if (code == ERR_OK)
        code = run_jobs(migration, options->source, feed_row, migrate_file, err);
    if (code == ERR_OK && !options->is_same_metadata && !options->target_is_empty)
        code = run_jobs(migration, options->target, feed_known, judge_extra, err);
    return code;
}

enum err_code files_migrate(const struct migrate_options *options,
                            struct migrate_result *ret_result, struct err *err)
{
    struct migration migration = {.options = options, .result = ret_result};
    const struct installation_move move = {options->source, options->target,
                                           options->is_same_storage, options->is_same_metadata,
                                           options->dry_run};
    *ret_result = (struct migrate_result){0};
    pthread_mutex_init(&migration.mutex, NULL);
    enum err_code code =
        options->target_is_empty ? ERR_OK : files_installation_begin_move(&move, err);
    if (code == ERR_OK)
        code = migrate(&migration, err);
    if (code == ERR_OK && ret_result->failed == 0 && !options->dry_run) {
        code = files_installation_end_move(&move, err);
        ret_result->is_complete = code == ERR_OK;
    }
    pthread_mutex_destroy(&migration.mutex);
    return code;
}
