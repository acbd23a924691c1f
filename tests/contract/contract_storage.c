/* The storage contract, over every driver: a driver joins by a row in `stores`. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "storage/storage_drivers.h"
#include "storage/storage_fs.h"
#include "store.h"

/* ---- the stores ---- */

static int no_unnamed_file(int dir_fd)
{
    (void)dir_fd;
    errno = EOPNOTSUPP;
    return -1;
}

static enum err_code open_named(void **ret_state, const struct config *config,
                                const struct clock *clock, struct err *err)
{
    static struct fs_calls calls;
    calls = fs_calls_system;
    calls.open_temp = no_unnamed_file;
    return fs_open_with(ret_state, config, clock, &calls, err);
}

struct store {
    const char *label;
    const struct storage_driver *driver;
    /* Another way to open it, or NULL. */
    enum err_code (*open)(void **ret_state, const struct config *config, const struct clock *clock,
                          struct err *err);
    enum durability durability;
};

static const struct store stores[] = {
    {"fs", &storage_fs_driver, NULL, DURABILITY_FULL},
    {"fs, relaxed", &storage_fs_driver, NULL, DURABILITY_RELAXED},
    {"fs without O_TMPFILE", &storage_fs_driver, open_named, DURABILITY_FULL},
};

typedef void store_check(struct storage *storage, const char *label);

static void over_each(store_check *check)
{
    for (size_t i = 0; i < sizeof stores / sizeof stores[0]; i++) {
        struct config config;
        struct err err;
        struct storage *storage = NULL;
        struct storage_driver driver = *stores[i].driver;
        if (stores[i].open)
            driver.open = stores[i].open;
        store_config(&config, check_temp_dir());
        config.durability = stores[i].durability;
        CHECK_ERR_ROW(stores[i].label, driver.init(&config, &err), ERR_OK, &err);
        CHECK_ERR_ROW(stores[i].label,
                      storage_open_driver(&storage, &driver, &config, &clock_system, &err), ERR_OK,
                      &err);
        if (storage)
            check(storage, stores[i].label);
        storage_close(storage);
    }
}

#define CONTRACT(name)                                                    \
    static void check_##name(struct storage *storage, const char *label); \
    TEST(storage, name)                                                   \
    {                                                                     \
        over_each(check_##name);                                          \
    }                                                                     \
    static void check_##name(struct storage *storage, const char *label)

#define KEY "ab/0123456789abcdef0123456789abcdef"
#define OTHER_KEY "cd/0123456789abcdef0123456789abcdef"

/* ---- steps ---- */

static enum err_code put(struct storage *storage, const char *key, const void *data, size_t len)
{
    struct err err;
    struct storage_put *handle = NULL;
    enum err_code code = storage_put_begin(storage, key, (int64_t)len, &handle, &err);
    if (code == ERR_OK)
        code = storage_put_write(handle, data, len, &err);
    if (code == ERR_OK)
        code = storage_put_commit(handle, &err);
    storage_put_close(handle);
    return code;
}

/* The object's bytes from `offset`, read `step` bytes at a time; the length, or -1. */
static int64_t get(struct storage *storage, const char *key, int64_t offset, char *target,
                   size_t size, size_t step)
{
    struct err err;
    struct storage_get *handle = NULL;
    size_t len = 0;
    size_t got = 1;
    if (storage_get_open(storage, key, offset, &handle, &err) != ERR_OK)
        return -1;
    while (got > 0 && len < size) {
        size_t wanted = size - len < step ? size - len : step;
        if (storage_get_read(handle, target + len, wanted, &got, &err) != ERR_OK) {
            storage_get_close(handle);
            return -1;
        }
        len += got;
    }
    storage_get_close(handle);
    return (int64_t)len;
}

static enum err_code count_object(void *context, const char *key, const struct storage_stat *stat,
                                  struct err *err)
{
    (void)key;
    (void)stat;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

static int count(struct storage *storage)
{
    struct err err;
    int objects = 0;
    return storage_list(storage, count_object, &objects, &err) == ERR_OK ? objects : -1;
}

static enum err_code answer_known(void *context, const char *key, bool *ret_known, struct err *err)
{
    (void)key;
    (void)err;
    *ret_known = *(bool *)context;
    return ERR_OK;
}

/* ---- what must hold ---- */

CONTRACT(bytes_survive_the_round_trip)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 262144, 262145, 20 * 1024 * 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char key[LIMIT_KEY_BYTES];
        char *data = malloc(sizes[i] + 1);
        char *back = malloc(sizes[i] + 2);
        REQUIRE(data && back);
        for (size_t at = 0; at < sizes[i]; at++)
            data[at] = (char)(at * 31 + at / 257);
        snprintf(key, sizeof key, "0f/%032zu", sizes[i]);
        CHECK_INT_ROW(label, put(storage, key, data, sizes[i]), ERR_OK);
        CHECK_INT_ROW(label, get(storage, key, 0, back, sizes[i] + 2, 100000), (int64_t)sizes[i]);
        CHECK_ROW(label, memcmp(data, back, sizes[i]) == 0);
        free(data);
        free(back);
    }
    CHECK_INT_ROW(label, count(storage), 7);
}

CONTRACT(reading_starts_at_the_offset)
{
    char back[16];
    CHECK_INT_ROW(label, put(storage, KEY, "0123456789", 10), ERR_OK);
    CHECK_INT_ROW(label, get(storage, KEY, 4, back, sizeof back, 3), 6);
    CHECK_ROW(label, memcmp(back, "456789", 6) == 0);
    CHECK_INT_ROW(label, get(storage, KEY, 10, back, sizeof back, 3), 0);
}

CONTRACT(nothing_is_visible_before_commit)
{
    struct err err;
    struct storage_put *handle = NULL;
    struct storage_stat stat;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, -1, &handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(handle, "abc", 3, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_NOT_FOUND, &err);
    CHECK_INT_ROW(label, count(storage), 0);
    CHECK_ERR_ROW(label, storage_put_commit(handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, stat.size, 3);
    CHECK_ROW(label, llabs(stat.modified_ms - clock_wall_ms(&clock_system)) < 60000);
    storage_put_close(handle);
    CHECK_INT_ROW(label, count(storage), 1);
}

CONTRACT(a_put_that_is_closed_without_commit_leaves_nothing)
{
    struct err err;
    struct storage_put *handle = NULL;
    struct storage_stat stat;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, 3, &handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(handle, "abc", 3, &err), ERR_OK, &err);
    storage_put_close(handle);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_NOT_FOUND, &err);
    CHECK_INT_ROW(label, count(storage), 0);
    storage_put_close(NULL);
}

CONTRACT(a_taken_key_is_never_overwritten)
{
    char back[8];
    CHECK_INT_ROW(label, put(storage, KEY, "first", 5), ERR_OK);
    CHECK_INT_ROW(label, put(storage, KEY, "other", 5), ERR_EXISTS);
    CHECK_INT_ROW(label, get(storage, KEY, 0, back, sizeof back, 8), 5);
    CHECK_ROW(label, memcmp(back, "first", 5) == 0);
    CHECK_INT_ROW(label, count(storage), 1);
}

CONTRACT(what_is_removed_is_gone_once)
{
    struct err err;
    char back[8];
    CHECK_INT_ROW(label, put(storage, KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, storage_remove(storage, KEY, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_remove(storage, KEY, &err), ERR_NOT_FOUND, &err);
    CHECK_INT_ROW(label, get(storage, KEY, 0, back, sizeof back, 8), -1);
    CHECK_INT_ROW(label, count(storage), 0);
}

CONTRACT(a_reader_keeps_what_it_opened)
{
    struct err err;
    struct storage_get *handle = NULL;
    char back[8];
    size_t len = 0;
    CHECK_INT_ROW(label, put(storage, KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, storage_get_open(storage, KEY, 0, &handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_remove(storage, KEY, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_get_read(handle, back, sizeof back, &len, &err), ERR_OK, &err);
    CHECK_ROW(label, len == 5 && memcmp(back, "bytes", 5) == 0);
    storage_get_close(handle);
}

CONTRACT(the_sendfile_path_is_checked)
{
    struct err err;
    struct buf path;
    if (!(storage_capabilities(storage) & STORAGE_CAN_SENDFILE))
        return;
    buf_init(&path, 4096);
    CHECK_INT_ROW(label, put(storage, KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, storage_sendfile_path(storage, KEY, 5, &path, &err), ERR_OK, &err);
    FILE *file = fopen(buf_text(&path), "rb");
    char back[8] = "";
    CHECK_ROW(label, buf_text(&path)[0] == '/' && file && fread(back, 1, 8, file) == 5);
    CHECK_ROW(label, memcmp(back, "bytes", 5) == 0);
    if (file)
        fclose(file);
    CHECK_ERR_ROW(label, storage_sendfile_path(storage, KEY, 6, &path, &err), ERR_STORAGE, &err);
    CHECK_ERR_ROW(label, storage_sendfile_path(storage, OTHER_KEY, 5, &path, &err), ERR_NOT_FOUND,
                  &err);
    buf_release(&path);
}

CONTRACT(keys_outside_the_grammar_are_refused)
{
    static const char *const keys[] = {
        "",
        "ab",
        "ab/",
        "/ab/cd",
        "../cd",
        "ab/../cd",
        "ab/..",
        "ab/.x",
        "ab/x/y",
        "AB/x",
        "ab/X",
        "ab/x y",
        "ag/x",
        "abc/x",
        "ab/x..y",
        "ab\\x",
        "ab/\xc3\xa9",
        "ab//x",
        "a/x",
        "ab/x\n",
        "./ab/x",
        "ab/"
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct err err;
        struct storage_put *handle = NULL;
        struct storage_stat stat;
        CHECK_ERR_ROW(keys[i], storage_put_begin(storage, keys[i], 1, &handle, &err), ERR_INTERNAL,
                      &err);
        CHECK_ERR_ROW(keys[i], storage_stat_object(storage, keys[i], &stat, &err), ERR_INTERNAL,
                      &err);
        CHECK_ERR_ROW(keys[i], storage_remove(storage, keys[i], &err), ERR_INTERNAL, &err);
    }
    CHECK_INT_ROW(label, count(storage), 0);
}

CONTRACT(an_orphan_is_removed_only_when_nobody_knows_it)
{
    struct err err;
    bool known = true;
    bool removed = true;
    CHECK_INT_ROW(label, put(storage, KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_OK, &err);
    CHECK_ROW(label, !removed && count(storage) == 1);
    known = false;
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_OK, &err);
    CHECK_ROW(label, removed && count(storage) == 0);
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_NOT_FOUND, &err);
}

CONTRACT(a_put_claims_its_key_until_it_is_closed)
{
    struct err err;
    bool known = false;
    bool removed = false;
    struct storage_put *handle = NULL;
    if (!(storage_capabilities(storage) & STORAGE_CAN_CLAIM))
        return;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, 3, &handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(handle, "abc", 3, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_commit(handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_BUSY, &err);
    CHECK_INT_ROW(label, count(storage), 1);
    storage_put_close(handle);
    CHECK_ERR_ROW(label, store_remove_orphan(storage, KEY, answer_known, &known, &removed, &err),
                  ERR_OK, &err);
    CHECK_ROW(label, removed);
}

struct listed {
    int seen[64];
    int wrong;
};

static enum err_code note_object(void *context, const char *key, const struct storage_stat *stat,
                                 struct err *err)
{
    struct listed *listed = context;
    (void)err;
    if (stat->size < 0 || stat->size >= 64 || key[2] != '/')
        listed->wrong++;
    else
        listed->seen[stat->size]++;
    return ERR_OK;
}

static enum err_code stop_listing(void *context, const char *key, const struct storage_stat *stat,
                                  struct err *err)
{
    (void)key;
    (void)stat;
    ++*(int *)context;
    return err_set(err, ERR_CLIENT_GONE, "test", "enough");
}

CONTRACT(a_listing_shows_each_object_once)
{
    struct err err;
    struct listed listed = {.wrong = 0};
    int calls = 0;
    char data[64] = "";
    for (unsigned i = 0; i < 64; i++) {
        char key[LIMIT_KEY_BYTES];
        snprintf(key, sizeof key, "%02x/%032u", i * 4, i);
        CHECK_INT_ROW(label, put(storage, key, data, i), ERR_OK);
    }
    CHECK_ERR_ROW(label, storage_list(storage, note_object, &listed, &err), ERR_OK, &err);
    for (int i = 0; i < 64; i++)
        CHECK_INT_ROW(label, listed.seen[i], 1);
    CHECK_INT_ROW(label, listed.wrong, 0);
    CHECK_ERR_ROW(label, storage_list(storage, stop_listing, &calls, &err), ERR_CLIENT_GONE, &err);
    CHECK_INT_ROW(label, calls, 1);
}

CONTRACT(ping_succeeds_and_leaves_nothing)
{
    struct err err;
    CHECK_ERR_ROW(label, storage_ping(storage, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, count(storage), 0);
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
    enum err_code code = put(race->storage, KEY, &byte, 1);
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
    CHECK_INT_ROW(label, count(storage), 1);
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
        struct storage_put *handle = NULL;
        snprintf(key, sizeof key, "%02x/%032d", (unsigned)i, index);
        bool held = storage_put_begin(race->storage, key, 1, &handle, &err) == ERR_OK &&
                    storage_put_write(handle, "x", 1, &err) == ERR_OK &&
                    storage_put_commit(handle, &err) == ERR_OK &&
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
