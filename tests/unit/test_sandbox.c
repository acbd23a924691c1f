/* Each check runs in a child, for nothing of a sandbox can be taken back. Where the kernel has none,
 * that is what must be told. */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define LACKING 250 /* the kernel has none of it */
#define UNEXPECTED 251
#define BY_SIGNAL 300

/* Its result, errno on failure; or BY_SIGNAL and the signal. */
static int run_child(int (*body)(const void *), const void *argument)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        _exit(body(argument));
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return UNEXPECTED;
    return WIFSIGNALED(status) ? BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

static int reason_of(long result)
{
    return result < 0 ? errno : 0;
}

/* ---- files ---- */

static char own[512];
static char other[512];

static const char *in(const char *folder, const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int open_and_close(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    int reason = reason_of(fd);
    if (fd >= 0)
        close(fd);
    return reason;
}

static int read_own(void)
{
    return open_and_close(in(own, "file"), O_RDONLY);
}
static int read_other(void)
{
    return open_and_close(in(other, "file"), O_RDONLY);
}
static int list_other(void)
{
    return open_and_close(other, O_RDONLY | O_DIRECTORY);
}
static int read_users(void)
{
    return open_and_close("/etc/passwd", O_RDONLY);
}
static int write_other(void)
{
    return open_and_close(in(other, "file"), O_WRONLY);
}
static int make_other(void)
{
    return open_and_close(in(other, "new"), O_WRONLY | O_CREAT);
}
static int make_own(void)
{
    return open_and_close(in(own, "new"), O_WRONLY | O_CREAT | O_TRUNC);
}
static int remove_other(void)
{
    return reason_of(unlink(in(other, "file")));
}
static int rename_own(void)
{
    char to[600];
    snprintf(to, sizeof to, "%s/renamed", own);
    return reason_of(rename(in(own, "file"), to));
}
static int remove_own(void)
{
    return reason_of(unlink(in(own, "file")));
}
static int make_folder(void)
{
    return reason_of(mkdir(in(own, "folder"), 0700));
}
static int make_link(void)
{
    return reason_of(symlink("/etc/passwd", in(own, "link")));
}

static const struct {
    const char *name;
    int (*act)(void);
    int want;
} acts[] = {
    {"read where all is allowed", read_own, 0},
    {"read where reading is", read_other, 0},
    {"list where reading is", list_other, 0},
    {"read where nothing is", read_users, EACCES},
    {"write where reading is", write_other, EACCES},
    {"make where reading is", make_other, EACCES},
    {"remove where reading is", remove_other, EACCES},
    {"make and cut where all is", make_own, 0},
    {"rename where all is", rename_own, 0},
    {"remove where all is", remove_own, 0},
    {"make a folder", make_folder, EACCES},
    {"make a symbolic link", make_link, EACCES},
};

static void make_folders(void)
{
    const char *folder = check_temp_dir();
    snprintf(own, sizeof own, "%s/own", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    mkdir(own, 0700);
    mkdir(other, 0700);
    open_and_close(in(own, "file"), O_WRONLY | O_CREAT);
    open_and_close(in(other, "file"), O_WRONLY | O_CREAT);
}

static enum err_code restrict_files(bool connects, struct err *err)
{
    struct sandbox_rule rules[] = {
        {SANDBOX_CHANGE, ""}, {SANDBOX_READ, ""}, {SANDBOX_READ, "/not/there"}};
    snprintf(rules[0].path, sizeof rules[0].path, "%s", own);
    snprintf(rules[1].path, sizeof rules[1].path, "%s", other);
    return sandbox_restrict_files(rules, sizeof rules / sizeof *rules, connects, err);
}

static int act_restricted(const void *argument)
{
    struct err err = {0};
    const size_t *index = argument;
    if (restrict_files(true, &err) != ERR_OK)
        return err.os_errno && err.code == ERR_CONFIG ? LACKING : UNEXPECTED;
    return acts[*index].act();
}

TEST(sandbox, files_are_opened_and_changed_where_a_rule_says_so)
{
    int ignored;
    int abi = sandbox_landlock_abi(&ignored);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        make_folders();
        CHECK_INT_ROW(acts[i].name, run_child(act_restricted, &i), abi ? acts[i].want : LACKING);
    }
}

static int connect_restricted(const void *argument)
{
    struct err err = {0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(1)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (restrict_files(*(const bool *)argument, &err) != ERR_OK)
        return LACKING;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return reason_of(connect(fd, (struct sockaddr *)&address, sizeof address));
}

TEST(sandbox, without_need_no_connection_is_made)
{
    int ignored;
    int abi = sandbox_landlock_abi(&ignored);
    const bool connects[] = {false, true};
    CHECK_INT(run_child(connect_restricted, &connects[0]), abi == 0  ? LACKING
                                                           : abi < 4 ? ECONNREFUSED
                                                                     : EACCES);
    CHECK_INT(run_child(connect_restricted, &connects[1]), abi == 0 ? LACKING : ECONNREFUSED);
}

/* ---- system calls ---- */

static long make_process(void)
{
    return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}
static long run_program(void)
{
    char name[] = "/bin/true";
    char *const words[] = {name, NULL};
    return execve(name, words, NULL);
}
static long trace(void)
{
    return syscall(SYS_ptrace, 0, 0, 0, 0);
}
static long mount_nothing(void)
{
    return syscall(SYS_mount, NULL, "/", NULL, 0, NULL);
}
static long leave_namespace(void)
{
    return syscall(SYS_unshare, 0);
}
static long load_bpf(void)
{
    return syscall(SYS_bpf, 0, NULL, 0);
}
static long read_memory(void)
{
    return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}
static long load_module(void)
{
    return syscall(SYS_init_module, NULL, 0, "");
}
static long open_namespace(void)
{
    return syscall(SYS_setns, -1, 0);
}
static long make_thread_by_clone3(void)
{
    return syscall(SYS_clone3, NULL, 0);
}
static long make_uring(void)
{
    return syscall(SYS_io_uring_setup, 0, NULL);
}
static long truncate_by_name(void)
{
    return truncate("/dev/null", 0);
}
static long make_a_folder(void)
{
    return mkdir(in(own, "folder"), 0700);
}
static long make_tcp_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}
static long make_unix_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}
static long make_packet_socket(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0);
}
static long end_parent(void)
{
    return kill(getppid(), SIGCONT);
}
static long ask_for_parent(void)
{
    return kill(getppid(), 0);
}
static long signal_itself(void)
{
    return kill(getpid(), SIGCONT);
}
static long be_traceable(void)
{
    return prctl(PR_SET_DUMPABLE, 1);
}
static long read_devices(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}
static void *nothing(void *argument)
{
    return argument;
}
static long make_thread(void)
{
    pthread_t thread;
    errno = pthread_create(&thread, NULL, nothing, NULL);
    return errno == 0 && pthread_join(thread, NULL) == 0 ? 0 : -1;
}

static const struct call {
    const char *name;
    long (*make)(void);
    unsigned calls;
    int want;
} calls[] = {
    {"execve", run_program, 0, BY_SIGNAL + SIGSYS},
    {"fork", make_process, 0, BY_SIGNAL + SIGSYS},
    {"ptrace", trace, 0, BY_SIGNAL + SIGSYS},
    {"mount", mount_nothing, 0, BY_SIGNAL + SIGSYS},
    {"unshare", leave_namespace, 0, BY_SIGNAL + SIGSYS},
    {"setns", open_namespace, 0, BY_SIGNAL + SIGSYS},
    {"bpf", load_bpf, 0, BY_SIGNAL + SIGSYS},
    {"process_vm_readv", read_memory, 0, BY_SIGNAL + SIGSYS},
    {"init_module", load_module, 0, BY_SIGNAL + SIGSYS},
    {"clone3", make_thread_by_clone3, 0, ENOSYS},
    {"io_uring_setup", make_uring, 0, ENOSYS},
    {"truncate", truncate_by_name, 0, ENOSYS},
    {"prctl", be_traceable, 0, ENOSYS},
    {"mkdir without need", make_a_folder, 0, ENOSYS},
    {"mkdir", make_a_folder, SANDBOX_CALLS_NAMES, 0},
    {"a socket without need", make_tcp_socket, 0, ENOSYS},
    {"a TCP socket for this machine", make_tcp_socket, SANDBOX_CALLS_UNIX, ENOSYS},
    {"a TCP socket", make_tcp_socket, SANDBOX_CALLS_NETWORK, 0},
    {"a unix socket", make_unix_socket, SANDBOX_CALLS_UNIX, 0},
    {"a packet socket", make_packet_socket, SANDBOX_CALLS_NETWORK, ENOSYS},
    {"a signal to another process", end_parent, 0, ENOSYS},
    {"is another process alive", ask_for_parent, 0, 0},
    {"a signal to itself", signal_itself, 0, 0},
    {"open", read_devices, 0, 0},
    {"a thread", make_thread, 0, 0},
};

static int call_restricted(const void *argument)
{
    const struct call *call = argument;
    struct err err = {0};
    if (sandbox_restrict_calls(call->calls, &err) != ERR_OK)
        return err.os_errno && err.code == ERR_CONFIG ? LACKING : UNEXPECTED;
    return reason_of(call->make());
}

static bool kernel_has_filters(void)
{
    return access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0;
}

TEST(sandbox, calls_that_are_not_listed_fail_and_hostile_ones_end_the_process)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        make_folders();
        CHECK_INT_ROW(calls[i].name, run_child(call_restricted, &calls[i]),
                      kernel_has_filters() ? calls[i].want : LACKING);
        rmdir(in(own, "folder"));
    }
}

/* ---- a kernel that lacks them ---- */

/* False where the kernel lacks filters, too. */
static bool deny(const char *name)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool is_denied = filter &&
                     seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS),
                                      seccomp_syscall_resolve_name(name), 0) == 0 &&
                     seccomp_load(filter) == 0;
    seccomp_release(filter);
    return is_denied;
}

static int restrict_files_denied(const void *argument)
{
    struct err err = {0};
    (void)argument;
    if (!deny("landlock_create_ruleset"))
        return LACKING;
    return restrict_files(true, &err) == ERR_CONFIG ? err.os_errno : UNEXPECTED;
}

static int restrict_calls_denied(const void *argument)
{
    struct err err = {0};
    (void)argument;
    if (!deny("seccomp"))
        return LACKING;
    return sandbox_restrict_calls(0, &err) == ERR_CONFIG ? err.os_errno : UNEXPECTED;
}

TEST(sandbox, a_kernel_that_lacks_them_is_told_with_its_reason)
{
    make_folders();
    CHECK_INT(run_child(restrict_files_denied, NULL), kernel_has_filters() ? ENOSYS : LACKING);
    CHECK_INT(run_child(restrict_calls_denied, NULL), kernel_has_filters() ? ENOSYS : LACKING);
}
