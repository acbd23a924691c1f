#include "store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "storage/storage.h"

void store_config(struct config *ret_config, const char *data_dir)
{
    *ret_config = (struct config){.durability = DURABILITY_FULL,
                                  .max_file_size = 52428800,
                                  .idempotency_keys = 10000,
                                  .idempotency_bytes = 16 << 20,
                                  .sqlite_busy_timeout_ms = 5000,
                                  .sqlite_readers = 4};
    snprintf(ret_config->data_dir, sizeof ret_config->data_dir, "%s", data_dir);
    snprintf(ret_config->storage_driver, sizeof ret_config->storage_driver, "fs");
    snprintf(ret_config->metadata_driver, sizeof ret_config->metadata_driver, "sqlite");
}

bool store_make(struct config *ret_config)
{
    struct err err;
    store_config(ret_config, check_temp_dir());
    if (storage_init(ret_config, &clock_system, &err) == ERR_OK &&
        metadata_init(ret_config, &clock_system, &err) == ERR_OK)
        return true;
    fprintf(stderr, "store_make: %s: %s\n", err.operation, err.message);
    return false;
}

void store_id(char target[ID_SIZE], int number)
{
    snprintf(target, ID_SIZE, "0199c0de-%04x-7c3e-9a55-%012x", ((unsigned)number >> 16) & 0xFFFFu,
             (unsigned)number);
}

void store_file(struct file *ret_file, int number, const char *owner)
{
    *ret_file = (struct file){.size = number,
                              .created_ms = STORE_NOW_MS - 1000000 + number,
                              .updated_ms = STORE_NOW_MS - 1000000 + number,
                              .version = 1};
    store_id(ret_file->id, number);
    snprintf(ret_file->owner, sizeof ret_file->owner, "%s", owner);
    snprintf(ret_file->name, sizeof ret_file->name, "file-%d", number);
    snprintf(ret_file->mime, sizeof ret_file->mime, "text/plain");
    snprintf(ret_file->sha256, sizeof ret_file->sha256, "%064d", number);
    snprintf(ret_file->bucket, sizeof ret_file->bucket, "uploads");
    snprintf(ret_file->key, sizeof ret_file->key, "%02x/%032d", (unsigned)number & 0xFFu, number);
    snprintf(ret_file->metadata, sizeof ret_file->metadata, "{}");
}

struct thread_start {
    void (*run)(void *context, int index);
    void *context;
    int index;
    pthread_barrier_t *barrier;
};

static void *run_thread(void *argument)
{
    const struct thread_start *start = argument;
    pthread_barrier_wait(start->barrier);
    start->run(start->context, start->index);
    return NULL;
}

void store_threads(int count, void (*run)(void *context, int index), void *context)
{
    size_t size = (size_t)count;
    pthread_t *threads = calloc(size, sizeof *threads);
    struct thread_start *starts = calloc(size, sizeof *starts);
    pthread_barrier_t barrier;
    if (!threads || !starts || pthread_barrier_init(&barrier, NULL, (unsigned)count) != 0)
        abort();
    for (int i = 0; i < count; i++) {
        starts[i] = (struct thread_start){run, context, i, &barrier};
        if (pthread_create(&threads[i], NULL, run_thread, &starts[i]) != 0)
            abort();
    }
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    free(threads);
    free(starts);
}

enum err_code store_list(struct metadata *metadata, const struct file_query *query, int64_t now_ms,
                         file_callback *callback, void *context, struct file_page *ret_page,
                         struct err *err)
{
    struct file_listing listing = {.callback = callback, .context = context};
    enum err_code code = metadata_file_list(metadata, query, now_ms, &listing, err);
    if (code == ERR_OK)
        *ret_page = listing.page;
    return code;
}

enum err_code store_mark_deleted(struct metadata *metadata, const char *const *ids,
                                 const int64_t *expected_versions, size_t count, struct str owner,
                                 int64_t now_ms, enum err_code *ret_results, struct err *err)
{
    const struct file_marking marking = {.ids = ids,
                                         .expected_versions = expected_versions,
                                         .count = count,
                                         .owner = owner,
                                         .now_ms = now_ms,
                                         .results = ret_results};
    return metadata_file_mark_deleted(metadata, &marking, err);
}

enum err_code store_begin(struct metadata *metadata, struct str owner, struct str key,
                          struct str nonce, int64_t now_ms, int64_t lease_until_ms,
                          struct idempotency_record *ret_record, struct err *err)
{
    const struct idempotency_claim claim = {owner, key, nonce, now_ms, lease_until_ms};
    return metadata_idempotency_begin(metadata, &claim, ret_record, err);
}

enum err_code store_renew(struct metadata *metadata, struct str owner, struct str key,
                          struct str nonce, int64_t lease_until_ms, struct err *err)
{
    const struct idempotency_claim claim = {owner, key, nonce, 0, lease_until_ms};
    return metadata_idempotency_renew(metadata, &claim, err);
}

enum err_code store_release(struct metadata *metadata, struct str owner, struct str key,
                            struct str nonce, struct err *err)
{
    const struct idempotency_claim claim = {owner, key, nonce, 0, 0};
    return metadata_idempotency_release(metadata, &claim, err);
}

enum err_code store_trim(struct metadata *metadata, struct str owner, int64_t keys, int64_t bytes,
                         struct err *err)
{
    const struct idempotency_bounds bounds = {owner, keys, bytes};
    return metadata_idempotency_trim(metadata, &bounds, err);
}

enum err_code store_lease(struct metadata *metadata, const char *name, const char *holder,
                          int64_t now_ms, int64_t until_ms, bool *ret_held, struct err *err)
{
    const struct named_lease lease = {name, holder, now_ms, until_ms};
    return metadata_lease(metadata, &lease, ret_held, err);
}

enum err_code store_remove_orphan(struct storage *storage, const char *key,
                                  enum err_code (*is_known)(void *context, const char *key,
                                                            bool *ret_known, struct err *err),
                                  void *context, bool *ret_removed, struct err *err)
{
    const struct orphan_question question = {is_known, context};
    return storage_remove_orphan(storage, key, &question, ret_removed, err);
}
