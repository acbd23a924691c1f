#include "base/crash.h"

#ifdef COFFER_CRASH_POINTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void crash_point(const char *name)
{
    const char *wanted = getenv("CRASH_AT");
    if (!wanted || strcmp(wanted, name) != 0)
        return;
    /* Whoever removes the file is the one that dies: one process, however many get here. */
    const char *once = getenv("CRASH_ONCE");
    if (once && *once && unlink(once) != 0)
        return;
    raise(SIGKILL);
}

#endif
