/*
 * Peer addresses and lists of them, as settings name them: IPv4 and IPv6 addresses and CIDR blocks
 * (RFC 4632, RFC 4291), comma separated. An IPv4 address that came in as IPv6 (::ffff:10.0.0.1) is
 * the IPv4 address. Pure functions.
 */
#ifndef COFFER_BASE_ADDRESS_H
#define COFFER_BASE_ADDRESS_H

#include <stdbool.h>

#include "base/str.h"

/* An IPv4 or IPv6 address, without brackets, zone or port. */
bool address_is_valid(struct str address);
/* 127.0.0.0/8, ::1, or the name "localhost". */
bool address_is_loopback(struct str host);
/* Whether an item of `list` is or holds `address`; an item that is not valid holds nothing. */
bool address_in_list(struct str list, struct str address);
/* Every item is an address or a block, and there is one at least. */
bool address_list_is_valid(struct str list);

#endif
