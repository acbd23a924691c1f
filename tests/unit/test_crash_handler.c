#include "observe/crash_handler.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/thread.h"
#include "check.h"
#include "observe/stack.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

TEST(crash_handler, leaves_sanitizers_alone)
{
    struct sigaction before;
    struct sigaction after;
    const struct crash_options options = {.program = "p", .folder = check_temp_dir()};
    sigaction(SIGSEGV, NULL, &before);
    CHECK(!crash_handler_install(&options));
    sigaction(SIGSEGV, NULL, &after);
    CHECK(before.sa_sigaction == after.sa_sigaction);
}

#else

#define STACK_BYTES ((size_t)2 * 1024 * 1024) /* thread-local buffers of all tests are in it */

static char folder[200];

/* ---- ways to crash ---- */

__attribute__((noinline)) static void write_through_null(void)
{
    char *volatile nowhere = NULL;
    *(volatile char *)nowhere = 1;
}

static void end_by_abort(void)
{
    abort();
}

static int fill_stack(int depth)
{
    volatile char frame[512];
    frame[0] = (char)depth;
    return depth < 0 ? 0 : fill_stack(depth + 1) + frame[0];
}

static void call_nothing(void)
{
    void (*volatile nothing)(void) = NULL;
    nothing();
}

static void divide_by_zero(void)
{
    volatile int zero = 0;
    volatile int number = 2000;
    number = number / zero;
}

static void touch_cut_file(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s/cut", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    volatile char *bytes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    bytes[0] = 1; /* behind the end of the file */
}

static void *fill_stack_of_thread(void *argument)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL); /* as some threads have it */
    signal_stack_take();
    fill_stack(0);
    return argument;
}

static void overflow_a_thread(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (pthread_create(&thread, &attributes, fill_stack_of_thread, NULL) != 0)
        _exit(98);
    pthread_join(thread, NULL);
}

static void overflow_main(void)
{
    fill_stack(0);
}

static void be_killed(void)
{
    kill(getpid(), SIGSEGV);
    for (;;)
        pause();
}

/* The handler itself faults on what it is to read. */
static void crash_with_bad_request(void)
{
    crash_request_begin((const struct trace *)(uintptr_t)16, "/x");
    write_through_null();
}

static void *crash_at_once(void *barrier)
{
    signal_stack_take();
    pthread_barrier_wait(barrier);
    write_through_null();
    return NULL;
}

static void crash_in_many_threads(void)
{
    pthread_t threads[8];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 8);
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, crash_at_once, &barrier);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}

static void crash_in_request(void)
{
    const struct trace trace = {.request_id = "r",
                                .trace_id = "0123456789abcdef0123456789abcdef",
                                .span_id = "0123456789abcdef"};
    crash_request_begin(&trace, "/api/files/:id");
    write_through_null();
}

/* ---- the process that crashes, and what it left ---- */

static void new_folder(void)
{
    static int number;
    snprintf(folder, sizeof folder, "%s/crash%d", check_temp_dir(), number++);
}

/* The signal that ended it. */
static int run_child(void (*crash)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        const struct crash_options options = {.program = "files_get", .folder = folder};
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        if (!crash_handler_install(&options))
            _exit(99);
        crash();
        _exit(0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static bool read_record(unsigned number, struct crash_record *ret_record)
{
    char path[300];
    char text[CRASH_RECORD_MAX];
    struct stat stat;
    snprintf(path, sizeof path, "%s/" CRASH_FILE_NAME, folder, "files_get", number);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    CHECK(fstat(fd, &stat) == 0 && (stat.st_mode & 0777) == 0600 && stat.st_nlink == 1);
    ssize_t len = read(fd, text, sizeof text);
    close(fd);
    return len > 0 && crash_record_parse((struct str){text, (size_t)len}, ret_record);
}

static int files_in_folder(void)
{
    int count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

struct row {
    void (*crash)(void);
    int signal;
    const char *top; /* the innermost function of ours */
};

static void check_crash(const struct row *row)
{
    static struct crash_record record;
    struct stack_trace trace;
    new_folder();
    CHECK_INT_ROW(row->top, run_child(row->crash), row->signal);
    bool is_read = read_record(0, &record);
    CHECK_ROW(row->top, is_read);
    if (!is_read)
        return;
    CHECK_INT_ROW(row->top, record.signal, row->signal);
    CHECK_TEXT(record.program, "files_get");
    struct stack_names *names = stack_names_new(true);
    stack_names_crash(names, &record, &trace);
    const struct stack_frame *top = stack_top_in_app(&trace);
    CHECK_STR_ROW(row->top, str_of(top ? top->function : NULL), row->top);
    if (top)
        CHECK_TEXT(top->file, "tests/unit/test_crash_handler.c");
    stack_names_free(names);
}

TEST(crash_handler, records_where_it_crashed_and_dies_of_the_same_signal)
{
    static const struct row rows[] = {
        {write_through_null, SIGSEGV, "write_through_null"},
        {end_by_abort, SIGABRT, "end_by_abort"},
        {call_nothing, SIGSEGV, "call_nothing"},
        {divide_by_zero, SIGFPE, "divide_by_zero"},
        {touch_cut_file, SIGBUS, "touch_cut_file"},
        {overflow_a_thread, SIGSEGV, "fill_stack"},
        {overflow_main, SIGSEGV, "fill_stack"},
        {be_killed, SIGSEGV, "be_killed"},
        {crash_in_many_threads, SIGSEGV, "write_through_null"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_crash(&rows[i]);
}

TEST(crash_handler, names_the_request)
{
    static struct crash_record record;
    new_folder();
    CHECK_INT(run_child(crash_in_request), SIGSEGV);
    REQUIRE(read_record(0, &record));
    CHECK(record.has_request);
    CHECK_TEXT(record.trace.request_id, "r");
    CHECK_TEXT(record.route, "/api/files/:id");
    CHECK_INT((int64_t)record.address, 0);
    CHECK_INT(record.code, SEGV_MAPERR);
}

TEST(crash_handler, that_faults_itself_keeps_what_it_has)
{
    static struct crash_record record;
    new_folder();
    CHECK_INT(run_child(crash_with_bad_request), SIGSEGV);
    REQUIRE(read_record(0, &record));
    CHECK(!record.has_request);
    CHECK_INT(record.signal, SIGSEGV);
}

TEST(crash_handler, keeps_a_bounded_number_of_records)
{
    static struct crash_record record;
    new_folder();
    for (int i = 0; i < CRASH_RECORDS_MAX + 3; i++)
        CHECK_INT(run_child(write_through_null), SIGSEGV);
    CHECK(read_record(CRASH_RECORDS_MAX - 1, &record));
    CHECK_INT(files_in_folder(), CRASH_RECORDS_MAX);
}

static void remove_and_crash(void)
{
    crash_handler_remove();
    write_through_null();
}

TEST(crash_handler, that_was_removed_does_nothing)
{
    new_folder();
    CHECK_INT(run_child(remove_and_crash), SIGSEGV);
    CHECK_INT(files_in_folder(), 0);
}

TEST(crash_handler, needs_a_folder)
{
    snprintf(folder, sizeof folder, "%s/missing/crash", check_temp_dir());
    CHECK_INT(run_child(write_through_null), -99);
}

#endif
