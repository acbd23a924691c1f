/*
 * How much of a pool of connections is in use: what a driver says of its own. A value.
 */
#ifndef COFFER_BASE_POOL_USAGE_H
#define COFFER_BASE_POOL_USAGE_H

struct pool_usage {
    unsigned driver; /* value of the metrics label "driver" */
    unsigned busy;   /* connections that work for a call */
    unsigned idle;   /* connections that wait for one */
};

#endif
