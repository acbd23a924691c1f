/*
 * Watchdog: one thread that ends what takes too long, so that no worker waits for a client (or
 * the gateway) for ever, or for one that is slower than the minimum rate. It waits for nothing
 * itself, neither a store nor a database: who is late here keeps everybody's deadlines. A worker
 * that waits for bytes is woken by a signal, again and again until it has noticed. The connection
 * stays whole, so that the gateway, which may be writing to it, still reads the answer.
 *
 * A watch belongs to one worker. begin/end take its mutex, which the watchdog and the lease keeper hold
 * only while they look at that watch; the counters between are atomics.
 */
#ifndef COFFER_APP_WATCHDOG_H
#define COFFER_APP_WATCHDOG_H

#include <pthread.h>
#include <stdatomic.h>

#include "access/idempotency.h"
#include "base/clock.h"
#include "base/config.h"

struct watch {
    pthread_mutex_t mutex;
    int fd;                          /* the connection, -1: nothing to watch */
    pthread_t thread;                /* of the worker */
    struct idempotency *idempotency; /* or NULL; its lease is renewed by the lease keeper */
    atomic_bool waiting;             /* the worker waits for bytes now */
    atomic_bool writing;             /* the worker waits for the gateway to take bytes */
    atomic_int_fast64_t received;    /* bytes so far */
    atomic_int_fast64_t sent;        /* bytes the gateway has taken in large pieces */
    atomic_bool timed_out;           /* the watchdog ended it */
    int64_t window_start_ns;         /* of the minimum rate; watchdog only */
    int64_t window_received;
    int64_t progress_ns; /* when `received` was last seen to grow */
    int64_t progress_received;
    int64_t sent_start_ns; /* of the minimum rate of sending; watchdog only, as is what follows */
    int64_t sent_at_start;
};

struct watchdog;

struct watchdog_options {
    /* body_idle_seconds, body_min_rate, download_rate_seconds, download_min_rate; borrowed, as is what
     * follows */
    const struct config *config;
    const struct clock *clock;
    struct watch *watches; /* made ready by watchdog_open */
    size_t count;
    void (*ticked)(const void *context); /* each time it has looked at all; may be NULL */
    const void *context;
};

/* Caller frees with watchdog_close. */
enum err_code watchdog_open(struct watchdog **ret_watchdog, const struct watchdog_options *options,
                            struct err *err) ERR_MUST_CHECK;
void watchdog_close(struct watchdog *watchdog);
/* Ends every connection that waits for bytes or to send them (the stop's grace is over). */
void watchdog_end_all(struct watchdog *watchdog);

void watch_begin(struct watch *watch, const struct clock *clock, int fd);
/* `idempotency` is borrowed until another one, or NULL, takes its place. */
void watch_idempotency(struct watch *watch, struct idempotency *idempotency);
void watch_end(struct watch *watch);

/*
 * Lease keeper: threads that prolong the leases of Idempotency-Keys while their requests run. Calls to
 * the database are made here and not in the watchdog, whose deadlines must not wait for a database
 * that is locked or away; and never with a watch's mutex held, which its worker takes.
 */

struct lease_keeper;

/* `watches` are borrowed, and have been made ready by watchdog_open. Caller frees with
 * lease_keeper_close. */
enum err_code lease_keeper_open(struct lease_keeper **ret_keeper, struct watch *watches,
                                size_t count, const struct clock *clock, struct err *err)
    ERR_MUST_CHECK;
/* Waits for the calls that are being made. */
void lease_keeper_close(struct lease_keeper *keeper);

#endif
