/*
 * The connection to the gateway: the only code that knows libfcgi (fcgiapp.h, never fcgi_stdio.h).
 * Connections are accepted here and not by libfcgi, because a blocking accept4 wakes one thread a
 * connection, survives EMFILE and never loses a stop (docs/decisions/0003). One thread owns
 * a connection.
 */
#ifndef COFFER_APP_FCGI_H
#define COFFER_APP_FCGI_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "app/watchdog.h"
#include "base/errors.h"
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

/*
 * The body of a FastCGI request, read straight from the connection in large steps and handed out
 * without a copy: libfcgi reads 8 KiB at a time, which costs an upload half its speed. The
 * connection must stand behind the head (fcgi_head_take). Used by one thread.
 */

struct fcgi_body {
    int fd; /* borrowed */
    unsigned char *buffer;
    size_t size;
    size_t start; /* unread bytes are buffer[start…end) */
    size_t end;
    size_t record_left; /* content of the record that is being read */
    size_t padding_left;
};

/* `length` bytes are promised. ERR_NO_MEMORY. Caller frees with fcgi_body_release. */
enum err_code fcgi_body_init(struct fcgi_body *body, int fd, int64_t length, struct err *err)
    ERR_MUST_CHECK;
void fcgi_body_release(struct fcgi_body *body);
/* The next bytes, borrowed until the next call; empty when the body, the connection or the protocol
 * ended before there were any. */
struct str fcgi_body_next(struct fcgi_body *body);

/*
 * The head of a FastCGI request, looked at before libfcgi reads it: libfcgi 2.4.2 ends the program
 * on lengths that overflow (CVE-2025-23016). The head must be what a gateway sends: one begin
 * record of the responder role and the variables up to their empty record, no pair cut by a record,
 * FCGI_HEAD_MAX bytes at most. A gateway sends it in one write.
 */

#define FCGI_HEAD_MAX (24 * 1024) /* 8 KiB of request headers, each escaped once, and our own */

enum fcgi_head { FCGI_HEAD_SOUND, FCGI_HEAD_INCOMPLETE, FCGI_HEAD_BAD };

/* Judges the first `len` bytes of a connection; *ret_head_len is set when they hold a sound head. */
enum fcgi_head fcgi_head_check(const unsigned char *head, size_t len, size_t *ret_head_len);

struct fcgi_peek {
    unsigned char bytes[FCGI_HEAD_MAX];
    size_t len; /* bytes that were there */
    size_t head_len;
    bool has_body; /* the body's last record has arrived too */
};

#endif
