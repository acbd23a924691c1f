/*
 * Which proxies a request came through (API.md, "Identity" and "Operations"). mod_extforward replaces
 * REMOTE_ADDR by an address of X-Forwarded-For when the peer is in TRUSTED_PROXIES; only what is judged
 * here may rest on that address. A gateway before nodes drops the headers of peers that it does not
 * list and says so in X-Coffer-Unlisted-Proxy (lighttpd/gateway.conf); a client that sends that header
 * itself only loses rights. Pure functions.
 */
#ifndef COFFER_ACCESS_FORWARDED_H
#define COFFER_ACCESS_FORWARDED_H

#include "base/config.h"
#include "http/request.h"

/* Does for a request that mod_proxy handed over what mod_extforward does for the others: sets remote_addr
 * from X-Forwarded-For where the peer is in TRUSTED_PROXIES. */
void forwarded_apply(const struct config *config, struct request *request);
/* Did it come through a proxy outside TRUSTED_PROXIES, as X-Forwarded-For, Forwarded or Via tell? */
bool forwarded_by_unlisted(const struct config *config, const struct request *request);
/* Is REMOTE_ADDR the address of the client itself: no unlisted proxy, and a listed one named the
 * client in X-Forwarded-For? */
bool forwarded_client_is_known(const struct config *config, const struct request *request);

#endif
