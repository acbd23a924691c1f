/*
 * One line of lighttpd's access log, in the format of lighttpd/access.conf: fields between tabs, the
 * first of them the format's name. Clients choose the text of several fields: lighttpd writes all
 * that is not printable, quotes and backslashes as escapes, so a tab, or a newline, is always its
 * own. A line that was cut, or that begins in another's middle, has another first field or another
 * number of fields, and is no line. Used by one thread.
 */
#ifndef COFFER_ACCESS_LOG_ACCESS_LINE_H
#define COFFER_ACCESS_LOG_ACCESS_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/routes.h"
#include "base/str.h"

/* Of the 8 KiB that lighttpd takes as a request's head, each byte written as four, and our own. */
#define ACCESS_LINE_MAX (40 * 1024)

enum access_line_kind {
    ACCESS_ANSWER, /* an answer to a client */
    ACCESS_STATUS  /* an answer to this service's own question how lighttpd is */
};

struct access_line {
    enum access_line_kind kind;
    uint64_t mark; /* ACCESS_STATUS: what the question was sent with, 0: nothing; no more is set */
    int status;
    int64_t duration_us; /* from the request's first byte to the answer's last */
    int64_t begun_us;    /* the request's first byte, since 1970 */
    int64_t sent_bytes;  /* of the answer's body */
    int64_t body_bytes;  /* of the request's body that were announced and read */
    bool is_cut;         /* the connection ended before the answer */
    struct str client;   /* address; all that follow may be empty, and may hold any byte */
    struct str request_id;
    struct str traceparent;        /* of the answer */
    struct str caller_traceparent; /* of the request */
    struct str method;
    struct str target;
    struct str user_agent;
};

/* Reads a line without its newline; its escapes are resolved in place. False when it is none.
 * Slices are borrowed from `line`. */
bool access_line_parse(char *line, size_t len, struct access_line *ret_line);
enum http_method access_line_method(const struct access_line *line);
/* The path of the target as it was sent, without the query. */
struct str access_line_path(const struct access_line *line);
/* By the path as lighttpd understands it: decoded, without "." and ".." and empty segments. */
enum route access_line_route(const struct access_line *line);

#endif
