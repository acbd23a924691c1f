/*
 * Upper bounds of a histogram's buckets as a setting writes them: "0.005,0.01,0.5,1". Rising,
 * positive, in plain decimals. A value.
 */
#ifndef COFFER_BASE_BOUNDS_H
#define COFFER_BASE_BOUNDS_H

#include <stdbool.h>

#include "base/str.h"

#define BOUNDS_MAX 31

struct bounds {
    double values[BOUNDS_MAX];
    unsigned count;
};

/* False when it is no such list: 1 to BOUNDS_MAX numbers of at most 15 digits each. */
bool bounds_parse(struct str list, struct bounds *ret_bounds);

#endif
