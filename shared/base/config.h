/*
 * Settings: one table of rows (name, type, default, meaning) from which the process reads its
 * environment, `coffer config` prints .env.example, the settings table of docs/OPERATIONS.md and
 * the effective values. getenv is called here, in config_env.c and in crash.c only. Read once at
 * start; immutable and shared by all threads afterwards.
 */
#ifndef COFFER_BASE_CONFIG_H
#define COFFER_BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
#include "base/str.h"

enum auth_mode { AUTH_MODE_NONE, AUTH_MODE_TOKEN };
enum durability { DURABILITY_FULL, DURABILITY_RELAXED };
enum node_mode { NODE_MODE_SINGLE, NODE_MODE_CLUSTER };
enum s3_addressing { S3_ADDRESSING_PATH, S3_ADDRESSING_VIRTUAL };
enum download_mode { DOWNLOAD_MODE_STREAM, DOWNLOAD_MODE_REDIRECT };
enum sandbox_mode { SANDBOX_ON, SANDBOX_REQUIRE, SANDBOX_OFF };

#define CONFIG_TEXT_SIZE 1024

struct config {
    enum node_mode node_mode;               /* NODE_MODE, single */
    char gateway_host[CONFIG_TEXT_SIZE];    /* GATEWAY_HOST, 127.0.0.1 */
    int64_t gateway_port;                   /* GATEWAY_PORT, 5921 */
    char node_host[CONFIG_TEXT_SIZE];       /* NODE_HOST, 127.0.0.1 */
    int64_t node_port;                      /* NODE_PORT, 3847 */
    char gateway_nodes[CONFIG_TEXT_SIZE];   /* GATEWAY_NODES, 127.0.0.1:3847; comma separated */
    char trusted_proxies[CONFIG_TEXT_SIZE]; /* TRUSTED_PROXIES, addresses and CIDR blocks */
    char data_dir[CONFIG_TEXT_SIZE];        /* DATA_DIR, ./data; absolute after loading */
    char coffer_user[CONFIG_TEXT_SIZE];     /* COFFER_USER: whom a start as root gives way to */
    enum sandbox_mode sandbox;              /* SANDBOX, on: what the kernel keeps programs to */
    char runtime_dir[CONFIG_TEXT_SIZE];     /* RUNTIME_DIR: sockets, metrics; default derived */
    int64_t spool_max_bytes;                /* SPOOL_MAX_BYTES: 512M on fs, else 1G: upload spool */
    char log_file[CONFIG_TEXT_SIZE];        /* LOG_FILE: path, or unix:/path of a datagram socket */
    enum err_level log_level;               /* LOG_LEVEL, info */
    int64_t log_success_sample;             /* LOG_SUCCESS_SAMPLE, 1: 1 in so many is logged */
    int64_t log_queue_bytes;                /* LOG_QUEUE_BYTES, 4M: lines that wait, per program */
    bool access_log;                        /* ACCESS_LOG, 1: of the gateway */
    char environment[CONFIG_TEXT_SIZE];     /* ENVIRONMENT, development */
    char sentry_dsn[CONFIG_TEXT_SIZE];      /* SENTRY_DSN, secret */
    int64_t sentry_spool_bytes;             /* SENTRY_SPOOL_BYTES, 16M: reports that wait */
    char otlp_endpoint[CONFIG_TEXT_SIZE];   /* OTEL_EXPORTER_OTLP_ENDPOINT: base URL */
    char storage_driver[CONFIG_TEXT_SIZE];  /* STORAGE_DRIVER, fs */
    char metadata_driver[CONFIG_TEXT_SIZE]; /* METADATA_DRIVER, sqlite */
    enum durability durability;             /* DURABILITY, full */
    int64_t min_free_bytes;                 /* MIN_FREE_BYTES, 64M: kept free on DATA_DIR */
    int64_t idempotency_keys;               /* IDEMPOTENCY_KEYS, 10000: answers of an owner */
    int64_t idempotency_bytes;              /* IDEMPOTENCY_BYTES, 16M: of these answers */
    int64_t max_file_size;                  /* MAX_FILE_SIZE, 52428800 */
    enum auth_mode auth_mode;               /* AUTH_MODE, none */
    bool allow_anonymous;                   /* ALLOW_ANONYMOUS, 0 */
    char allowed_hosts[CONFIG_TEXT_SIZE];   /* ALLOWED_HOSTS, comma separated */
    char allowed_origins[CONFIG_TEXT_SIZE]; /* ALLOWED_ORIGINS, for CORS, comma separated */
    char metrics_allow[CONFIG_TEXT_SIZE];   /* METRICS_ALLOW, addresses and CIDR blocks */
    bool metrics;                           /* METRICS, 1 */
    char metrics_duration_buckets[CONFIG_TEXT_SIZE]; /* METRICS_DURATION_BUCKETS, seconds */
    int64_t upload_workers;                          /* UPLOAD_WORKERS, 512 */
    int64_t download_workers;                        /* DOWNLOAD_WORKERS: 64 on fs, else 256 */
    int64_t workers;                                 /* WORKERS, 16: each other program */
    int64_t max_connections;                         /* MAX_CONNECTIONS, 4096: lighttpd */
    int64_t max_connections_per_address;             /* MAX_CONNECTIONS_PER_ADDRESS: a quarter */
    int64_t head_deadline_seconds;                   /* HEAD_DEADLINE_SECONDS, 20: lighttpd */
    int64_t keep_alive_seconds;                      /* KEEP_ALIVE_SECONDS, 75: lighttpd */
    int64_t write_idle_seconds;                      /* WRITE_IDLE_SECONDS, 60: lighttpd */
    int64_t body_idle_seconds;                       /* BODY_IDLE_SECONDS, 30 */
    int64_t body_min_rate;              /* BODY_MIN_RATE, 1024 bytes/s over body_idle_seconds */
    int64_t download_rate_seconds;      /* DOWNLOAD_RATE_SECONDS, 60 */
    int64_t download_min_rate;          /* DOWNLOAD_MIN_RATE, 2048 bytes/s over these */
    int64_t request_deadline_seconds;   /* REQUEST_DEADLINE_SECONDS, 30: all but bodies */
    int64_t stop_grace_seconds;         /* STOP_GRACE_SECONDS, 20 */
    int64_t sqlite_busy_timeout_ms;     /* SQLITE_BUSY_TIMEOUT_MS, 5000 */
    int64_t sqlite_readers;             /* SQLITE_READERS, 4 connections per program */
    char s3_endpoint[CONFIG_TEXT_SIZE]; /* S3_ENDPOINT: http(s)://host[:port] */
    char s3_public_endpoint[CONFIG_TEXT_SIZE]; /* S3_PUBLIC_ENDPOINT; default S3_ENDPOINT */
    char s3_region[CONFIG_TEXT_SIZE];          /* S3_REGION, us-east-1 */
    char s3_bucket[CONFIG_TEXT_SIZE];          /* S3_BUCKET, uploads */
    enum s3_addressing s3_addressing;          /* S3_ADDRESSING, path */
    char s3_access_key[CONFIG_TEXT_SIZE];      /* S3_ACCESS_KEY */
    char s3_secret_key[CONFIG_TEXT_SIZE];      /* S3_SECRET_KEY, secret */
    char s3_session_token[CONFIG_TEXT_SIZE];   /* S3_SESSION_TOKEN, secret */
    char s3_ca_file[CONFIG_TEXT_SIZE];         /* S3_CA_FILE: PEM; empty: the system's */
    bool s3_unsafe;                            /* S3_UNSAFE: clients must not reach the store */
    int64_t s3_part_size;                      /* S3_PART_SIZE, 5M: of a multipart upload */
    int64_t s3_attempts;                       /* S3_ATTEMPTS, 3: of a call that may be repeated */
    int64_t s3_connect_timeout_ms;             /* S3_CONNECT_TIMEOUT_MS, 1500 */
    int64_t s3_stall_seconds;                  /* S3_STALL_SECONDS, 10: without a byte */
    int64_t s3_deadline_seconds;        /* S3_DEADLINE_SECONDS, 20: one call with its repeats */
    int64_t object_cache;               /* OBJECT_CACHE, 16M: small objects kept by files_get */
    int64_t upload_memory;              /* UPLOAD_MEMORY, 128M: parts of all uploads at once */
    enum download_mode download_mode;   /* DOWNLOAD_MODE, stream */
    char mongodb_uri[CONFIG_TEXT_SIZE]; /* MONGODB_URI, secret */
    char mongodb_database[CONFIG_TEXT_SIZE]; /* MONGODB_DATABASE, coffer */
    int64_t mongodb_timeout_ms;              /* MONGODB_TIMEOUT_MS, 3000: to find a server */
    int64_t mongodb_deadline_seconds;        /* MONGODB_DEADLINE_SECONDS, 10: both runs of a call */
    int64_t mongodb_pool_size;               /* MONGODB_POOL_SIZE, 16 connections per program */
    int64_t sweep_interval_seconds;          /* SWEEP_INTERVAL_SECONDS, 300; 0 = off */
    int64_t sweep_grace_seconds;             /* SWEEP_GRACE_SECONDS, 3600 */
    int64_t orphan_interval_seconds; /* ORPHAN_INTERVAL_SECONDS: between listings of all objects */
    int64_t sweep_max_orphans;       /* SWEEP_MAX_ORPHANS; 0: by the number of objects */
};

/* Reads and checks the environment. A secret may come from the file that NAME_FILE names instead.
 * ERR_CONFIG with one clear line naming the setting. */
enum err_code config_load(struct config *ret_config, struct err *err) ERR_MUST_CHECK;
/* For a start that config_load refused, so that it can be reported: what is wrong has its default.
 * Sets nothing when even so no folder is known. */
void config_load_what_is_good(struct config *ret_config);
/* .env.example as text. */
void config_print_env_example(struct buf *out);
/* The settings table in Markdown. */
void config_print_markdown(struct buf *out);
/* The effective values, NAME=value a line; secrets as "***". */
void config_print_effective(const struct config *config, struct buf *out);
/* The effective values as shell assignments (export NAME='value'), with what lighttpd's
 * configuration needs computed: LIGHTTPD_MAX_REQUEST_KIB and so on; no secrets, which stay where
 * the operator put them. */
void config_print_shell(const struct config *config, struct buf *out);

#endif
