#include <inttypes.h>
#include <time.h>

#include "base/service_user.h"
#include "base/text.h"
#include "command.h"

#define WAIT_MAX_SECONDS 86400
#define NS_PER_SECOND INT64_C(1000000000)

/* What is made, and where the wait for it ends. */
struct initialisation {
    struct config config;
    int64_t deadline_ns; /* steady clock */
};

typedef enum err_code init_step(const struct config *config, const struct clock *clock,
                                struct err *err);

/* A store that may come up yet. */
static bool is_away(enum err_code code)
{
    return code == ERR_STORAGE_UNAVAILABLE || code == ERR_METADATA_UNAVAILABLE ||
           code == ERR_UPSTREAM_UNAVAILABLE || code == ERR_UPSTREAM_TIMEOUT;
}

/* Tries each second until the store is there or the deadline has passed. */
static enum err_code wait_for(const struct initialisation *init, init_step *step, struct err *err)
{
    const struct timespec second = {1, 0};
    enum err_code code = step(&init->config, &clock_system, err);
    while (is_away(code)) {
        int64_t left_ns = init->deadline_ns - clock_steady_ns(&clock_system);
        if (left_ns <= 0)
            break;
        fprintf(stderr, "coffer init: waiting, %" PRId64 " s left: %s\n",
                (left_ns + NS_PER_SECOND - 1) / NS_PER_SECOND, err->message);
        nanosleep(&second, NULL);
        code = step(&init->config, &clock_system, err);
    }
    return code;
}

/* Folders say only what is new: every start of a service runs this. */
static void tell(const struct initialisation *init, bool storage_made, bool metadata_made)
{
    const struct config *config = &init->config;
    bool is_fs = strcmp(config->storage_driver, "fs") == 0;
    bool is_sqlite = strcmp(config->metadata_driver, "sqlite") == 0;
    if ((is_fs && storage_made) || (is_sqlite && metadata_made))
        fprintf(stderr, "coffer init: %s is ready\n", config->data_dir);
    if (!is_fs)
        fprintf(stderr, "coffer init: bucket %s at %s %s\n", config->s3_bucket, config->s3_endpoint,
                storage_made ? "is made" : "is there");
    if (!is_sqlite)
        fprintf(stderr, "coffer init: database %s %s\n", config->mongodb_database,
                metadata_made ? "is made, with its indexes" : "and its indexes are there");
}

/* As root: what is made is the service's user's; what lies there must be. */
static enum err_code give_up_root(const struct config *config, struct service_user *user,
                                  struct err *err)
{
    enum err_code code = service_user_find(config, user, err);
    if (code == ERR_OK && command_keeps_data(config))
        code = service_user_own(user, config, err);
    if (code == ERR_OK)
        code = service_user_become(user, err);
    return code == ERR_OK && command_keeps_data(config) ? data_dir_check(config, err) : code;
}

/* For whom it was, to root who runs this by hand. */
static void tell_user(const struct service_user *user)
{
    if (user->drops)
        fprintf(stderr, "coffer init: as user %s (uid %u)\n", user->name, (unsigned)user->uid);
    else if (*user->why)
        fprintf(stderr, "coffer init: as root, for a service that runs as root: %s\n", user->why);
}

static int fail(const struct command *command, enum err_code code, const struct err *err)
{
    int exit_code = command_fail(command, err);
    return is_away(code) ? EXIT_AWAY : exit_code;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct command_option options[] = {{.name = "--wait"}, {.name = "--quiet", .is_flag = true}};
    struct command_line line = {options, sizeof options / sizeof *options, {NULL}, 0};
    struct service_user user;
    struct initialisation init = {.deadline_ns = clock_steady_ns(&clock_system)};
    struct err err;
    int64_t seconds = 0;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    if (line.word_count > 0)
        return command_misuse(command, "it takes no words");
    if (options[0].value &&
        !text_parse_int(str_of(options[0].value), 0, WAIT_MAX_SECONDS, &seconds))
        return command_misuse(command, "--wait takes seconds");
    command_warn();
    if (command_load_settings(&init.config, &err) != ERR_OK)
        return command_fail(command, &err);
    if (!options[1].value)
        command_announce(&init.config, "works on");
    if (give_up_root(&init.config, &user, &err) != ERR_OK)
        return command_fail(command, &err);
    init.deadline_ns += seconds * NS_PER_SECOND;
    enum err_code storage = wait_for(&init, storage_init, &err);
    if (storage != ERR_OK && storage != ERR_EXISTS)
        return fail(command, storage, &err);
    enum err_code metadata = wait_for(&init, metadata_init, &err);
    if (metadata != ERR_OK && metadata != ERR_EXISTS)
        return fail(command, metadata, &err);
    tell(&init, storage == ERR_OK, metadata == ERR_OK);
    if (!options[1].value)
        tell_user(&user);
    return EXIT_DONE;
}

const struct command command_init = {
    .name = "init",
    .usage = "init [--wait SECONDS] [--quiet]",
    .summary =
        "Makes what the drivers need at the first start, and updates an older SQLite schema.",
    .help = "DATA_DIR and its database, or the S3 bucket and the MongoDB indexes. Does nothing\n"
            "where all is there. Refuses a folder that holds something else.\n"
            "  --wait SECONDS  tries until the stores are up, so long\n"
            "  --quiet         says only what was made, for the launcher\n"
            "Exit code 75 when a store could not be reached, 1 for any other failure.\n",
    .run = run,
};
