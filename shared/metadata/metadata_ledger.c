#include "metadata/metadata_ledger.h"

#define SHARE 16 /* of a bound that is stored between two looks */

void metadata_ledger_init(struct metadata_ledger *ledger, const struct config *config)
{
    *ledger = (struct metadata_ledger){.keys = config->idempotency_keys,
                                       .bytes = config->idempotency_bytes};
    pthread_mutex_init(&ledger->mutex, NULL);
}

void metadata_ledger_release(struct metadata_ledger *ledger)
{
    pthread_mutex_destroy(&ledger->mutex);
}

/* FNV-1a; never 0. */
static uint64_t hash_of(struct str owner)
{
    uint64_t hash = 14695981039346656037U;
    for (size_t i = 0; i < owner.len; i++)
        hash = (hash ^ (unsigned char)owner.data[i]) * 1099511628211U;
    return hash ? hash : 1;
}

bool metadata_ledger_add(struct metadata_ledger *ledger, struct str owner, int64_t bytes,
                         struct idempotency_bounds *ret_bounds)
{
    uint64_t hash = hash_of(owner);
    struct metadata_ledger_entry *entry = &ledger->entries[hash % METADATA_LEDGER_ENTRIES];
    pthread_mutex_lock(&ledger->mutex);
    bool is_due = entry->owner != hash;
    entry->owner = hash;
    entry->keys++;
    entry->bytes += bytes;
    is_due |= entry->keys >= ledger->keys / SHARE || entry->bytes >= ledger->bytes / SHARE;
    if (is_due)
        entry->keys = entry->bytes = 0;
    pthread_mutex_unlock(&ledger->mutex);
    *ret_bounds = (struct idempotency_bounds){owner, ledger->keys, ledger->bytes};
    return is_due;
}
