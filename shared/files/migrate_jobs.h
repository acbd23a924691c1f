/*
 * A few threads that each work on one file's row at a time, fed by one thread from a short queue:
 * memory stays bounded however many rows there are. The first failure ends them all.
 */
#ifndef COFFER_FILES_MIGRATE_JOBS_H
#define COFFER_FILES_MIGRATE_JOBS_H

#include "base/errors.h"
#include "metadata/file.h"

struct migrate_jobs;

/* Called by many threads at once; a code other than ERR_OK ends everything with it. */
typedef enum err_code migrate_job(void *context, const struct file *row, struct err *err);

/* ERR_NO_MEMORY. The caller ends it with migrate_jobs_close. */
enum err_code migrate_jobs_open(struct migrate_jobs **ret_jobs, int threads, migrate_job *run,
                                void *context, struct err *err) ERR_MUST_CHECK;
/* Waits for a place in the queue and copies the row; the failure that ended everything, if any. */
enum err_code migrate_jobs_add(struct migrate_jobs *jobs, const struct file *row, struct err *err)
    ERR_MUST_CHECK;
/* Waits until all rows are done, or after a failure those begun, and frees. Returns `code` when it
 * is a failure already (the feeder's), else the first failure of a job. NULL is allowed. */
enum err_code migrate_jobs_close(struct migrate_jobs *jobs, enum err_code code, struct err *err)
    ERR_MUST_CHECK;

#endif
