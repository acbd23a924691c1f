/* For metadata.c, the drivers and their tests only: the drivers there are. */
#ifndef COFFER_METADATA_METADATA_DRIVERS_H
#define COFFER_METADATA_METADATA_DRIVERS_H

#include <pthread.h>

#include "metadata/metadata.h"

extern const struct metadata_driver metadata_sqlite_driver;

/*
 * Private to metadata.c: how many answers of Idempotency-Keys this process has stored for each owner
 * since it last looked whether they are within the bounds. Owners share a small table by their hash;
 * who takes another's entry, or comes first, is looked at. Threads share it under its mutex.
 */

#define METADATA_LEDGER_ENTRIES 512

struct metadata_ledger_entry {
    uint64_t owner; /* hash; 0: nobody */
    int64_t keys;   /* since the last look */
    int64_t bytes;
};

struct metadata_ledger {
    int64_t keys; /* the bounds */
    int64_t bytes;
    pthread_mutex_t mutex;
    struct metadata_ledger_entry entries[METADATA_LEDGER_ENTRIES];
};

void metadata_ledger_init(struct metadata_ledger *ledger, const struct config *config);
void metadata_ledger_release(struct metadata_ledger *ledger);
/* Counts an answer of so many bytes. True when the owner's answers are to be looked at now.
 * *ret_bounds is always filled, and borrows `owner`. */
bool metadata_ledger_add(struct metadata_ledger *ledger, struct str owner, int64_t bytes,
                         struct idempotency_bounds *ret_bounds);

#endif
