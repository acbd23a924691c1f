#include <inttypes.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/text.h"

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
