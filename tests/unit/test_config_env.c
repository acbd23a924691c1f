/* The file of settings, and names in the environment that look like a setting's. */
#include "base/config_env.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/limits.h"
#include "check.h"

static void clear_environment(void)
{
    for (size_t i = 0; i < config_setting_count; i++)
        unsetenv(config_settings[i].name);
    unsetenv("COFFER_ENV_FILE");
}

static const char *write_file(const char *content, size_t len)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/env", check_temp_dir());
    FILE *file = fopen(path, "w");
    CHECK(file && fwrite(content, 1, len, file) == len);
    CHECK(file && fclose(file) == 0);
    return path;
}

/* What the file is refused with, without its path; "" when it was read. */
static const char *load(const char *content, size_t len)
{
    static struct err err;
    err = (struct err){.code = ERR_OK};
    const char *path = write_file(content, len);
    if (config_env_load(path, NULL, &err) == ERR_OK)
        return "";
    const char *rest = strstr(err.message, ", line ");
    return rest ? rest + 2 : err.message;
}

TEST(config_env, values_are_taken_as_they_stand)
{
    static const struct {
        const char *name, *in, *want;
    } rows[] = {
        {"plain", "LOG_FILE=/a b", "/a b"},
        {"double quotes", "LOG_FILE=\"/a b\"", "/a b"},
        {"single quotes", "LOG_FILE='/a\"b'", "/a\"b"},
        {"one quote", "LOG_FILE='", "'"},
        {"no expansion", "LOG_FILE=$HOME`id`#x", "$HOME`id`#x"},
        {"equals sign", "LOG_FILE=a=b", "a=b"},
        {"line end of Windows", "LOG_FILE=/a\r\n", "/a"},
        {"byte order mark", "\xEF\xBB\xBFLOG_FILE=/a\n", "/a"},
        {"among others", "\n  \n# a\n  # LOG_FILE=/x\nLOG_FILE=/a\nDATA_DIR=/b\n", "/a"},
        {"empty", "LOG_FILE=\n", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        clear_environment();
        CHECK_STR_ROW(rows[i].name, str_of(load(rows[i].in, strlen(rows[i].in))), "");
        const char *value = getenv("LOG_FILE");
        CHECK_STR_ROW(rows[i].name, str_of(value ? value : "unset"), rows[i].want);
    }
    clear_environment();
}

TEST(config_env, what_is_no_setting_is_refused_with_the_nearest)
{
    static const struct {
        const char *name, *in, *want;
    } rows[] = {
        {"a letter is missing", "AUTHMODE=token",
         "line 1: there is no setting AUTHMODE; did you mean AUTH_MODE?"},
        {"two letters are swapped", "\nDTAA_DIR=/x",
         "line 2: there is no setting DTAA_DIR; did you mean DATA_DIR?"},
        {"small letters", "log_level=debug",
         "line 1: there is no setting log_level; did you mean LOG_LEVEL?"},
        {"a secret's file", "S3_SECRET_KEYFILE=/x",
         "line 1: there is no setting S3_SECRET_KEYFILE; did you mean S3_SECRET_KEY_FILE?"},
        {"an alias", "MINIO_BUKCET=x",
         "line 1: there is no setting MINIO_BUKCET; did you mean MINIO_BUCKET?"},
        {"nothing like it", "TZ=UTC",
         "line 1: there is no setting TZ; a variable of another program belongs in the "
         "environment."},
        {"twice", "LOG_LEVEL=info\nDATA_DIR=/x\nLOG_LEVEL=debug\n",
         "line 3: LOG_LEVEL is set a second time (first in line 1)."},
        {"twice the same", "LOG_LEVEL=info\r\nLOG_LEVEL=info\n",
         "line 2: LOG_LEVEL is set a second time (first in line 1)."},
        {"no value", "LOG_LEVEL", "line 1: not of the form NAME=value."},
        {"no name", "=x", "line 1: not of the form NAME=value."},
        {"a blank in the name", "LOG_LEVEL =x", "line 1: not of the form NAME=value."},
        {"exported", "export LOG_LEVEL=x", "line 1: not of the form NAME=value."},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        clear_environment();
        CHECK_STR_ROW(rows[i].name, str_of(load(rows[i].in, strlen(rows[i].in))), rows[i].want);
    }
    CHECK_TEXT(load("LOG_LEVEL=a\0b", 13), "line 1: a NUL byte.");
    clear_environment();
}

TEST(config_env, aliases_and_files_of_secrets_are_known)
{
    clear_environment();
    static const char text[] = "MINIO_ENDPOINT=http://a\nS3_SECRET_KEY_FILE=/a\n"
                               "MINIO_ACCESS_KEY_FILE=/b\n";
    CHECK_TEXT(load(text, sizeof text - 1), "");
    unsetenv("MINIO_ENDPOINT");
    unsetenv("S3_SECRET_KEY_FILE");
    unsetenv("MINIO_ACCESS_KEY_FILE");
}

TEST(config_env, the_environment_wins_and_the_rest_is_told)
{
    struct buf exports;
    struct err err;
    clear_environment();
    setenv("LOG_LEVEL", "warn", 1);
    buf_init(&exports, 4096);
    static const char text[] = "LOG_LEVEL=debug\nS3_SECRET_KEY=it's\n";
    CHECK_ERR(config_env_load(write_file(text, sizeof text - 1), &exports, &err), ERR_OK, &err);
    CHECK_TEXT(getenv("LOG_LEVEL"), "warn");
    CHECK_TEXT(buf_text(&exports), "export S3_SECRET_KEY='it'\\''s'\n");
    buf_release(&exports);
    clear_environment();
}

TEST(config_env, which_file_is_read)
{
    struct err err = {.code = ERR_OK};
    char before[512];
    clear_environment();
    REQUIRE(getcwd(before, sizeof before) != NULL);
    REQUIRE(chdir("/usr/bin") == 0); /* no .env here */
    CHECK_ERR(config_env_load(NULL, NULL, &err), ERR_OK, &err);
    CHECK_ERR(config_env_load("missing", NULL, &err), ERR_CONFIG, &err);
    CHECK_TEXT(err.message, "missing can't be read: No such file or directory.");
    setenv("COFFER_ENV_FILE", "also-missing", 1);
    CHECK_ERR(config_env_load(NULL, NULL, &err), ERR_CONFIG, &err);
    setenv("COFFER_ENV_FILE", write_file("LOG_LEVEL=debug", 15), 1);
    CHECK_ERR(config_env_load(NULL, NULL, &err), ERR_OK, &err);
    CHECK_TEXT(getenv("LOG_LEVEL"), "debug");
    CHECK_ERR(config_env_load("/usr/bin", NULL, &err), ERR_CONFIG, &err);
    REQUIRE(chdir(before) == 0);
    clear_environment();
}

TEST(config_env, a_file_has_a_largest_size)
{
    static char text[LIMIT_ENV_FILE_BYTES + 1];
    clear_environment();
    memset(text, '\n', sizeof text);
    CHECK_TEXT(load(text, LIMIT_ENV_FILE_BYTES), "");
    CHECK(strstr(load(text, LIMIT_ENV_FILE_BYTES + 1), "is larger than 65536 bytes.") != NULL);
}

TEST(config_env, names_near_a_settings_are_told)
{
    static const struct {
        const char *name, *want; /* "": not told */
    } rows[] = {
        {"AUTHMODE", "AUTHMODE in the environment is not a setting; did you mean AUTH_MODE?\n"},
        {"AUTH_MDOES", "AUTH_MDOES in the environment is not a setting; did you mean AUTH_MODE?\n"},
        {"MONGODB_URL", "MONGODB_URL in the environment is not a setting; did you mean "
                        "MONGODB_URI?\n"},
        {"AUTH_MODE", ""},
        {"S3_SECRET_KEY_FILE", ""},
        {"NODE_ENV", ""},
        {"LOGNAME", ""},
        {"COFFER_BIN", ""},
        {"COFFER_SHARE", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf out;
        clear_environment();
        buf_init(&out, 4096);
        setenv(rows[i].name, "x", 1);
        config_env_suspects(&out);
        CHECK_STR_ROW(rows[i].name, str_of(buf_text(&out)), rows[i].want);
        unsetenv(rows[i].name);
        buf_release(&out);
    }
}
