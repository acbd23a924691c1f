/*
 * Orphans: objects of the store that no row knows. The store is listed, and the metadata asked for
 * many keys at a time, so that a remote database is asked once a thousand objects.
 */
#ifndef COFFER_FILES_FILES_ORPHANS_H
#define COFFER_FILES_FILES_ORPHANS_H

#include "files/files.h"

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
