#include "command.h"

#include <unistd.h>

int command_fail(const struct command *command, const struct err *err)
{
    fprintf(stderr, "coffer %s: %s\n", command->name, err->message);
    return EXIT_FAILED;
}

int command_misuse(const struct command *command, const char *message)
{
    fprintf(stderr, "coffer %s: %s\nusage: coffer %s\n", command->name, message, command->usage);
    return EXIT_USAGE;
}

static struct command_option *find_option(struct command_line *line, const char *name)
{
    for (size_t i = 0; i < line->option_count; i++)
        if (strcmp(line->options[i].name, name) == 0)
            return &line->options[i];
    return NULL;
}

static const char *take_option(struct command_option *option, int argc, char **argv, int *at)
{
    if (!option)
        return "there is no such option";
    if (option->value)
        return "an option is given twice";
    if (option->is_flag) {
        option->value = "1";
        return NULL;
    }
    if (*at + 1 >= argc)
        return "an option lacks its value";
    option->value = argv[++*at];
    return NULL;
}

bool command_parse(const struct command *command, int argc, char **argv, struct command_line *line)
{
    const char *wrong = NULL;
    line->word_count = 0;
    for (int i = 1; i < argc && !wrong; i++) {
        if (strncmp(argv[i], "--", 2) == 0)
            wrong = take_option(find_option(line, argv[i]), argc, argv, &i);
        else if (line->word_count == sizeof line->words / sizeof *line->words)
            wrong = "there are too many words";
        else
            line->words[line->word_count++] = argv[i];
    }
    if (wrong)
        command_misuse(command, wrong);
    return !wrong;
}

enum err_code command_open_files(struct command_files *opened, struct err *err)
{
    opened->files = (struct files){.config = &opened->config, .clock = &clock_system};
    enum err_code code =
        storage_open(&opened->files.storage, &opened->config, &clock_system, NULL, err);
    if (code == ERR_OK)
        code = metadata_open(&opened->files.metadata, &opened->config, &clock_system, NULL, err);
    return code;
}

bool command_open(struct command_files *opened)
{
    struct err err;
    *opened = (struct command_files){.files = {.storage = NULL}};
    enum err_code code = config_load(&opened->config, &err);
    if (code == ERR_OK)
        code = command_open_files(opened, &err);
    if (code == ERR_OK)
        return true;
    fprintf(stderr, "coffer: %s\n", err.message);
    command_close(opened);
    return false;
}

void command_close(struct command_files *opened)
{
    metadata_close(opened->files.metadata);
    storage_close(opened->files.storage);
}
