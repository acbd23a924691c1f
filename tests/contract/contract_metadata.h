/* The metadata contract, over every driver: a driver joins by a row in metadata_stores. */
#ifndef COFFER_TESTS_CONTRACT_METADATA_H
#define COFFER_TESTS_CONTRACT_METADATA_H

#include "check.h"
#include "metadata/metadata.h"
#include "store.h"

struct metadata_store {
    const char *label;
    const char *driver; /* METADATA_DRIVER */
    enum durability durability;
    bool is_slow; /* a check of many rows makes do with fewer */
};

typedef void metadata_store_check(struct metadata *metadata, const struct metadata_store *store);

/* Runs the check on an empty database of each driver; with COFFER_CONTRACT_STORE=<label> in the
 * environment of that one only. */
void metadata_over_each(metadata_store_check *check);

/* A check sees `metadata`, `store` and its `label`. */
#define CONTRACT(name)                                                                    \
    static void check_##name(struct metadata *metadata,                                   \
                             __attribute__((unused)) const struct metadata_store *store,  \
                             const char *label);                                          \
    static void run_##name(struct metadata *metadata, const struct metadata_store *store) \
    {                                                                                     \
        check_##name(metadata, store, store->label);                                      \
    }                                                                                     \
    TEST(metadata, name)                                                                  \
    {                                                                                     \
        metadata_over_each(run_##name);                                                   \
    }                                                                                     \
    static void check_##name(struct metadata *metadata,                                   \
                             __attribute__((unused)) const struct metadata_store *store,  \
                             const char *label)

/* Inserts row `number` of store_file. */
enum err_code insert_row(struct metadata *metadata, int number, const char *owner);
/* Marks row `number` deleted; the row's own result. */
enum err_code mark_row(struct metadata *metadata, int number, int64_t expected_version,
                       const char *owner);
/* The total of a listing without filters; owner "" is everybody's. -2 on failure. */
int64_t kept_total(struct metadata *metadata, const char *owner, int64_t now_ms);

#endif
