#include "observe/crash_handler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/sanitizer.h"
#include "base/signal_stack.h"

#define HANDLER_SECONDS 30
#define PATH_SIZE 512
#define NAME_SIZE 96

static struct {
    char program[CRASH_NAME_SIZE];
    char program_file[PATH_SIZE];
    char final_names[CRASH_RECORDS_MAX][NAME_SIZE];
    struct metrics *metrics;
    int folder_fd;
    bool is_installed;
} setup = {.folder_fd = -1};

enum phase { PHASE_READING, PHASE_WRITING, PHASE_ENDING };

/* Of the thread that crashes first. */
static struct {
    atomic_int thread;
    enum phase phase;
    struct crash_text text;
    uintptr_t frames[STACK_DEPTH];
    uintptr_t images[CRASH_IMAGES]; /* their first addresses */
    size_t image_count;
} crash;

static _Thread_local struct {
    const struct trace *trace;
    const char *route;
} current;

void crash_request_begin(const struct trace *trace, const char *route)
{
    current.trace = trace;
    current.route = route;
}

void crash_request_end(void)
{
    current.trace = NULL;
}

/* ---- on a fault: async-signal-safe ---- */

static int thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

static void die(int number)
{
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t only;
    crash.phase = PHASE_ENDING;
    sigemptyset(&only);
    sigaddset(&only, number);
    sigaction(number, &plain, NULL);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    syscall(SYS_tgkill, getpid(), thread_id(), number);
    _exit(128 + number);
}

/* Where the thread stood, and the word its stack pointer shows. */
static void read_context(const void *context, uintptr_t *ret_address, const uintptr_t **ret_stack)
{
    const ucontext_t *state = context;
    *ret_address = 0;
    *ret_stack = NULL;
#if defined(__x86_64__)
    *ret_address = (uintptr_t)state->uc_mcontext.gregs[REG_RIP];
    /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
    *ret_stack = (const uintptr_t *)state->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    *ret_address = (uintptr_t)state->uc_mcontext.pc;
    *ret_stack = (const uintptr_t *)&state->uc_mcontext.regs[30];
#else
    (void)state;
#endif
}

static void add_image(uintptr_t address)
{
    struct image image;
    if (crash.image_count == CRASH_IMAGES || !image_of(address, &image))
        return;
    for (size_t i = 0; i < crash.image_count; i++)
        if (crash.images[i] == image.start)
            return;
    crash.images[crash.image_count++] = image.start;
    crash_text_image(&crash.text, &image, setup.program_file);
}

static void add_frame(uintptr_t address)
{
    add_image(address);
    crash_text_frame(&crash.text, address);
}

static void read_frames(const void *context)
{
    uintptr_t address;
    const uintptr_t *stack;
    struct image image;
    read_context(context, &address, &stack);
    size_t count = stack_walk(address, crash.frames);
    for (size_t i = 0; i < count; i++)
        add_frame(crash.frames[i]);
    if (count == 0 && address != 0)
        add_frame(address);
    /* A call of what is no function: where it came from is all there is to say. */
    if (count <= 1 && stack && image_of(*stack, &image))
        add_frame(*stack);
}

static bool write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, bytes, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes += written;
        len -= (size_t)written;
    }
    return true;
}

/* A name of its own: the process's number may be that of an earlier one. */
static void make_part_name(char name[NAME_SIZE])
{
    struct timespec now = {0};
    size_t len = 0;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t number = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    for (const char *at = "crash-"; *at; at++)
        name[len++] = *at;
    for (const char *at = setup.program; *at; at++)
        name[len++] = *at;
    name[len++] = '-';
    for (unsigned shift = 64; shift > 0; shift -= 4)
        name[len++] = "0123456789abcdef"[(number >> (shift - 4)) & 15];
    for (const char *at = CRASH_PART_SUFFIX; *at; at++)
        name[len++] = *at;
    name[len] = '\0';
}

/* Whole under one of the names, or not at all. */
static bool write_record(void)
{
    char part[NAME_SIZE];
    make_part_name(part);
    int fd =
        openat(setup.folder_fd, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool is_kept = false;
    if (write_all(fd, crash.text.bytes, crash.text.len))
        for (unsigned i = 0; i < CRASH_RECORDS_MAX && !is_kept; i++)
            is_kept = linkat(setup.folder_fd, part, setup.folder_fd, setup.final_names[i], 0) == 0;
    unlinkat(setup.folder_fd, part, 0);
    close(fd);
    return is_kept;
}

static const char *signal_text(int number)
{
    switch (number) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    case SIGILL:
        return "SIGILL";
    case SIGABRT:
        return "SIGABRT";
    default:
        return "a signal";
    }
}

static void say(int number, bool is_kept)
{
    const char *const parts[] = {setup.program, ": crashed by ", signal_text(number),
                                 is_kept ? ", to be reported\n" : ", no record is kept\n"};
    char line[160];
    size_t len = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (const char *at = parts[i]; *at && len < sizeof line; at++)
            line[len++] = *at;
    write_all(STDERR_FILENO, line, len);
}

static void finish(int number)
{
    static const unsigned dropped = METRIC_SENTRY_DROPPED_LIMIT;
    crash.phase = PHASE_WRITING;
    crash_text_end(&crash.text);
    bool is_kept = write_record();
    say(number, is_kept);
    if (!is_kept)
        metrics_add(setup.metrics, METRIC_SENTRY_EVENTS, &dropped, 1);
    die(number);
}

/* Has this thread the say? Otherwise it waits for the end, or is told that the handler faulted. */
static void take_over(int number)
{
    int self = thread_id();
    int nobody = 0;
    if (atomic_compare_exchange_strong(&crash.thread, &nobody, self))
        return;
    while (nobody != self)
        pause();
    if (crash.phase == PHASE_READING)
        finish(number);
    die(number);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    struct timespec now = {0};
    take_over(number);
    alarm(HANDLER_SECONDS);
    clock_gettime(CLOCK_REALTIME, &now);
    crash_text_begin(&crash.text, setup.program,
                     (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    crash_text_signal(&crash.text, number, info->si_code,
                      info->si_code > 0 ? (uintptr_t)info->si_addr : 0);
    if (current.trace)
        crash_text_request(&crash.text, current.trace, current.route);
    read_frames(context);
    finish(number);
}

/* ---- before ---- */

static bool open_folder(const char *folder)
{
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return false;
    setup.folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return setup.folder_fd >= 0;
}

static void set_actions(void)
{
    /* NODEFER: a fault of the handler comes to the handler. */
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < FAULT_SIGNALS; i++)
        sigaction(fault_signals[i], setup.is_installed ? &action : &plain, NULL);
}

bool crash_handler_install(const struct crash_options *options)
{
    struct image image;
    if (HAS_SANITIZER || setup.is_installed ||
        strlen(options->program) >= sizeof setup.program / 2 || !open_folder(options->folder))
        return false;
    snprintf(setup.program, sizeof setup.program, "%s", options->program);
    for (unsigned i = 0; i < CRASH_RECORDS_MAX; i++)
        snprintf(setup.final_names[i], NAME_SIZE, CRASH_FILE_NAME, setup.program, i);
    ssize_t len = readlink("/proc/self/exe", setup.program_file, PATH_SIZE - 1);
    setup.program_file[len > 0 ? len : 0] = '\0';
    setup.metrics = options->metrics;
    /* What these two make at their first call is made now. */
    image_of((uintptr_t)crash_handler_install, &image);
    stack_walk(0, crash.frames);
    setup.is_installed = true;
    signal_stack_enable();
    set_actions();
    return true;
}

void crash_handler_remove(void)
{
    if (!setup.is_installed)
        return;
    setup.is_installed = false;
    set_actions();
    close(setup.folder_fd);
    setup.folder_fd = -1;
}
