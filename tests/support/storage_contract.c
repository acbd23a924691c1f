#include "storage_contract.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "storage/fs/storage_fs.h"
#include "storage/storage_drivers.h"
#include "store.h"

/* ---- the stores ---- */

static int no_unnamed_file(int dir_fd)
{
    (void)dir_fd;
    errno = EOPNOTSUPP;
    return -1;
}

static enum err_code open_named(void **ret_state, const struct storage_options *options,
                                struct err *err)
{
    static struct fs_calls calls;
    calls = fs_calls_system;
    calls.open_temp = no_unnamed_file;
    return fs_open_with(ret_state, options->config, options->clock, &calls, err);
}

struct store {
    const char *label;
    const struct storage_driver *driver;
    /* Another way to open it, or NULL. */
    enum err_code (*open)(void **ret_state, const struct storage_options *options, struct err *err);
    enum durability durability;
    const char *server; /* what the names of its variables begin with; NULL: none is needed */
    const char *bucket;
};

static const struct store stores[] = {
    {"fs", &storage_fs_driver, NULL, DURABILITY_FULL, NULL, NULL},
    {"fs, relaxed", &storage_fs_driver, NULL, DURABILITY_RELAXED, NULL, NULL},
    {"fs without O_TMPFILE", &storage_fs_driver, open_named, DURABILITY_FULL, NULL, NULL},
    {"s3 on SeaweedFS", &storage_s3_driver, NULL, DURABILITY_FULL, "SEAWEEDFS", "contract-s3"},
    {"s3 on MinIO", &storage_s3_driver, NULL, DURABILITY_FULL, "MINIO_TEST", "contract-s3"},
    {"libs3 on MinIO", &storage_libs3_driver, NULL, DURABILITY_FULL, "MINIO_TEST",
     "contract-libs3"},
};

/* A variable of the row's server; "" and a failed check when it is not set. */
static const char *find_variable(const struct store *store, const char *name)
{
    char variable[64];
    snprintf(variable, sizeof variable, "%s_%s", store->server, name);
    const char *value = getenv(variable);
    if (!value)
        fprintf(stderr,
                "%s: %s is not set. Run: tests/servers/serve seaweedfs minio -- "
                "build/release/tests/contract/run\n",
                store->label, variable);
    CHECK_ROW(store->label, value != NULL);
    return value ? value : "";
}

static bool find_server(const struct store *store, struct config *config)
{
    snprintf(config->s3_endpoint, CONFIG_TEXT_SIZE, "%s", find_variable(store, "ENDPOINT"));
    if (!*config->s3_endpoint)
        return false;
    snprintf(config->s3_public_endpoint, CONFIG_TEXT_SIZE, "%s", config->s3_endpoint);
    snprintf(config->s3_region, CONFIG_TEXT_SIZE, "%s", find_variable(store, "REGION"));
    snprintf(config->s3_access_key, CONFIG_TEXT_SIZE, "%s", find_variable(store, "ACCESS_KEY"));
    snprintf(config->s3_secret_key, CONFIG_TEXT_SIZE, "%s", find_variable(store, "SECRET_KEY"));
    /* Its own for each process: shards of a run share the server. */
    snprintf(config->s3_bucket, CONFIG_TEXT_SIZE, "%s-%d", store->bucket, (int)getpid());
    return true;
}

static bool make_config(const struct store *store, struct config *ret_config)
{
    store_config(ret_config, check_temp_dir());
    ret_config->durability = store->durability;
    ret_config->s3_part_size = 5 << 20;
    ret_config->s3_attempts = 3;
    ret_config->s3_connect_timeout_ms = 1500;
    ret_config->s3_stall_seconds = 10;
    ret_config->s3_deadline_seconds = 20;
    ret_config->upload_memory = 128 << 20;
    snprintf(ret_config->storage_driver, CONFIG_TEXT_SIZE, "%s", store->driver->name);
    snprintf(ret_config->runtime_dir, CONFIG_TEXT_SIZE, "%s", check_temp_dir());
    return !store->server || find_server(store, ret_config);
}

static enum err_code remove_listed(void *context, const char *key, const struct storage_stat *stat,
                                   struct err *err)
{
    (void)stat;
    return storage_remove(context, key, err);
}

/* The bucket of a row is used again by each check. */
static bool make_empty(struct storage *storage, const struct store *store)
{
    struct err err;
    int purged = 0;
    int64_t later_ms = clock_wall_ms(&clock_system) + 3600000;
    if (!store->server)
        return true;
    enum err_code code = storage_list(storage, remove_listed, storage, &err);
    if (code == ERR_OK)
        code = storage_purge_unfinished(storage, later_ms, &purged, &err);
    CHECK_ERR_ROW(store->label, code, ERR_OK, &err);
    return code == ERR_OK;
}

static struct storage *open_store(const struct store *store, const struct config *config)
{
    static struct storage_driver driver; /* the handle borrows it; one is open at a time */
    struct err err;
    struct storage *storage = NULL;
    driver = *store->driver;
    if (store->open)
        driver.open = store->open;
    enum err_code code = driver.init(config, &clock_system, &err);
    if (store->server && code == ERR_EXISTS)
        code = ERR_OK;
    CHECK_ERR_ROW(store->label, code, ERR_OK, &err);
    code = storage_open_driver(&storage, &driver, config, &clock_system, &err);
    CHECK_ERR_ROW(store->label, code, ERR_OK, &err);
    if (storage && make_empty(storage, store))
        return storage;
    storage_close(storage);
    return NULL;
}

void storage_over_each(storage_check *check)
{
    for (size_t i = 0; i < sizeof stores / sizeof stores[0]; i++) {
        struct config config;
        if (!make_config(&stores[i], &config))
            continue;
        struct storage *storage = open_store(&stores[i], &config);
        if (storage)
            check(storage, stores[i].label);
        storage_close(storage);
    }
}

void storage_over_s3(storage_s3_check *check)
{
    for (size_t i = 0; i < sizeof stores / sizeof stores[0]; i++) {
        struct config config;
        if (stores[i].driver != &storage_s3_driver || !make_config(&stores[i], &config))
            continue;
        struct storage *storage = open_store(&stores[i], &config);
        if (storage)
            check(storage, &config, stores[i].label);
        storage_close(storage);
    }
}

struct storage *s3_contract_open(const struct config *config, const char *label)
{
    struct err err;
    struct storage *storage = NULL;
    CHECK_ERR_ROW(label,
                  storage_open_driver(&storage, &storage_s3_driver, config, &clock_system, &err),
                  ERR_OK, &err);
    return storage;
}

bool is_remote(const struct storage *storage)
{
    return (storage_capabilities(storage) & STORAGE_WAITS) != 0;
}

/* ---- steps ---- */

enum err_code commit_content(struct storage_put *put, struct str content,
                             char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    unsigned char sha256[DIGEST_MAX_BYTES];
    struct digest *digest = NULL;
    enum err_code code = digest_open(&digest, DIGEST_SHA256, err);
    if (code != ERR_OK)
        return code;
    digest_update(digest, content.data, content.len);
    code = digest_finish(digest, sha256, err);
    digest_close(digest);
    return code == ERR_OK ? storage_put_commit(put, sha256, ret_tag, err) : code;
}

enum err_code put_object_with(struct storage *storage, const char *key, struct str content,
                              const struct put_options *options, struct err *err)
{
    struct storage_put *put = NULL;
    char tag[STORAGE_TAG_SIZE] = "";
    enum err_code code = storage_put_begin(storage, key, options->size_hint, &put, err);
    if (code == ERR_OK && options->mime)
        storage_put_set_type(put, options->mime);
    for (size_t at = 0; code == ERR_OK && at < content.len; at += options->step) {
        size_t rest = content.len - at;
        code = storage_put_write(put, content.data + at,
                                 rest < options->step ? rest : options->step, err);
    }
    if (code == ERR_OK)
        code = commit_content(put, content, tag, err);
    if (code == ERR_OK && options->ret_tag)
        memcpy(options->ret_tag, tag, sizeof tag);
    storage_put_close(put);
    return code;
}

enum err_code put_object(struct storage *storage, const char *key, const void *data, size_t len)
{
    struct err err;
    const struct put_options options = {.size_hint = (int64_t)len, .step = LIMIT_IO_BUFFER};
    return put_object_with(storage, key, (struct str){data, len}, &options, &err);
}

static int64_t read_all(struct storage *storage, const struct storage_wanted *wanted, char *target,
                        size_t size, size_t step, struct err *err)
{
    struct storage_get *handle = NULL;
    size_t len = 0;
    size_t got = 1;
    if (storage_get_open(storage, wanted, &handle, err) != ERR_OK)
        return -1;
    while (got > 0 && len < size) {
        size_t rest = size - len < step ? size - len : step;
        if (storage_get_read(handle, target + len, rest, &got, err) != ERR_OK) {
            storage_get_close(handle);
            return -1;
        }
        len += got;
    }
    storage_get_close(handle);
    return (int64_t)len;
}

int64_t get_object(struct storage *storage, const char *key, int64_t offset, char *target,
                   size_t size, size_t step)
{
    struct err err;
    const struct storage_wanted wanted = {.key = key, .size = -1, .offset = offset, .length = -1};
    return read_all(storage, &wanted, target, size, step, &err);
}

int64_t get_wanted(struct storage *storage, const struct storage_wanted *wanted, char *target,
                   size_t size, struct err *err)
{
    return read_all(storage, wanted, target, size, LIMIT_IO_BUFFER, err);
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

char *make_content(size_t len, unsigned seed)
{
    char *content = malloc(len + 1);
    if (!content)
        abort();
    uint32_t state = seed * 2654435761u + 1;
    for (size_t at = 0; at < len; at++) {
        state = state * 1664525u + 1013904223u;
        content[at] = (char)(state >> 24);
    }
    return content;
}
