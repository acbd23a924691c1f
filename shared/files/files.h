/*
 * What every use case works with: one per process, shared by its threads. The use cases (create,
 * open, list, update, remove, sweep, check) are the only callers of the drivers; the order of
 * writes lives in them and nowhere else. Each step is safe to crash after (ARCHITECTURE.md).
 */
#ifndef COFFER_FILES_FILES_H
#define COFFER_FILES_FILES_H

#include "access/idempotency.h"
#include "access/principal.h"
#include "base/clock.h"
#include "base/config.h"
#include "metadata/metadata.h"
#include "observe/metrics.h"
#include "storage/storage.h"

#define FILES_BUCKET "uploads"

struct object_cache; /* files/object_cache.h */
struct work_queue;   /* base/work_queue.h */

struct files {
    const struct config *config;
    const struct clock *clock;
    struct storage *storage;
    struct metadata *metadata;
    struct metrics *metrics;           /* may be NULL (admin command) */
    struct work_queue *queue;          /* only where uploads are taken, else NULL */
    struct object_cache *object_cache; /* only where files are read from a store, else NULL */
    /* Told that marked rows wait for their bytes to be removed; NULL: the caller removes them. */
    void (*bytes_left)(void *context);
    void *context;
};

#endif
