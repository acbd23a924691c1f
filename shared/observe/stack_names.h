/*
 * Names for addresses: function, file and line by libbacktrace from the debug information of the
 * programs (built with -g), or from that of a file below /usr/lib/debug/.build-id when they are
 * stripped; else from their symbols.
 *
 * Of one thread: the sender's. What libbacktrace reads stays in memory (some megabytes) until the
 * process ends, so nothing is read before something is to be named.
 */
#ifndef COFFER_OBSERVE_STACK_NAMES_H
#define COFFER_OBSERVE_STACK_NAMES_H

#include "observe/stack.h"

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
