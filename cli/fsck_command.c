#include <inttypes.h>
#include <unistd.h>

#include "command.h"
#include "files/files_check.h"
#include "files/files_installation.h"

#define PROGRESS_EVERY 100

static void print_finding(void *context, const struct check_finding *finding)
{
    static const char *const kinds[] = {
        [CHECK_MISSING] = "missing", [CHECK_SIZE] = "size",
        [CHECK_HASH] = "hash",       [CHECK_QUARANTINED] = "quarantined",
        [CHECK_ORPHAN] = "orphan",   [CHECK_METADATA] = "metadata",
    };
    (void)context;
    printf("%s\t%s\t%s\t%s\n", kinds[finding->kind], finding->id[0] ? finding->id : "-",
           finding->key[0] ? finding->key : "-", finding->text);
}

static void print_progress(void *context, const struct check_result *result)
{
    (void)context;
    if (result->files % PROGRESS_EVERY == 0)
        fprintf(stderr, "\r%" PRId64 " files, %" PRId64 " MiB, %" PRId64 " findings", result->files,
                result->bytes >> 20, result->findings);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct command_option options[] = {{.name = "--repair", .is_flag = true}};
    struct command_line line = {options, 1, {NULL}, 0};
    struct command_files opened;
    struct check_result result;
    struct err err;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    if (line.word_count > 0)
        return command_misuse(command, "it takes no words");
    if (!command_open(&opened))
        return EXIT_FAILED;
    const struct check_options check = {.repair = options[0].value != NULL,
                                        .found = print_finding,
                                        .progress = isatty(STDERR_FILENO) ? print_progress : NULL};
    /* Files of another store's are not damaged. What a migration has copied so far may be checked. */
    enum err_code code = files_installation_check(&opened.files, !check.repair, &err);
    if (code == ERR_OK)
        code = files_check(&opened.files, &check, &result, &err);
    if (check.progress)
        fprintf(stderr, "\r");
    command_close(&opened);
    if (code != ERR_OK)
        return command_fail(command, &err);
    printf("checked %" PRId64 " files, %" PRId64 " bytes: %" PRId64 " findings, %" PRId64
           " orphans, %" PRId64 " repaired\n",
           result.files, result.bytes, result.findings, result.orphans, result.repaired);
    return result.findings > 0 ? EXIT_FAILED : EXIT_DONE;
}

const struct command command_fsck = {
    .name = "fsck",
    .usage = "fsck [--repair]",
    .summary = "Verifies every file's row against its bytes and SHA-256. Reads only.",
    .help = "A line a finding: kind, id, key, text. Exit code 1 when a file is not whole.\n"
            "  --repair  quarantines such files (500 from then on), releases those that are\n"
            "            whole again, recounts kept totals\n",
    .run = run,
};
