/*
 * Health checks for probes: each part (storage, metadata) is asked by a thread of its own, only when
 * somebody wants to know and what is known is older than HEALTH_FRESH_MS. So a storm of probes costs
 * one check a second, and a store that is silent holds no worker: after HEALTH_PATIENCE_MS it counts
 * as down. Thread-safe.
 */
#ifndef COFFER_HEALTH_HEALTH_CHECKS_H
#define COFFER_HEALTH_HEALTH_CHECKS_H

#include "base/clock.h"
#include "base/errors.h"
#include "metadata/metadata.h"
#include "storage/storage.h"

#define HEALTH_FRESH_MS 1000
#define HEALTH_PATIENCE_MS 2000

struct health;

enum health_part { HEALTH_STORAGE, HEALTH_METADATA, HEALTH_PARTS };

struct health_result {
    enum err_code code;
    struct err err;     /* why not, when code is not ERR_OK */
    int64_t latency_ms; /* of the check; of the wait when there was no answer */
};

/* What is borrowed must outlive it. Caller frees with health_close, which waits for a check that is
 * under way. */
enum err_code health_open(struct health **ret_health, struct storage *storage,
                          struct metadata *metadata, const struct clock *clock, struct err *err)
    ERR_MUST_CHECK;
/* NULL is allowed. */
void health_close(struct health *health);
/* Takes HEALTH_PATIENCE_MS at most. */
void health_check(struct health *health, enum health_part part, struct health_result *ret_result);

#endif
