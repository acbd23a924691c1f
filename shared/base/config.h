/*
 * Settings: one table of rows (name, type, default, meaning) from which the process reads its
 * environment, `coffer config` prints .env.example, the settings table of docs/OPERATIONS.md and
 * the effective values. The only caller of getenv. Read once at start; immutable and shared by
 * all threads afterwards.
 */
#ifndef COFFER_BASE_CONFIG_H
#define COFFER_BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"
#include "base/str.h"

enum auth_mode { AUTH_MODE_NONE, AUTH_MODE_TOKEN };
enum durability { DURABILITY_FULL, DURABILITY_RELAXED };

#define CONFIG_TEXT_SIZE 1024

struct config {
    char gateway_host[CONFIG_TEXT_SIZE];    /* GATEWAY_HOST, 127.0.0.1 */
    int64_t gateway_port;                   /* GATEWAY_PORT, 5921 */
    char data_dir[CONFIG_TEXT_SIZE];        /* DATA_DIR, ./data; absolute after loading */
    char runtime_dir[CONFIG_TEXT_SIZE];     /* RUNTIME_DIR: sockets, metrics; default derived */
    int64_t spool_max_bytes;                /* SPOOL_MAX_BYTES, 512M: lighttpd's upload spool */
    char log_file[CONFIG_TEXT_SIZE];        /* LOG_FILE: path, or unix:/path of a datagram socket */
    enum err_level log_level;               /* LOG_LEVEL, info */
    char environment[CONFIG_TEXT_SIZE];     /* ENVIRONMENT, development */
    char storage_driver[CONFIG_TEXT_SIZE];  /* STORAGE_DRIVER, fs */
    char metadata_driver[CONFIG_TEXT_SIZE]; /* METADATA_DRIVER, sqlite */
    enum durability durability;             /* DURABILITY, full */
    int64_t min_free_bytes;                 /* MIN_FREE_BYTES, 64M: kept free on DATA_DIR */
    int64_t max_file_size;                  /* MAX_FILE_SIZE, 52428800 */
    enum auth_mode auth_mode;               /* AUTH_MODE, none */
    bool allow_anonymous;                   /* ALLOW_ANONYMOUS, 0 */
    char allowed_hosts[CONFIG_TEXT_SIZE];   /* ALLOWED_HOSTS, comma separated */
    char allowed_origins[CONFIG_TEXT_SIZE]; /* ALLOWED_ORIGINS, for CORS, comma separated */
    char metrics_allow[CONFIG_TEXT_SIZE];   /* METRICS_ALLOW, addresses and CIDR blocks */
    int64_t upload_workers;                 /* UPLOAD_WORKERS, 512 */
    int64_t download_workers;               /* DOWNLOAD_WORKERS, 64 */
    int64_t workers;                        /* WORKERS, 16: each other program */
    int64_t max_connections;                /* MAX_CONNECTIONS, 4096: lighttpd */
    int64_t body_idle_seconds;              /* BODY_IDLE_SECONDS, 30 */
    int64_t body_min_rate;                  /* BODY_MIN_RATE, 1024 bytes/s over body_idle_seconds */
    int64_t request_deadline_seconds;       /* REQUEST_DEADLINE_SECONDS, 30: all but bodies */
    int64_t stop_grace_seconds;             /* STOP_GRACE_SECONDS, 20 */
    int64_t sqlite_busy_timeout_ms;         /* SQLITE_BUSY_TIMEOUT_MS, 5000 */
    int64_t sqlite_readers;                 /* SQLITE_READERS, 4 connections per program */
    int64_t sweep_interval_seconds;         /* SWEEP_INTERVAL_SECONDS, 300; 0 = off */
    int64_t sweep_grace_seconds;            /* SWEEP_GRACE_SECONDS, 3600 */
};

/* Reads and checks the environment. ERR_CONFIG with one clear line naming the setting. */
enum err_code config_load(struct config *ret_config, struct err *err) ERR_MUST_CHECK;
/* .env.example as text. */
void config_print_env_example(struct buf *out);
/* The settings table in Markdown. */
void config_print_markdown(struct buf *out);
/* The effective values, NAME=value a line; secrets as "***". */
void config_print_effective(const struct config *config, struct buf *out);
/* The effective values as shell assignments (export NAME='value'), with what lighttpd's
 * configuration needs computed: LIGHTTPD_MAX_REQUEST_KIB and so on. */
void config_print_shell(const struct config *config, struct buf *out);

#endif
