/*
 * Condition variables that wait on the steady clock, so that no change of the wall time wakes or
 * holds anybody. Plain pthread condition variables otherwise.
 */
#ifndef COFFER_BASE_CONDITION_H
#define COFFER_BASE_CONDITION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

void condition_init(pthread_cond_t *condition);
/* The steady time `ms` from now. */
struct timespec condition_deadline(int64_t ms);
/* Waits with the mutex held; false when `until` has come. May return true without reason. */
bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                    const struct timespec *until);

#endif
