/*
 * What keeps web pages of others out (API.md, "Identity") and lets listed ones in (CORS,
 * https://fetch.spec.whatwg.org/#http-cors-protocol).
 */
#ifndef COFFER_ACCESS_ORIGIN_H
#define COFFER_ACCESS_ORIGIN_H

#include "base/config.h"
#include "http/request.h"
#include "http/response.h"

/* AUTH_MODE=none: ERR_FORBIDDEN for what came through a proxy outside TRUSTED_PROXIES, unless
 * Host is a loopback name or in ALLOWED_HOSTS (any will do for probes), and for POST, PUT, PATCH, DELETE with a foreign Origin (unless in ALLOWED_ORIGINS) or Sec-Fetch-Site:
 * cross-site. Other modes: always ERR_OK, a token is proof enough. */
enum err_code origin_check(const struct config *config, const struct request *request,
                           struct err *err) ERR_MUST_CHECK;
/* Adds the CORS headers when Origin is in ALLOWED_ORIGINS, or when lighttpd refused the request before
 * anybody had read it; and Vary: Origin when any is set. */
void origin_write_cors(const struct config *config, const struct request *request,
                       struct response *response);

/* Appends the same as rules for lighttpd, for the answers that it gives without a program: browsers send
 * origins in lower case, as these are to be listed for it. */
void origin_print_rules(const struct config *config, struct buf *out);

/*
 * Which proxies a request came through (API.md, "Identity" and "Operations"). mod_extforward replaces
 * REMOTE_ADDR by an address of X-Forwarded-For when the peer is in TRUSTED_PROXIES; only what is judged
 * here may rest on that address. A gateway before nodes drops the headers of peers that it does not
 * list and says so in X-Coffer-Unlisted-Proxy (lighttpd/gateway.conf); a client that sends that header
 * itself only loses rights. Pure functions.
 */

/* Does for a request that mod_proxy handed over what mod_extforward does for the others: sets remote_addr
 * from X-Forwarded-For where the peer is in TRUSTED_PROXIES. */
void forwarded_apply(const struct config *config, struct request *request);
/* Did it come through a proxy outside TRUSTED_PROXIES, as X-Forwarded-For, Forwarded or Via tell? */
bool forwarded_by_unlisted(const struct config *config, const struct request *request);
/* Is REMOTE_ADDR the address of the client itself: no unlisted proxy, and a listed one named the
 * client in X-Forwarded-For? */
bool forwarded_client_is_known(const struct config *config, const struct request *request);

#endif
