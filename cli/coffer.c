/* coffer: the admin command. It reads the same settings as coffer-serve and the programs. */
#include "command.h"

static const struct command *const commands[] = {
    &command_init, &command_config, &command_check,   &command_token,
    &command_gc,   &command_fsck,   &command_migrate,
};
#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static void print_help(FILE *out)
{
    fprintf(out, "usage: coffer [--env-file FILE] COMMAND [OPTION...]\n\n"
                 "The admin command of Coffer. Settings come from the environment, else from FILE\n"
                 "(COFFER_ENV_FILE, ./.env), as for coffer-serve; `coffer config` shows them.\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-8s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out, "\n`coffer COMMAND --help` tells more. `coffer --version` prints the version.\n");
}

static void print_command_help(const struct command *command)
{
    printf("usage: coffer %s\n\n%s\n%s%s", command->usage, command->summary,
           command->help[0] ? "\n" : "", command->help);
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

/* Takes "--env-file FILE" and "--env-file=FILE" out of the words, wherever they stand. False after
 * telling what is wrong. */
static bool take_env_file(int *argc, char **argv)
{
    static const char option[] = "--env-file";
    const size_t len = sizeof option - 1;
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        const char *file = NULL;
        if (strncmp(argv[i], option, len) == 0 && argv[i][len] == '=')
            file = argv[i] + len + 1;
        else if (strcmp(argv[i], option) == 0)
            file = i + 1 < *argc ? argv[++i] : "";
        else
            argv[kept++] = argv[i];
        if (file && !*file) {
            fprintf(stderr, "coffer: --env-file takes the path of a file\n");
            return false;
        }
        if (file)
            command_use_env_file(file);
    }
    argv[kept] = NULL;
    *argc = kept;
    return true;
}

int main(int argc, char **argv)
{
    if (!take_env_file(&argc, argv))
        return EXIT_USAGE;
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("coffer %s\n", COFFER_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->name, argv[1]) != 0)
            continue;
        if (asks_for_help(argc - 1, argv + 1)) {
            print_command_help(commands[i]);
            return EXIT_DONE;
        }
        return commands[i]->run(commands[i], argc - 1, argv + 1);
    }
    fprintf(stderr, "coffer: there is no command \"%s\"; `coffer --help` lists them\n", argv[1]);
    return EXIT_USAGE;
}
