/*
 * The head of a FastCGI request, looked at before libfcgi reads it: libfcgi 2.4.2 ends the program
 * on lengths that overflow (CVE-2025-23016). The head must be what a gateway sends: one begin
 * record of the responder role and the variables up to their empty record, no pair cut by a record,
 * FCGI_HEAD_MAX bytes at most. A gateway sends it in one write.
 */
#ifndef COFFER_APP_FCGI_HEAD_H
#define COFFER_APP_FCGI_HEAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

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

/* Waits for the head and judges it without taking it; false when it is bad, the connection ended,
 * or *timed_out was set. */
bool fcgi_head_peek(int fd, const atomic_bool *timed_out, struct fcgi_peek *ret_peek);

#endif
