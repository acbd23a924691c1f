/*
 * The admin command's subcommands. Each returns the exit code: 0 done, 1 it failed or found
 * something, 2 the call was wrong. Messages for people go to standard error, results to standard
 * output.
 */
#ifndef COFFER_CLI_COMMAND_H
#define COFFER_CLI_COMMAND_H

#include "base/config.h"
#include "files/files.h"

#define EXIT_DONE 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_AWAY 75 /* a store could not be reached: try again (EX_TEMPFAIL of sysexits.h) */

struct command {
    const char *name;
    const char *usage;   /* one line, without "coffer" */
    const char *summary; /* one line */
    const char *help;    /* more lines, or "" */
    int (*run)(const struct command *command, int argc, char **argv); /* argv[0] is the name */
};

extern const struct command command_init;
extern const struct command command_check;
extern const struct command command_config;
extern const struct command command_token;
extern const struct command command_gc;
extern const struct command command_fsck;
extern const struct command command_migrate;

/* The drivers under the configured stores; opened by command_open, released by command_close. */
struct command_files {
    struct config config;
    struct files files;
};

/* The file of settings to read instead of ./.env; borrowed. */
void command_use_env_file(const char *path);
/* Adds the file's settings to the environment; `exports` as config_env_load has it. */
enum err_code command_load_env(struct buf *exports, struct err *err) ERR_MUST_CHECK;
/* The same, then reads the environment. */
enum err_code command_load_settings(struct config *config, struct err *err) ERR_MUST_CHECK;
/* Prints variables of the environment that look like misspelt settings. */
void command_warn(void);
/* Prints which DATA_DIR, bucket and database a command works on. `what` is "works on" or the like. */
void command_announce(const struct config *config, const char *what);
/* Whether anything but logs is kept in DATA_DIR. */
bool command_keeps_data(const struct config *config);
/* As root: becomes the user of the service, so that what is made here is that user's. */
enum err_code command_give_up_root(const struct config *config, struct err *err) ERR_MUST_CHECK;
/* ERR_CONFIG when the folder or the database of the settings is not there, or another user's. */
enum err_code command_check_there(const struct config *config, struct err *err) ERR_MUST_CHECK;

/* Opens the drivers that opened->config names; on failure too the caller ends with command_close. */
enum err_code command_open_files(struct command_files *opened, struct err *err) ERR_MUST_CHECK;
/* Reads the settings, announces, and opens what must be there already. Prints why and returns false when it fails. */
bool command_open(struct command_files *opened);
void command_close(struct command_files *opened);

/* Prints "coffer NAME: message" and returns EXIT_FAILED. */
int command_fail(const struct command *command, const struct err *err);
/* Prints the message and the usage and returns EXIT_USAGE. */
int command_misuse(const struct command *command, const char *message);

/* Options "--name value" and flags "--name", each at most once, and words. */
struct command_option {
    const char *name; /* "--owner" */
    bool is_flag;
    const char *value; /* set when given; a flag's is "1" */
};
struct command_line {
    struct command_option *options;
    size_t option_count;
    const char *words[4]; /* borrowed from argv */
    size_t word_count;
};
/* Reads argv[1…] into *line, whose options are set before. False after telling what is wrong. */
bool command_parse(const struct command *command, int argc, char **argv, struct command_line *line);

#endif
