/* The storage contract, over every driver: a driver joins by a row in `stores`. */
#ifndef COFFER_TESTS_STORAGE_CONTRACT_H
#define COFFER_TESTS_STORAGE_CONTRACT_H

#include "check.h"
#include "storage/storage.h"

typedef void storage_check(struct storage *storage, const char *label);

/* Runs the check on an empty storage of each driver. */
void storage_over_each(storage_check *check);

#define CONTRACT(name)                                                    \
    static void check_##name(struct storage *storage, const char *label); \
    TEST(storage, name)                                                   \
    {                                                                     \
        storage_over_each(check_##name);                                  \
    }                                                                     \
    static void check_##name(struct storage *storage, const char *label)

/* Begins, writes, commits and closes; the first failure. */
enum err_code put_object(struct storage *storage, const char *key, const void *data, size_t len);
/* The object's bytes from `offset`, read `step` bytes at a time; the length, or -1. */
int64_t get_object(struct storage *storage, const char *key, int64_t offset, char *target,
                   size_t size, size_t step);
/* How many objects a listing shows, or -1. */
int count_objects(struct storage *storage);

#endif
