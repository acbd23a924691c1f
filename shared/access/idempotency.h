/*
 * Idempotency-Key (API.md, "Files"; draft-ietf-httpapi-idempotency-key-header): one request
 * holds the key under a lease that is prolonged while it runs (app/watchdog.h); the answer
 * is stored in the same transaction as the change. A request that failed frees the key at once,
 * a crashed one by the lease's end. Used by one thread, but for what is said of renewals.
 */
#ifndef COFFER_ACCESS_IDEMPOTENCY_H
#define COFFER_ACCESS_IDEMPOTENCY_H

#include "base/clock.h"
#include "metadata/metadata.h"

struct idempotency {
    bool active;   /* the request has a key */
    bool replay;   /* the key's first request is done; `record` holds its answer */
    bool finished; /* our answer is stored, of so many bytes */
    int64_t answer_bytes;
    struct metadata *metadata;
    const struct clock *clock;
    struct str owner; /* borrowed, as long as the request */
    struct str key;
    char nonce[33];
    int64_t renew_at_ns; /* steady time */
    struct idempotency_record record;
};

/* Starts nothing: a request without a key. metadata and clock are borrowed. */
void idempotency_init(struct idempotency *idempotency, struct metadata *metadata,
                      const struct clock *clock);
/* Takes the key. ERR_BAD_REQUEST for a key that is not 1–255 printable ASCII, ERR_CONFLICT while
 * another request holds it. owner and key are borrowed until idempotency_end. */
enum err_code idempotency_begin(struct idempotency *idempotency, struct str owner, struct str key,
                                struct err *err) ERR_MUST_CHECK;

/* A copy of what it takes to prolong a lease, so that the request may end meanwhile. */
struct idempotency_renewal {
    struct metadata *metadata;
    char owner[LIMIT_OWNER_BYTES + 1];
    char key[LIMIT_IDEMPOTENCY_KEY_BYTES + 1];
    char nonce[33];
};
/* Is the lease to be prolonged now? Waits for nothing; true at most once in
 * LIMIT_IDEMPOTENCY_RENEW_MS. Only while the request cannot end. */
bool idempotency_renewal_due(struct idempotency *idempotency,
                             struct idempotency_renewal *ret_renewal);
/* Prolongs it; ERR_CONFLICT when the request has ended or lost it. */
enum err_code idempotency_renew(const struct idempotency_renewal *renewal,
                                const struct clock *clock, struct err *err) ERR_MUST_CHECK;

/* Had an interrupted request with this key planned an answer, which `record` holds? */
bool idempotency_has_plan(const struct idempotency *idempotency);
/* ERR_IDEMPOTENCY_MISMATCH when the stored or planned answer belongs to another request. Only with
 * replay or a plan. */
enum err_code idempotency_match(const struct idempotency *idempotency, const char fingerprint[65],
                                struct err *err) ERR_MUST_CHECK;
/* The answer to store with the change; NULL when the request has no key. The result is *answer,
 * which borrows everything. */
const struct idempotency_answer *idempotency_answer_of(struct idempotency *idempotency,
                                                       struct idempotency_answer *answer);
/* Frees the key unless its answer was stored, and the memory. Drops answers of the owner beyond the
 * bounds. */
void idempotency_end(struct idempotency *idempotency);

/* "The same request": SHA-256 over the parts, each with its length, as hex. */
enum err_code idempotency_fingerprint(const struct str *parts, size_t count,
                                      char ret_fingerprint[65], struct err *err) ERR_MUST_CHECK;

#endif
