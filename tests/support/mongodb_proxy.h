/*
 * Stands between the driver and a MongoDB server, passes messages on whole, and breaks the
 * connection at a command of one's choice: before the server has it, or before its reply comes
 * back. Handshakes and heartbeats are not counted and always pass. Its threads end with close.
 */
#ifndef COFFER_TESTS_MONGODB_PROXY_H
#define COFFER_TESTS_MONGODB_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mongodb_cut { CUT_REQUEST, CUT_REPLY };

struct mongodb_proxy;

/* Told of each command, on a connection's thread. */
typedef void mongodb_proxy_callback(void *context, const uint8_t *message, size_t len);

/* In front of the server of `uri` (one address, no TLS); ret_uri[uri_size] leads to the proxy.
 * NULL (and a message) when that can't be. Caller ends it with mongodb_proxy_close. */
struct mongodb_proxy *mongodb_proxy_open(const char *uri, char *ret_uri, size_t uri_size);
void mongodb_proxy_close(struct mongodb_proxy *proxy);
/* Counts from the next command on; breaks `times` commands in a row, the `nth` (from 1) first. */
void mongodb_proxy_cut(struct mongodb_proxy *proxy, enum mongodb_cut cut, int nth, int times);
/* Commands broken since then. */
int mongodb_proxy_broken(const struct mongodb_proxy *proxy);
/* Before the first connection. */
void mongodb_proxy_tell(struct mongodb_proxy *proxy, mongodb_proxy_callback *callback,
                        void *context);
/* The value of the text `name` anywhere in a command; NULL: there is none. */
const char *mongodb_proxy_text(const uint8_t *message, size_t len, const char *name);
/* Refuses all connections, and takes them again on the same port. */
void mongodb_proxy_stop(struct mongodb_proxy *proxy);
bool mongodb_proxy_start(struct mongodb_proxy *proxy);

#endif
