/* The storage contract: orphans, claims, and puts and sweeps that race. */
#include <stdatomic.h>
#include <stdio.h>

#include "storage_contract.h"
#include "store.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"

static enum err_code answer_known(void *context, const char *key, bool *ret_known, struct err *err)
{
    (void)key;
    (void)err;
    *ret_known = *(bool *)context;
    return ERR_OK;
}

CONTRACT(an_orphan_is_removed_only_when_nobody_knows_it)
{
    struct err err;
    bool known = true;
    bool removed = true;
    CHECK_INT_ROW(label, put_object(storage, KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_OK, &err);
    CHECK_ROW(label, !removed && count_objects(storage) == 1);
    known = false;
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_OK, &err);
    CHECK_ROW(label, removed && count_objects(storage) == 0);
    /* S3 does not tell. */
    enum err_code again = store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err);
    CHECK_ROW(label, again == ERR_NOT_FOUND || (is_remote(storage) && again == ERR_OK));
}

CONTRACT(a_put_claims_its_key_until_it_is_closed)
{
    struct err err;
    bool known = false;
    bool removed = false;
    char tag[STORAGE_TAG_SIZE];
    struct storage_put *handle = NULL;
    if (!(storage_capabilities(storage) & STORAGE_CAN_CLAIM))
        return;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, 3, &handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(handle, "abc", 3, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, commit_content(handle, STR("abc"), tag, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_BUSY, &err);
    CHECK_INT_ROW(label, count_objects(storage), 1);
    storage_put_close(handle);
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_OK, &err);
    CHECK_ROW(label, removed);
}

struct race {
    struct storage *storage;
    atomic_int won;
    atomic_int lost;
    atomic_int failed;
    atomic_bool stop;
};

static void put_same_key(void *context, int index)
{
    struct race *race = context;
    char byte = (char)('a' + index);
    enum err_code code = put_object(race->storage, KEY, &byte, 1);
    atomic_fetch_add(code == ERR_OK       ? &race->won
                     : code == ERR_EXISTS ? &race->lost
                                          : &race->failed,
                     1);
}

CONTRACT(one_of_many_puts_under_one_key_wins)
{
    struct race race = {.storage = storage};
    store_threads(16, put_same_key, &race);
    CHECK_INT_ROW(label, race.won, 1);
    CHECK_INT_ROW(label, race.lost, 15);
    CHECK_INT_ROW(label, count_objects(storage), 1);
}

static enum err_code sweep_object(void *context, const char *key, const struct storage_stat *stat,
                                  struct err *err)
{
    struct race *race = context;
    bool known = false;
    bool removed = false;
    (void)stat;
    enum err_code code =
        store_remove_orphan(race->storage, key, answer_known, &known, &removed, err);
    return code == ERR_BUSY || code == ERR_NOT_FOUND ? ERR_OK : code;
}

static void put_or_sweep(void *context, int index)
{
    struct race *race = context;
    struct err err;
    if (index == 0) {
        while (!race->stop)
            if (storage_list(race->storage, sweep_object, race, &err) != ERR_OK)
                atomic_fetch_add(&race->failed, 1);
        return;
    }
    for (int i = 0; i < 50; i++) {
        char key[LIMIT_KEY_BYTES];
        struct storage_stat stat;
        char tag[STORAGE_TAG_SIZE];
        struct storage_put *handle = NULL;
        snprintf(key, sizeof key, "%02x/%032d", (unsigned)i, index);
        bool held = storage_put_begin(race->storage, key, 1, &handle, &err) == ERR_OK &&
                    storage_put_write(handle, "x", 1, &err) == ERR_OK &&
                    commit_content(handle, STR("x"), tag, &err) == ERR_OK &&
                    storage_stat_object(race->storage, key, &stat, &err) == ERR_OK;
        atomic_fetch_add(held ? &race->won : &race->failed, 1);
        storage_put_close(handle);
    }
    if (atomic_fetch_add(&race->lost, 1) == 3)
        race->stop = true;
}

CONTRACT(a_sweep_never_takes_what_is_on_its_way)
{
    struct race race = {.storage = storage};
    if (!(storage_capabilities(storage) & STORAGE_CAN_CLAIM))
        return;
    store_threads(5, put_or_sweep, &race);
    CHECK_INT_ROW(label, race.won, 200);
    CHECK_INT_ROW(label, race.failed, 0);
}
