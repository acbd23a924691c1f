/*
 * Gauges of the connections to store and metadata: looked at now and then, not counted at every
 * call, so that no call pays for them.
 */
#ifndef COFFER_APP_POOL_GAUGES_H
#define COFFER_APP_POOL_GAUGES_H

#include "app/serve.h"

/* Sets storage_connections and metadata_connections to what the drivers say now. `service` is a
 * const struct service. Thread-safe. */
void pool_gauges_set(const void *service);

#endif
