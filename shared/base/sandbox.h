/*
 * Sandbox: takes from a process what it no longer needs, for good. Landlock (landlock(7)) decides
 * which files it can open and change, a seccomp filter (seccomp(2)) which system calls it can make.
 * Neither needs a privilege, root is bound by them too, and threads and children inherit them.
 *
 * A Landlock domain is that of the calling thread: call these before other threads start. A rule
 * holds for the file or folder that is at its path now, not for another one that gets its name
 * later. What is open already stays usable.
 *
 * The process must have no_new_privs (prctl(2)). A kernel may lack either of the two, or a container
 * forbid their calls: then ERR_CONFIG with the kernel's errno, and nothing is taken.
 */
#ifndef COFFER_BASE_SANDBOX_H
#define COFFER_BASE_SANDBOX_H

#include "base/errors.h"

#define SANDBOX_PATH_SIZE 1200

/* What a rule allows for its file, or for its folder and all below it. */
enum sandbox_right {
    SANDBOX_READ = 1,   /* files and the lists of folders */
    SANDBOX_APPEND = 2, /* open files for writing, but not cut them */
    SANDBOX_CUT = 4,    /* truncate files; needs APPEND */
    SANDBOX_MAKE = 8,   /* make files, also by rename and link within one folder */
    SANDBOX_REMOVE = 16 /* remove files, also by rename */
};
#define SANDBOX_CHANGE (SANDBOX_READ | SANDBOX_APPEND | SANDBOX_CUT | SANDBOX_MAKE | SANDBOX_REMOVE)

struct sandbox_rule {
    unsigned rights;
    char path[SANDBOX_PATH_SIZE];
};

/* System calls beyond those that every program needs: work on open descriptors, opening files,
 * threads, memory, time, and answering on sockets that it has. */
enum sandbox_calls {
    SANDBOX_CALLS_UNIX = 1,    /* connections to sockets of this machine */
    SANDBOX_CALLS_NETWORK = 2, /* connections to other machines, and looking up names; and UNIX */
    SANDBOX_CALLS_NAMES = 4    /* make, rename, link and remove files and folders */
};

/* The newest Landlock ABI that this code and the kernel both know; 0: there is none, and *ret_errno
 * says why. */
int sandbox_landlock_abi(int *ret_errno);

/* Does the kernel take filters of system calls? Otherwise *ret_errno says why not. */
bool sandbox_has_filters(int *ret_errno);

/* From now on files can be opened and changed by these rules alone. A rule for a path that is not
 * there is left out. Without `connects` no TCP connection can be made either (ABI 4); a TCP port can't
 * be listened on in any case. */
enum err_code sandbox_restrict_files(const struct sandbox_rule *rules, size_t count, bool connects,
                                     struct err *err) ERR_MUST_CHECK;

/* From now on only listed system calls are made, in all threads. What serves attacks alone (execve,
 * ptrace, mount, fork …) ends the process by SIGSYS; any other call fails with ENOSYS, as on an
 * older kernel. `calls`: enum sandbox_calls. */
enum err_code sandbox_restrict_calls(unsigned calls, struct err *err) ERR_MUST_CHECK;

#endif
