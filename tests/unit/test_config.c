#include "base/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/config_table.h"
#include "check.h"

/* Each test starts from an environment without any setting. */
static void clear_environment(void)
{
    for (size_t i = 0; i < config_setting_count; i++)
        unsetenv(config_settings[i].name);
}

static const char *load_error(struct err *err)
{
    struct config config;
    *err = (struct err){0};
    return config_load(&config, err) == ERR_OK ? "" : err->message;
}

TEST(config, defaults_are_those_of_the_contract)
{
    struct config config;
    struct err err = {0};
    char path[CONFIG_TEXT_SIZE + 64];
    char cwd[CONFIG_TEXT_SIZE];
    clear_environment();
    REQUIRE(getcwd(cwd, sizeof cwd) != NULL);
    CHECK_ERR(config_load(&config, &err), ERR_OK, &err);
    CHECK_INT(config.node_mode, NODE_MODE_SINGLE);
    CHECK_TEXT(config.gateway_host, "127.0.0.1");
    CHECK_INT(config.gateway_port, 5921);
    CHECK_TEXT(config.node_host, "127.0.0.1");
    CHECK_INT(config.node_port, 3847);
    CHECK_TEXT(config.gateway_nodes, "127.0.0.1:3847");
    CHECK_TEXT(config.trusted_proxies, "");
    snprintf(path, sizeof path, "%s/data", cwd);
    CHECK_TEXT(config.data_dir, path);
    snprintf(path, sizeof path, "%s/data/log/coffer.ndjson", cwd);
    CHECK_TEXT(config.log_file, path);
    CHECK(str_starts_with(str_of(config.runtime_dir), STR("/tmp/coffer-")));
    CHECK_INT(config.spool_max_bytes, 512 << 20);
    CHECK_INT(config.log_level, ERR_LEVEL_INFO);
    CHECK_TEXT(config.environment, "development");
    CHECK_TEXT(config.storage_driver, "fs");
    CHECK_TEXT(config.metadata_driver, "sqlite");
    CHECK_INT(config.durability, DURABILITY_FULL);
    CHECK_INT(config.min_free_bytes, 64 << 20);
    CHECK_INT(config.max_file_size, 52428800);
    CHECK_INT(config.auth_mode, AUTH_MODE_NONE);
    CHECK(!config.allow_anonymous);
    CHECK_TEXT(config.allowed_hosts, "");
    CHECK_TEXT(config.allowed_origins, "");
    CHECK_TEXT(config.metrics_allow,
               "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10");
    CHECK_INT(config.upload_workers, 512);
    CHECK_INT(config.download_workers, 64);
    CHECK_INT(config.workers, 16);
    CHECK_INT(config.max_connections, 4096);
    CHECK_INT(config.body_idle_seconds, 30);
    CHECK_INT(config.body_min_rate, 1024);
    CHECK_INT(config.download_rate_seconds, 60);
    CHECK_INT(config.download_min_rate, 2048);
    CHECK_INT(config.request_deadline_seconds, 30);
    CHECK_INT(config.stop_grace_seconds, 20);
    CHECK_INT(config.sqlite_busy_timeout_ms, 5000);
    CHECK_INT(config.sqlite_readers, 4);
    CHECK_INT(config.sweep_interval_seconds, 300);
    CHECK_INT(config.sweep_grace_seconds, 3600);
}

TEST(config, values_that_are_taken)
{
    static const struct {
        const char *name, *in, *want; /* want: as config_print_effective says it */
    } rows[] = {
        {"GATEWAY_PORT", "1", "1"},
        {"GATEWAY_PORT", "65535", "65535"},
        {"GATEWAY_HOST", "::1", "::1"},
        {"GATEWAY_HOST", "localhost", "localhost"},
        {"MAX_FILE_SIZE", "1024G", "1099511627776"},
        {"MAX_FILE_SIZE", "1", "1"},
        {"MIN_FREE_BYTES", "0", "0"},
        {"LOG_LEVEL", "debug", "debug"},
        {"LOG_LEVEL", "error", "error"},
        {"DURABILITY", "relaxed", "relaxed"},
        {"AUTH_MODE", "token", "token"},
        {"ALLOW_ANONYMOUS", "1", "1"},
        {"ENVIRONMENT", "prod.eu-1_a", "prod.eu-1_a"},
        {"ALLOWED_HOSTS", "files.example", "files.example"},
        {"ALLOWED_HOSTS", "a.example:8080, [::1]:80,[::1],10.0.0.1:1", NULL},
        {"ALLOWED_ORIGINS", "https://a.example,http://b.example:3000", NULL},
        {"METRICS_ALLOW", "10.0.0.1, fd00::/8", NULL},
        {"METRICS", "0", "0"},
        {"METRICS_DURATION_BUCKETS", "0.1,1,10", NULL},
        {"TRUSTED_PROXIES", "10.0.0.1,10.1.0.0/16", NULL},
        {"GATEWAY_NODES", "10.0.0.1,node-2.example:3848, c", NULL},
        {"BODY_MIN_RATE", "2K", "2048"},
        {"SWEEP_INTERVAL_SECONDS", "0", "0"},
        {"DATA_DIR", "/srv//files/./x/", "/srv/files/x"},
        {"DATA_DIR", "/srv/with space/\xC3\xA4", NULL},
        {"RUNTIME_DIR", "/run/coffer", NULL},
        {"LOG_FILE", "/var/log/coffer.ndjson", NULL},
        {"LOG_FILE", "unix:/run/log.sock", NULL},
        {"GATEWAY_PORT", "", "5921"}, /* empty is unset */
        {"DURABILITY", "", "full"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err = {0};
        struct buf out;
        char line[256];
        clear_environment();
        setenv(rows[i].name, rows[i].in, 1);
        buf_init(&out, 64 * 1024);
        enum err_code code = config_load(&config, &err);
        CHECK_ERR_ROW(rows[i].in, code, ERR_OK, &err);
        if (code == ERR_OK)
            config_print_effective(&config, &out);
        snprintf(line, sizeof line, "%s=%s\n", rows[i].name,
                 rows[i].want ? rows[i].want : rows[i].in);
        const char *found = strstr(buf_text(&out), line);
        CHECK_ROW(line, found && (found == out.data || found[-1] == '\n'));
        buf_release(&out);
    }
    clear_environment();
}

TEST(config, values_that_are_refused_with_one_line_naming_the_setting)
{
    static const struct {
        const char *name, *in;
    } rows[] = {
        {"GATEWAY_PORT", "0"},
        {"GATEWAY_PORT", "65536"},
        {"GATEWAY_PORT", "80x"},
        {"GATEWAY_PORT", "-1"},
        {"GATEWAY_PORT", " 80"},
        {"GATEWAY_PORT", "8\n0"},
        {"GATEWAY_HOST", "a b"},
        {"GATEWAY_HOST", "[::1]"},
        {"GATEWAY_HOST", "\"; x"},
        {"MAX_FILE_SIZE", "0"},
        {"MAX_FILE_SIZE", "1025G"},
        {"MAX_FILE_SIZE", "50MB"},
        {"MAX_FILE_SIZE", "99999999999999999999"},
        {"LOG_LEVEL", "loud"},
        {"LOG_LEVEL", "INFO"},
        {"DURABILITY", "half"},
        {"AUTH_MODE", "jwt"},
        {"STORAGE_DRIVER", "tape"},
        {"METADATA_DRIVER", "paper"},
        {"ALLOW_ANONYMOUS", "yes"},
        {"ALLOW_ANONYMOUS", "01"},
        {"ENVIRONMENT", "a b"},
        {"ENVIRONMENT", "a\"b"},
        {"ALLOWED_HOSTS", "a.example,"},
        {"ALLOWED_HOSTS", "a.example:0"},
        {"ALLOWED_HOSTS", "a.example:x"},
        {"ALLOWED_HOSTS", "http://a.example"},
        {"ALLOWED_HOSTS", "[::1"},
        {"ALLOWED_HOSTS", "[a.example]"},
        {"ALLOWED_HOSTS", "[::1]x"},
        {"ALLOWED_HOSTS", "[::1]80"},
        {"ALLOWED_HOSTS", "[::1]:"},
        {"ALLOWED_HOSTS", "::1"},
        {"ALLOWED_HOSTS", "[10.0.0.1]"},
        {"ALLOWED_ORIGINS", "*"},
        {"ALLOWED_ORIGINS", "a.example"},
        {"ALLOWED_ORIGINS", "https://a.example/"},
        {"ALLOWED_ORIGINS", "https://"},
        {"ALLOWED_ORIGINS", "ftp://a.example"},
        {"METRICS_ALLOW", "everyone"},
        {"TRUSTED_PROXIES", "all"},
        {"TRUSTED_PROXIES", "10.0.0.1\") \""},
        {"GATEWAY_NODES", "10.0.0.1:0"},
        {"GATEWAY_NODES", "[::1]:3847"},
        {"GATEWAY_NODES", "a,,b"},
        {"GATEWAY_NODES", "http://a"},
        {"NODE_PORT", "0"},
        {"NODE_HOST", "a b"},
        {"METRICS_ALLOW", "10.0.0.0/33"},
        {"METRICS_ALLOW", "10.0.0.1,,"},
        {"METRICS", "2"},
        {"METRICS_DURATION_BUCKETS", "1,0.5"},
        {"METRICS_DURATION_BUCKETS", "0,1"},
        {"METRICS_DURATION_BUCKETS", "1,x"},
        {"UPLOAD_WORKERS", "0"},
        {"UPLOAD_WORKERS", "4097"},
        {"SQLITE_READERS", "0"},
        {"DATA_DIR", "/a\"b"},
        {"DATA_DIR", "/a'b"},
        {"DATA_DIR", "/a$b"},
        {"DATA_DIR", "/a\\b"},
        {"DATA_DIR", "/a\nb"},
        {"DATA_DIR", "/a`b"},
        {"DATA_DIR", "/a\x7F"},
        {"DATA_DIR", "/"},
        {"DATA_DIR", "/a/../b"},
        {"DATA_DIR", "a/../b"},
        {"DATA_DIR", "/.."},
        {"RUNTIME_DIR", "/run/$USER"},
        {"RUNTIME_DIR", "/run/\t"},
        {"LOG_FILE", "/var/log/\"x"},
        {"LOG_FILE", "unix:relative"},
        {"LOG_FILE", "unix:/"},
        {"LOG_FILE", "unix:/a\"b"},
        {"LOG_FILE", "unix:"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        clear_environment();
        setenv(rows[i].name, rows[i].in, 1);
        const char *message = load_error(&err);
        char label[128];
        snprintf(label, sizeof label, "%s=%s: %s", rows[i].name, rows[i].in, message);
        CHECK_INT_ROW(label, err.code, ERR_CONFIG);
        CHECK_ROW(label, str_starts_with(str_of(message), str_of(rows[i].name)));
        CHECK_ROW(label, strchr(message, '\n') == NULL);
        CHECK_ROW(label, *message && message[strlen(message) - 1] == '.');
    }
    clear_environment();
}

TEST(config, message_says_what_would_be_right)
{
    struct err err;
    clear_environment();
    setenv("GATEWAY_PORT", "80x", 1);
    CHECK_TEXT(load_error(&err), "GATEWAY_PORT must be 1 to 65535, not \"80x\".");
    setenv("GATEWAY_PORT", "8\x1B[0m", 1);
    CHECK_TEXT(load_error(&err), "GATEWAY_PORT must be 1 to 65535.");
    clear_environment();
    setenv("LOG_LEVEL", "loud", 1);
    CHECK_TEXT(load_error(&err), "LOG_LEVEL must be debug, info, warn or error, not \"loud\".");
    clear_environment();
    setenv("MAX_FILE_SIZE", "2048G", 1);
    CHECK_TEXT(load_error(&err),
               "MAX_FILE_SIZE must be 1 to 1024G bytes, K, M and G allowed, not \"2048G\".");
    clear_environment();
}

TEST(config, failure_leaves_the_output_alone)
{
    struct config config;
    struct err err = {0};
    clear_environment();
    memset(&config, 0x5A, sizeof config);
    setenv("SWEEP_GRACE_SECONDS", "soon", 1);
    CHECK_ERR(config_load(&config, &err), ERR_CONFIG, &err);
    for (size_t i = 0; i < sizeof config; i++)
        if (((const unsigned char *)&config)[i] != 0x5A) {
            CHECK_INT((int64_t)i, -1);
            break;
        }
    clear_environment();
}

TEST(config, too_long_a_text_is_refused)
{
    static char longest[CONFIG_TEXT_SIZE + 10];
    struct err err;
    clear_environment();
    memset(longest, 'a', sizeof longest - 1);
    longest[0] = '/';
    setenv("DATA_DIR", longest, 1);
    CHECK_TEXT(load_error(&err), "DATA_DIR must not be longer than 1023 bytes.");
    setenv("LOG_FILE", "/var/log/x", 1);
    longest[CONFIG_TEXT_SIZE] = '\0';
    setenv("DATA_DIR", longest, 1);
    CHECK_TEXT(load_error(&err), "DATA_DIR must not be longer than 1023 bytes.");
    longest[CONFIG_TEXT_SIZE - 1] = '\0';
    setenv("DATA_DIR", longest, 1);
    CHECK_TEXT(load_error(&err), "");
    unsetenv("LOG_FILE");
    CHECK_TEXT(load_error(&err), "LOG_FILE would be too long by default; set it.");
    clear_environment();
    memset(longest, 'a', CONFIG_TEXT_SIZE);
    longest[65] = '\0';
    setenv("ENVIRONMENT", longest, 1);
    CHECK(*load_error(&err));
    longest[64] = '\0';
    setenv("ENVIRONMENT", longest, 1);
    CHECK_TEXT(load_error(&err), "");
    memset(longest, 'a', CONFIG_TEXT_SIZE);
    setenv("ALLOWED_HOSTS", longest, 1);
    CHECK(*load_error(&err));
    clear_environment();
}

TEST(config, anonymous_access_stays_on_loopback)
{
    static const struct {
        const char *name, *host, *mode, *allow;
        bool ok;
    } rows[] = {
        {"loopback", "127.0.0.9", "none", "0", true},
        {"loopback IPv6", "::1", "none", "0", true},
        {"localhost", "localhost", "none", "0", true},
        {"everywhere", "0.0.0.0", "none", "0", false},
        {"everywhere IPv6", "::", "none", "0", false},
        {"private", "10.0.0.5", "none", "0", false},
        {"name", "files.example", "none", "0", false},
        {"short spelling", "127.1", "none", "0", false},
        {"everywhere, allowed", "0.0.0.0", "none", "1", true},
        {"everywhere, tokens", "0.0.0.0", "token", "0", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        clear_environment();
        setenv("GATEWAY_HOST", rows[i].host, 1);
        setenv("AUTH_MODE", rows[i].mode, 1);
        setenv("ALLOW_ANONYMOUS", rows[i].allow, 1);
        const char *message = load_error(&err);
        CHECK_INT_ROW(rows[i].name, err.code, rows[i].ok ? ERR_OK : ERR_CONFIG);
        CHECK_ROW(rows[i].name, rows[i].ok || (strstr(message, "GATEWAY_HOST") &&
                                               strstr(message, "AUTH_MODE=token") &&
                                               strstr(message, "ALLOW_ANONYMOUS=1")));
    }
    clear_environment();
}

TEST(config, runtime_dir_is_derived_when_unset)
{
    struct config config;
    struct err err = {0};
    clear_environment();
    setenv("GATEWAY_PORT", "7001", 1);
    setenv("DATA_DIR", "/srv/data", 1);
    setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1); /* ends with the login */
    CHECK_ERR(config_load(&config, &err), ERR_OK, &err);
    CHECK_TEXT(config.runtime_dir, "/tmp/coffer-96b53e47e3fc-7001");
    setenv("DATA_DIR", "/srv/data2", 1);
    CHECK_ERR(config_load(&config, &err), ERR_OK, &err);
    CHECK(strcmp(config.runtime_dir, "/tmp/coffer-96b53e47e3fc-7001") != 0);
    unsetenv("XDG_RUNTIME_DIR");
    setenv("RUNTIME_DIR", "/run/coffer/", 1);
    CHECK_ERR(config_load(&config, &err), ERR_OK, &err);
    CHECK_TEXT(config.runtime_dir, "/run/coffer");
    clear_environment();
}

TEST(config, runtime_dir_leaves_room_for_socket_names)
{
    struct err err;
    char path[100] = "/";
    clear_environment();
    memset(path + 1, 'r', 83);
    setenv("RUNTIME_DIR", path, 1); /* 84 + strlen("/sockets/files_update-0") = 107 */
    CHECK_TEXT(load_error(&err), "");
    path[84] = 'r';
    setenv("RUNTIME_DIR", path, 1);
    CHECK(strstr(load_error(&err), "RUNTIME_DIR must not be longer than 84 bytes") != NULL);
    clear_environment();
}

TEST(config, log_socket_path_fits_its_address)
{
    struct err err;
    char path[128] = "unix:/";
    clear_environment();
    memset(path + 6, 's', 106);
    setenv("LOG_FILE", path, 1);
    CHECK_TEXT(load_error(&err), "");
    path[112] = 's';
    setenv("LOG_FILE", path, 1);
    CHECK(strstr(load_error(&err), "at most 107 bytes") != NULL);
    clear_environment();
}

TEST(config, runtime_dir_stays_out_of_data_dir)
{
    static const struct {
        const char *name, *data, *runtime;
        bool ok;
    } rows[] = {
        {"beside", "/srv/data", "/srv/run", true},
        {"name begins alike", "/srv/data", "/srv/data-run", true},
        {"around it", "/srv/x/data", "/srv/x", true},
        {"the same", "/srv/data", "/srv/data/", false},
        {"inside", "/srv/data", "/srv/data/run", false},
        {"inside, spelled otherwise", "/srv/./data", "/srv//data/run", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        clear_environment();
        setenv("DATA_DIR", rows[i].data, 1);
        setenv("RUNTIME_DIR", rows[i].runtime, 1);
        const char *message = load_error(&err);
        CHECK_INT_ROW(rows[i].name, err.code, rows[i].ok ? ERR_OK : ERR_CONFIG);
        CHECK_ROW(rows[i].name, rows[i].ok || strstr(message, "DATA_DIR"));
    }
    clear_environment();
}

TEST(config, relative_paths_start_at_the_current_folder)
{
    struct config config;
    struct err err = {0};
    char before[CONFIG_TEXT_SIZE];
    REQUIRE(getcwd(before, sizeof before) != NULL);
    REQUIRE(chdir("/usr/bin") == 0);
    clear_environment();
    setenv("DATA_DIR", "../data", 1);
    setenv("LOG_FILE", "log/x.ndjson", 1);
    setenv("RUNTIME_DIR", "./../../run", 1);
    CHECK_ERR(config_load(&config, &err), ERR_OK, &err);
    CHECK_TEXT(config.data_dir, "/usr/data");
    CHECK_TEXT(config.log_file, "/usr/bin/log/x.ndjson");
    CHECK_TEXT(config.runtime_dir, "/run");
    setenv("DATA_DIR", "../..", 1);
    CHECK_ERR(config_load(&config, &err), ERR_CONFIG, &err);
    setenv("DATA_DIR", "../../../../x", 1);
    CHECK_ERR(config_load(&config, &err), ERR_OK, &err);
    CHECK_TEXT(config.data_dir, "/x");
    REQUIRE(chdir(before) == 0);
    clear_environment();
}

TEST(config, table_is_complete)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct setting *setting = &config_settings[i];
        struct buf range;
        buf_init(&range, 1000);
        CHECK_ROW(setting->name, setting->default_text && *setting->meaning);
        CHECK_ROW(setting->name, strchr(setting->meaning, '\n') == NULL);
        setting_print_range(setting, &range);
        CHECK_ROW(setting->name, range.len > 0 && !range.failed);
        buf_release(&range);
        for (size_t k = 0; k < i; k++) {
            CHECK_ROW(setting->name, strcmp(config_settings[k].name, setting->name) != 0);
            CHECK_ROW(setting->name, config_settings[k].offset != setting->offset);
        }
    }
}
