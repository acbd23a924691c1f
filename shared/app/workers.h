/*
 * The worker threads of a program: each accepts and serves one request at a time, so a slow client
 * costs a sleeping thread. A stop is never lost: see workers_stop.
 */
#ifndef COFFER_APP_WORKERS_H
#define COFFER_APP_WORKERS_H

#include <signal.h>

#include "app/serve.h"

struct workers;

/* Call before any thread starts: blocks what the main thread will wait for (*ret_signals: SIGTERM,
 * SIGHUP), ignores SIGINT (it is the gateway's), SIGPIPE and SIGXFSZ, installs the wake signal. */
void workers_prepare_signals(sigset_t *ret_signals);

/* Starts `count` workers on the listening socket. `service` is borrowed. */
enum err_code workers_open(struct workers **ret_workers, const struct service *service,
                           int listen_fd, size_t count, struct err *err) ERR_MUST_CHECK;
/* Lets every request in flight finish and returns true when all workers have left; after
 * grace_seconds ends what waits for clients, and returns false when some are stuck even so. */
bool workers_stop(struct workers *workers, int64_t grace_seconds);
/* Frees stopped (or never started) workers; NULL is allowed. */
void workers_close(struct workers *workers);

#endif
