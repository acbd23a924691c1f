#include "metadata/metadata_drivers.h"

#include "check.h"

/* Is the owner due after an answer of so many bytes? */
static bool add(struct metadata_ledger *ledger, const char *owner, int64_t bytes)
{
    struct idempotency_bounds bounds = {0};
    bool is_due = metadata_ledger_add(ledger, str_of(owner), bytes, &bounds);
    CHECK(str_equal(bounds.owner, str_of(owner)));
    CHECK_INT(bounds.keys, ledger->keys);
    CHECK_INT(bounds.bytes, ledger->bytes);
    return is_due;
}

TEST(metadata_ledger, an_owner_is_due_at_first_and_after_a_sixteenth)
{
    struct metadata_ledger ledger;
    const struct config config = {.idempotency_keys = 64, .idempotency_bytes = 16000};
    metadata_ledger_init(&ledger, &config);
    CHECK(add(&ledger, "alice", 1));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++)
            CHECK(!add(&ledger, "alice", 1));
        CHECK(add(&ledger, "alice", 1));
    }
    CHECK(!add(&ledger, "alice", 999));
    CHECK(add(&ledger, "alice", 1));
    CHECK(add(&ledger, "bob", 1));
    CHECK(!add(&ledger, "alice", 1));
    metadata_ledger_release(&ledger);
}

/* However many owners there are, none is forgotten: who shares an entry is looked at more often. */
TEST(metadata_ledger, owners_that_share_an_entry_are_due_in_turn)
{
    struct metadata_ledger ledger;
    char owner[32];
    int due = 0;
    const struct config config = {.idempotency_keys = 10000, .idempotency_bytes = 1 << 24};
    metadata_ledger_init(&ledger, &config);
    for (int i = 0; i < 4 * METADATA_LEDGER_ENTRIES; i++) {
        snprintf(owner, sizeof owner, "owner-%d", i);
        due += add(&ledger, owner, 1);
    }
    CHECK_INT(due, 4 * METADATA_LEDGER_ENTRIES);
    metadata_ledger_release(&ledger);
}
