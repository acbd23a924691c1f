/*
 * What `coffer migrate` shows while it runs, on standard error: on a terminal one line that is
 * written over, else a line every few seconds. Findings go to standard output, a line each.
 */
#ifndef COFFER_CLI_MIGRATE_PROGRESS_H
#define COFFER_CLI_MIGRATE_PROGRESS_H

#include "base/clock.h"
#include "files/files_migrate.h"

struct migrate_progress {
    struct migrate_result result; /* where files_migrate keeps it */
    const struct clock *clock;
    bool is_terminal;
    int64_t interval_ns;
    int64_t shown_ns;
    double done; /* work, when it was last shown */
    double rate; /* work a second, smoothed */
    double byte_rate;
    int64_t bytes;
};

void migrate_progress_begin(struct migrate_progress *progress, const struct clock *clock);
/* The callbacks of files_migrate; `context` is the struct. */
void migrate_progress_show(void *context, const struct migrate_result *result);
void migrate_progress_found(void *context, const struct migrate_finding *finding);
/* Takes the line back. */
void migrate_progress_end(const struct migrate_progress *progress);

/* One line on standard output. */
void migrate_print_summary(const struct migrate_result *result, bool is_dry_run);

#endif
