#include "base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/address.h"
#include "base/config_table.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/text.h"

/* The socket with the longest name in RUNTIME_DIR (lighttpd/coffer.conf; lighttpd adds "-0"). */
#define LONGEST_SOCKET "/sockets/files_update-0"
#define RUNTIME_DIR_MAX (LIMIT_SOCKET_PATH_BYTES - (sizeof LONGEST_SOCKET - 1))

#define RUNTIME_DIR_DIGEST_BYTES 6
#define OPERATION "read settings"

#define SPOOL_BYTES_FS (INT64_C(512) << 20)
#define SPOOL_BYTES_STORE (INT64_C(1) << 30) /* clients may be faster than a store */
#define PER_ADDRESS_LEAST 64
#define DOWNLOAD_WORKERS_FS 64      /* the gateway sends the bytes */
#define DOWNLOAD_WORKERS_STREAM 256 /* each sends its bytes itself */
#define ORPHAN_INTERVAL_STORE 3600  /* listing a remote store is dear */

static const struct setting *setting_at(size_t offset)
{
    const struct setting *setting = config_settings;
    while (setting->offset != offset)
        setting++;
    return setting;
}

static enum err_code derive_path(size_t offset, const struct buf *path, struct config *config,
                                 struct err *err)
{
    const struct setting *setting = setting_at(offset);
    if (path->failed)
        return err_set(err, ERR_CONFIG, OPERATION, "%s would be too long by default; set it.",
                       setting->name);
    return setting_read(setting, buf_str(path), config, err);
}

/* An empty value is none, as in a file .env. */
static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value && *value;
}

static void derive_from_drivers(struct config *config)
{
    bool is_fs = strcmp(config->storage_driver, "fs") == 0;
    if (config->spool_max_bytes == 0)
        config->spool_max_bytes = is_fs ? SPOOL_BYTES_FS : SPOOL_BYTES_STORE;
    if (config->max_connections_per_address == 0)
        config->max_connections_per_address = config->max_connections / 4 > PER_ADDRESS_LEAST
                                                  ? config->max_connections / 4
                                                  : PER_ADDRESS_LEAST;
    if (config->download_workers == 0)
        config->download_workers = is_fs ? DOWNLOAD_WORKERS_FS : DOWNLOAD_WORKERS_STREAM;
    if (config->orphan_interval_seconds == 0)
        config->orphan_interval_seconds =
            is_fs ? config->sweep_interval_seconds : ORPHAN_INTERVAL_STORE;
    if (!*config->s3_public_endpoint)
        memcpy(config->s3_public_endpoint, config->s3_endpoint, sizeof config->s3_public_endpoint);
    /* The last public release of MinIO has known holes: it is not to be shown to clients. */
    if (!is_set("S3_UNSAFE") && !is_set("S3_ENDPOINT") && is_set("MINIO_ENDPOINT"))
        config->s3_unsafe = true;
}

/* By DATA_DIR, whoever looks from wherever: `status` and `stop` find what another login started. In
 * /tmp, for DATA_DIR may be on a file system without sockets, and its path is too long for them. */
static enum err_code print_runtime_dir(const struct config *config, struct buf *path,
                                       struct err *err)
{
    unsigned char bytes[DIGEST_MAX_BYTES];
    char hex[2 * RUNTIME_DIR_DIGEST_BYTES + 1];
    struct digest *digest = NULL;
    enum err_code code = digest_open(&digest, DIGEST_SHA256, err);
    if (code == ERR_OK) {
        digest_update(digest, config->data_dir, strlen(config->data_dir));
        code = digest_finish(digest, bytes, err);
    }
    digest_close(digest);
    if (code != ERR_OK)
        return code;
    text_hex(bytes, RUNTIME_DIR_DIGEST_BYTES, hex);
    buf_printf(path, "/tmp/coffer-%s-%" PRId64, hex, config->gateway_port);
    return ERR_OK;
}

/* Defaults that hang on other settings. */
static enum err_code derive(struct config *config, struct err *err)
{
    struct buf path;
    buf_init(&path, CONFIG_TEXT_SIZE);
    enum err_code code = ERR_OK;
    if (!*config->runtime_dir) {
        code = print_runtime_dir(config, &path, err);
        if (code == ERR_OK)
            code = derive_path(offsetof(struct config, runtime_dir), &path, config, err);
    }
    if (code == ERR_OK && !*config->log_file) {
        buf_reset(&path);
        buf_printf(&path, "%s/log/coffer.ndjson", config->data_dir);
        code = derive_path(offsetof(struct config, log_file), &path, config, err);
    }
    buf_release(&path);
    derive_from_drivers(config);
    return code;
}

static bool is_within(const char *path, const char *folder)
{
    size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool names_s3(const struct config *config)
{
    return strcmp(config->storage_driver, "s3") == 0 ||
           strcmp(config->storage_driver, "libs3") == 0;
}

static enum err_code check_drivers(const struct config *config, struct err *err)
{
    bool is_redirect = config->download_mode == DOWNLOAD_MODE_REDIRECT;
    if (names_s3(config) &&
        (!*config->s3_endpoint || !*config->s3_access_key || !*config->s3_secret_key))
        return err_set(err, ERR_CONFIG, OPERATION,
                       "STORAGE_DRIVER=%.8s needs S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY.",
                       config->storage_driver);
    if (names_s3(config) && config->upload_memory < config->s3_part_size)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "UPLOAD_MEMORY must not be less than S3_PART_SIZE: an upload needs a part.");
    if (strcmp(config->metadata_driver, "mongodb") == 0 && !*config->mongodb_uri)
        return err_set(err, ERR_CONFIG, OPERATION, "METADATA_DRIVER=mongodb needs MONGODB_URI.");
    if (is_redirect && strcmp(config->storage_driver, "s3") != 0)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "DOWNLOAD_MODE=redirect needs STORAGE_DRIVER=s3.");
    if (is_redirect && config->s3_unsafe)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "DOWNLOAD_MODE=redirect would show clients a store that is marked unsafe: "
                       "use DOWNLOAD_MODE=stream, or set S3_UNSAFE=0.");
    return ERR_OK;
}

/* Who lets everyone in must be out of reach of others. */
static enum err_code check_listener(const char *name, const char *host, const struct config *config,
                                    struct err *err)
{
    if (config->auth_mode != AUTH_MODE_NONE || config->allow_anonymous ||
        address_is_loopback(str_of(host)))
        return ERR_OK;
    return err_set(err, ERR_CONFIG, OPERATION,
                   "AUTH_MODE=none lets everyone in, so %s must be a loopback address, not %.64s: "
                   "set AUTH_MODE=token, or ALLOW_ANONYMOUS=1.",
                   name, host);
}

/* A node of several keeps nothing of its own. */
static enum err_code check_cluster(const struct config *config, struct err *err)
{
    if (config->node_mode != NODE_MODE_CLUSTER)
        return ERR_OK;
    if (strcmp(config->storage_driver, "fs") == 0)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "NODE_MODE=cluster can't use STORAGE_DRIVER=fs, which keeps files on one "
                       "node: use s3 or libs3.");
    if (strcmp(config->metadata_driver, "sqlite") == 0)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "NODE_MODE=cluster can't use METADATA_DRIVER=sqlite, which keeps its "
                       "database on one node: use mongodb.");
    return check_listener("NODE_HOST", config->node_host, config, err);
}

/* What no row can say alone. */
static enum err_code check_together(const struct config *config, struct err *err)
{
    if (strlen(config->runtime_dir) > RUNTIME_DIR_MAX)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "RUNTIME_DIR must not be longer than %zu bytes, or its sockets have no "
                       "valid address; set it to a shorter path.",
                       RUNTIME_DIR_MAX);
    if (is_within(config->runtime_dir, config->data_dir))
        return err_set(err, ERR_CONFIG, OPERATION,
                       "RUNTIME_DIR must not lie inside DATA_DIR: sockets are kept apart from "
                       "files.");
    enum err_code code = check_listener("GATEWAY_HOST", config->gateway_host, config, err);
    if (code == ERR_OK)
        code = check_drivers(config, err);
    return code == ERR_OK ? check_cluster(config, err) : code;
}

/* The environment's value under the setting's name, then its alias; NULL when neither says any. */
static const char *find_value(const struct setting *setting)
{
    const char *value = getenv(setting->name);
    if ((!value || !*value) && setting->alias)
        value = getenv(setting->alias);
    return value && *value ? value : NULL;
}

const char *setting_secret_file(const struct setting *setting, char variable[SECRET_NAME_SIZE])
{
    const char *const names[] = {setting->name, setting->alias};
    for (size_t i = 0; i < sizeof names / sizeof *names && names[i]; i++) {
        snprintf(variable, SECRET_NAME_SIZE, "%s_FILE", names[i]);
        const char *path = getenv(variable);
        if (path && *path)
            return path;
    }
    return NULL;
}

static enum err_code read_secret_file(const char *variable, const char *path, struct buf *value,
                                      struct err *err)
{
    char text[CONFIG_TEXT_SIZE + 2];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text);
    int os_errno = errno;
    if (fd >= 0)
        close(fd);
    if (len < 0)
        return err_set_internal(err, ERR_CONFIG, os_errno, OPERATION,
                                "%s: the file can't be read: %s.", variable, strerror(os_errno));
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    bool fits = len > 0 && (size_t)len < CONFIG_TEXT_SIZE && !memchr(text, 0, (size_t)len);
    if (fits)
        buf_append_str(value, (struct str){text, (size_t)len});
    explicit_bzero(text, sizeof text);
    return fits ? ERR_OK
                : err_set(err, ERR_CONFIG, OPERATION,
                          "%s: the file must hold one line of 1 to %d bytes.", variable,
                          CONFIG_TEXT_SIZE - 1);
}

static enum err_code read_secret(const struct setting *setting, struct config *config,
                                 struct err *err)
{
    char variable[SECRET_NAME_SIZE];
    const char *path = setting_secret_file(setting, variable);
    if (!path)
        return setting_read(setting, str_of(setting->default_text), config, err);
    struct buf value;
    buf_init(&value, CONFIG_TEXT_SIZE);
    enum err_code code = read_secret_file(variable, path, &value, err);
    if (code == ERR_OK)
        code = setting_read(setting, buf_str(&value), config, err);
    if (value.len > 0)
        explicit_bzero(value.data, value.len);
    buf_release(&value);
    return code;
}

/* Which of the two was meant is anybody's guess. */
static enum err_code given_twice(const struct setting *setting, const char *variable,
                                 struct err *err)
{
    return err_set(err, ERR_CONFIG, OPERATION,
                   "%s is set and %s names a file that holds it: unset one of them.",
                   is_set(setting->name) ? setting->name : setting->alias, variable);
}

static enum err_code read_setting(const struct setting *setting, struct config *config,
                                  struct err *err)
{
    char variable[SECRET_NAME_SIZE];
    const char *value = find_value(setting);
    if (value && setting->secret && setting_secret_file(setting, variable))
        return given_twice(setting, variable, err);
    if (!value && setting->secret)
        return read_secret(setting, config, err);
    return setting_read(setting, str_of(value ? value : setting->default_text), config, err);
}

void config_load_what_is_good(struct config *ret_config)
{
    struct config config = {0};
    struct err err;
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct setting *setting = &config_settings[i];
        if (read_setting(setting, &config, &err) != ERR_OK &&
            setting_read(setting, str_of(setting->default_text), &config, &err) != ERR_OK)
            continue;
    }
    if (derive(&config, &err) == ERR_OK)
        *ret_config = config;
}

enum err_code config_load(struct config *ret_config, struct err *err)
{
    struct config config = {0};
    for (size_t i = 0; i < config_setting_count; i++) {
        enum err_code code = read_setting(&config_settings[i], &config, err);
        if (code != ERR_OK)
            return code;
    }
    enum err_code code = derive(&config, err);
    if (code == ERR_OK)
        code = check_together(&config, err);
    if (code == ERR_OK)
        *ret_config = config;
    return code;
}
