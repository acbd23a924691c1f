/*
 * A stack of its own for each thread's fault signals, so that the handler also runs when the
 * thread's stack is full. Only where signal_stack_enable was called (a program that reports
 * crashes): else nothing is allocated.
 */
#ifndef COFFER_BASE_SIGNAL_STACK_H
#define COFFER_BASE_SIGNAL_STACK_H

#include <signal.h>
#include <stddef.h>

#define FAULT_SIGNALS 5
extern const int fault_signals[FAULT_SIGNALS]; /* SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT */

/* For the calling thread and all that call signal_stack_take from now on. Before they start. */
void signal_stack_enable(void);
/* First thing a thread of ours does: takes a stack, which is given back when the thread ends, and
 * has the fault signals delivered to it. One that gets none runs on: only an overflow of its stack
 * will not be seen. */
void signal_stack_take(void);

#endif
