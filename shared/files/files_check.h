/*
 * Check (fsck): every row against its bytes and its hash, every object against the rows, and the
 * metadata against itself. Reads only; with `repair`, rows whose bytes are missing or wrong are
 * quarantined (served as 500 from then on, never as good), rows found whole again are released,
 * and kept totals are recounted. Orphans are reported here and removed by the sweep.
 */
#ifndef COFFER_FILES_FILES_CHECK_H
#define COFFER_FILES_FILES_CHECK_H

#include "files/files.h"

enum check_kind {
    CHECK_MISSING,     /* a row without bytes (I2) */
    CHECK_SIZE,        /* bytes of another size */
    CHECK_HASH,        /* bytes with another SHA-256 */
    CHECK_QUARANTINED, /* quarantined before, and still not whole */
    CHECK_ORPHAN,      /* bytes that no row knows */
    CHECK_METADATA     /* the metadata contradicts itself */
};

struct check_finding {
    enum check_kind kind;
    const char *id;   /* of the row, or "" */
    const char *key;  /* storage key, or "" */
    const char *text; /* one sentence */
};

struct check_result {
    int64_t files;    /* rows verified */
    int64_t bytes;    /* bytes hashed */
    int64_t findings; /* those that are no orphans */
    int64_t orphans;
    int64_t repaired;
};

struct check_options {
    bool repair;
    void (*found)(void *context, const struct check_finding *finding);  /* for each finding */
    void (*progress)(void *context, const struct check_result *result); /* after each row */
    void *context;
};

/* ERR_OK also when there are findings: look at *ret_result. */
enum err_code files_check(const struct files *files, const struct check_options *options,
                          struct check_result *ret_result, struct err *err) ERR_MUST_CHECK;

#endif
