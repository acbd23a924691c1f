/* Secrets that come from files, names that settings are also read from, and which drivers and modes
 * go together. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/config.h"
#include "base/config_table.h"
#include "check.h"

static const char *const other_names[] = {
    "MINIO_ENDPOINT",        "MINIO_ACCESS_KEY",   "MINIO_SECRET_KEY",      "MINIO_BUCKET",
    "S3_ACCESS_KEY_FILE",    "S3_SECRET_KEY_FILE", "S3_SESSION_TOKEN_FILE", "MINIO_ACCESS_KEY_FILE",
    "MINIO_SECRET_KEY_FILE", "MONGODB_URI_FILE",
};

static void clear_environment(void)
{
    for (size_t i = 0; i < config_setting_count; i++)
        unsetenv(config_settings[i].name);
    for (size_t i = 0; i < sizeof other_names / sizeof *other_names; i++)
        unsetenv(other_names[i]);
}

static const char *load(struct config *config, struct err *err)
{
    *err = (struct err){0};
    return config_load(config, err) == ERR_OK ? "" : err->message;
}

/* A file of the test's folder; its path lasts until the next call with the same name. */
static const char *write_file(const char *name, const char *content, size_t len)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", check_temp_dir(), name);
    FILE *file = fopen(path, "w");
    CHECK(file && fwrite(content, 1, len, file) == len);
    CHECK(file && fclose(file) == 0);
    return path;
}

static void set_secret_file(const char *variable, const char *content)
{
    setenv(variable, write_file(variable, content, strlen(content)), 1);
}

TEST(config, a_secret_comes_from_the_file_its_name_names)
{
    static const struct {
        const char *name, *content, *want;
    } rows[] = {
        {"as it stands", "hunter2", "hunter2"},
        {"ends with a line feed", "hunter2\n", "hunter2"},
        {"written on Windows", "hunter2\r\n", "hunter2"},
        {"signs of every kind", "a'b\"$(id)`\\#=/+", "a'b\"$(id)`\\#=/+"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err;
        clear_environment();
        set_secret_file("S3_SECRET_KEY_FILE", rows[i].content);
        CHECK_STR_ROW(rows[i].name, str_of(load(&config, &err)), "");
        CHECK_STR_ROW(rows[i].name, str_of(config.s3_secret_key), rows[i].want);
    }
    clear_environment();
}

TEST(config, where_a_secret_is_looked_for_first)
{
    struct config config;
    struct err err;
    clear_environment();
    set_secret_file("MINIO_SECRET_KEY_FILE", "alias-file");
    CHECK_TEXT(load(&config, &err), "");
    CHECK_TEXT(config.s3_secret_key, "alias-file");
    set_secret_file("S3_SECRET_KEY_FILE", "file");
    CHECK_TEXT(load(&config, &err), "");
    CHECK_TEXT(config.s3_secret_key, "file");
    unsetenv("S3_SECRET_KEY_FILE");
    unsetenv("MINIO_SECRET_KEY_FILE");
    setenv("MINIO_SECRET_KEY", "alias", 1);
    CHECK_TEXT(load(&config, &err), "");
    CHECK_TEXT(config.s3_secret_key, "alias");
    setenv("S3_SECRET_KEY", "value", 1);
    CHECK_TEXT(load(&config, &err), "");
    CHECK_TEXT(config.s3_secret_key, "value");
    setenv("S3_SECRET_KEY", "", 1); /* empty is unset */
    CHECK_TEXT(load(&config, &err), "");
    CHECK_TEXT(config.s3_secret_key, "alias");
    clear_environment();
}

TEST(config, a_secret_together_with_its_file_is_refused)
{
    static const struct {
        const char *name, *value, *file, *want;
    } rows[] = {
        {"its own", "S3_SECRET_KEY", "S3_SECRET_KEY_FILE",
         "S3_SECRET_KEY is set and S3_SECRET_KEY_FILE names a file that holds it: unset one of "
         "them."},
        {"the alias's", "MINIO_SECRET_KEY", "MINIO_SECRET_KEY_FILE",
         "MINIO_SECRET_KEY is set and MINIO_SECRET_KEY_FILE names a file that holds it: unset one "
         "of them."},
        {"one of each", "MONGODB_URI", "MONGODB_URI_FILE",
         "MONGODB_URI is set and MONGODB_URI_FILE names a file that holds it: unset one of them."},
        {"an empty value is none", "", "S3_SECRET_KEY_FILE", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err;
        clear_environment();
        set_secret_file(rows[i].file, "mongodb://file");
        if (*rows[i].value)
            setenv(rows[i].value, "mongodb://value", 1);
        CHECK_STR_ROW(rows[i].name, str_of(load(&config, &err)), rows[i].want);
    }
    clear_environment();
}

TEST(config, a_secret_file_that_is_no_secret_is_refused)
{
    static char longest[CONFIG_TEXT_SIZE + 1];
    memset(longest, 'x', sizeof longest);
    const struct {
        const char *name, *content;
        size_t len;
    } rows[] = {
        {"empty", "", 0},
        {"only a line end", "\r\n", 2},
        {"two lines", "hunter2\nhunter3\n", 16},
        {"a NUL", "hunt\0er2", 8},
        {"a blank", "hunter 2", 8},
        {"one byte too long", longest, CONFIG_TEXT_SIZE},
        {"much too long", longest, CONFIG_TEXT_SIZE + 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err;
        clear_environment();
        setenv("S3_SECRET_KEY_FILE", write_file("secret", rows[i].content, rows[i].len), 1);
        const char *message = load(&config, &err);
        CHECK_INT_ROW(rows[i].name, err.code, ERR_CONFIG);
        CHECK_ROW(rows[i].name, str_starts_with(str_of(message), STR("S3_SECRET_KEY")));
        CHECK_ROW(rows[i].name, !strstr(message, "hunt") && !strstr(message, "xxx"));
    }
    clear_environment();
}

TEST(config, a_secret_file_that_cannot_be_read_is_named)
{
    struct config config;
    struct err err;
    char path[300];
    clear_environment();
    snprintf(path, sizeof path, "%s/missing", check_temp_dir());
    setenv("MONGODB_URI_FILE", path, 1);
    const char *message = load(&config, &err);
    CHECK(str_starts_with(str_of(message), STR("MONGODB_URI_FILE: the file can't be read: ")));
    setenv("MONGODB_URI_FILE", check_temp_dir(), 1); /* a folder */
    CHECK(str_starts_with(str_of(load(&config, &err)), STR("MONGODB_URI_FILE: ")));
    clear_environment();
}

TEST(config, only_secrets_come_from_files)
{
    struct config config;
    struct err err;
    clear_environment();
    set_secret_file("S3_REGION_FILE", "eu-1");
    CHECK_TEXT(load(&config, &err), "");
    CHECK_TEXT(config.s3_region, "us-east-1");
    unsetenv("S3_REGION_FILE");
    clear_environment();
}

TEST(config, names_of_the_specification_are_read_too)
{
    struct config config;
    struct err err;
    clear_environment();
    setenv("MINIO_ENDPOINT", "http://127.0.0.1:9000", 1);
    setenv("MINIO_ACCESS_KEY", "key", 1);
    setenv("MINIO_SECRET_KEY", "secret", 1);
    setenv("MINIO_BUCKET", "files", 1);
    setenv("STORAGE_DRIVER", "s3", 1);
    CHECK_TEXT(load(&config, &err), "");
    CHECK_TEXT(config.s3_endpoint, "http://127.0.0.1:9000");
    CHECK_TEXT(config.s3_access_key, "key");
    CHECK_TEXT(config.s3_secret_key, "secret");
    CHECK_TEXT(config.s3_bucket, "files");
    CHECK(config.s3_unsafe);
    setenv("S3_BUCKET", "own", 1);
    setenv("S3_UNSAFE", "0", 1);
    CHECK_TEXT(load(&config, &err), "");
    CHECK_TEXT(config.s3_bucket, "own");
    CHECK(!config.s3_unsafe);
    clear_environment();
}

/* What `coffer config` and `coffer config --shell` print. */
static void print_all(const struct config *config, struct buf *out)
{
    config_print_effective(config, out);
    config_print_shell(config, out);
    CHECK(!out->failed);
}

TEST(config, printed_settings_hold_no_secret_wherever_it_came_from)
{
    static const char *const secrets[] = {"S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN",
                                          "MONGODB_URI"};
    static const char value[] = "mongodb://u:hunter2@db";
    for (int from_file = 0; from_file < 2; from_file++) {
        for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
            struct config config;
            struct err err;
            struct buf out;
            char variable[SECRET_NAME_SIZE];
            char shown[128];
            clear_environment();
            snprintf(variable, sizeof variable, "%s_FILE", secrets[i]);
            if (from_file)
                set_secret_file(variable, value);
            else
                setenv(secrets[i], value, 1);
            CHECK_STR_ROW(secrets[i], str_of(load(&config, &err)), "");
            buf_init(&out, 128 * 1024);
            print_all(&config, &out);
            CHECK_ROW(secrets[i], strstr(buf_text(&out), "hunter2") == NULL);
            snprintf(shown, sizeof shown, "\n%s=***\n", secrets[i]);
            CHECK_ROW(secrets[i], strstr(buf_text(&out), shown) != NULL);
            snprintf(shown, sizeof shown, "export %s=", secrets[i]);
            CHECK_ROW(secrets[i], strstr(buf_text(&out), shown) == NULL);
            buf_release(&out);
        }
    }
    clear_environment();
}

TEST(config, the_shell_gets_a_secrets_file_by_its_whole_path)
{
    struct config config;
    struct err err;
    struct buf out;
    char before[CONFIG_TEXT_SIZE];
    REQUIRE(getcwd(before, sizeof before) != NULL);
    clear_environment();
    setenv("S3_SECRET_KEY_FILE", write_file("key", "hunter2", 7), 1);
    CHECK_TEXT(load(&config, &err), "");
    buf_init(&out, 64 * 1024);
    config_print_shell(&config, &out);
    CHECK(strstr(buf_text(&out), "S3_SECRET_KEY") == NULL); /* the environment has it already */
    buf_reset(&out);
    REQUIRE(chdir("/usr/bin") == 0);
    setenv("S3_SECRET_KEY_FILE", "../it's/key", 1);
    config_print_shell(&config, &out);
    CHECK(strstr(buf_text(&out), "\nexport S3_SECRET_KEY_FILE='/usr/bin/../it'\\''s/key'\n") !=
          NULL);
    CHECK(chdir(before) == 0);
    buf_release(&out);
    clear_environment();
}

static void set_stores(void)
{
    setenv("STORAGE_DRIVER", "s3", 1);
    setenv("S3_ENDPOINT", "http://127.0.0.1:8333", 1);
    setenv("S3_ACCESS_KEY", "key", 1);
    setenv("S3_SECRET_KEY", "secret", 1);
    setenv("METADATA_DRIVER", "mongodb", 1);
    setenv("MONGODB_URI", "mongodb://127.0.0.1", 1);
}

TEST(config, what_does_not_go_together_is_refused)
{
    static const struct {
        const char *name, *value; /* beside a cluster's settings */
        const char *other, *other_value;
        const char *want; /* in the message; "" when all is well */
    } rows[] = {
        {"NODE_MODE", "cluster", NULL, NULL, ""},
        {"STORAGE_DRIVER", "libs3", NULL, NULL, ""},
        {"STORAGE_DRIVER", "fs", NULL, NULL, "STORAGE_DRIVER=fs"},
        {"METADATA_DRIVER", "sqlite", NULL, NULL, "METADATA_DRIVER=sqlite"},
        {"STORAGE_DRIVER", "fs", "NODE_MODE", "single", ""},
        {"METADATA_DRIVER", "sqlite", "NODE_MODE", "single", ""},
        {"S3_ENDPOINT", "", NULL, NULL, "needs S3_ENDPOINT"},
        {"S3_ACCESS_KEY", "", NULL, NULL, "needs S3_ENDPOINT"},
        {"S3_SECRET_KEY", "", NULL, NULL, "needs S3_ENDPOINT"},
        {"MONGODB_URI", "", NULL, NULL, "needs MONGODB_URI"},
        {"NODE_HOST", "10.0.0.5", NULL, NULL, "NODE_HOST must be a loopback address"},
        {"NODE_HOST", "10.0.0.5", "AUTH_MODE", "token", ""},
        {"NODE_HOST", "10.0.0.5", "ALLOW_ANONYMOUS", "1", ""},
        {"NODE_HOST", "10.0.0.5", "NODE_MODE", "single", ""}, /* not listened on */
        {"GATEWAY_HOST", "10.0.0.5", NULL, NULL, "GATEWAY_HOST must be a loopback address"},
        {"DOWNLOAD_MODE", "redirect", NULL, NULL, ""},
        {"DOWNLOAD_MODE", "redirect", "S3_UNSAFE", "1", "marked unsafe"},
        {"DOWNLOAD_MODE", "redirect", "STORAGE_DRIVER", "libs3", "needs STORAGE_DRIVER=s3"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config config;
        struct err err;
        char label[128];
        clear_environment();
        set_stores();
        setenv("NODE_MODE", "cluster", 1);
        setenv(rows[i].name, rows[i].value, 1);
        if (rows[i].other)
            setenv(rows[i].other, rows[i].other_value, 1);
        const char *message = load(&config, &err);
        snprintf(label, sizeof label, "%s=%s: %.64s", rows[i].name, rows[i].value, message);
        CHECK_INT_ROW(label, err.code, *rows[i].want ? ERR_CONFIG : ERR_OK);
        CHECK_ROW(label, strstr(message, rows[i].want) != NULL);
        CHECK_ROW(label, strchr(message, '\n') == NULL);
    }
    clear_environment();
}
