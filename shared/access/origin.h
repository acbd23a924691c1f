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

#endif
