/*
 * str: a slice of bytes that somebody else owns. Not NUL-terminated. buf: bytes that grow up to a
 * maximum set at the start, and owns its memory. Appending past the maximum fails and marks the
 * buffer (`failed`), so a chain of appends is checked once at its end. Not thread-safe.
 */
#ifndef COFFER_BASE_STR_H
#define COFFER_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *data; /* borrowed; may be NULL when len is 0 */
    size_t len;       /* bytes */
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})

/* The slice of a NUL-terminated text; NULL gives the empty slice. */
static inline struct str str_of(const char *text)
{
    return (struct str){text, text ? strlen(text) : 0};
}

bool str_equal(struct str a, struct str b);
bool str_equal_nocase(struct str a, struct str b); /* ASCII letters only */
bool str_starts_with(struct str text, struct str prefix);
struct str str_trim(struct str text); /* without spaces and tabs at both ends */
/* Index of the first `byte`, or text.len. */
size_t str_find(struct str text, char byte);
/* Cuts *rest at the first `byte`: returns what stands before it, *rest becomes what follows
 * (empty when the byte is not there). */
struct str str_cut(struct str *rest, char byte);
/* Copies into target[size] with a NUL; false when it does not fit or holds a NUL (target = ""). */
bool str_copy(char *target, size_t size, struct str text) __attribute__((warn_unused_result));

struct buf {
    char *data; /* NUL-terminated as soon as anything was appended; owned */
    size_t len; /* bytes, without the NUL */
    size_t cap;
    size_t max;  /* bytes that may be held, without the NUL */
    bool failed; /* an append passed max, or memory ran out; what was held stays */
};

/* An empty buffer that may hold `max` bytes; allocates nothing. */
void buf_init(struct buf *buf, size_t max);
/* Frees the memory; the buffer is empty and usable again, with the same max. */
void buf_release(struct buf *buf);
/* Empties it and clears `failed`, keeps the memory. */
void buf_reset(struct buf *buf);
void buf_append(struct buf *buf, const void *data, size_t len);
void buf_append_str(struct buf *buf, struct str text);
void buf_append_text(struct buf *buf, const char *text);
void buf_append_char(struct buf *buf, char byte);
void buf_append_int(struct buf *buf, int64_t value);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *buf, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static inline struct str buf_str(const struct buf *buf)
{
    return (struct str){buf->data, buf->len};
}
/* The text, NUL-terminated; "" while nothing was appended. Borrowed until the next append. */
static inline const char *buf_text(const struct buf *buf)
{
    return buf->data ? buf->data : "";
}

#endif
