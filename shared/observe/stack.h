/*
 * Where in the code something happened: frames of a stack, and the images (program, libraries)
 * their addresses lie in.
 *
 * Of errors the stack is kept where they are made (err_set), as addresses only, in a ring that all
 * threads share: an error often goes to another thread before it is reported. What is not reported
 * soon is overwritten. Nothing is kept before stack_watch_errors, and nothing is allocated.
 *
 * Unwinding is libgcc's (docs/decisions): it needs no frame pointers, sees through libraries, and
 * takes no lock (glibc's _dl_find_object).
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

/* The calling thread's stack: return addresses, the innermost first, from the one that equals
 * `from` on. Returns their number, 0 when there is no such. Async-signal-safe once it was called. */
size_t stack_walk(uintptr_t from, uintptr_t addresses[STACK_DEPTH]);

/* From now on errors have their stack (err_watch). Process-wide; before other threads run, or when
 * they have ended. */
void stack_watch_errors(bool is_on);
/* The stack of an error by its err->stack; its depth, 0 when it is not there (any more). Any
 * thread. */
size_t stack_of_error(unsigned stack, uintptr_t addresses[STACK_DEPTH]);

/*
 * Names for addresses: function, file and line by libbacktrace from the debug information of the
 * programs (built with -g), or from that of a file below /usr/lib/debug/.build-id when they are
 * stripped; else from their symbols.
 *
 * Of one thread: the sender's. What libbacktrace reads stays in memory (some megabytes) until the
 * process ends, so nothing is read before something is to be named.
 */

struct crash_record; /* crash_handler.h */
struct stack_names;

/* Without symbols frames have addresses and images alone. NULL when out of memory. Caller frees with
 * stack_names_free. */
struct stack_names *stack_names_new(bool with_symbols);
void stack_names_free(struct stack_names *names);

/* Addresses of this process, the innermost first, as stack_walk gives them: a report_resolve with
 * `context` a struct stack_names. The trace is borrowed until the next call. False when there is
 * nothing to tell. */
bool stack_names_resolve(void *context, const uintptr_t *addresses, size_t count,
                         struct stack_trace *ret_trace);
/* Those of a process that ended: named where an image with the same build-id is loaded here. The
 * trace borrows from `record` too. */
void stack_names_crash(struct stack_names *names, const struct crash_record *record,
                       struct stack_trace *ret_trace);
/* The innermost frame that is ours, NULL when there is none. */
const struct stack_frame *stack_top_in_app(const struct stack_trace *trace);

#endif
