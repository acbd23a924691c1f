/*
 * The periodic sweep of one program: at start and then every SWEEP_INTERVAL_SECONDS, once over all
 * processes (a lease in the metadata). One log line a sweep that found something or failed.
 */
#ifndef COFFER_APP_SWEEPER_H
#define COFFER_APP_SWEEPER_H

#include "app/serve.h"

struct sweeper;

/* `service` is borrowed. Caller frees with sweeper_close. */
enum err_code sweeper_open(struct sweeper **ret_sweeper, const struct service *service,
                           struct err *err) ERR_MUST_CHECK;
/* Has the bytes of marked rows removed soon; thread-safe. */
void sweeper_wake(struct sweeper *sweeper);
/* Waits for a running sweep to end. NULL is allowed. */
void sweeper_close(struct sweeper *sweeper);

#endif
