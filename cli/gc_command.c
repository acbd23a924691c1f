#include <inttypes.h>

#include "base/text.h"
#include "command.h"
#include "files/files_sweep.h"

#define GRACE_MAX_SECONDS (365LL * 86400)

static int run(const struct command *command, int argc, char **argv)
{
    struct command_option options[] = {{.name = "--grace"}, {.name = "--yes", .is_flag = true}};
    struct command_line line = {options, 2, {NULL}, 0};
    struct command_files opened;
    struct sweep_result result;
    struct err err;
    int64_t grace = -1;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    if (line.word_count > 0)
        return command_misuse(command, "it takes no words");
    if (options[0].value && !text_parse_int(str_of(options[0].value), 0, GRACE_MAX_SECONDS, &grace))
        return command_misuse(command, "--grace takes seconds");
    if (!command_open(&opened))
        return EXIT_FAILED;
    if (grace < 0)
        grace = opened.config.sweep_grace_seconds;
    enum err_code code = options[1].value
                             ? files_sweep_without_limit(&opened.files, grace, &result, &err)
                             : files_sweep(&opened.files, grace, &result, &err);
    command_close(&opened);
    if (code != ERR_OK)
        return command_fail(command, &err);
    printf("expired %" PRId64 ", deleted %" PRId64 ", orphans %" PRId64 " (%" PRId64
           " bytes), requests %" PRId64 ", unfinished %" PRId64 "\n",
           result.expired, result.deleted, result.orphans, result.orphan_bytes, result.requests,
           result.unfinished);
    if (result.held_back == 0)
        return EXIT_DONE;
    fprintf(stderr,
            "coffer gc: the database knows nothing of %" PRId64 " of %" PRId64 " objects (%" PRId64
            " bytes), and at most %" PRId64
            " are removed at once (SWEEP_MAX_ORPHANS): none was.\nIf database and store are the "
            "right ones, and not older than each other: coffer gc --yes\n",
            result.held_back, result.seen, result.held_back_bytes, result.limit);
    return EXIT_FAILED;
}

const struct command command_gc = {
    .name = "gc",
    .usage = "gc [--grace SECONDS] [--yes]",
    .summary = "Sweeps what crashes left: expired and deleted files, bytes that no file knows.",
    .help =
        "Objects younger than --grace (SWEEP_GRACE_SECONDS) are left alone. Safe beside a running\n"
        "service: on fs every upload in progress is left alone, whatever the grace. On s3 and\n"
        "libs3 an upload that has stored its object longer than the grace ago and not recorded it\n"
        "yet is refused with 503 and must be sent again, so --grace 0 is for a service at rest.\n"
        "\"unfinished\" counts multipart uploads that an S3 store still kept parts of.\n"
        "Where more bytes than SWEEP_MAX_ORPHANS are unknown it removes none of them, says so, "
        "and\n"
        "exits with code 1: the database may be another one, or restored from a backup.\n"
        "  --yes  remove them all the same\n",
    .run = run,
};
