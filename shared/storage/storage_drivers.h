/*
 * For storage.c, the drivers and their tests only: the drivers there are, and how to open one that
 * is given instead of named; and what a key is.
 */
#ifndef COFFER_STORAGE_STORAGE_DRIVERS_H
#define COFFER_STORAGE_STORAGE_DRIVERS_H

#include "storage/storage.h"

/* Of a key, before its "/". */
#define STORAGE_SHARD_LENGTH 2

/* Is it a key of ours: "<xx>/<rest>" in the grammar of storage.h, `rest` without a dot in front?
 * Nothing else in a store is ever touched. */
bool storage_is_key(struct str key);
/* ERR_INTERNAL unless it is. */
enum err_code storage_check_key(const char *key, struct err *err) ERR_MUST_CHECK;

extern const struct storage_driver storage_fs_driver;
extern const struct storage_driver storage_s3_driver;
extern const struct storage_driver storage_libs3_driver;

/* storage_open with `driver`; nobody observes it. */
enum err_code storage_open_driver(struct storage **ret_storage, const struct storage_driver *driver,
                                  const struct config *config, const struct clock *clock,
                                  struct err *err) ERR_MUST_CHECK;

#endif
