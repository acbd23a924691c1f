#include "base/config_table.h"

#include "base/address.h"
#include "base/dsn.h"
#include "base/text.h"

static bool is_letter_or_digit(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9');
}

bool is_made_of(struct str text, const char *others)
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
bool is_authority(struct str value)
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

/* An origin without a path: where a store listens. */
static bool is_endpoint(struct str value)
{
    return is_origin(value);
}

/* What a path may hold in an URL (RFC 3986 §3.3). */
static bool is_url(struct str value)
{
    size_t scheme = str_find(value, ':') + 3; /* "http://" */
    if (scheme > value.len)
        return false;
    size_t host = str_find((struct str){value.data + scheme, value.len - scheme}, '/');
    struct str path = {value.data + scheme + host, value.len - scheme - host};
    return is_origin((struct str){value.data, scheme + host}) &&
           (path.len == 0 || is_made_of(path, "/-._~!$&'()*+,;=:@%"));
}

/* The naming rules that every store shares: 3 to 63 of [a-z0-9.-], letters or digits at both ends. */
static bool is_bucket(struct str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.data[i] >= 'A' && value.data[i] <= 'Z')
            return false;
    return value.len >= 3 && value.len <= 63 && is_made_of(value, ".-") &&
           is_letter_or_digit(value.data[0]) && is_letter_or_digit(value.data[value.len - 1]);
}

/* Goes into headers and signatures as it stands. */
static bool is_visible_text(struct str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.data[i] <= ' ' || value.data[i] > '~')
            return false;
    return true;
}

static bool is_mongodb_uri(struct str value)
{
    return (str_starts_with(value, STR("mongodb://")) ||
            str_starts_with(value, STR("mongodb+srv://"))) &&
           is_visible_text(value);
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

/* Names the gateway resolves; lighttpd takes addresses without brackets. */
static bool is_node(struct str value)
{
    return is_authority(value) && !str_starts_with(value, STR("["));
}

static bool is_node_list(struct str value)
{
    return is_list_of(is_node, value);
}

static bool is_origin_list(struct str value)
{
    return is_list_of(is_origin, value);
}

bool is_dsn(struct str value)
{
    struct dsn dsn;
    return dsn_parse(value, &dsn);
}

static bool is_bounds(struct str value)
{
    struct bounds bounds;
    return bounds_parse(value, &bounds);
}

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static const char *const log_levels[] = {[ERR_LEVEL_DEBUG] = "debug",
                                         [ERR_LEVEL_INFO] = "info",
                                         [ERR_LEVEL_WARN] = "warn",
                                         [ERR_LEVEL_ERROR] = "error",
                                         NULL};
static const char *const durabilities[] = {
    [DURABILITY_FULL] = "full", [DURABILITY_RELAXED] = "relaxed", NULL};
static const char *const auth_modes[] = {
    [AUTH_MODE_NONE] = "none", [AUTH_MODE_TOKEN] = "token", NULL};
static const char *const storage_drivers[] = {"fs", "s3", "libs3", NULL};
static const char *const metadata_drivers[] = {"sqlite", "mongodb", NULL};
static const char *const node_modes[] = {
    [NODE_MODE_SINGLE] = "single", [NODE_MODE_CLUSTER] = "cluster", NULL};
static const char *const s3_addressings[] = {
    [S3_ADDRESSING_PATH] = "path", [S3_ADDRESSING_VIRTUAL] = "virtual", NULL};
static const char *const download_modes[] = {
    [DOWNLOAD_MODE_STREAM] = "stream", [DOWNLOAD_MODE_REDIRECT] = "redirect", NULL};
static const char *const sandbox_modes[] = {
    [SANDBOX_ON] = "on", [SANDBOX_REQUIRE] = "require", [SANDBOX_OFF] = "off", NULL};

#define AT(member) .offset = offsetof(struct config, member)
#define INT(low, high) .type = SETTING_INT, .min = (low), .max = (high)
#define BYTES(low, high) .type = SETTING_BYTES, .min = (low), .max = (high)

const struct setting config_settings[] = {
    {.name = "NODE_MODE",
     .type = SETTING_CHOICE,
     AT(node_mode),
     .default_text = "single",
     .choices = node_modes,
     .meaning = "single: all on this machine; cluster: one of several nodes, which keeps no state"},
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
    {.name = "NODE_HOST",
     AT(node_host),
     .default_text = "127.0.0.1",
     .is_valid = is_host,
     .shape = "an IPv4 or IPv6 address or a host name",
     .meaning = "Address a node behind a gateway listens on"},
    {.name = "NODE_PORT",
     AT(node_port),
     .default_text = "3847",
     INT(1, 65535),
     .meaning = "TCP port a node behind a gateway listens on"},
    {.name = "GATEWAY_NODES",
     AT(gateway_nodes),
     .default_text = "127.0.0.1:3847",
     .is_valid = is_node_list,
     .shape = "IPv4 addresses or host names, each with an optional :port, and commas",
     .meaning = "Nodes a gateway gives requests to; a name stands for each of its addresses"},
    {.name = "TRUSTED_PROXIES",
     AT(trusted_proxies),
     .default_text = "",
     .is_valid = address_list_is_valid,
     .shape = "addresses or CIDR blocks, and commas",
     .meaning = "Proxies whose X-Forwarded-For is believed; on a node, its gateways"},
    {.name = "DATA_DIR",
     .type = SETTING_PATH,
     AT(data_dir),
     .default_text = "./data",
     .meaning = "Folder of files and database; made at the first start only"},
    {.name = "COFFER_USER",
     AT(coffer_user),
     .default_text = "",
     .derived_default = "the owner of DATA_DIR; coffer where it is new",
     .is_valid = is_word,
     .shape = "up to 64 letters, digits, \".\", \"_\" or \"-\"",
     .meaning = "User that a start as root runs the service as; root: stays root"},
    {.name = "SANDBOX",
     .type = SETTING_CHOICE,
     AT(sandbox),
     .default_text = "on",
     .choices = sandbox_modes,
     .meaning = "on: programs are kept to the files and system calls they need, as far as the "
                "kernel can; require: they don't start where it can't; off: not kept"},
    {.name = "RUNTIME_DIR",
     .type = SETTING_PATH,
     AT(runtime_dir),
     .default_text = "",
     .derived_default = "/tmp/coffer-<digest of DATA_DIR>-<GATEWAY_PORT>",
     .meaning = "Folder of sockets, metrics and what else lives for one run; outside DATA_DIR"},
    {.name = "SPOOL_MAX_BYTES",
     AT(spool_max_bytes),
     .default_text = "0",
     .derived_default = "512M with STORAGE_DRIVER=fs, else 1G",
     BYTES(0, 1024 * GIB),
     .meaning =
         "Memory (a tmpfs) for uploads that come faster than they are stored, a size such as "
         "512M; at least MAX_FILE_SIZE. Put it on disk by a mount at RUNTIME_DIR/spool"},
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
    {.name = "LOG_SUCCESS_SAMPLE",
     AT(log_success_sample),
     .default_text = "1",
     INT(1, 1000000),
     .meaning = "Of so many requests that went well one is logged; 1: each"},
    {.name = "LOG_QUEUE_BYTES",
     AT(log_queue_bytes),
     .default_text = "4M",
     BYTES(64 * KIB, GIB),
     .meaning =
         "Log lines of each program that may wait to be written, a size such as 4M; past it they "
         "are dropped"},
    {.name = "ACCESS_LOG",
     .type = SETTING_BOOL,
     AT(access_log),
     .default_text = "1",
     .meaning = "1: every answer of the gateway is logged and counted; 0: not"},
    {.name = "ENVIRONMENT",
     AT(environment),
     .default_text = "development",
     .is_valid = is_word,
     .shape = "up to 64 letters, digits, \".\", \"_\" or \"-\"",
     .meaning = "Name of this installation in logs and reports"},
    {.name = "SENTRY_DSN",
     AT(sentry_dsn),
     .default_text = "",
     .is_valid = is_dsn,
     .shape = "http(s)://KEY@HOST/PROJECT",
     .secret = true,
     .meaning = "Where errors and crashes are reported to; empty: nowhere"},
    {.name = "SENTRY_SPOOL_BYTES",
     AT(sentry_spool_bytes),
     .default_text = "16M",
     BYTES(0, GIB),
     .meaning =
         "Disk for reports that wait until they can be sent, a size such as 16M; past it they are "
         "dropped"},
    {.name = "OTEL_EXPORTER_OTLP_ENDPOINT",
     AT(otlp_endpoint),
     .default_text = "",
     .is_valid = is_url,
     .shape = "http:// or https://, a host, an optional :port and path",
     .meaning = "Collector that spans are sent to (OTLP over HTTP, JSON); empty: none"},
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
     .meaning = "Space that uploads and other changes leave free on the disk of DATA_DIR, so that "
                "deletes still work; a size such as 64M"},
    {.name = "IDEMPOTENCY_KEYS",
     AT(idempotency_keys),
     .default_text = "10000",
     INT(1, 10000000),
     .meaning = "Answers to requests with an Idempotency-Key that are kept for an owner; beyond it "
                "the oldest go before their 24 hours are over"},
    {.name = "IDEMPOTENCY_BYTES",
     AT(idempotency_bytes),
     .default_text = "16M",
     BYTES(64 * KIB, 1024 * GIB),
     .meaning = "Bytes of such answers that are kept for an owner, a size such as 16M"},
    {.name = "MAX_FILE_SIZE",
     AT(max_file_size),
     .default_text = "52428800",
     BYTES(1, 1024 * GIB),
     .meaning = "Largest file that is accepted, a size such as 50M"},
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
    {.name = "METRICS",
     .type = SETTING_BOOL,
     AT(metrics),
     .default_text = "1",
     .meaning = "1: what is done is counted, /metrics and /api/metrics show it; 0: not"},
    {.name = "METRICS_DURATION_BUCKETS",
     AT(metrics_duration_buckets),
     .default_text = "0.0005,0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,60",
     .is_valid = is_bounds,
     .shape = "1 to 31 rising numbers of seconds, and commas",
     .meaning = "Upper bounds of the buckets of duration histograms"},
    {.name = "UPLOAD_WORKERS",
     AT(upload_workers),
     .default_text = "512",
     INT(1, 4096),
     .meaning = "Uploads taken at once"},
    {.name = "DOWNLOAD_WORKERS",
     AT(download_workers),
     .default_text = "0",
     .derived_default = "64 with STORAGE_DRIVER=fs, else 256",
     INT(0, 4096),
     .meaning = "Downloads from a store at once, or with STORAGE_DRIVER=fs requests about files"},
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
    {.name = "MAX_CONNECTIONS_PER_ADDRESS",
     AT(max_connections_per_address),
     .default_text = "0",
     .derived_default = "a quarter of MAX_CONNECTIONS, 64 at least",
     INT(0, 65535),
     .meaning = "Client connections from one address (IPv6: one /64) at once, but for "
                "TRUSTED_PROXIES"},
    {.name = "HEAD_DEADLINE_SECONDS",
     AT(head_deadline_seconds),
     .default_text = "20",
     INT(1, 3600),
     .meaning = "Seconds until the head of a request must be complete"},
    {.name = "KEEP_ALIVE_SECONDS",
     AT(keep_alive_seconds),
     .default_text = "75",
     INT(0, 3600),
     .meaning = "Seconds an idle client connection stays open; longer than a proxy in front keeps "
                "it; 0: one request a connection"},
    {.name = "WRITE_IDLE_SECONDS",
     AT(write_idle_seconds),
     .default_text = "60",
     INT(1, 3600),
     .meaning = "Seconds a client may take no byte of its answer before the connection is closed"},
    {.name = "BODY_IDLE_SECONDS",
     AT(body_idle_seconds),
     .default_text = "30",
     INT(1, 3600),
     .meaning = "Seconds without a byte after which an upload is ended"},
    {.name = "BODY_MIN_RATE",
     AT(body_min_rate),
     .default_text = "1024",
     BYTES(0, GIB),
     .meaning =
         "Bytes a second an upload must reach over BODY_IDLE_SECONDS, a size such as 1K; 0 = off"},
    {.name = "DOWNLOAD_RATE_SECONDS",
     AT(download_rate_seconds),
     .default_text = "60",
     INT(1, 3600),
     .meaning = "Seconds over which the rate of a download from a store is measured"},
    {.name = "DOWNLOAD_MIN_RATE",
     AT(download_min_rate),
     .default_text = "2K",
     BYTES(0, GIB),
     .meaning =
         "Bytes a second the client of such a download must take, a size such as 2K; 0 = off"},
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
    {.name = "S3_ENDPOINT",
     .alias = "MINIO_ENDPOINT",
     AT(s3_endpoint),
     .default_text = "",
     .is_valid = is_endpoint,
     .shape = "http:// or https://, a host and an optional :port",
     .meaning = "Where the S3 store listens; needed by STORAGE_DRIVER=s3 and libs3"},
    {.name = "S3_PUBLIC_ENDPOINT",
     AT(s3_public_endpoint),
     .default_text = "",
     .derived_default = "S3_ENDPOINT",
     .is_valid = is_endpoint,
     .shape = "http:// or https://, a host and an optional :port",
     .meaning = "Where clients reach the S3 store, for presigned URLs"},
    {.name = "S3_REGION",
     AT(s3_region),
     .default_text = "us-east-1",
     .is_valid = is_word,
     .shape = "up to 64 letters, digits, \".\", \"_\" or \"-\"",
     .meaning = "Region that requests to the store are signed for"},
    {.name = "S3_BUCKET",
     .alias = "MINIO_BUCKET",
     AT(s3_bucket),
     .default_text = "uploads",
     .is_valid = is_bucket,
     .shape = "3 to 63 lower-case letters, digits, \".\" or \"-\"",
     .meaning = "Bucket that holds the files; `coffer init` makes it"},
    {.name = "S3_ADDRESSING",
     .type = SETTING_CHOICE,
     AT(s3_addressing),
     .default_text = "path",
     .choices = s3_addressings,
     .meaning = "path: the bucket is the path's first part; virtual: of the host name"},
    {.name = "S3_ACCESS_KEY",
     .alias = "MINIO_ACCESS_KEY",
     AT(s3_access_key),
     .default_text = "",
     .is_valid = is_visible_text,
     .shape = "visible ASCII characters",
     .secret = true,
     .meaning = "Access key of the store"},
    {.name = "S3_SECRET_KEY",
     .alias = "MINIO_SECRET_KEY",
     AT(s3_secret_key),
     .default_text = "",
     .is_valid = is_visible_text,
     .shape = "visible ASCII characters",
     .secret = true,
     .meaning = "Secret key of the store"},
    {.name = "S3_SESSION_TOKEN",
     AT(s3_session_token),
     .default_text = "",
     .is_valid = is_visible_text,
     .shape = "visible ASCII characters",
     .secret = true,
     .meaning = "Session token of temporary credentials"},
    {.name = "S3_CA_FILE",
     .type = SETTING_PATH,
     AT(s3_ca_file),
     .default_text = "",
     .meaning =
         "PEM file of the authorities an https store is checked against; empty: the system's"},
    {.name = "S3_UNSAFE",
     .type = SETTING_BOOL,
     AT(s3_unsafe),
     .default_text = "0",
     .derived_default = "1 where MINIO_ENDPOINT names the store, else 0",
     .meaning = "1: clients must not reach the store, so DOWNLOAD_MODE=redirect is refused"},
    {.name = "S3_PART_SIZE",
     AT(s3_part_size),
     .default_text = "8M",
     BYTES(5 * MIB, 512 * MIB),
     .meaning =
         "Part of a multipart upload, a size such as 8M; larger files are sent in such parts"},
    {.name = "S3_ATTEMPTS",
     AT(s3_attempts),
     .default_text = "3",
     INT(1, 10),
     .meaning = "Times a call to the store is tried, where repeating it is safe"},
    {.name = "S3_CONNECT_TIMEOUT_MS",
     AT(s3_connect_timeout_ms),
     .default_text = "1500",
     INT(50, 60000),
     .meaning = "Milliseconds to connect to the store"},
    {.name = "S3_STALL_SECONDS",
     AT(s3_stall_seconds),
     .default_text = "10",
     INT(1, 600),
     .meaning = "Seconds without a byte after which a call to the store is given up"},
    {.name = "S3_DEADLINE_SECONDS",
     AT(s3_deadline_seconds),
     .default_text = "20",
     INT(1, 3600),
     .meaning = "Seconds one call to the store may take, its repeats included"},
    {.name = "UPLOAD_MEMORY",
     AT(upload_memory),
     .default_text = "128M",
     BYTES(5 * MIB, 1024 * GIB),
     .meaning =
         "Memory for parts of all uploads to the store at once, a size such as 128M; past it "
         "uploads wait"},
    {.name = "OBJECT_CACHE",
     AT(object_cache),
     .default_text = "16M",
     BYTES(0, 1024 * GIB),
     .meaning =
         "Memory for small files (up to 64 KiB) read from the store, a size such as 16M; 0: none"},
    {.name = "DOWNLOAD_MODE",
     .type = SETTING_CHOICE,
     AT(download_mode),
     .default_text = "stream",
     .choices = download_modes,
     .meaning = "stream: bytes go through the service; redirect: clients are sent to the S3 store"},
    {.name = "MONGODB_URI",
     AT(mongodb_uri),
     .default_text = "",
     .is_valid = is_mongodb_uri,
     .shape = "mongodb:// or mongodb+srv:// and what follows",
     .secret = true,
     .meaning = "The MongoDB servers; needed by METADATA_DRIVER=mongodb"},
    {.name = "MONGODB_DATABASE",
     AT(mongodb_database),
     .default_text = "coffer",
     .is_valid = is_word,
     .shape = "up to 64 letters, digits, \".\", \"_\" or \"-\"",
     .meaning = "Database that holds what is known about files"},
    {.name = "MONGODB_TIMEOUT_MS",
     AT(mongodb_timeout_ms),
     .default_text = "3000",
     INT(100, 30000),
     .meaning = "Milliseconds to find a MongoDB server that can answer"},
    {.name = "MONGODB_DEADLINE_SECONDS",
     AT(mongodb_deadline_seconds),
     .default_text = "10",
     INT(3, 600),
     .meaning = "Seconds after which a call to MongoDB that gets no answer is given up, its repeat "
                "included"},
    {.name = "MONGODB_POOL_SIZE",
     AT(mongodb_pool_size),
     .default_text = "16",
     INT(1, 1024),
     .meaning = "MongoDB connections of each program"},
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
    {.name = "ORPHAN_INTERVAL_SECONDS",
     AT(orphan_interval_seconds),
     .default_text = "0",
     .derived_default = "SWEEP_INTERVAL_SECONDS with STORAGE_DRIVER=fs, else 3600",
     INT(0, 2592000),
     .meaning = "Seconds between two sweeps that list every object of the store"},
    {.name = "SWEEP_MAX_ORPHANS",
     AT(sweep_max_orphans),
     .default_text = "0",
     .derived_default = "the larger of 100 and 1 % of the objects that the sweep saw",
     INT(0, INT64_C(1000000000000)),
     .meaning = "Orphans that one sweep removes; where there are more it removes none and reports"
                " them, for `coffer gc --yes`"},
};

const size_t config_setting_count = sizeof config_settings / sizeof config_settings[0];
