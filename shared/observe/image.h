/*
 * The images of this process: the program and the libraries that are loaded. Of each, its first
 * address, its build-id and its file.
 */
#ifndef COFFER_OBSERVE_IMAGE_H
#define COFFER_OBSERVE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_BUILD_ID_SIZE 65 /* hexadecimal, with a NUL: SHA-1 has 40 digits */

struct image {
    uintptr_t start; /* its ELF header */
    size_t size;
    const char *file;                   /* "" for the program itself; lives as long as the image */
    char build_id[IMAGE_BUILD_ID_SIZE]; /* "" when it has none */
};

/* The image an address lies in; false when in none. Async-signal-safe, but for an image that is
 * loaded or removed at the same time. */
bool image_of(uintptr_t address, struct image *ret_image);
/* The loaded image with this build-id; not async-signal-safe. */
bool image_with_build_id(const char *build_id, struct image *ret_image);
/* How many images were loaded so far: a change says that there may be new ones. */
unsigned long long images_loaded(void);

#endif
