/*
 * What a program does when it crashes (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT): writes a record
 * and one line to standard error, then dies of the same signal, so that who started
 * it sees what it would have seen without this.
 *
 * Everything the handler needs is made ready by crash_handler_install; it allocates nothing, takes
 * no lock, and runs on a stack of its own (thread.h). A fault of the handler itself, or half a
 * minute without an end, ends the process with what is written by then. Of threads that crash at
 * once the first is recorded.
 *
 * Process-wide. Not in builds with sanitizers, which have handlers of their own.
 */
#ifndef COFFER_OBSERVE_CRASH_HANDLER_H
#define COFFER_OBSERVE_CRASH_HANDLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "observe/metrics.h"
#include "observe/stack.h"
#include "observe/trace.h"

/*
 * The images of this process: the program and the libraries that are loaded. Of each, its first
 * address, its build-id and its file.
 */

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

/*
 * What a crash leaves: a text of lines, written by the signal handler and read by
 * the next start of the program.
 *
 *     coffer-crash 1
 *     program files_get
 *     release 1.2.0
 *     time 1763720000123                  milliseconds since 1970
 *     signal 11 1 0x0                     number, si_code, address
 *     request ID TRACE SPAN PARENT ROUTE  when the thread served one; "-" for what it lacks
 *     image 0x55d1c0a00000 0x61000 BUILD-ID /usr/local/libexec/coffer/files_get
 *     frame 0x55d1c0a0f321                the innermost first: where it stood, then return addresses
 *     end 83c1d4a2f0e1b795                FNV-1a of all before this line
 *
 * It holds no memory content: no stack bytes, registers or arguments. Whatever the bytes, reading
 * is safe: what isn't wholly as above is refused.
 */

#define CRASH_RECORD_MAX (16 * 1024)
#define CRASH_IMAGES 24
#define CRASH_FILE_SIZE 256
#define CRASH_NAME_SIZE 64 /* of program and release */
#define CRASH_ROUTE_SIZE 96

struct crash_image {
    char file[CRASH_FILE_SIZE];
    char build_id[IMAGE_BUILD_ID_SIZE];
    uintptr_t start;
    size_t size;
};

struct crash_record {
    char program[CRASH_NAME_SIZE];
    char release[CRASH_NAME_SIZE];
    int64_t time_ms;
    int signal;
    int code;
    uintptr_t address; /* of the fault, where the signal has one */
    bool has_request;
    struct trace trace;
    char route[CRASH_ROUTE_SIZE];
    struct crash_image images[CRASH_IMAGES];
    size_t image_count;
    uintptr_t frames[STACK_DEPTH];
    size_t frame_count;
};

/* False when `text` is no whole record; *ret_record is unspecified then. */
bool crash_record_parse(struct str text, struct crash_record *ret_record);

/* FNV-1a. Async-signal-safe. */
uint64_t crash_record_hash(struct str text);

/* ---- writing; all async-signal-safe ---- */

struct crash_text {
    char bytes[CRASH_RECORD_MAX];
    size_t len;
    size_t whole; /* up to the last line that is complete */
};

void crash_text_begin(struct crash_text *text, const char *program, int64_t time_ms);
void crash_text_signal(struct crash_text *text, int number, int code, uintptr_t address);
void crash_text_request(struct crash_text *text, const struct trace *trace, const char *route);
/* `program_file` for the image that has no name. */
void crash_text_image(struct crash_text *text, const struct image *image, const char *program_file);
void crash_text_frame(struct crash_text *text, uintptr_t address);
/* Drops a line that was not completed, and seals the text. */
void crash_text_end(struct crash_text *text);

#define CRASH_RECORDS_MAX 8                  /* of a program, that wait to be reported */
#define CRASH_FILE_NAME "crash-%s-%u.record" /* program, number below CRASH_RECORDS_MAX */
#define CRASH_PART_SUFFIX ".part"            /* one that is being written */

struct crash_options {
    const char *program;     /* static text */
    const char *folder;      /* made when it is missing */
    struct metrics *metrics; /* or NULL; borrowed. Counts records that find no place */
};

/* False when the folder can't be used, or in a build with sanitizers. Before other threads start:
 * those that call signal_stack_take are covered also when their stack is full. */
bool crash_handler_install(const struct crash_options *options);
/* Restores the default. Nothing to do when nothing was installed. */
void crash_handler_remove(void);

/* What this thread does until crash_request_end; both are borrowed. */
void crash_request_begin(const struct trace *trace, const char *route);
void crash_request_end(void);

#endif
