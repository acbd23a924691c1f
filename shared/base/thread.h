/*
 * Threads that work beside those that serve requests. Signals are for the others: here all are blocked
 * but the faults, which the thread itself raises (signal_stack.h).
 */
#ifndef COFFER_BASE_THREAD_H
#define COFFER_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* Starts one that runs `run(argument)`, with `stack_bytes` of stack (0: the system's default). False
 * when there is no room for it. The caller joins it. */
bool thread_start(pthread_t *ret_thread, size_t stack_bytes, void *(*run)(void *), void *argument);

#endif
