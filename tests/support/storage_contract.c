#include "storage_contract.h"

#include <errno.h>
#include <stdio.h>

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

void storage_over_each(storage_check *check)
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

/* ---- steps ---- */

enum err_code put_object(struct storage *storage, const char *key, const void *data, size_t len)
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

int64_t get_object(struct storage *storage, const char *key, int64_t offset, char *target,
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

static enum err_code count_one(void *context, const char *key, const struct storage_stat *stat,
                               struct err *err)
{
    (void)key;
    (void)stat;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

int count_objects(struct storage *storage)
{
    struct err err;
    int objects = 0;
    return storage_list(storage, count_one, &objects, &err) == ERR_OK ? objects : -1;
}
