/*
 * The connection to the gateway: the only code that knows libfcgi (fcgiapp.h, never fcgi_stdio.h).
 * Connections are accepted here and not by libfcgi, because a blocking accept4 wakes one thread a
 * connection, survives EMFILE and never loses a stop (docs/decisions/0003). One thread owns
 * a connection.
 */
#ifndef COFFER_APP_FCGI_H
#define COFFER_APP_FCGI_H

#include "app/watchdog.h"
#include "base/source.h"
#include "base/str.h"

struct fcgi;

/* Prepares the listening socket `listen_fd` for the process: call once, before any thread. The
 * handler of the wake signal must be installed. ERR_CONFIG when it is no listening socket. */
enum err_code fcgi_listen(int listen_fd, struct err *err) ERR_MUST_CHECK;

/* How heads reach libfcgi when bodies don't: one pipe a process. Thread-safe. */
struct fcgi_head_pipe;
enum err_code fcgi_head_pipe_open(struct fcgi_head_pipe **ret_pipe, struct err *err) ERR_MUST_CHECK;
/* NULL is allowed. */
void fcgi_head_pipe_close(struct fcgi_head_pipe *pipe);

struct fcgi_options {
    int listen_fd;
    struct watch *watch;       /* borrowed */
    const struct clock *clock; /* borrowed */
    struct fcgi_head_pipe
        *head_pipe; /* borrowed: bodies are read in large steps; NULL: by libfcgi */
};

/* One worker's connection. Caller frees with fcgi_close. */
enum err_code fcgi_open(struct fcgi **ret_fcgi, const struct fcgi_options *options, struct err *err)
    ERR_MUST_CHECK;
void fcgi_close(struct fcgi *fcgi);

enum fcgi_accepted {
    FCGI_REQUEST,  /* a connection is there */
    FCGI_NOTHING,  /* interrupted: look around, try again */
    FCGI_EXHAUSTED /* no descriptor or memory to accept with: wait a little, try again */
};

/* Waits for a connection: FCGI_REQUEST when there is one, to be read with fcgi_read. */
enum fcgi_accepted fcgi_accept(struct fcgi *fcgi);
/* Reads the request's variables from the accepted connection; false when it was broken (closed). */
bool fcgi_read(struct fcgi *fcgi);
/* "NAME=value" … NULL; borrowed until fcgi_finish. */
char *const *fcgi_environment(const struct fcgi *fcgi);
/* Did lighttpd's mod_proxy send it, as HTTP (app/proxied.h)? */
bool fcgi_is_proxied(const struct fcgi *fcgi);
/* The body: ends verified when exactly `content_length` bytes have arrived, else ERR_CLIENT_GONE or
 * (when the watchdog ended it) ERR_REQUEST_TIMEOUT. *ret_body is always set, and borrowed until
 * fcgi_finish. */
enum err_code fcgi_begin_body(struct fcgi *fcgi, int64_t content_length, struct source **ret_body,
                              struct err *err) ERR_MUST_CHECK;
int64_t fcgi_received(const struct fcgi *fcgi);
/* Sends a piece of the answer; false when the gateway is gone. */
bool fcgi_send(struct fcgi *fcgi, struct str piece);
/* Whether fcgi_send failed because the client takes the answer more slowly than it must. */
bool fcgi_is_refused(const struct fcgi *fcgi);
/* Completes the answer and closes the connection. */
void fcgi_finish(struct fcgi *fcgi);
/* Closes the connection in the middle of an answer, so that the gateway closes the client's at once
 * instead of waiting for the rest. */
void fcgi_break(struct fcgi *fcgi);

#endif
