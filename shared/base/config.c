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

static enum err_code setting_read(const struct setting *setting, struct str value,
                                  struct config *config, struct err *err);

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

/* The path that NAME_FILE has (or the alias with _FILE), its own name in `variable`; NULL for none.
 * Borrowed from the environment. */
static const char *setting_secret_file(const struct setting *setting,
                                       char variable[SECRET_NAME_SIZE])
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

static const void *member(const struct config *config, const struct setting *setting)
{
    return (const char *)config + setting->offset;
}

/* A size as short as it can be said exactly. */
static void print_bytes(int64_t value, struct buf *out)
{
    const char *unit = "";
    for (const char *next = "K\0M\0G"; value > 0 && value % 1024 == 0 && *unit != 'G'; next += 2) {
        value /= 1024;
        unit = next;
    }
    buf_printf(out, "%" PRId64 "%s", value, unit);
}

static void print_choices(const char *const *choices, struct buf *out)
{
    for (size_t i = 0; choices[i]; i++) {
        if (i > 0)
            buf_append_text(out, choices[i + 1] ? ", " : " or ");
        buf_append_text(out, choices[i]);
    }
}

void setting_print_range(const struct setting *setting, struct buf *out)
{
    switch (setting->type) {
    case SETTING_TEXT:
        if (setting->choices)
            print_choices(setting->choices, out);
        else
            buf_append_text(out, setting->shape);
        break;
    case SETTING_PATH:
        buf_append_text(out, "a path");
        break;
    case SETTING_LOG:
        buf_append_text(out, "a path or unix:/path");
        break;
    case SETTING_INT:
        buf_printf(out, "%" PRId64 " to %" PRId64, setting->min, setting->max);
        break;
    case SETTING_BYTES:
        print_bytes(setting->min, out);
        buf_append_text(out, " to ");
        print_bytes(setting->max, out);
        buf_append_text(out, " bytes, K, M and G allowed");
        break;
    case SETTING_BOOL:
        buf_append_text(out, "0 or 1");
        break;
    case SETTING_CHOICE:
        print_choices(setting->choices, out);
        break;
    }
}

void setting_print_value(const struct setting *setting, const struct config *config, bool reveal,
                         struct buf *out)
{
    const void *value = member(config, setting);
    int64_t number;
    switch (setting->type) {
    case SETTING_TEXT:
    case SETTING_PATH:
    case SETTING_LOG:
        buf_append_text(out, setting->secret && !reveal && *(const char *)value ? "***" : value);
        return;
    case SETTING_INT:
    case SETTING_BYTES:
        memcpy(&number, value, sizeof number);
        buf_append_int(out, number);
        break;
    case SETTING_BOOL:
        buf_append_char(out, *(const bool *)value ? '1' : '0');
        break;
    case SETTING_CHOICE:
        buf_append_text(out, setting->choices[*(const unsigned *)value]);
        break;
    }
}

void config_print_env_example(struct buf *out)
{
    buf_append_text(out, "# Every setting of Coffer with its default. Copy this file to .env and\n"
                         "# take the leading \"# \" from the lines you change.\n");
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct setting *setting = &config_settings[i];
        buf_printf(out, "\n# %s.\n# Values: ", setting->meaning);
        setting_print_range(setting, out);
        buf_append_char(out, '\n');
        if (setting->derived_default)
            buf_printf(out, "# Default: %s\n", setting->derived_default);
        if (setting->alias)
            buf_printf(out, "# Also read from: %s\n", setting->alias);
        if (setting->secret)
            buf_printf(out, "# Secret: %s_FILE may name a file that holds it.\n", setting->name);
        buf_printf(out, "# %s=%s\n", setting->name, setting->default_text);
    }
}

/* Text in a cell: what would end the cell or be read as HTML is escaped. */
static void print_cell(struct str text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        if (strchr("|<>", text.data[i]))
            buf_append_char(out, '\\');
        buf_append_char(out, text.data[i]);
    }
}

void config_print_markdown(struct buf *out)
{
    buf_append_text(out, "| Setting | Default | Values | Meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct setting *setting = &config_settings[i];
        buf_printf(out, "| `%s` | ", setting->name);
        if (setting->derived_default)
            print_cell(str_of(setting->derived_default), out);
        else if (*setting->default_text)
            buf_printf(out, "`%s`", setting->default_text);
        buf_append_text(out, " | ");
        struct buf range;
        buf_init(&range, 1024);
        setting_print_range(setting, &range);
        print_cell(buf_str(&range), out);
        buf_release(&range);
        buf_append_text(out, " | ");
        print_cell(str_of(setting->meaning), out);
        if (setting->alias)
            buf_printf(out, " (also `%s`)", setting->alias);
        if (setting->secret)
            buf_printf(out, "; secret, or in the file `%s_FILE` names", setting->name);
        buf_append_text(out, " |\n");
    }
}

void config_print_effective(const struct config *config, struct buf *out)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        buf_printf(out, "%s=", config_settings[i].name);
        setting_print_value(&config_settings[i], config, false, out);
        buf_append_char(out, '\n');
    }
}

/* NAME='value'; a quote within becomes '\'' (POSIX shell, 2.2.2). */
void setting_print_export(const char *name, struct str value, struct buf *out)
{
    buf_printf(out, "export %s='", name);
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] == '\'')
            buf_append_text(out, "'\\''");
        else
            buf_append_char(out, value.data[i]);
    }
    buf_append_text(out, "'\n");
}

static void print_computed(const struct config *config, struct buf *out)
{
    /* The gateway counts the whole body, so there must be room for multipart framing and text
     * parts beside the file; the program judges the file's exact size. */
    int64_t kib = config->max_file_size / 1024 + (config->max_file_size % 1024 != 0) + 64;
    buf_printf(out, "export LIGHTTPD_MAX_REQUEST_KIB='%" PRId64 "'\n", kib);
    buf_printf(out, "export COFFER_VERSION='%s'\n", COFFER_VERSION);
}

/* Programs run in another folder than the launcher. */
static void print_secret_file(const struct setting *setting, struct buf *out)
{
    char cwd[CONFIG_TEXT_SIZE];
    char variable[SECRET_NAME_SIZE];
    const char *path = setting_secret_file(setting, variable);
    if (!path || *path == '/' || !getcwd(cwd, sizeof cwd))
        return;
    struct buf absolute;
    buf_init(&absolute, 2 * CONFIG_TEXT_SIZE);
    buf_printf(&absolute, "%s/%s", cwd, path);
    setting_print_export(variable, buf_str(&absolute), out);
    out->failed |= absolute.failed;
    buf_release(&absolute);
}

void config_print_shell(const struct config *config, struct buf *out)
{
    struct buf value;
    buf_init(&value, CONFIG_TEXT_SIZE);
    for (size_t i = 0; i < config_setting_count; i++) {
        if (config_settings[i].secret) {
            print_secret_file(&config_settings[i], out);
            continue;
        }
        buf_reset(&value);
        setting_print_value(&config_settings[i], config, true, &value);
        setting_print_export(config_settings[i].name, buf_str(&value), out);
        out->failed |= value.failed;
    }
    buf_release(&value);
    print_computed(config, out);
}

_Static_assert(sizeof(enum auth_mode) == sizeof(unsigned) &&
                   sizeof(enum durability) == sizeof(unsigned) &&
                   sizeof(enum err_level) == sizeof(unsigned) &&
                   sizeof(enum node_mode) == sizeof(unsigned) &&
                   sizeof(enum s3_addressing) == sizeof(unsigned) &&
                   sizeof(enum download_mode) == sizeof(unsigned),
               "settings of type SETTING_CHOICE are written as unsigned");

static enum err_code bad_value(const struct setting *setting, struct str value, const char *wanted,
                               struct err *err)
{
    bool may_show = !setting->secret && value.len <= 60;
    for (size_t i = 0; i < value.len; i++)
        may_show = may_show && value.data[i] >= ' ' && value.data[i] <= '~';
    return err_set(err, ERR_CONFIG, OPERATION, "%s must be %s%s%.*s%s.", setting->name, wanted,
                   may_show ? ", not \"" : "", may_show ? (int)value.len : 0, value.data,
                   may_show ? "\"" : "");
}

static enum err_code out_of_range(const struct setting *setting, struct str value, struct err *err)
{
    struct buf wanted;
    buf_init(&wanted, 256);
    setting_print_range(setting, &wanted);
    enum err_code code = bad_value(setting, value, buf_text(&wanted), err);
    buf_release(&wanted);
    return code;
}

static bool find_choice(const char *const *choices, struct str value, unsigned *ret_index)
{
    for (unsigned i = 0; choices[i]; i++) {
        if (str_equal(str_of(choices[i]), value)) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

static enum err_code read_text(const struct setting *setting, struct str value, char *target,
                               struct err *err)
{
    unsigned index;
    if ((setting->choices && !find_choice(setting->choices, value, &index)) ||
        (setting->is_valid && value.len > 0 && !setting->is_valid(value)))
        return out_of_range(setting, value, err);
    if (!str_copy(target, CONFIG_TEXT_SIZE, value))
        return err_set(err, ERR_CONFIG, OPERATION, "%s must not be longer than %d bytes.",
                       setting->name, CONFIG_TEXT_SIZE - 1);
    return ERR_OK;
}

static enum err_code read_number(const struct setting *setting, struct str value, int64_t *target,
                                 struct err *err)
{
    int64_t number;
    bool is_read = setting->type == SETTING_BYTES
                       ? text_parse_bytes(value, &number)
                       : text_parse_int(value, setting->min, setting->max, &number);
    if (!is_read || number < setting->min || number > setting->max)
        return out_of_range(setting, value, err);
    *target = number;
    return ERR_OK;
}

static enum err_code read_choice(const struct setting *setting, struct str value, unsigned *target,
                                 struct err *err)
{
    return find_choice(setting->choices, value, target) ? ERR_OK
                                                        : out_of_range(setting, value, err);
}

static enum err_code read_bool(const struct setting *setting, struct str value, bool *target,
                               struct err *err)
{
    if (!str_equal(value, STR("0")) && !str_equal(value, STR("1")))
        return out_of_range(setting, value, err);
    *target = value.data[0] == '1';
    return ERR_OK;
}

/* Paths reach lighttpd's configuration, where these characters mean something. */
static enum err_code check_path_characters(const struct setting *setting, struct str value,
                                           struct err *err)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char byte = (unsigned char)value.data[i];
        if (byte < ' ' || byte == 0x7F || strchr("\"'`$\\", byte))
            return err_set(err, ERR_CONFIG, OPERATION,
                           "%s must not hold quotes, \"$\", backslashes or control characters.",
                           setting->name);
    }
    return ERR_OK;
}

/* Adds the segments of `path` to `out`, without empty ones and ".". ".." is taken only where what
 * it leaves is the current folder, which getcwd gave without symbolic links: after a named folder
 * the kernel may go elsewhere than the text says. */
static bool add_segments(struct str path, struct buf *out)
{
    bool may_leave = path.len > 0 && path.data[0] != '/';
    while (path.len > 0) {
        struct str segment = str_cut(&path, '/');
        if (segment.len == 0 || str_equal(segment, STR(".")))
            continue;
        if (str_equal(segment, STR(".."))) {
            if (!may_leave)
                return false;
            while (out->len > 0 && out->data[--out->len] != '/')
                continue;
            continue;
        }
        may_leave = false;
        buf_append_char(out, '/');
        buf_append_str(out, segment);
    }
    return true;
}

static enum err_code read_path(const struct setting *setting, struct str value, char *target,
                               struct err *err)
{
    char cwd[CONFIG_TEXT_SIZE] = "";
    struct buf path;
    buf_init(&path, CONFIG_TEXT_SIZE - 1);
    enum err_code code = check_path_characters(setting, value, err);
    if (code != ERR_OK)
        goto out;
    if (value.data[0] != '/') {
        if (!getcwd(cwd, sizeof cwd)) {
            code = err_set_internal(err, ERR_CONFIG, errno, "getcwd",
                                    "%s is relative, but the current folder has no usable path.",
                                    setting->name);
            goto out;
        }
        add_segments(str_of(cwd), &path);
    }
    if (!add_segments(value, &path)) {
        code = err_set(err, ERR_CONFIG, OPERATION, "%s must not hold \"..\" after a folder's name.",
                       setting->name);
        goto out;
    }
    /* The current folder is part of the path by now. */
    code = check_path_characters(setting, buf_str(&path), err);
    if (code == ERR_OK && path.len == 0)
        code =
            err_set(err, ERR_CONFIG, OPERATION, "%s must not be the root folder.", setting->name);
    if (code == ERR_OK && (path.failed || !str_copy(target, CONFIG_TEXT_SIZE, buf_str(&path))))
        code = err_set(err, ERR_CONFIG, OPERATION, "%s must not be longer than %d bytes.",
                       setting->name, CONFIG_TEXT_SIZE - 1);
out:
    buf_release(&path);
    return code;
}

static enum err_code read_log(const struct setting *setting, struct str value, char *target,
                              struct err *err)
{
    struct str scheme = STR("unix:");
    if (!str_starts_with(value, scheme))
        return read_path(setting, value, target, err);
    struct str path = {value.data + scheme.len, value.len - scheme.len};
    if (path.len < 2 || path.data[0] != '/' || path.len > LIMIT_SOCKET_PATH_BYTES)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "%s must be unix: and an absolute path of at most %d bytes.", setting->name,
                       LIMIT_SOCKET_PATH_BYTES);
    enum err_code code = check_path_characters(setting, value, err);
    return code == ERR_OK ? read_text(setting, value, target, err) : code;
}

/* Checks `value` and sets the setting's member of *config. ERR_CONFIG with one clear line. */
static enum err_code setting_read(const struct setting *setting, struct str value,
                                  struct config *config, struct err *err)
{
    void *target = (char *)config + setting->offset;
    switch (setting->type) {
    case SETTING_TEXT:
        return read_text(setting, value, target, err);
    case SETTING_PATH:
        return value.len > 0 ? read_path(setting, value, target, err) : ERR_OK;
    case SETTING_LOG:
        return value.len > 0 ? read_log(setting, value, target, err) : ERR_OK;
    case SETTING_INT:
    case SETTING_BYTES:
        return read_number(setting, value, target, err);
    case SETTING_BOOL:
        return read_bool(setting, value, target, err);
    case SETTING_CHOICE:
        return read_choice(setting, value, target, err);
    }
    return err_set(err, ERR_INTERNAL, OPERATION, "%s has no type.", setting->name);
}
