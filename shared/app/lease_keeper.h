/*
 * Lease keeper: threads that prolong the leases of Idempotency-Keys while their requests run. Calls to
 * the database are made here and not in the watchdog, whose deadlines must not wait for a database
 * that is locked or away; and never with a watch's mutex held, which its worker takes.
 */
#ifndef COFFER_APP_LEASE_KEEPER_H
#define COFFER_APP_LEASE_KEEPER_H

#include "app/watchdog.h"

struct lease_keeper;

/* `watches` are borrowed, and have been made ready by watchdog_open. Caller frees with
 * lease_keeper_close. */
enum err_code lease_keeper_open(struct lease_keeper **ret_keeper, struct watch *watches,
                                size_t count, const struct clock *clock, struct err *err)
    ERR_MUST_CHECK;
/* Waits for the calls that are being made. */
void lease_keeper_close(struct lease_keeper *keeper);

#endif
