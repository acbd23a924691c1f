/*
 * Shapes that the text of a setting must have: what the rows of config_table.c name as `is_valid`.
 */
#ifndef COFFER_BASE_CONFIG_SHAPE_H
#define COFFER_BASE_CONFIG_SHAPE_H

#include <stdbool.h>

#include "base/str.h"

/* At least one byte, each an ASCII letter, a digit or one of `others`. */
bool is_made_of(struct str text, const char *others);

bool is_word(struct str value);      /* up to 64 letters, digits, ".", "_" or "-" */
bool is_host(struct str value);      /* an address or a name */
bool is_authority(struct str value); /* a host with an optional port; IPv6 in brackets */
bool is_authority_list(struct str value);
bool is_node_list(struct str value);   /* authorities without brackets */
bool is_origin_list(struct str value); /* http(s)://AUTHORITY each */
bool is_endpoint(struct str value);    /* http(s)://AUTHORITY */
bool is_url(struct str value);         /* the same with an optional path, no query */
bool is_bucket(struct str value);
bool is_visible_text(struct str value); /* ASCII without blanks */
bool is_mongodb_uri(struct str value);
bool is_dsn(struct str value);    /* base/dsn.h */
bool is_bounds(struct str value); /* base/bounds.h */

#endif
