#include "command.h"

static int run(const struct command *command, int argc, char **argv)
{
    struct command_line line = {.option_count = 0};
    struct config config;
    struct err err;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    if (line.word_count > 0)
        return command_misuse(command, "it takes no words");
    if (config_load(&config, &err) != ERR_OK)
        return command_fail(command, &err);
    enum err_code code = storage_init(&config, &err);
    bool made = code == ERR_OK;
    if (code != ERR_OK && code != ERR_EXISTS)
        return command_fail(command, &err);
    code = metadata_init(&config, &clock_system, &err);
    if (code != ERR_OK && code != ERR_EXISTS)
        return command_fail(command, &err);
    if (made || code == ERR_OK)
        fprintf(stderr, "coffer init: %s is ready\n", config.data_dir);
    return EXIT_DONE;
}

const struct command command_init = {
    .name = "init",
    .usage = "init",
    .summary = "Makes DATA_DIR and its database at the first start, and updates an older schema.",
    .help = "Does nothing where all is there. Refuses a folder that holds something else.\n",
    .run = run,
};
