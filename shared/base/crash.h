/*
 * Crash points: places where a test kills the process to prove that the order of writes is safe
 * to end there (ABUSE F1, F2). In test builds (make CRASH_POINTS=1) the environment's
 * CRASH_AT=<point> raises SIGKILL there; CRASH_ONCE=<file> limits it to one process: the point is
 * live only while that file exists and removes it first. In release builds it is nothing.
 */
#ifndef COFFER_BASE_CRASH_H
#define COFFER_BASE_CRASH_H

#ifdef COFFER_CRASH_POINTS
void crash_point(const char *name);
#else
static inline void crash_point(const char *name)
{
    (void)name;
}
#endif

#endif
