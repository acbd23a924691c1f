/*
 * Private to files_migrate.c and migrate_file.c: one file's way into the target.
 */
#ifndef COFFER_FILES_MIGRATE_FILE_H
#define COFFER_FILES_MIGRATE_FILE_H

#include <pthread.h>

#include "files/files_migrate.h"

struct migration {
    const struct migrate_options *options;
    pthread_mutex_t mutex; /* guards what follows and the callbacks */
    struct migrate_result *result;
};

/* Adds to one member of the result, and tells of the progress. */
void migration_count(struct migration *migration, int64_t *member, int64_t amount);
/* Counts and tells of a finding. */
void migration_report(struct migration *migration, enum migrate_kind kind, const struct file *row,
                      const char *text);
/* ERR_CLIENT_GONE when the run shall end. */
enum err_code migration_check_stop(const struct migration *migration, struct err *err)
    ERR_MUST_CHECK;

/* Brings the row's file into the target: a migrate_job over a struct migration. */
enum err_code migrate_file(void *context, const struct file *row, struct err *err) ERR_MUST_CHECK;

#endif
