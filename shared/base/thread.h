/*
 * Threads, condition variables on the steady clock, and stacks for the signals of faults. All threads
 * of the project are started here.
 */
#ifndef COFFER_BASE_THREAD_H
#define COFFER_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Starts a thread that runs `run(argument)`, with `stack_bytes` of stack (0: the system's default).
 * All signals are blocked in it but those of faults, for which it has a stack of its own where
 * signal_stack_enable was called. False when there is no room for it. The caller joins it. */
bool thread_start(pthread_t *ret_thread, size_t stack_bytes, void *(*run)(void *), void *argument);

/*
 * Condition variables that wait on the steady clock, so that no change of the wall time wakes or
 * holds anybody. Plain pthread condition variables otherwise.
 */

void condition_init(pthread_cond_t *condition);
/* The steady time `ms` from now. */
struct timespec condition_deadline(int64_t ms);
/* Waits with the mutex held; false when `until` has come. May return true without reason. */
bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                    const struct timespec *until);

/*
 * A stack of its own for each thread's fault signals, so that the handler also runs when the
 * thread's stack is full. Only where signal_stack_enable was called (a program that reports
 * crashes): else nothing is allocated.
 */

#define FAULT_SIGNALS 5
extern const int fault_signals[FAULT_SIGNALS]; /* SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT */

/* For the calling thread and all that start from now on. */
void signal_stack_enable(void);
/* First thing in a thread that thread_start did not start: takes a stack, which is given back when the thread ends, and
 * has the fault signals delivered to it. One that gets none runs on: only an overflow of its stack
 * will not be seen. */
void signal_stack_take(void);

#endif
