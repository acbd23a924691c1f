/*
 * How long to wait before another attempt: exponential backoff with jitter, so that the clients of a
 * server that failed do not all come back at once. Thread-safe.
 */
#ifndef COFFER_BASE_BACKOFF_H
#define COFFER_BASE_BACKOFF_H

#include <stdint.h>

#include "base/clock.h"

enum backoff_jitter {
    BACKOFF_FULL_JITTER, /* anything from 0 to the ceiling */
    BACKOFF_HALF_JITTER, /* from half of the ceiling on */
};

struct backoff {
    int64_t min_ms; /* the first ceiling; it doubles with each further failure */
    int64_t max_ms; /* the highest ceiling */
    enum backoff_jitter jitter;
};

/* Milliseconds to wait after `failures` earlier failures in a row (0: this was the first one). */
int64_t backoff_ms(const struct backoff *backoff, unsigned failures, const struct clock *clock);

#endif
