#include "base/config_table.h"

#include "base/address.h"
#include "base/text.h"

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static bool is_letter_or_digit(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9');
}

static bool is_made_of(struct str text, const char *others)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_letter_or_digit(text.data[i]) && (!text.data[i] || !strchr(others, text.data[i])))
            return false;
    return text.len > 0;
}

static bool is_word(struct str value)
{
    return value.len <= 64 && is_made_of(value, "._-");
}

static bool is_host(struct str value)
{
    return address_is_valid(value) || (value.len <= 253 && is_made_of(value, ".-"));
}

static bool is_port(struct str value)
{
    int64_t port;
    return text_parse_int(value, 1, 65535, &port);
}

/* "::1]" and what follows, ":port" or nothing */
static bool is_rest_of_brackets(struct str value)
{
    bool is_closed = str_find(value, ']') < value.len;
    struct str host = str_cut(&value, ']');
    bool is_v6 = address_is_valid(host) && str_find(host, ':') < host.len;
    if (!is_closed || !is_v6 || value.len == 0)
        return is_closed && is_v6;
    return str_cut(&value, ':').len == 0 && is_port(value);
}

/* "name", "name:port", "[::1]", "[::1]:port" */
static bool is_authority(struct str value)
{
    if (str_starts_with(value, STR("[")))
        return is_rest_of_brackets((struct str){value.data + 1, value.len - 1});
    bool has_port = str_find(value, ':') < value.len;
    struct str host = str_cut(&value, ':');
    return is_host(host) && (!has_port || is_port(value));
}

static bool is_origin(struct str value)
{
    struct str scheme = str_cut(&value, ':');
    if ((!str_equal(scheme, STR("https")) && !str_equal(scheme, STR("http"))) ||
        !str_starts_with(value, STR("//")))
        return false;
    return is_authority((struct str){value.data + 2, value.len - 2});
}

static bool is_list_of(bool (*is_item)(struct str), struct str list)
{
    bool is_last;
    do {
        is_last = str_find(list, ',') == list.len;
        if (!is_item(str_trim(str_cut(&list, ','))))
            return false;
    } while (!is_last);
    return true;
}

static bool is_authority_list(struct str value)
{
    return is_list_of(is_authority, value);
}

static bool is_origin_list(struct str value)
{
    return is_list_of(is_origin, value);
}

static const char *const log_levels[] = {[ERR_LEVEL_DEBUG] = "debug",
                                         [ERR_LEVEL_INFO] = "info",
                                         [ERR_LEVEL_WARN] = "warn",
                                         [ERR_LEVEL_ERROR] = "error",
                                         NULL};
static const char *const durabilities[] = {
    [DURABILITY_FULL] = "full", [DURABILITY_RELAXED] = "relaxed", NULL};
static const char *const auth_modes[] = {
    [AUTH_MODE_NONE] = "none", [AUTH_MODE_TOKEN] = "token", NULL};
static const char *const storage_drivers[] = {"fs", NULL};
static const char *const metadata_drivers[] = {"sqlite", NULL};

#define AT(member) .offset = offsetof(struct config, member)
#define INT(low, high) .type = SETTING_INT, .min = (low), .max = (high)
#define BYTES(low, high) .type = SETTING_BYTES, .min = (low), .max = (high)

const struct setting config_settings[] = {
    {.name = "GATEWAY_HOST",
     AT(gateway_host),
     .default_text = "127.0.0.1",
     .is_valid = is_host,
     .shape = "an IPv4 or IPv6 address or a host name",
     .meaning = "Address the gateway listens on"},
    {.name = "GATEWAY_PORT",
     AT(gateway_port),
     .default_text = "5921",
     INT(1, 65535),
     .meaning = "TCP port the gateway listens on"},
    {.name = "DATA_DIR",
     .type = SETTING_PATH,
     AT(data_dir),
     .default_text = "./data",
     .meaning = "Folder of files and database; made at the first start only"},
    {.name = "RUNTIME_DIR",
     .type = SETTING_PATH,
     AT(runtime_dir),
     .default_text = "",
     .derived_default = "$XDG_RUNTIME_DIR/coffer-<GATEWAY_PORT>, else "
                        "/tmp/coffer-<user id>-<GATEWAY_PORT>",
     .meaning = "Folder of sockets, metrics and what else lives for one run; outside DATA_DIR"},
    {.name = "SPOOL_MAX_BYTES",
     AT(spool_max_bytes),
     .default_text = "512M",
     BYTES(MIB, 1024 * GIB),
     .meaning = "Most the gateway may spool of request bodies"},
    {.name = "LOG_FILE",
     .type = SETTING_LOG,
     AT(log_file),
     .default_text = "",
     .derived_default = "<DATA_DIR>/log/coffer.ndjson",
     .meaning = "Where log lines go: a file, or unix:/path of a datagram socket"},
    {.name = "LOG_LEVEL",
     .type = SETTING_CHOICE,
     AT(log_level),
     .default_text = "info",
     .choices = log_levels,
     .meaning = "Least level that is logged"},
    {.name = "ENVIRONMENT",
     AT(environment),
     .default_text = "development",
     .is_valid = is_word,
     .shape = "up to 64 letters, digits, \".\", \"_\" or \"-\"",
     .meaning = "Name of this installation in logs and reports"},
    {.name = "STORAGE_DRIVER",
     AT(storage_driver),
     .default_text = "fs",
     .choices = storage_drivers,
     .meaning = "Where the bytes of files are kept"},
    {.name = "METADATA_DRIVER",
     AT(metadata_driver),
     .default_text = "sqlite",
     .choices = metadata_drivers,
     .meaning = "Where what is known about files is kept"},
    {.name = "DURABILITY",
     .type = SETTING_CHOICE,
     AT(durability),
     .default_text = "full",
     .choices = durabilities,
     .meaning = "full: what was acknowledged survives power loss; relaxed: only a crash of the "
                "programs"},
    {.name = "MIN_FREE_BYTES",
     AT(min_free_bytes),
     .default_text = "64M",
     BYTES(0, 1024 * GIB),
     .meaning = "Space uploads leave free on the disk of DATA_DIR, so that deletes still work"},
    {.name = "MAX_FILE_SIZE",
     AT(max_file_size),
     .default_text = "52428800",
     BYTES(1, 1024 * GIB),
     .meaning = "Largest file that is accepted"},
    {.name = "AUTH_MODE",
     .type = SETTING_CHOICE,
     AT(auth_mode),
     .default_text = "none",
     .choices = auth_modes,
     .meaning = "none: one local user, loopback only; token: tokens made by `coffer token create`"},
    {.name = "ALLOW_ANONYMOUS",
     .type = SETTING_BOOL,
     AT(allow_anonymous),
     .default_text = "0",
     .meaning = "1: AUTH_MODE=none may listen beyond loopback"},
    {.name = "ALLOWED_HOSTS",
     AT(allowed_hosts),
     .default_text = "",
     .is_valid = is_authority_list,
     .shape = "host names, each with an optional :port, and commas",
     .meaning = "Host names besides loopback that AUTH_MODE=none answers to"},
    {.name = "ALLOWED_ORIGINS",
     AT(allowed_origins),
     .default_text = "",
     .is_valid = is_origin_list,
     .shape = "origins like https://a.example, and commas",
     .meaning = "Web origins that may call the API from a browser (CORS)"},
    {.name = "METRICS_ALLOW",
     AT(metrics_allow),
     .default_text = "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10",
     .is_valid = address_list_is_valid,
     .shape = "addresses or CIDR blocks, and commas",
     .meaning = "Addresses that may read the metrics without an admin token"},
    {.name = "UPLOAD_WORKERS",
     AT(upload_workers),
     .default_text = "512",
     INT(1, 4096),
     .meaning = "Uploads taken at once"},
    {.name = "DOWNLOAD_WORKERS",
     AT(download_workers),
     .default_text = "64",
     INT(1, 4096),
     .meaning = "Download requests handled at once"},
    {.name = "WORKERS",
     AT(workers),
     .default_text = "16",
     INT(1, 1024),
     .meaning = "Requests each other program handles at once"},
    {.name = "MAX_CONNECTIONS",
     AT(max_connections),
     .default_text = "4096",
     INT(16, 65535),
     .meaning = "Client connections the gateway holds at once"},
    {.name = "BODY_IDLE_SECONDS",
     AT(body_idle_seconds),
     .default_text = "30",
     INT(1, 3600),
     .meaning = "Seconds without a byte after which an upload is ended"},
    {.name = "BODY_MIN_RATE",
     AT(body_min_rate),
     .default_text = "1024",
     BYTES(0, GIB),
     .meaning = "Bytes a second an upload must reach over BODY_IDLE_SECONDS; 0 = off"},
    {.name = "REQUEST_DEADLINE_SECONDS",
     AT(request_deadline_seconds),
     .default_text = "30",
     INT(1, 3600),
     .meaning = "Seconds a request may take, the time of its body not counted"},
    {.name = "STOP_GRACE_SECONDS",
     AT(stop_grace_seconds),
     .default_text = "20",
     INT(1, 600),
     .meaning = "Seconds a stop waits for requests under way"},
    {.name = "SQLITE_BUSY_TIMEOUT_MS",
     AT(sqlite_busy_timeout_ms),
     .default_text = "5000",
     INT(0, 60000),
     .meaning = "Milliseconds to wait for the database's write lock"},
    {.name = "SQLITE_READERS",
     AT(sqlite_readers),
     .default_text = "4",
     INT(1, 64),
     .meaning = "Reading database connections of each program"},
    {.name = "SWEEP_INTERVAL_SECONDS",
     AT(sweep_interval_seconds),
     .default_text = "300",
     INT(0, 86400),
     .meaning = "Seconds between two sweeps for orphans; 0 = off"},
    {.name = "SWEEP_GRACE_SECONDS",
     AT(sweep_grace_seconds),
     .default_text = "3600",
     INT(0, 2592000),
     .meaning = "Seconds an orphan is left alone before it is swept"},
};

const size_t config_setting_count = sizeof config_settings / sizeof config_settings[0];
