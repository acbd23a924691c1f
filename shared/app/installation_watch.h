/*
 * At the start of a program: do its store and its database belong together (files_installation.h)?
 * The launcher asked before, but a store may have been away then. So a thread asks, and asks again
 * until it gets an answer. The start waits for its first one, a second at most; when a later one is
 * no, the program stops in order, and its next start is refused.
 */
#ifndef COFFER_APP_INSTALLATION_WATCH_H
#define COFFER_APP_INSTALLATION_WATCH_H

#include "app/serve.h"

struct installation_watch;

/* ERR_CONFIG when they don't belong together. `service` is borrowed. Caller frees with
 * installation_watch_close. */
enum err_code installation_watch_open(struct installation_watch **ret_watch,
                                      const struct service *service, struct err *err)
    ERR_MUST_CHECK;
/* Waits for a question under way. NULL is allowed. */
void installation_watch_close(struct installation_watch *watch);

#endif
