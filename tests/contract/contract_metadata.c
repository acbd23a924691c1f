#include "contract_metadata.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mongodb_database.h"

static const struct metadata_store metadata_stores[] = {
    {"sqlite", "sqlite", DURABILITY_FULL, false},
    {"sqlite, relaxed", "sqlite", DURABILITY_RELAXED, false},
    {"mongodb", "mongodb", DURABILITY_FULL, true},
};

static bool is_mongodb(const struct metadata_store *store)
{
    return strcmp(store->driver, "mongodb") == 0;
}

static void run_on(const struct metadata_store *store, const struct config *config,
                   metadata_store_check *check)
{
    struct err err;
    struct metadata *metadata = NULL;
    CHECK_ERR_ROW(store->label, metadata_open(&metadata, config, &clock_system, NULL, &err), ERR_OK,
                  &err);
    if (!metadata)
        return;
    check(metadata, store);
    CHECK_ERR_ROW(store->label, metadata_check(metadata, false, &err), ERR_OK, &err);
    metadata_close(metadata);
}

void metadata_over_each(metadata_store_check *check)
{
    const char *only = getenv("COFFER_CONTRACT_STORE");
    for (size_t i = 0; i < sizeof metadata_stores / sizeof metadata_stores[0]; i++) {
        const struct metadata_store *store = &metadata_stores[i];
        struct config config;
        if (only && strcmp(only, store->label) != 0)
            continue;
        bool made = is_mongodb(store) ? mongodb_database_make(&config) : store_make(&config);
        CHECK_ROW(store->label, made);
        if (!made)
            continue;
        config.durability = store->durability;
        run_on(store, &config, check);
        if (is_mongodb(store))
            mongodb_database_drop(&config);
    }
}

enum err_code insert_row(struct metadata *metadata, int number, const char *owner)
{
    struct err err;
    struct file file;
    store_file(&file, number, owner);
    return metadata_file_insert(metadata, &file, NULL, &err);
}

enum err_code mark_row(struct metadata *metadata, int number, int64_t expected_version,
                       const char *owner)
{
    struct err err;
    char id[ID_SIZE];
    const char *ids[1] = {id};
    enum err_code result = ERR_INTERNAL;
    store_id(id, number);
    enum err_code code = store_mark_deleted(metadata, ids, &expected_version, 1, str_of(owner),
                                            STORE_NOW_MS, &result, &err);
    return code == ERR_OK ? result : code;
}

static enum err_code ignore_row(void *context, const struct file *file, struct err *err)
{
    (void)context;
    (void)file;
    (void)err;
    return ERR_OK;
}

int64_t kept_total(struct metadata *metadata, const char *owner, int64_t now_ms)
{
    struct err err;
    struct file_page page = {.total = -2};
    struct file_query query = {.owner = str_of(owner), .limit = 1};
    if (store_list(metadata, &query, now_ms, ignore_row, NULL, &page, &err) != ERR_OK)
        return -2;
    return page.total;
}
