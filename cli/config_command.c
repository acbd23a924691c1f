#include "command.h"

#define PRINT_MAX (256 * 1024)

static int run(const struct command *command, int argc, char **argv)
{
    struct command_option options[] = {{.name = "--check", .is_flag = true},
                                       {.name = "--shell", .is_flag = true},
                                       {.name = "--env-example", .is_flag = true},
                                       {.name = "--markdown", .is_flag = true},
                                       {.name = "--env", .is_flag = true}};
    struct command_line line = {options, sizeof options / sizeof *options, {NULL}, 0};
    struct config config;
    struct buf out;
    struct err err;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    if (line.word_count > 0)
        return command_misuse(command, "it takes no words");
    buf_init(&out, PRINT_MAX);
    bool needs_values = !options[2].value && !options[3].value && !options[4].value;
    if (needs_values && !options[1].value)
        command_warn();
    if ((options[4].value && command_load_env(&out, &err) != ERR_OK) ||
        (needs_values && command_load_settings(&config, &err) != ERR_OK)) {
        buf_release(&out);
        return command_fail(command, &err);
    }
    if (options[2].value)
        config_print_env_example(&out);
    else if (options[3].value)
        config_print_markdown(&out);
    else if (options[1].value)
        config_print_shell(&config, &out);
    else if (!options[0].value && !options[4].value)
        config_print_effective(&config, &out);
    fputs(buf_text(&out), stdout);
    int exit_code = out.failed || fflush(stdout) != 0 ? EXIT_FAILED : EXIT_DONE;
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
