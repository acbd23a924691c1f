/*
 * Sweep: what crashes and absent stores left behind goes, both ways (ARCHITECTURE.md, I5): rows
 * that have expired are marked deleted, marked rows lose their bytes and then themselves, bytes
 * that no row knows are removed, old Idempotency-Keys are forgotten. What a put in progress holds
 * is never touched. Safe to run beside everything and beside itself, and to crash anywhere.
 *
 * A store that knows no claims may show an object just before its row is written. So there an
 * orphan's key is fenced first: a row that is marked deleted takes the key, and whoever would still
 * record the object fails. The fence goes when the grace has passed once more.
 *
 * No object is swept unless store and database are found to belong together just before
 * (files_installation.h, ERR_CONFIG). When more objects would go than SWEEP_MAX_ORPHANS, the store or the database is
 * probably another one than before, or an older one: then they are counted, and none is removed.
 */
#ifndef COFFER_FILES_FILES_SWEEP_H
#define COFFER_FILES_FILES_SWEEP_H

#include "files/files.h"

struct sweep_result {
    int64_t expired; /* files whose time had come */
    int64_t deleted; /* marked rows removed with their bytes */
    int64_t orphans; /* objects without a row, removed */
    int64_t orphan_bytes;
    int64_t held_back; /* objects without a row that were left because there were too many */
    int64_t held_back_bytes;
    bool listed;        /* the store's objects were listed, to the end */
    int64_t seen;       /* objects that were listed */
    int64_t limit;      /* how many orphans would have been removed */
    int64_t requests;   /* Idempotency-Keys forgotten */
    int64_t unfinished; /* uploads that the store still kept parts of */
};

/* Objects younger than grace_seconds are left alone. */
enum err_code files_sweep_without_limit(const struct files *files, int64_t grace_seconds,
                                        struct sweep_result *ret_result, struct err *err)
    ERR_MUST_CHECK;
/* The same, but all orphans stay when there are more than SWEEP_MAX_ORPHANS. */
enum err_code files_sweep(const struct files *files, int64_t grace_seconds,
                          struct sweep_result *ret_result, struct err *err) ERR_MUST_CHECK;
/* Only the rows that are marked deleted and due: what deletes left to be removed. */
enum err_code files_sweep_deleted(const struct files *files, struct sweep_result *ret_result,
                                  struct err *err) ERR_MUST_CHECK;
/* files_sweep, when no other process swept within SWEEP_INTERVAL_SECONDS (a lease in the metadata),
 * with the objects when nobody listed them within ORPHAN_INTERVAL_SECONDS; *ret_swept says whether
 * it ran. `holder` names this process. */
enum err_code files_sweep_if_due(const struct files *files, const char *holder, bool *ret_swept,
                                 struct sweep_result *ret_result, struct err *err) ERR_MUST_CHECK;

/*
 * Orphans: objects of the store that no row knows. The store is listed, and the metadata asked for
 * many keys at a time, so that a remote database is asked once a thousand objects.
 */

struct orphan_search {
    int64_t modified_before_ms; /* wall time: younger objects are left alone */
    /* Told of each orphan; the key is borrowed. A code other than ERR_OK ends the search. */
    enum err_code (*found)(void *context, const char *key, int64_t size, struct err *err);
    void *context;
    int64_t *seen; /* counts the objects that were listed; may be NULL */
};

enum err_code files_find_orphans(const struct files *files, const struct orphan_search *search,
                                 struct err *err) ERR_MUST_CHECK;

#endif
