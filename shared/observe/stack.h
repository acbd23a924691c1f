/*
 * Where in the code something happened: frames of a stack, and the images (program, libraries)
 * their addresses lie in.
 */
#ifndef COFFER_OBSERVE_STACK_H
#define COFFER_OBSERVE_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STACK_DEPTH 64

struct stack_frame {
    const char *function; /* NULL: not known */
    const char *file;     /* NULL: not known */
    int line;             /* 0: not known */
    uintptr_t address;
    bool in_app; /* ours, not a library's */
};

struct stack_image {
    const char *file;
    const char *build_id; /* hexadecimal; "" when it has none */
    uintptr_t start;
    size_t size;
};

struct stack_trace {
    const struct stack_frame *frames; /* the oldest first */
    size_t frame_count;
    const struct stack_image *images;
    size_t image_count;
};

#endif
