/*
 * An HTTP server of raw answers for tests, on a free port of 127.0.0.1: a function speaks with each
 * connection on a thread of its own, and may misbehave as it likes.
 */
#ifndef COFFER_TESTS_HTTP_SERVER_H
#define COFFER_TESTS_HTTP_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct http_server;

/* One connection; used by its thread alone. */
struct http_peer {
    struct http_server *server;
    void *context; /* the test's */
    int fd;
    int number;      /* of the connection, from 0 */
    int requests;    /* read from it */
    struct buf head; /* of the last request, with the empty line */
    struct buf body; /* of the last request */
    struct buf unread;
};

typedef void http_serve(struct http_peer *peer);

/* Ends the program when it can't listen. */
struct http_server *http_server_open(http_serve *serve, void *context);
/* Cuts what is still open, and waits for all threads. */
void http_server_close(struct http_server *server);
int http_server_port(const struct http_server *server);
/* How many connections were made, and requests read. */
int http_server_connections(const struct http_server *server);
int http_server_requests(const struct http_server *server);

#define HTTP_URL_SIZE 256
/* "http://127.0.0.1:PORT" and the target. */
const char *http_server_url(const struct http_server *server, const char *target,
                            char url[HTTP_URL_SIZE]);

/* The next request's head; false when there is none. */
bool http_peer_read_head(struct http_peer *peer);
/* Its body, of as many bytes as Content-Length says. */
bool http_peer_read_body(struct http_peer *peer);
/* Both. */
bool http_peer_read(struct http_peer *peer);
/* Whether the last head holds that text. */
bool http_peer_saw(const struct http_peer *peer, const char *text);
/* False when the client has gone. */
bool http_peer_write(struct http_peer *peer, struct str bytes);
bool http_peer_write_text(struct http_peer *peer, const char *text);
/* `len` bytes of a known pattern, from `offset` of it on. */
bool http_peer_write_pattern(struct http_peer *peer, int64_t offset, int64_t len);
/* Waits until the client has gone, the server closes, or the time is over. */
void http_peer_pause(struct http_peer *peer, int64_t duration_ms);
/* Closes so that the client sees ECONNRESET. */
void http_peer_reset(struct http_peer *peer);

/* The pattern repeats after a length that no buffer has. */
#define HTTP_PATTERN_PERIOD (251 * 256)
/* Its byte at an offset, and as many from there on as the period is long. */
char http_pattern(int64_t offset);
const char *http_pattern_at(int64_t offset);

#endif
