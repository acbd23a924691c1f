/*
 * The worker threads of a program: each accepts and serves one request at a time, so a slow client
 * costs a sleeping thread. A stop is never lost: see workers_stop.
 */
#ifndef COFFER_APP_WORKERS_H
#define COFFER_APP_WORKERS_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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

/*
 * Whose turn it is to accept. In a program whose requests are short, one worker accepts and serves
 * one request after the other without ever going to sleep, and so without waking another one for
 * each connection (measured: twice the requests a second). The others wait. One of them, the
 * watcher, takes the turn over when a request lasts longer than TAKE_OVER_MS, so a request that
 * waits for a disk or a broken gateway holds up nobody. Thread-safe.
 *
 * state counts begins and ends: odd while the holder serves. The holder ends its request with a
 * compare-and-swap, which fails when the turn was taken over in between.
 */

struct accept_turn {
    pthread_mutex_t mutex;
    pthread_cond_t followers; /* wait to become the watcher */
    pthread_cond_t watcher;
    bool held; /* guarded by mutex, as is what follows */
    bool watched;
    bool stopping;
    _Atomic uint64_t state;
    atomic_bool watcher_sleeps; /* nothing goes on; the holder wakes it with its next request */
};

void accept_turn_init(struct accept_turn *turn);
void accept_turn_release(struct accept_turn *turn);
/* Waits until it is the caller's turn; false when the program stops. */
bool accept_turn_wait(struct accept_turn *turn);
/* The holder has a connection; returns what accept_turn_end wants. */
uint64_t accept_turn_begin(struct accept_turn *turn);
/* The holder is done with it: true, and it accepts again; false: the turn is another's now. */
bool accept_turn_end(struct accept_turn *turn, uint64_t begun);
/* Ends all waiting, now and later. */
void accept_turn_stop(struct accept_turn *turn);

/*
 * Gauges of the connections to store and metadata: looked at now and then, not counted at every
 * call, so that no call pays for them.
 */

/* Sets storage_connections and metadata_connections to what the drivers say now. `service` is a
 * const struct service. Thread-safe. */
void pool_gauges_set(const void *service);

#endif
