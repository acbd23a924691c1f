#include <asm/ioctls.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"

/* Names, not numbers: the library knows those of each architecture, and which calls it lacks. */

/* In use by every program. */
static const char *const common[] = {
    /* descriptors */
    "read", "readv", "pread64", "preadv", "write", "writev", "pwrite64", "pwritev", "lseek",
    "close", "fstat", "fcntl", "flock", "dup", "dup2", "dup3", "pipe", "pipe2", "splice",
    "sendfile", "copy_file_range", "fsync", "fdatasync", "sync_file_range", "ftruncate",
    "fallocate", "fadvise64", "utimensat", "getdents64", "fstatfs", "eventfd2", "poll", "ppoll",
    "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
    /* files by their names */
    "open", "openat", "openat2", "stat", "lstat", "newfstatat", "statx", "access", "faccessat",
    "faccessat2", "readlink", "readlinkat", "statfs", "getcwd", "umask",
    /* sockets that were accepted */
    "accept", "accept4", "recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown", "getsockopt",
    "setsockopt", "getsockname", "getpeername",
    /* memory */
    "mmap", "munmap", "mprotect", "mremap", "madvise", "msync", "brk", "membarrier",
    /* threads and signals */
    "futex", "set_robust_list", "rseq", "sched_yield", "sched_getaffinity", "sched_getparam",
    "sched_getscheduler", "getcpu", "gettid", "exit", "exit_group", "rt_sigaction",
    "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigsuspend", "rt_sigpending",
    "sigaltstack", "pause", "restart_syscall",
    /* time */
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
    "alarm", "setitimer",
    /* what is asked about the process and the machine */
    "getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getrusage", "getrlimit",
    "sysinfo", "uname", "times", "getrandom"};

static const char *const names[] = {"mkdir",  "mkdirat",  "unlink",    "unlinkat",
                                    "rename", "renameat", "renameat2", "link",
                                    "linkat", "fchmod",   "fchown"};

static const char *const connections[] = {"socketpair", "connect",
                                          "bind", /* of the netlink socket that looks up names */
                                          "sendmmsg", "recvmmsg"};

/* Of no use to a program of this service but for somebody who has taken it over. Ended at the first
 * try, so that there is no second. */
static const char *const hostile[] = {
    /* other programs, other processes */
    "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev",
    "process_madvise", "pidfd_getfd", "kcmp", "setns", "unshare",
    /* file systems */
    "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "open_by_handle_at", "swapon", "swapoff", "quotactl",
    "acct",
    /* the kernel and the machine */
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "bpf",
    "perf_event_open", "userfaultfd", "add_key", "request_key", "keyctl", "reboot", "iopl",
    "ioperm", "modify_ldt", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
    "sethostname", "setdomainname", "syslog"};

#define COUNT(list) (sizeof(list) / sizeof *(list))

struct filter {
    scmp_filter_ctx context;
    int failed; /* the first error of the library, negative */
};

static void note(struct filter *filter, int result)
{
    if (filter->failed == 0 && result < 0)
        filter->failed = result;
}

/* The kernel may have calls that the library does not know, and the other way round. */
static void add_all(struct filter *filter, uint32_t action, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int number = seccomp_syscall_resolve_name(list[i]);
        if (number >= 0)
            note(filter, seccomp_rule_add(filter->context, action, number, 0));
    }
}

/* Where the argument, as far as `mask` goes, has the value. */
static void add_where(struct filter *filter, const char *name, unsigned argument, uint64_t mask,
                      uint64_t value)
{
    const struct scmp_arg_cmp wanted = {argument, SCMP_CMP_MASKED_EQ, mask, value};
    int number = seccomp_syscall_resolve_name(name);
    if (number >= 0)
        note(filter, seccomp_rule_add_array(filter->context, SCMP_ACT_ALLOW, number, 1, &wanted));
}

/* A number of 32 bits; of the other 32 the kernel takes no notice. */
static void add_equal(struct filter *filter, const char *name, unsigned argument, uint32_t value)
{
    add_where(filter, name, argument, UINT32_MAX, value);
}

/* Threads, but no processes. Of clone3 the filter can't see the flags: glibc falls back to clone. */
static void add_threads(struct filter *filter)
{
    const struct scmp_arg_cmp process = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0);
    add_where(filter, "clone", 0, CLONE_THREAD, CLONE_THREAD);
    note(filter, seccomp_rule_add_array(filter->context, SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), 1,
                                        &process));
}

/* Signals to itself; to others signal 0, which asks whether they live. */
static void add_signals(struct filter *filter)
{
    add_equal(filter, "kill", 0, (uint32_t)getpid());
    add_equal(filter, "kill", 1, 0);
    add_equal(filter, "tgkill", 0, (uint32_t)getpid());
}

static void add_limited(struct filter *filter)
{
    static const uint32_t requests[] = {FIONREAD, FIONBIO, SIOCOUTQ, TCGETS};
    static const uint32_t options[] = {PR_SET_NAME, PR_GET_NAME};
    for (size_t i = 0; i < COUNT(requests); i++)
        add_equal(filter, "ioctl", 1, requests[i]);
    for (size_t i = 0; i < COUNT(options); i++)
        add_equal(filter, "prctl", 0, options[i]);
    add_where(filter, "prlimit64", 2, UINT64_MAX, 0); /* sets none */
}

static void add_connections(struct filter *filter, unsigned calls)
{
    static const uint32_t families[] = {AF_INET, AF_INET6, AF_NETLINK};
    if (!(calls & (SANDBOX_CALLS_UNIX | SANDBOX_CALLS_NETWORK)))
        return;
    add_all(filter, SCMP_ACT_ALLOW, connections, COUNT(connections));
    add_equal(filter, "socket", 0, AF_UNIX);
    for (size_t i = 0; calls & SANDBOX_CALLS_NETWORK && i < COUNT(families); i++)
        add_equal(filter, "socket", 0, families[i]);
}

static void fill(struct filter *filter, unsigned calls)
{
    note(filter, seccomp_attr_set(filter->context, SCMP_FLTATR_API_SYSRAWRC, 1)); /* errno */
    /* A binary tree: a call passes a dozen comparisons, whichever it is. */
    note(filter, seccomp_attr_set(filter->context, SCMP_FLTATR_CTL_OPTIMIZE, 2));
    note(filter, seccomp_attr_set(filter->context, SCMP_FLTATR_CTL_TSYNC, 1));
    note(filter, seccomp_attr_set(filter->context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    add_all(filter, SCMP_ACT_ALLOW, common, COUNT(common));
    add_all(filter, SCMP_ACT_KILL_PROCESS, hostile, COUNT(hostile));
    if (calls & SANDBOX_CALLS_NAMES)
        add_all(filter, SCMP_ACT_ALLOW, names, COUNT(names));
    add_threads(filter);
    add_signals(filter);
    add_limited(filter);
    add_connections(filter, calls);
}

static enum err_code lacking(struct err *err, int os_errno)
{
    return err_set_internal(err, ERR_CONFIG, os_errno, "seccomp", "no seccomp filter (%s)",
                            strerror(os_errno));
}

/* Asked here, for the library does not tell the kernel's reason. */
bool sandbox_has_filters(int *ret_errno)
{
    const uint32_t action = SECCOMP_RET_KILL_PROCESS;
    *ret_errno = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 ? 0 : errno;
    return *ret_errno == 0;
}

enum err_code sandbox_restrict_calls(unsigned calls, struct err *err)
{
    int reason = 0;
    if (!sandbox_has_filters(&reason))
        return lacking(err, reason);
    /* ENOSYS, not EPERM: libraries have a way round calls that an older kernel lacks. */
    struct filter filter = {.context = seccomp_init(SCMP_ACT_ERRNO(ENOSYS))};
    if (!filter.context)
        return lacking(err, ENOMEM);
    fill(&filter, calls);
    if (filter.failed == 0)
        note(&filter, seccomp_load(filter.context));
    seccomp_release(filter.context);
    return filter.failed == 0 ? ERR_OK : lacking(err, -filter.failed);
}
