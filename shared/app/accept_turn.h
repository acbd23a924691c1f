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
#ifndef COFFER_APP_ACCEPT_TURN_H
#define COFFER_APP_ACCEPT_TURN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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

#endif
