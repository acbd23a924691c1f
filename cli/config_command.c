#include "access/origin.h"
#include "base/config_table.h"
#include "base/service_user.h"
#include "command.h"

#define PRINT_MAX (256 * 1024)

/* For the launcher: the settings, whom it should become (UID:GID:NAME, or nothing and why), and rules for
 * lighttpd. */
static enum err_code print_shell(const struct config *config, struct buf *out, struct err *err)
{
    struct service_user user;
    struct buf rules;
    char text[SERVICE_USER_SIZE + 32] = "";
    enum err_code code = service_user_find(config, &user, err);
    if (code != ERR_OK)
        return code;
    config_print_shell(config, out);
    if (user.drops)
        snprintf(text, sizeof text, "%u:%u:%s", (unsigned)user.uid, (unsigned)user.gid, user.name);
    setting_print_export("COFFER_RUN_AS", str_of(text), out);
    setting_print_export("COFFER_RUN_AS_WHY", str_of(user.why), out);
    buf_init(&rules, PRINT_MAX);
    origin_print_rules(config, &rules);
    setting_print_export("COFFER_CORS_RULES", buf_str(&rules), out);
    out->failed = out->failed || rules.failed;
    buf_release(&rules);
    return ERR_OK;
}

enum { OPTION_CHECK, OPTION_SHELL, OPTION_ENV, OPTION_ENV_EXAMPLE, OPTION_MARKDOWN, OPTION_COUNT };

/* What needs the values of settings. */
static enum err_code print_values(const struct command_option *options, struct buf *out,
                                  struct err *err)
{
    struct config config;
    if (!options[OPTION_SHELL].value)
        command_warn();
    enum err_code code = command_load_settings(&config, err);
    if (code != ERR_OK)
        return code;
    if (options[OPTION_SHELL].value)
        return print_shell(&config, out, err);
    if (!options[OPTION_CHECK].value)
        config_print_effective(&config, out);
    return ERR_OK;
}

static enum err_code print(const struct command_option *options, struct buf *out, struct err *err)
{
    if (options[OPTION_ENV].value)
        return command_load_env(out, err);
    if (options[OPTION_ENV_EXAMPLE].value)
        config_print_env_example(out);
    else if (options[OPTION_MARKDOWN].value)
        config_print_markdown(out);
    else
        return print_values(options, out, err);
    return ERR_OK;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct command_option options[OPTION_COUNT] = {
        [OPTION_CHECK] = {.name = "--check", .is_flag = true},
        [OPTION_SHELL] = {.name = "--shell", .is_flag = true},
        [OPTION_ENV] = {.name = "--env", .is_flag = true},
        [OPTION_ENV_EXAMPLE] = {.name = "--env-example", .is_flag = true},
        [OPTION_MARKDOWN] = {.name = "--markdown", .is_flag = true}};
    struct command_line line = {options, OPTION_COUNT, {NULL}, 0};
    struct buf out;
    struct err err;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    if (line.word_count > 0)
        return command_misuse(command, "it takes no words");
    buf_init(&out, PRINT_MAX);
    enum err_code code = print(options, &out, &err);
    int exit_code = code == ERR_OK ? EXIT_DONE : command_fail(command, &err);
    if (code == ERR_OK) {
        fputs(buf_text(&out), stdout);
        exit_code = out.failed || fflush(stdout) != 0 ? EXIT_FAILED : EXIT_DONE;
    }
    buf_release(&out);
    return exit_code;
}

const struct command command_config = {
    .name = "config",
    .usage = "config [--check | --shell | --env | --env-example | --markdown]",
    .summary = "Checks the settings and prints the effective ones, secrets hidden.",
    .help =
        "  --check        check only: prints nothing when all is well\n"
        "  --shell        as shell assignments, for the launcher\n"
        "  --env          what the file of settings adds to the environment, secrets included,\n"
        "                 as shell assignments, for the launcher\n"
        "  --env-example  every setting with its meaning and default, as .env.example\n"
        "  --markdown     the same as a table\n",
    .run = run,
};
