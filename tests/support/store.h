/* What tests of the drivers share: settings over a temporary DATA_DIR, sample rows, threads. */
#ifndef COFFER_TESTS_STORE_H
#define COFFER_TESTS_STORE_H

#include "base/clock.h"
#include "base/config.h"
#include "metadata/metadata.h"
#include "storage/storage.h"

/* Settings of a small installation whose DATA_DIR is `data_dir`; nothing is made there. */
void store_config(struct config *ret_config, const char *data_dir);
/* A temporary DATA_DIR with both drivers initialised; false (and a message) when that failed. */
bool store_make(struct config *ret_config);
/* Row number `number`: its id sorts by the number, name "file-<number>", size and times from it. */
void store_file(struct file *ret_file, int number, const char *owner);
/* The id of row `number`. */
void store_id(char target[ID_SIZE], int number);

/* Runs `run(context, index)` on `count` threads at once and waits for all. */
void store_threads(int count, void (*run)(void *context, int index), void *context);

/* The contracts' calls with plain arguments. */
enum err_code store_list(struct metadata *metadata, const struct file_query *query, int64_t now_ms,
                         file_callback *callback, void *context, struct file_page *ret_page,
                         struct err *err);
enum err_code store_mark_deleted(struct metadata *metadata, const char *const *ids,
                                 const int64_t *expected_versions, size_t count, struct str owner,
                                 int64_t now_ms, enum err_code *ret_results, struct err *err);
enum err_code store_begin(struct metadata *metadata, struct str owner, struct str key,
                          struct str nonce, int64_t now_ms, int64_t lease_until_ms,
                          struct idempotency_record *ret_record, struct err *err);
enum err_code store_renew(struct metadata *metadata, struct str owner, struct str key,
                          struct str nonce, int64_t lease_until_ms, struct err *err);
enum err_code store_release(struct metadata *metadata, struct str owner, struct str key,
                            struct str nonce, struct err *err);
enum err_code store_trim(struct metadata *metadata, struct str owner, int64_t keys, int64_t bytes,
                         struct err *err) ERR_MUST_CHECK;
enum err_code store_lease(struct metadata *metadata, const char *name, const char *holder,
                          int64_t now_ms, int64_t until_ms, bool *ret_held, struct err *err);
enum err_code store_remove_orphan(struct storage *storage, const char *key,
                                  enum err_code (*is_known)(void *context, const char *key,
                                                            bool *ret_known, struct err *err),
                                  void *context, bool *ret_removed, struct err *err);

#define STORE_NOW_MS 1800000000000LL /* the wall time of sample rows */

#endif
