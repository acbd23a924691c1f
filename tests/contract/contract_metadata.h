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
};

typedef void metadata_store_check(struct metadata *metadata, const char *label);

/* Runs the check on an empty database of each driver. */
void metadata_over_each(metadata_store_check *check);

#define CONTRACT(name)                                                      \
    static void check_##name(struct metadata *metadata, const char *label); \
    TEST(metadata, name)                                                    \
    {                                                                       \
        metadata_over_each(check_##name);                                   \
    }                                                                       \
    static void check_##name(struct metadata *metadata, const char *label)

/* Inserts row `number` of store_file. */
enum err_code insert_row(struct metadata *metadata, int number, const char *owner);
/* Marks row `number` deleted; the row's own result. */
enum err_code mark_row(struct metadata *metadata, int number, int64_t expected_version,
                       const char *owner);
/* The total of a listing without filters; owner "" is everybody's. -2 on failure. */
int64_t kept_total(struct metadata *metadata, const char *owner, int64_t now_ms);

#endif
