#include "app/pool_gauges.h"

#include "observe/metrics.h"

static void set(struct metrics *metrics, enum metric metric, const struct pool_usage *usage)
{
    metrics_set(metrics, metric, (const unsigned[]){usage->driver, CONNECTIONS_BUSY}, usage->busy);
    metrics_set(metrics, metric, (const unsigned[]){usage->driver, CONNECTIONS_IDLE}, usage->idle);
}

void pool_gauges_set(const void *service)
{
    const struct files *files = &((const struct service *)service)->files;
    struct pool_usage usage;
    if (!files->metrics)
        return;
    if (storage_connections(files->storage, &usage))
        set(files->metrics, METRIC_STORAGE_CONNECTIONS, &usage);
    if (metadata_connections(files->metadata, &usage))
        set(files->metrics, METRIC_METADATA_CONNECTIONS, &usage);
}
