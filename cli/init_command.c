#include <inttypes.h>
#include <time.h>

#include "base/service_user.h"
#include "base/text.h"
#include "command.h"
#include "files/files_installation.h"

#define WAIT_MAX_SECONDS 86400
#define NS_PER_SECOND INT64_C(1000000000)

/* What is made, and where the wait for it ends. */
struct initialisation {
    struct config config;
    int64_t deadline_ns; /* steady clock */
};

typedef enum err_code init_step(const struct config *config, const struct clock *clock,
                                struct err *err);

static bool is_fs(const struct config *config)
{
    return strcmp(config->storage_driver, "fs") == 0;
}

static bool is_sqlite(const struct config *config)
{
    return strcmp(config->metadata_driver, "sqlite") == 0;
}

/* A store that may come up yet, which folders don't. */
static bool is_away(const struct config *config, enum err_code code)
{
    return (code == ERR_STORAGE_UNAVAILABLE && !is_fs(config)) ||
           (code == ERR_METADATA_UNAVAILABLE && !is_sqlite(config)) ||
           code == ERR_UPSTREAM_UNAVAILABLE || code == ERR_UPSTREAM_TIMEOUT;
}

/* Tries each second until the store is there or the deadline has passed. */
static enum err_code wait_for(const struct initialisation *init, init_step *step, struct err *err)
{
    const struct timespec second = {1, 0};
    enum err_code code = step(&init->config, &clock_system, err);
    while (is_away(&init->config, code)) {
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
    if ((is_fs(config) && storage_made) || (is_sqlite(config) && metadata_made))
        fprintf(stderr, "coffer init: %s is ready\n", config->data_dir);
    if (!is_fs(config))
        fprintf(stderr, "coffer init: bucket %s at %s %s\n", config->s3_bucket, config->s3_endpoint,
                storage_made ? "is made" : "is there");
    if (!is_sqlite(config))
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

/* ---- whose store it is ---- */

static enum err_code settle(const struct config *config, const struct clock *clock, struct err *err)
{
    struct command_files opened = {.config = *config};
    (void)clock;
    enum err_code code = command_open_files(&opened, err);
    if (code == ERR_OK)
        code = files_installation_settle(&opened.files, err);
    command_close(&opened);
    return code;
}

static void tell_side(const char *side, const struct installation_mark *before,
                      const struct installation_mark *after)
{
    if (strcmp(before->id, after->id) != 0)
        fprintf(stderr, "coffer init: the %s has installation id %s now (it had %s)\n", side,
                after->id, before->id[0] ? before->id : "none");
    else
        fprintf(stderr, "coffer init: the %s keeps installation id %s%s\n", side, after->id,
                before->is_incomplete ? ", and is no longer an unfinished migration's target" : "");
}

static enum err_code adopt(const struct config *config, const struct clock *clock, struct err *err)
{
    struct command_files opened = {.config = *config};
    struct installation_marks before;
    struct installation_mark after;
    (void)clock;
    enum err_code code = command_open_files(&opened, err);
    if (code == ERR_OK)
        code = files_installation_adopt(&opened.files, &before, &after, err);
    if (code == ERR_OK) {
        tell_side("store", &before.store, &after);
        tell_side("database", &before.database, &after);
        fprintf(stderr, "coffer init: `coffer fsck` tells which files have no bytes, and which "
                        "bytes no file\n");
    }
    command_close(&opened);
    return code;
}

/* Makes both sides, also where one of them is away: so the other one is there when it comes back. */
static enum err_code make_both(const struct initialisation *init, struct err *err)
{
    struct err storage_err;
    enum err_code storage = wait_for(init, storage_init, &storage_err);
    if (storage != ERR_OK && storage != ERR_EXISTS && !is_away(&init->config, storage)) {
        *err = storage_err;
        return storage;
    }
    enum err_code metadata = wait_for(init, metadata_init, err);
    if (metadata != ERR_OK && metadata != ERR_EXISTS)
        return metadata;
    if (storage != ERR_OK && storage != ERR_EXISTS) {
        *err = storage_err;
        return storage;
    }
    tell(init, storage == ERR_OK, metadata == ERR_OK);
    return ERR_OK;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct command_option options[] = {{.name = "--wait"},
                                       {.name = "--quiet", .is_flag = true},
                                       {.name = "--adopt", .is_flag = true}};
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
    enum err_code code = make_both(&init, &err);
    if (code == ERR_OK)
        code = wait_for(&init, options[2].value ? adopt : settle, &err);
    if (code != ERR_OK) {
        int exit_code = command_fail(command, &err);
        return is_away(&init.config, code) ? EXIT_AWAY : exit_code;
    }
    if (!options[1].value)
        tell_user(&user);
    return EXIT_DONE;
}

const struct command command_init = {
    .name = "init",
    .usage = "init [--wait SECONDS] [--quiet] [--adopt]",
    .summary =
        "Makes what the drivers need at the first start, and updates an older SQLite schema.",
    .help =
        "DATA_DIR and its database, or the S3 bucket and the MongoDB indexes. Does nothing\n"
        "where all is there. Refuses a folder that holds something else, and a store that\n"
        "belongs to another database: both carry the id of one installation.\n"
        "  --wait SECONDS  tries until the stores are up, so long\n"
        "  --quiet         says only what was made, for the launcher\n"
        "  --adopt         gives the database the store's id, whatever it had: after a restore\n"
        "                  from a backup, or to use what an unfinished migration has copied.\n"
        "                  Make sure that no other database is in use with this store\n"
        "Exit code 75 when a store could not be reached, 1 for any other failure.\n",
    .run = run,
};
