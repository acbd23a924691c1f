#include "contract_metadata.h"

#include <stdio.h>

static const struct metadata_store metadata_stores[] = {
    {"sqlite", "sqlite", DURABILITY_FULL},
    {"sqlite, relaxed", "sqlite", DURABILITY_RELAXED},
};

void metadata_over_each(metadata_store_check *check)
{
    for (size_t i = 0; i < sizeof metadata_stores / sizeof metadata_stores[0]; i++) {
        const struct metadata_store *store = &metadata_stores[i];
        struct config config;
        struct err err;
        struct metadata *metadata = NULL;
        if (!store_make(&config))
            abort();
        snprintf(config.metadata_driver, sizeof config.metadata_driver, "%s", store->driver);
        config.durability = store->durability;
        CHECK_ERR_ROW(store->label, metadata_open(&metadata, &config, &clock_system, NULL, &err),
                      ERR_OK, &err);
        if (!metadata)
            continue;
        check(metadata, store->label);
        CHECK_ERR_ROW(store->label, metadata_check(metadata, false, &err), ERR_OK, &err);
        metadata_close(metadata);
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
