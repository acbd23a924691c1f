#include <stdio.h>
#include <stdlib.h>

#include "base/config.h"
#include "base/config_table.h"
#include "check.h"

static void clear_environment(void)
{
    for (size_t i = 0; i < config_setting_count; i++)
        unsetenv(config_settings[i].name);
}

static bool is_setting_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", name.data[i]))
            return false;
    return name.len > 0;
}

/* Sets what "# NAME=value" lines say, as an operator who takes the "# " away; gives their count,
 * -1 when one is too long. */
static int take_env_example(struct str text)
{
    int count = 0;
    while (text.len > 0) {
        struct str value = str_cut(&text, '\n');
        struct str name = str_cut(&value, '=');
        char name_text[64];
        char value_text[CONFIG_TEXT_SIZE];
        if (!str_starts_with(name, STR("# ")))
            continue;
        name = (struct str){name.data + 2, name.len - 2};
        if (!is_setting_name(name))
            continue;
        if (!str_copy(name_text, sizeof name_text, name) ||
            !str_copy(value_text, sizeof value_text, value))
            return -1;
        setenv(name_text, value_text, 1);
        count++;
    }
    return count;
}

TEST(config, env_example_holds_every_setting_with_its_default)
{
    struct config plain;
    struct config copied;
    struct err err = {0};
    struct buf out;
    struct buf first;
    struct buf second;
    buf_init(&out, 64 * 1024);
    buf_init(&first, 64 * 1024);
    buf_init(&second, 64 * 1024);
    clear_environment();
    CHECK_ERR(config_load(&plain, &err), ERR_OK, &err);
    config_print_env_example(&out);
    CHECK(!out.failed);
    CHECK_INT(take_env_example(buf_str(&out)), (int64_t)config_setting_count);
    CHECK_ERR(config_load(&copied, &err), ERR_OK, &err);
    config_print_effective(&plain, &first);
    config_print_effective(&copied, &second);
    CHECK_STR(buf_str(&second), buf_text(&first));
    CHECK(strstr(buf_text(&out), "\n# TCP port the gateway listens on.\n# Values: 1 to 65535\n"
                                 "# GATEWAY_PORT=5921\n") != NULL);
    CHECK(strstr(buf_text(&out), "# Values: full or relaxed\n# DURABILITY=full\n") != NULL);
    for (struct str rest = buf_str(&out); rest.len > 0;) {
        struct str line = str_cut(&rest, '\n');
        CHECK(line.len == 0 || line.data[0] == '#'); /* nothing is live */
    }
    buf_release(&out);
    buf_release(&first);
    buf_release(&second);
    clear_environment();
}

TEST(config, markdown_has_a_row_for_each_setting)
{
    struct buf out;
    buf_init(&out, 64 * 1024);
    config_print_markdown(&out);
    CHECK(!out.failed);
    struct str rest = buf_str(&out);
    CHECK_STR(str_cut(&rest, '\n'), "| Setting | Default | Values | Meaning |");
    CHECK_STR(str_cut(&rest, '\n'), "|---|---|---|---|");
    for (size_t i = 0; i < config_setting_count; i++) {
        char start[128];
        struct str line = str_cut(&rest, '\n');
        snprintf(start, sizeof start, "| `%s` | ", config_settings[i].name);
        CHECK_ROW(start, str_starts_with(line, str_of(start)));
        size_t cells = 0;
        for (size_t k = 0; k < line.len; k++)
            cells += line.data[k] == '|' && (k == 0 || line.data[k - 1] != '\\');
        CHECK_INT_ROW(start, (int64_t)cells, 5);
    }
    CHECK_INT((int64_t)rest.len, 0);
    CHECK(strstr(buf_text(&out), "\\<GATEWAY_PORT\\>") != NULL);
    buf_release(&out);
}

TEST(config, secrets_are_never_shown)
{
    struct setting setting = {.name = "X_SECRET",
                              .type = SETTING_TEXT,
                              .secret = true,
                              .offset = offsetof(struct config, environment)};
    struct config config = {.environment = "hunter2"};
    struct buf out;
    buf_init(&out, 100);
    setting_print_value(&setting, &config, false, &out);
    CHECK_TEXT(buf_text(&out), "***");
    buf_reset(&out);
    setting_print_value(&setting, &config, true, &out);
    CHECK_TEXT(buf_text(&out), "hunter2");
    buf_reset(&out);
    config.environment[0] = '\0';
    setting_print_value(&setting, &config, false, &out);
    CHECK_TEXT(buf_text(&out), "");
    buf_release(&out);
}

/* What a shell makes of config_print_shell's text: the last line of `script` after it. */
static void run_shell(const struct config *config, const char *script, char *target, size_t size)
{
    char path[256];
    char command[512];
    struct buf out;
    target[0] = '\0';
    buf_init(&out, 64 * 1024);
    config_print_shell(config, &out);
    CHECK(!out.failed);
    snprintf(path, sizeof path, "%s/settings.sh", check_temp_dir());
    FILE *file = fopen(path, "w");
    REQUIRE(file != NULL);
    CHECK(fwrite(out.data, 1, out.len, file) == out.len);
    CHECK(fclose(file) == 0);
    buf_release(&out);
    snprintf(command, sizeof command, "set -eu; . '%s'; exec sh -c '%s'", path, script);
    FILE *shell = popen(command, "r");
    REQUIRE(shell != NULL);
    size_t len = fread(target, 1, size - 1, shell);
    target[len] = '\0';
    CHECK_INT(pclose(shell), 0);
}

TEST(config, shell_gets_settings_and_what_lighttpd_needs)
{
    struct config config;
    struct err err = {0};
    char got[512];
    clear_environment();
    setenv("DATA_DIR", "/srv/my files", 1);
    CHECK_ERR(config_load(&config, &err), ERR_OK, &err);
    clear_environment();
    run_shell(&config,
              "printf \"%s|%s|%s|%s|%s\" \"$DATA_DIR\" \"$GATEWAY_PORT\" \"$DURABILITY\" "
              "\"$LIGHTTPD_MAX_REQUEST_KIB\" \"$COFFER_VERSION\"",
              got, sizeof got);
    CHECK_TEXT(got, "/srv/my files|5921|full|51264|" COFFER_VERSION);
}

TEST(config, shell_quotes_every_value)
{
    struct config config;
    struct err err = {0};
    char got[512];
    clear_environment();
    CHECK_ERR(config_load(&config, &err), ERR_OK, &err);
    /* No row lets such a value in; the writer must not lean on that. */
    CHECK(str_copy(config.environment, sizeof config.environment, STR("a'b\"$(id)`id`\\ c\nd")));
    config.max_file_size = 1025;
    run_shell(&config, "printf \"%s|%s\" \"$ENVIRONMENT\" \"$LIGHTTPD_MAX_REQUEST_KIB\"", got,
              sizeof got);
    CHECK_TEXT(got, "a'b\"$(id)`id`\\ c\nd|66");
}
