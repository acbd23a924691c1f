#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/text.h"
#include "command.h"
#include "files/files_migrate.h"
#include "migrate_progress.h"

#define JOBS_DEFAULT 8
#define DRIVER_SIZE 32
#define LOCK_SIZE (CONFIG_TEXT_SIZE + 8)

static atomic_bool stop_asked;

static void ask_to_stop(int number)
{
    (void)number;
    atomic_store(&stop_asked, true);
}

/* The first signal ends the run in order, a second one at once. */
static void watch_signals(void)
{
    struct sigaction action = {.sa_handler = ask_to_stop, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- the two sides ---- */

struct side {
    char storage[DRIVER_SIZE];
    char metadata[DRIVER_SIZE];
    struct command_files opened;
};

static bool is_choice(const char *name, const char *value)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        if (strcmp(config_settings[i].name, name) != 0)
            continue;
        for (const char *const *choice = config_settings[i].choices; *choice; choice++)
            if (strcmp(*choice, value) == 0)
                return true;
    }
    return false;
}

/* "fs+sqlite" */
static bool parse_side(const char *text, struct side *side)
{
    struct str rest = str_of(text);
    struct str storage = str_cut(&rest, '+');
    return str_copy(side->storage, sizeof side->storage, storage) &&
           str_copy(side->metadata, sizeof side->metadata, rest) &&
           is_choice("STORAGE_DRIVER", side->storage) &&
           is_choice("METADATA_DRIVER", side->metadata);
}

/* The settings as they would be with these drivers, checked. The command serves nobody, so it is no
 * node of a cluster and sends no client to a store. */
static enum err_code load_side(struct side *side, struct err *err)
{
    if (setenv("STORAGE_DRIVER", side->storage, 1) != 0 ||
        setenv("METADATA_DRIVER", side->metadata, 1) != 0 ||
        setenv("NODE_MODE", "single", 1) != 0 || setenv("DOWNLOAD_MODE", "stream", 1) != 0)
        return err_set_internal(err, ERR_NO_MEMORY, errno, "migrate", "Out of memory.");
    return command_load_settings(&side->opened.config, err);
}

/* Both S3 drivers read the one bucket there is. */
static bool is_same_storage(const struct side *from, const struct side *to)
{
    return (strcmp(from->storage, "fs") == 0) == (strcmp(to->storage, "fs") == 0);
}

static bool is_same_metadata(const struct side *from, const struct side *to)
{
    return strcmp(from->metadata, to->metadata) == 0;
}

/* Files on their way to libs3 wait in RUNTIME_DIR, which is there while a service runs. */
static enum err_code make_runtime_dir(const struct config *config, struct err *err)
{
    if (strcmp(config->storage_driver, "libs3") != 0 || mkdir(config->runtime_dir, S_IRWXU) == 0 ||
        errno == EEXIST)
        return ERR_OK;
    return err_set_internal(err, ERR_CONFIG, errno, "migrate", "RUNTIME_DIR %.128s: %s.",
                            config->runtime_dir, strerror(errno));
}

static enum err_code init_target(const struct config *config, struct err *err)
{
    enum err_code code = make_runtime_dir(config, err);
    if (code == ERR_OK)
        code = storage_init(config, &clock_system, err);
    if (code == ERR_OK || code == ERR_EXISTS)
        code = metadata_init(config, &clock_system, err);
    return code == ERR_EXISTS ? ERR_OK : code;
}

static bool can_be_used(const struct files *files, struct err *err)
{
    return storage_ping(files->storage, err) == ERR_OK &&
           metadata_ping(files->metadata, err) == ERR_OK;
}

/* Opens both. In a dry run a target that can't be used counts as empty. */
static enum err_code open_sides(struct side *from, struct side *to, struct migrate_options *options,
                                struct err *err)
{
    enum err_code code = load_side(from, err);
    if (code == ERR_OK)
        code = load_side(to, err);
    if (code == ERR_OK) {
        command_announce(&from->opened.config, "copies from");
        command_announce(&to->opened.config, "copies to");
        code = command_give_up_root(&from->opened.config, err);
    }
    if (code == ERR_OK)
        code = command_check_there(&from->opened.config, err);
    if (code == ERR_OK)
        code = command_open_files(&from->opened, err);
    if (code == ERR_OK && !can_be_used(&from->opened.files, err))
        code = err->code;
    if (code == ERR_OK && !options->dry_run)
        code = init_target(&to->opened.config, err);
    if (code == ERR_OK)
        code = command_open_files(&to->opened, err);
    if (code != ERR_OK || can_be_used(&to->opened.files, err))
        return code;
    if (!options->dry_run)
        return err->code;
    fprintf(stderr, "coffer migrate: the target is not ready and counts as empty: %s\n",
            err->message);
    options->target_is_empty = true;
    return ERR_OK;
}

/* The launcher holds a lock as long as its service runs. */
static void warn_of_service(const struct config *config)
{
    char path[LOCK_SIZE];
    snprintf(path, sizeof path, "%s/lock", config->runtime_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        fprintf(stderr, "coffer migrate: a service is running here: what changes from now on needs "
                        "a second run, after its stop\n");
    close(fd);
}

/* ---- running ---- */

static int finish(const struct command *command, const struct migrate_options *options,
                  enum err_code code, struct err *err)
{
    struct migrate_progress *progress = options->context;
    const struct migrate_result *result = &progress->result;
    migrate_progress_end(progress);
    if (code != ERR_OK && atomic_load(&stop_asked))
        err_set(err, ERR_CLIENT_GONE, "migrate", "stopped; the same command goes on from here");
    if (code != ERR_OK)
        command_fail(command, err);
    if (code == ERR_OK && !options->dry_run && !result->is_complete)
        fprintf(stderr, "coffer migrate: the target is incomplete: no service starts on it until "
                        "a run has brought every file\n");
    migrate_print_summary(result, options->dry_run);
    bool left_behind = result->failed > 0 || result->newer > 0 ||
                       (result->damaged > 0 && !options->include_damaged);
    return code != ERR_OK || left_behind || fflush(stdout) != 0 ? EXIT_FAILED : EXIT_DONE;
}

static int run_sides(const struct command *command, struct side *from, struct side *to,
                     struct migrate_options *options)
{
    struct migrate_progress progress;
    struct err err;
    enum err_code code = open_sides(from, to, options, &err);
    if (code != ERR_OK)
        return command_fail(command, &err);
    warn_of_service(&from->opened.config);
    watch_signals();
    migrate_progress_begin(&progress, &clock_system);
    options->source = &from->opened.files;
    options->target = &to->opened.files;
    options->stop = &stop_asked;
    options->found = migrate_progress_found;
    options->progress = migrate_progress_show;
    options->context = &progress;
    code = files_migrate(options, &progress.result, &err);
    return finish(command, options, code, &err);
}

enum {
    OPTION_FROM,
    OPTION_TO,
    OPTION_JOBS,
    OPTION_VERIFY,
    OPTION_DRY_RUN,
    OPTION_DAMAGED,
    OPTION_PRUNE
};

static int run(const struct command *command, int argc, char **argv)
{
    struct command_option given[] = {
        [OPTION_FROM] = {.name = "--from"},
        [OPTION_TO] = {.name = "--to"},
        [OPTION_JOBS] = {.name = "--jobs"},
        [OPTION_VERIFY] = {.name = "--verify", .is_flag = true},
        [OPTION_DRY_RUN] = {.name = "--dry-run", .is_flag = true},
        [OPTION_DAMAGED] = {.name = "--include-damaged", .is_flag = true},
        [OPTION_PRUNE] = {.name = "--prune", .is_flag = true},
    };
    struct command_line line = {given, sizeof given / sizeof *given, {NULL}, 0};
    struct side from = {.storage = ""};
    struct side to = {.storage = ""};
    int64_t jobs = JOBS_DEFAULT;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    if (line.word_count > 0)
        return command_misuse(command, "it takes no words");
    if (!given[OPTION_FROM].value || !given[OPTION_TO].value)
        return command_misuse(command, "it needs --from and --to");
    if (!parse_side(given[OPTION_FROM].value, &from) || !parse_side(given[OPTION_TO].value, &to))
        return command_misuse(command, "--from and --to take STORAGE+METADATA: fs, s3 or libs3, "
                                       "and sqlite or mongodb");
    if (is_same_storage(&from, &to) && is_same_metadata(&from, &to))
        return command_misuse(command, "--from and --to name the same store and database");
    if (given[OPTION_JOBS].value &&
        !text_parse_int(str_of(given[OPTION_JOBS].value), 1, MIGRATE_JOBS_MAX, &jobs))
        return command_misuse(command, "--jobs takes 1 to 64");
    struct migrate_options options = {.is_same_storage = is_same_storage(&from, &to),
                                      .is_same_metadata = is_same_metadata(&from, &to),
                                      .dry_run = given[OPTION_DRY_RUN].value != NULL,
                                      .verify = given[OPTION_VERIFY].value != NULL,
                                      .include_damaged = given[OPTION_DAMAGED].value != NULL,
                                      .prune = given[OPTION_PRUNE].value != NULL,
                                      .jobs = (int)jobs};
    command_warn();
    int exit_code = run_sides(command, &from, &to, &options);
    command_close(&to.opened);
    command_close(&from.opened);
    return exit_code;
}

const struct command command_migrate = {
    .name = "migrate",
    .usage = "migrate --from STORAGE+METADATA --to STORAGE+METADATA [--dry-run] [--verify] "
             "[--jobs N] [--include-damaged] [--prune]",
    .summary = "Copies all files and tokens to other drivers, verified; the source is only read.",
    .help = "Settings of both sides come from the environment; only the drivers differ, as in\n"
            "`--from fs+sqlite --to s3+mongodb`. What is there and right is skipped: after an\n"
            "interruption, or for what came meanwhile, run it again. No service may use the\n"
            "target yet. Not copied: files that have expired, and Idempotency-Keys.\n"
            "A line a finding: kind, id, key, text. Exit code 1 when a file is not in the target\n"
            "as it is in the source.\n"
            "  --dry-run          write nothing, say what would be done\n"
            "  --verify           read each object of the target back and compare its SHA-256\n"
            "  --jobs N           files copied at once (8, at most 64)\n"
            "  --include-damaged  quarantined files too; they stay quarantined\n"
            "  --prune            remove files of the target that the source does not have\n",
    .run = run,
};
