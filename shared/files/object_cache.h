/*
 * Small objects that were read from the store and verified lately, so that asking for them again
 * asks the database alone. Found by storage key and SHA-256: a key is never given other bytes, and
 * what is found has the hash that the row says, so nothing here is ever out of date; whether a file
 * is there and who may read it is asked of its row each time.
 *
 * Bounded: the objects least lately asked for go first. Thread-safe. A NULL cache finds and keeps
 * nothing.
 */
#ifndef COFFER_FILES_OBJECT_CACHE_H
#define COFFER_FILES_OBJECT_CACHE_H

#include "base/errors.h"
#include "metadata/file.h"

#define OBJECT_CACHE_LARGEST (64 * 1024) /* bytes of an object that is kept */

struct object_cache;

/* `max` bytes at most, with all that is needed to find them. ERR_NO_MEMORY. Caller frees with
 * object_cache_close. */
enum err_code object_cache_open(struct object_cache **ret_cache, size_t max, struct err *err)
    ERR_MUST_CHECK;
/* NULL is allowed. */
void object_cache_close(struct object_cache *cache);

/* Copies the file's bytes to `target`, which has room for file->size; false when they are not here. */
bool object_cache_find(struct object_cache *cache, const struct file *file, char *target);
/* Keeps a copy of the file's bytes, whose hash the caller has checked. */
void object_cache_keep(struct object_cache *cache, const struct file *file, const char *bytes);

#endif
