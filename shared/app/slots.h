/*
 * A bound on the requests that may hold a worker for long, because they wait for a store or for a
 * client: each takes a slot. Some more may wait for one. The program has workers beyond these two
 * numbers, so a request that needs no slot always finds one free. Thread-safe.
 */
#ifndef COFFER_APP_SLOTS_H
#define COFFER_APP_SLOTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/errors.h"

struct slots;

/* Caller frees with slots_close. */
enum err_code slots_open(struct slots **ret_slots, size_t count, size_t waiting_max,
                         struct err *err) ERR_MUST_CHECK;
/* NULL is allowed. */
void slots_close(struct slots *slots);
/* Takes a slot, to be given back with slots_give. ERR_STORAGE_UNAVAILABLE when none is free within
 * wait_ms, or too many wait already. */
enum err_code slots_take(struct slots *slots, int64_t wait_ms, struct err *err) ERR_MUST_CHECK;
void slots_give(struct slots *slots);

#endif
