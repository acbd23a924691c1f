/*
 * The memory that holds parts of uploads on their way to a store: all of them together never more
 * than a bound. Thread-safe; a buffer itself is used by one thread at a time.
 *
 * An upload waits for its first buffer, in the order of asking, and only tries for a second one: who
 * waits holds nothing, so nobody waits for ever. Only part_memory_grow waits while it holds a
 * buffer, and it has a deadline.
 *
 * Buffers are mapped and unmapped, so that memory given back leaves the process.
 */
#ifndef COFFER_STORAGE_PART_MEMORY_H
#define COFFER_STORAGE_PART_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/errors.h"

struct part_memory;

struct part_buffer {
    unsigned char *data; /* NULL: none is held */
    size_t size;         /* bytes it may hold */
    size_t len;          /* bytes in it: the holder's */
};

/* `max` bytes at most. ERR_NO_MEMORY. Caller frees with part_memory_close, after all was given
 * back. */
enum err_code part_memory_open(struct part_memory **ret_memory, size_t max, struct err *err)
    ERR_MUST_CHECK;
/* NULL is allowed. */
void part_memory_close(struct part_memory *memory);

/* An empty buffer of `size` bytes (not 0), after waiting for it at most wait_ms.
 * ERR_STORAGE_UNAVAILABLE when it did not come free in that time, ERR_NO_MEMORY. The caller ends it
 * with part_memory_give. */
enum err_code part_memory_take(struct part_memory *memory, size_t size, int64_t wait_ms,
                               struct part_buffer *ret_buffer, struct err *err) ERR_MUST_CHECK;
/* The same without waiting; false when there is none or others wait. */
bool part_memory_try(struct part_memory *memory, size_t size, struct part_buffer *ret_buffer)
    __attribute__((warn_unused_result));
/* Makes a held buffer larger, what is in it stays; waits and fails like part_memory_take, and then
 * the buffer is as it was. */
enum err_code part_memory_grow(struct part_memory *memory, struct part_buffer *buffer, size_t size,
                               int64_t wait_ms, struct err *err) ERR_MUST_CHECK;
/* Does anybody wait? Then a second buffer is better given back. */
bool part_memory_is_wanted(struct part_memory *memory);
/* Gives the buffer back and empties it; nothing happens when none is held. */
void part_memory_give(struct part_memory *memory, struct part_buffer *buffer);

#endif
