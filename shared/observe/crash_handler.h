/*
 * What a program does when it crashes (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT): writes a record
 * (crash_record.h) and one line to standard error, then dies of the same signal, so that who started
 * it sees what it would have seen without this.
 *
 * Everything the handler needs is made ready by crash_handler_install; it allocates nothing, takes
 * no lock, and runs on a stack of its own (signal_stack.h). A fault of the handler itself, or half a
 * minute without an end, ends the process with what is written by then. Of threads that crash at
 * once the first is recorded.
 *
 * Process-wide. Not in builds with sanitizers, which have handlers of their own.
 */
#ifndef COFFER_OBSERVE_CRASH_HANDLER_H
#define COFFER_OBSERVE_CRASH_HANDLER_H

#include "observe/crash_record.h"
#include "observe/metrics.h"

#define CRASH_RECORDS_MAX 8                  /* of a program, that wait to be reported */
#define CRASH_FILE_NAME "crash-%s-%u.record" /* program, number below CRASH_RECORDS_MAX */
#define CRASH_PART_SUFFIX ".part"            /* one that is being written */

struct crash_options {
    const char *program;     /* static text */
    const char *folder;      /* made when it is missing */
    struct metrics *metrics; /* or NULL; borrowed. Counts records that find no place */
};

/* False when the folder can't be used, or in a build with sanitizers. Before other threads start:
 * those that call signal_stack_take are covered also when their stack is full. */
bool crash_handler_install(const struct crash_options *options);
/* Restores the default. Nothing to do when nothing was installed. */
void crash_handler_remove(void);

/* What this thread does until crash_request_end; both are borrowed. */
void crash_request_begin(const struct trace *trace, const char *route);
void crash_request_end(void);

#endif
