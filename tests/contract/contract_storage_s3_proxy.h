/*
 * A proxy before a store that spoils chosen requests: for each request a connection of its own to
 * the store. Counts requests from 1 since s3_proxy_set.
 */
#ifndef COFFER_TESTS_CONTRACT_STORAGE_S3_PROXY_H
#define COFFER_TESTS_CONTRACT_STORAGE_S3_PROXY_H

#include <stdbool.h>

#include "base/config.h"

enum s3_fault {
    S3_FAULT_RESET,      /* the store never sees the request */
    S3_FAULT_LOST_REPLY, /* the store has done it, the answer is lost */
    S3_FAULT_500,        /* refused once with 500, the store never sees it */
    S3_FAULT_CUT,        /* half of the answer's bytes, then a reset */
    S3_FAULT_SILENT,     /* no answer until the client gives up */
    S3_FAULT_COUNT
};

extern const char *const s3_fault_names[S3_FAULT_COUNT];

struct s3_proxy;

/* Before config->s3_endpoint; ret_config leads through it. */
struct s3_proxy *s3_proxy_open(const struct config *config, struct config *ret_config);
void s3_proxy_close(struct s3_proxy *proxy);
/* Spoils the request of that number, or all from it on; 0: none. */
void s3_proxy_set(struct s3_proxy *proxy, enum s3_fault fault, int number, bool and_all_later);
/* Requests since then. */
int s3_proxy_requests(const struct s3_proxy *proxy);

#endif
