#include "observe/stack.h"

/* A file of its own: libbacktrace's header comes with gcc's, among which clang finds gcc's atomics. */
#include <backtrace.h>
#include <stdlib.h>
#include <unistd.h>

#include "observe/crash_handler.h"

#define FRAMES_MAX ((size_t)2 * STACK_DEPTH) /* functions that were inlined have frames too */
#define STATES_MAX 8
#define PATH_SIZE 512

struct stack_names {
    bool has_symbols;
    struct backtrace_state *state; /* of the images loaded when it was made */
    unsigned long long loaded;
    unsigned states_made;
    char program_file[PATH_SIZE];
    struct image images_here[CRASH_IMAGES];
    struct stack_image images[CRASH_IMAGES];
    size_t image_count;
    struct stack_frame innermost_first[FRAMES_MAX];
    struct stack_frame frames[FRAMES_MAX];
    size_t frame_count;
    /* of the frame that is being named */
    uintptr_t address;
    bool is_own_image;
};

struct stack_names *stack_names_new(bool with_symbols)
{
    struct stack_names *names = calloc(1, sizeof *names);
    if (!names)
        return NULL;
    names->has_symbols = with_symbols;
    ssize_t len = readlink("/proc/self/exe", names->program_file, sizeof names->program_file - 1);
    names->program_file[len > 0 ? len : 0] = '\0';
    return names;
}

void stack_names_free(struct stack_names *names)
{
    free(names); /* libbacktrace has no end for its state */
}

/* What can't be read has no name, which is all there is to say about it. */
static void on_error(void *context, const char *message, int number)
{
    (void)context;
    (void)message;
    (void)number;
}

/* A state knows what was loaded when it was made (the metadata plugin comes later), and can't be
 * freed: so there are not many. */
static void renew_state(struct stack_names *names)
{
    unsigned long long loaded = images_loaded();
    if (!names->has_symbols || names->states_made == STATES_MAX ||
        (names->state && names->loaded == loaded))
        return;
    names->state = backtrace_create_state(NULL, 0, on_error, NULL);
    names->loaded = loaded;
    names->states_made++;
}

/* ---- one frame ---- */

/* Our sources are compiled by names relative to the tree; headers of the system are not. */
static bool is_own_source(const char *file)
{
    return !file || file[0] != '/';
}

static const char *shown_file(const char *file)
{
    return file && strncmp(file, "./", 2) == 0 ? file + 2 : file;
}

static void add_frame(struct stack_names *names, const char *function, const char *file, int line)
{
    if (names->frame_count == FRAMES_MAX)
        return;
    names->innermost_first[names->frame_count++] =
        (struct stack_frame){.function = function,
                             .file = shown_file(file),
                             .line = line,
                             .address = names->address,
                             .in_app = names->is_own_image && is_own_source(file)};
}

static int on_line(void *context, uintptr_t address, const char *file, int line,
                   const char *function)
{
    (void)address;
    if (function)
        add_frame(context, function, file, line);
    return 0;
}

static void on_symbol(void *context, uintptr_t address, const char *function, uintptr_t value,
                      uintptr_t size)
{
    (void)address;
    (void)value;
    (void)size;
    if (function)
        add_frame(context, function, NULL, 0);
}

/* `here` is where the code stands in this process, 0 when it does not. */
static void name_frame(struct stack_names *names, uintptr_t here)
{
    size_t before = names->frame_count;
    if (here && names->state)
        backtrace_pcinfo(names->state, here, on_line, on_error, names);
    if (here && names->state && names->frame_count == before)
        backtrace_syminfo(names->state, here, on_symbol, on_error, names);
    if (names->frame_count == before)
        add_frame(names, NULL, NULL, 0);
}

/* ---- images ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The program itself, and what stands beside it as a part of it. */
static bool is_own(const struct stack_names *names, const char *file)
{
    return strcmp(file, names->program_file) == 0 ||
           (strncmp(base_name(file), "coffer-", 7) == 0 && strstr(base_name(file), ".so"));
}

/* The image of an address of this process, which is listed from then on; NULL when in none. */
static const struct stack_image *list_image(struct stack_names *names, uintptr_t address)
{
    for (size_t i = 0; i < names->image_count; i++)
        if (address - names->images[i].start < names->images[i].size)
            return &names->images[i];
    struct image *image = &names->images_here[names->image_count];
    if (names->image_count == CRASH_IMAGES || !image_of(address, image))
        return NULL;
    struct stack_image *listed = &names->images[names->image_count++];
    *listed = (struct stack_image){.file = *image->file ? image->file : names->program_file,
                                   .build_id = image->build_id,
                                   .start = image->start,
                                   .size = image->size};
    return listed;
}

/* ---- traces ---- */

static void begin_trace(struct stack_names *names)
{
    renew_state(names);
    names->frame_count = 0;
    names->image_count = 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    return len >= strlen(end) && strcmp(text + len - strlen(end), end) == 0;
}

/* Functions that only word an error for their caller are named so; the caller is what failed. */
static void skip_wording(struct stack_names *names)
{
    for (size_t i = 0; i + 1 < names->frame_count; i++) {
        struct stack_frame *frame = &names->innermost_first[i];
        if (!frame->function || !ends_with(frame->function, "_failed"))
            return;
        frame->in_app = false;
    }
}

static void end_trace(struct stack_names *names, struct stack_trace *ret_trace)
{
    for (size_t i = 0; i < names->frame_count; i++)
        names->frames[i] = names->innermost_first[names->frame_count - 1 - i];
    *ret_trace = (struct stack_trace){.frames = names->frames,
                                      .frame_count = names->frame_count,
                                      .images = names->images,
                                      .image_count = names->image_count};
}

bool stack_names_resolve(void *context, const uintptr_t *addresses, size_t count,
                         struct stack_trace *ret_trace)
{
    struct stack_names *names = context;
    if (!names)
        return false;
    begin_trace(names);
    for (size_t i = 0; i < count; i++) {
        const struct stack_image *image = list_image(names, addresses[i]);
        names->address = addresses[i];
        names->is_own_image = image && is_own(names, image->file);
        name_frame(names, addresses[i] - 1); /* in the call, not behind it */
    }
    skip_wording(names);
    end_trace(names, ret_trace);
    return names->frame_count > 0;
}

static const struct crash_image *image_in(const struct crash_record *record, uintptr_t address)
{
    for (size_t i = 0; i < record->image_count; i++)
        if (address - record->images[i].start < record->images[i].size)
            return &record->images[i];
    return NULL;
}

/* Where the same code stands in this process. */
static uintptr_t address_here(const struct crash_image *image, uintptr_t address)
{
    struct image here;
    if (!image || !image_with_build_id(image->build_id, &here) || here.size != image->size)
        return 0;
    return here.start + (address - image->start);
}

void stack_names_crash(struct stack_names *names, const struct crash_record *record,
                       struct stack_trace *ret_trace)
{
    begin_trace(names);
    for (size_t i = 0; i < record->frame_count; i++) {
        uintptr_t address = record->frames[i];
        const struct crash_image *image = image_in(record, address);
        names->address = address;
        names->is_own_image = image && is_own(names, image->file);
        /* The first is where the fault was, the others are return addresses. */
        uintptr_t here = address_here(image, address);
        name_frame(names, here && i > 0 ? here - 1 : here);
    }
    for (size_t i = 0; i < record->image_count; i++)
        names->images[names->image_count++] =
            (struct stack_image){.file = record->images[i].file,
                                 .build_id = record->images[i].build_id,
                                 .start = record->images[i].start,
                                 .size = record->images[i].size};
    end_trace(names, ret_trace);
}

const struct stack_frame *stack_top_in_app(const struct stack_trace *trace)
{
    for (size_t i = trace->frame_count; i > 0; i--)
        if (trace->frames[i - 1].in_app)
            return &trace->frames[i - 1];
    return NULL;
}
