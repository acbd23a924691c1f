/*
 * How many of lighttpd's access log lines were counted and how many were lost, exact after kill -9
 * of whoever counts (docs/decisions/0017).
 *
 * A run is the life of one log pipe: lighttpd makes it when it starts and hands it to each reader it
 * starts, so a run outlives its readers. Of each run this file, which all readers and scrapers of a
 * RUNTIME_DIR map, holds where the counting stood when its reader began. Every line is one step of
 * one atomic number: of METRIC_HTTP_REQUESTS in the reader's slot of the gateway's metrics, or, for
 * an answer to the service itself, of the run's own number. So a kill at any moment leaves a true
 * sum, and lines that were read and not counted are missing from it.
 *
 * lighttpd's total is compared at a line: who asks lighttpd for it sends a mark, the line about
 * that question brings the mark through the pipe, and the reader notes how many lines it had counted
 * before. What lies between is in the pipe, so it is neither counted nor lost.
 *
 * One reader a run, of one thread; any number of scrapers, of any threads.
 */
#ifndef COFFER_OBSERVE_GATEWAY_RUNS_H
#define COFFER_OBSERVE_GATEWAY_RUNS_H

#include <stdatomic.h>

#include "base/errors.h"
#include "observe/metrics.h"

struct gateway_runs;

/* Maps the file `path` (made when missing, mode 0600). `metrics` are the gateway's and borrowed; a
 * file that belongs to metrics of another layout begins anew. ERR_INTERNAL. Caller frees with
 * gateway_runs_close. */
enum err_code gateway_runs_open(struct gateway_runs **ret_runs, const char *path,
                                struct metrics *metrics, struct err *err) ERR_MUST_CHECK;
/* NULL is allowed here and in all that follows: nothing is counted. */
void gateway_runs_close(struct gateway_runs *runs);

/* ---- the reader ---- */

/* Waits until no other reader of the pipe `fd` is alive and takes over its run, or begins it.
 * ERR_INTERNAL: it is no pipe, the file has no room, or *stopped was set while it waited. */
enum err_code gateway_runs_join(struct gateway_runs *runs, int fd, const atomic_bool *stopped,
                                struct err *err) ERR_MUST_CHECK;
/* A line about an answer to the service itself; `mark` is 0 when it brought none. */
void gateway_runs_count_own(struct gateway_runs *runs, uint64_t mark);

/* ---- scrapers ---- */

/* A mark that nobody else has; never 0. */
uint64_t gateway_runs_new_mark(struct gateway_runs *runs);
/* What lighttpd gave as its total with that mark. False while the mark has not come through. The
 * total may be a second old, so what is found lost is never too much, and all of it when lighttpd
 * had nothing to answer for a second. */
bool gateway_runs_account(struct gateway_runs *runs, uint64_t mark, uint64_t total);
/* The scraper waits no longer for this mark, though lighttpd answered: its line may be lost, and is
 * then no client's. */
void gateway_runs_miss(struct gateway_runs *runs, uint64_t mark);
/* Raises METRIC_GATEWAY_LINES_LOST to what is known to be lost. */
void gateway_runs_publish(struct gateway_runs *runs);

#endif
