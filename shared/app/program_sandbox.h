/*
 * The sandbox of a program (base/sandbox.h): which files and system calls it is left with, by its
 * needs and by the settings (docs/decisions/0032).
 *
 * Entered by the main thread after what is opened once in RUNTIME_DIR was opened, and before the
 * first thread and the log are. A rule holds for a folder, not for its path: where another folder
 * stands at the path later (a data folder that was mounted anew or restored), the program could not
 * use it. So a thread looks, and stops the program, which lighttpd starts again.
 */
#ifndef COFFER_APP_PROGRAM_SANDBOX_H
#define COFFER_APP_PROGRAM_SANDBOX_H

#include "base/config.h"
#include "observe/log.h"

/* What a program does after its start beyond logging and reporting. */
enum program_needs {
    NEEDS_DATABASE = 1,       /* asks and changes the metadata */
    NEEDS_OBJECTS_READ = 2,   /* reads the bytes of files */
    NEEDS_OBJECTS_ADD = 4,    /* stores new ones, through the spool where the driver wants that */
    NEEDS_OBJECTS_REMOVE = 8, /* removes them, and says which database they belong to */
    NEEDS_OBJECTS_PROBE = 16, /* tries whether they could be stored */
    NEEDS_GATEWAY = 32        /* asks lighttpd, opens the gateway's metrics, looks at processes */
};

struct program_sandbox;

/* Keeps this process to what it needs, as far as SANDBOX and the kernel have it. ERR_CONFIG where
 * SANDBOX=require can't be kept. Caller frees with program_sandbox_close. */
enum err_code program_sandbox_enter(struct program_sandbox **ret_sandbox,
                                    const struct config *config, unsigned needs, struct err *err)
    ERR_MUST_CHECK;
/* The same in a build with a sanitizer, which program_sandbox_enter leaves alone: its own threads and
 * processes at the exit would be ended. For tests, which end otherwise. */
enum err_code program_sandbox_enter_always(struct program_sandbox **ret_sandbox,
                                           const struct config *config, unsigned needs,
                                           struct err *err) ERR_MUST_CHECK;
/* Logs what is enforced and what is missing, and begins to look at folders. `log` is borrowed. */
enum err_code program_sandbox_watch(struct program_sandbox *sandbox, struct log *log,
                                    struct err *err) ERR_MUST_CHECK;
/* NULL is allowed. */
void program_sandbox_close(struct program_sandbox *sandbox);

#endif
