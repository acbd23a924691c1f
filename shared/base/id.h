/*
 * File ids: UUIDv7 (RFC 9562 §5.7), lower case with hyphens. Within one process ids never go back
 * and never repeat, also when the clock does: time and a 12-bit counter in rand_a come from one
 * atomic; the remaining 62 bits are random. Thread-safe.
 */
#ifndef COFFER_BASE_ID_H
#define COFFER_BASE_ID_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/str.h"

#define ID_LENGTH 36
#define ID_SIZE (ID_LENGTH + 1)

void id_new(const struct clock *clock, char target[ID_SIZE]);
/* 8-4-4-4-12 lower-case hexadecimal, version 7, variant 10. Nothing else is an id. */
bool id_is_valid(struct str text);

#endif
