/*
 * Which route a path belongs to: the templates of base/routes, literal segments before parameters.
 * Pure functions.
 */
#ifndef COFFER_HTTP_ROUTE_MATCH_H
#define COFFER_HTTP_ROUTE_MATCH_H

#include "base/routes.h"
#include "base/str.h"

struct route_path {
    struct str script;   /* SCRIPT_NAME and PATH_INFO: together the normalised path, */
    struct str info;     /* cut between segments by the gateway */
    struct str raw_path; /* of REQUEST_URI, still encoded */
};

struct route_found {
    enum route route;
    struct str id;       /* {id}, else empty; borrowed from the path */
    struct str raw_name; /* {name}: what stands after the last "/" of raw_path, else empty */
};

/* A trailing slash belongs to no route but a {name} one, where it is the empty name. A {name} with
 * an encoded "/" matches too (the gateway decodes it), real folders do not. */
struct route_found route_match(const struct route_path *path);

#define ROUTE_RAW_MAX (40 * 1024) /* more than lighttpd takes in a head */

/* The same of a path as a request line has it: decoded and simplified as lighttpd does it before it
 * asks a program. What is found is borrowed from `path` and `room`. */
struct route_found route_match_raw(struct str path, char room[ROUTE_RAW_MAX]);

#endif
