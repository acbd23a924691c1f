/*
 * The storage contract, over every driver and server: a driver joins by a row in `stores`. Rows on
 * a server find it by its variables (tests/servers/serve); a row whose server is missing fails.
 */
#ifndef COFFER_TESTS_STORAGE_CONTRACT_H
#define COFFER_TESTS_STORAGE_CONTRACT_H

#include "check.h"
#include "storage/storage.h"

typedef void storage_check(struct storage *storage, const char *label);

/* Runs the check on an empty storage of each row. */
void storage_over_each(storage_check *check);

/* The same for the driver s3 on each of its servers, with the settings it was opened by; more of
 * them can be opened with s3_contract_open after a change. */
typedef void storage_s3_check(struct storage *storage, const struct config *config,
                              const char *label);
void storage_over_s3(storage_s3_check *check);
/* NULL, and a failed check, when it can't be opened. */
struct storage *s3_contract_open(const struct config *config, const char *label);

#define CONTRACT(name)                                                    \
    static void check_##name(struct storage *storage, const char *label); \
    TEST(storage, name)                                                   \
    {                                                                     \
        storage_over_each(check_##name);                                  \
    }                                                                     \
    static void check_##name(struct storage *storage, const char *label)

#define S3_CONTRACT(name)                                                          \
    static void check_##name(struct storage *storage, const struct config *config, \
                             const char *label);                                   \
    TEST(storage_s3, name)                                                         \
    {                                                                              \
        storage_over_s3(check_##name);                                             \
    }                                                                              \
    static void check_##name(struct storage *storage, const struct config *config, \
                             const char *label)

/* Is the store another program, which loses claims and can't be asked for files? */
bool is_remote(const struct storage *storage);

/* Begins, writes, commits and closes; the first failure. */
enum err_code put_object(struct storage *storage, const char *key, const void *data, size_t len);
/* The same with everything said: a hint of the size, the step of each write, where the tag goes. */
struct put_options {
    int64_t size_hint;
    size_t step;
    const char *mime;
    char *ret_tag; /* STORAGE_TAG_SIZE bytes or NULL */
};
enum err_code put_object_with(struct storage *storage, const char *key, struct str content,
                              const struct put_options *options, struct err *err);
/* Commits what was written, whose SHA-256 is that of `content`. */
enum err_code commit_content(struct storage_put *put, struct str content,
                             char ret_tag[STORAGE_TAG_SIZE], struct err *err);
/* The object's bytes from `offset`, read `step` bytes at a time; the length, or -1. */
int64_t get_object(struct storage *storage, const char *key, int64_t offset, char *target,
                   size_t size, size_t step);
/* What was wanted into `target`; the length, or -1 and the error. */
int64_t get_wanted(struct storage *storage, const struct storage_wanted *wanted, char *target,
                   size_t size, struct err *err);
/* How many objects a listing shows, or -1. */
int count_objects(struct storage *storage);
/* `len` bytes that depend on `seed`; caller frees with free. */
char *make_content(size_t len, unsigned seed);

#endif
