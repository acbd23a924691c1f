/*
 * Crash points: places where a test ends the process, to prove that the order of writes is safe to
 * end there (ABUSE F1, F2), or that a crash is reported. In test builds (make CRASH_POINTS=1) the
 * environment's CRASH_AT=<point> says where, CRASH_HOW how:
 *
 *     kill (default)  SIGKILL: nothing of the process runs any more
 *     segv            a write through NULL, in the function that has the point
 *     abort           abort()
 *     stack           calls itself until the stack is full
 *     error           fails with ERR_INTERNAL, where the point can fail
 *
 * CRASH_ONCE=<file> limits it to one process: the point is live only while that file exists and
 * removes it first. With CRASH_FOLDER=<folder> a point is live while there is a file of its name,
 * which says how, and is removed. In release builds all this is nothing.
 */
#ifndef COFFER_BASE_CRASH_H
#define COFFER_BASE_CRASH_H

#include <stdbool.h>

#ifdef COFFER_CRASH_POINTS
/* Where the caller is to write to: NULL when it is to fault. May end the process itself. */
char *crash_target(const char *name);
bool crash_wants_error(const char *name);
/* CRASH_FOLDER and CRASH_ONCE, or NULL. */
const char *crash_folder(void);
const char *crash_once(void);
/* Macros, so that the code that faults is the function that has the point. */
#define crash_point(name) ((void)(*(volatile char *)crash_target(name) = '\0'))
/* True when the step is to fail here with ERR_INTERNAL; else as crash_point. */
#define crash_or_fail(name) (crash_point(name), crash_wants_error(name))
#else
static inline void crash_point(const char *name)
{
    (void)name;
}
static inline bool crash_or_fail(const char *name)
{
    (void)name;
    return false;
}
static inline const char *crash_folder(void)
{
    return 0;
}
static inline const char *crash_once(void)
{
    return 0;
}
#endif

#endif
