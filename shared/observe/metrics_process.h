/*
 * A process as /proc shows it: who it is beyond its number, whether it still runs, what it uses.
 * Private to observe/. Thread-safe.
 */
#ifndef COFFER_OBSERVE_METRICS_PROCESS_H
#define COFFER_OBSERVE_METRICS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process_usage {
    uint64_t cpu_us; /* user and system time since its start */
    uint64_t memory; /* resident, bytes */
    uint64_t virtual_memory;
    uint64_t threads;
    bool has_fds; /* open_fds is known: not of a process that may not be inspected */
    uint64_t open_fds;
    bool has_max_fds; /* max_fds is known and finite */
    uint64_t max_fds;
};

/* Number and start time in one word, so that a recycled number is another process. Never 0. */
uint64_t process_identity(pid_t pid);
/* False when the process is gone or a zombie, or its number is another process' now. When /proc
 * doesn't say, a process that has the number counts as alive. */
bool process_is_alive(uint64_t identity);
/* When the process started, ms since 1970; 0 when that can't be read. Two calls may differ by a few
 * ms, as the clock is set. */
uint64_t process_start_ms(uint64_t identity);
/* False when the process is gone; has_* tell what could not be read. */
bool process_read_usage(uint64_t identity, struct process_usage *ret_usage);

#endif
