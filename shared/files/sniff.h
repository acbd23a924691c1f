/*
 * Declared media types against the bytes (libmagic; ABUSE row 26, ASVS 5.2.2): a type that may be
 * shown inline is kept only when the bytes don't contradict it. Thread-safe.
 */
#ifndef COFFER_FILES_SNIFF_H
#define COFFER_FILES_SNIFF_H

#include <stdbool.h>
#include <stddef.h>

/* May a file of this type be shown in place: it can't run script (API.md, GET /api/files/{id}). */
bool mime_may_be_inline(const char *mime);
/* Is it text/…, which has a charset? */
bool mime_is_text(const char *mime);
/* Do the first bytes of a file contradict the declared inline type? Types that are never shown
 * inline are never contradicted. When libmagic can't be used, everything is contradicted. */
bool mime_is_contradicted(const char *mime, const void *head, size_t head_len);

#endif
