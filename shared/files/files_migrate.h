/*
 * Migrate: every live file and token of one installation into another, which uses other drivers:
 * bytes first, verified, then the row (I2), with ids, keys, times and versions as they are. The
 * source is only read. What is in the target already and right is left as it is, so a run that was
 * cut short anywhere is gone on with by another, and a later run brings what changed meanwhile. A
 * row that the target changed after its copy is never written over.
 *
 * No service should work on the target meanwhile; the source may be in use. The target is marked as
 * incomplete (files_installation.h) from before the first byte until a run has brought every file:
 * until then it neither starts nor is swept.
 */
#ifndef COFFER_FILES_FILES_MIGRATE_H
#define COFFER_FILES_FILES_MIGRATE_H

#include <stdatomic.h>

#include "files/files.h"

#define MIGRATE_JOBS_MAX 64

enum migrate_kind {
    MIGRATE_FAILED,  /* this file could not be copied */
    MIGRATE_DAMAGED, /* quarantined in the source */
    MIGRATE_NEWER,   /* changed in the target since it was copied: left as it is there */
    MIGRATE_EXTRA    /* a file of the target that the source doesn't have */
};

struct migrate_finding {
    enum migrate_kind kind;
    const char *id;
    const char *key;
    const char *text; /* one sentence */
};

struct migrate_result {
    int64_t total_files; /* live rows of the source when it was counted, with those quarantined */
    int64_t total_bytes;
    int64_t files; /* of these dealt with so far, whatever came out */
    int64_t bytes; /* moves while a file is copied */

    int64_t copied;
    int64_t copied_bytes;
    int64_t updated; /* rows that followed a change in the source */
    int64_t skipped; /* there already, and right */
    int64_t gone;    /* deleted in the source while we were at it */
    int64_t damaged; /* left out, unless asked for */
    int64_t newer;
    int64_t failed;
    int64_t extra;
    int64_t pruned;   /* of these removed */
    int64_t tokens;   /* written or revoked */
    bool is_complete; /* the target may be used */
};

struct migrate_options {
    const struct files *source;
    const struct files *target;
    bool is_same_storage;    /* both read the same objects: only rows are copied */
    bool is_same_metadata;   /* both read the same rows: only objects are copied */
    bool target_is_empty;    /* not initialised yet, so not asked; only with dry_run */
    bool dry_run;            /* write nothing, count what would be done */
    bool verify;             /* read back and hash each object of the target */
    bool include_damaged;    /* rows with what bytes there are; they stay quarantined */
    bool prune;              /* remove what is extra */
    int jobs;                /* files copied at once, 1…MIGRATE_JOBS_MAX */
    const atomic_bool *stop; /* may be NULL; set: end soon, leaving nothing half done */
    /* Both are called by any thread, one at a time; progress may be NULL. */
    void (*found)(void *context, const struct migrate_finding *finding);
    void (*progress)(void *context, const struct migrate_result *result);
    void *context;
};

/* ERR_OK also when single files failed: look at *ret_result, which is set on failure too.
 * ERR_CLIENT_GONE when it was stopped, ERR_CONFIG when `prune` would empty the target for a source
 * without files, else the first failure of a store that did not pass within a quarter of a minute. */
enum err_code files_migrate(const struct migrate_options *options,
                            struct migrate_result *ret_result, struct err *err) ERR_MUST_CHECK;

#endif
