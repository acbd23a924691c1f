#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"

/* What this code knows of the kernel; headers of distributions know less (linux/landlock.h). */
#define ABI_KNOWN 6
#define ABI_TRUNCATE 3
#define ABI_TCP 4
#define ABI_IOCTL_DEV 5
#define ABI_SCOPE 6
#define FS_TRUNCATE (UINT64_C(1) << 14)
#define FS_IOCTL_DEV (UINT64_C(1) << 15)
#define TCP_BIND (UINT64_C(1) << 0)
#define TCP_CONNECT (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT_SOCKETS (UINT64_C(1) << 0)
#define SCOPE_SIGNALS (UINT64_C(1) << 1)

/* landlock_create_ruleset(2) takes a larger structure than it knows where the rest is 0. */
struct ruleset {
    uint64_t files;
    uint64_t tcp;
    uint64_t scoped;
};

/* Rights that a rule for what is no folder may name. */
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE)

int sandbox_landlock_abi(int *ret_errno)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    *ret_errno = abi > 0 ? 0 : errno;
    if (abi <= 0)
        return 0;
    return abi < ABI_KNOWN ? (int)abi : ABI_KNOWN;
}

/* Everything that the kernel can forbid is forbidden but where a rule allows it. */
static struct ruleset ruleset_of(int abi, bool connects)
{
    /* All rights of ABI 1, EXECUTE to MAKE_SYM, and REFER, which no ABI gives unasked. */
    struct ruleset ruleset = {.files = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    if (abi >= 2)
        ruleset.files |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= ABI_TRUNCATE)
        ruleset.files |= FS_TRUNCATE;
    if (abi >= ABI_IOCTL_DEV)
        ruleset.files |= FS_IOCTL_DEV;
    if (abi >= ABI_TCP)
        ruleset.tcp = TCP_BIND | (connects ? 0 : TCP_CONNECT);
    if (abi >= ABI_SCOPE)
        ruleset.scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS;
    return ruleset;
}

static uint64_t access_of(unsigned rights)
{
    static const struct {
        unsigned right;
        uint64_t access;
    } pairs[] = {
        {SANDBOX_READ, LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR},
        {SANDBOX_APPEND, LANDLOCK_ACCESS_FS_WRITE_FILE},
        {SANDBOX_CUT, FS_TRUNCATE},
        {SANDBOX_MAKE, LANDLOCK_ACCESS_FS_MAKE_REG},
        {SANDBOX_REMOVE, LANDLOCK_ACCESS_FS_REMOVE_FILE},
    };
    uint64_t access = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (rights & pairs[i].right)
            access |= pairs[i].access;
    return access;
}

/* What can't be named by a rule, such as a pipe behind /dev/stdout, Landlock does not guard. */
static void add_rule(int ruleset_fd, uint64_t handled, const struct sandbox_rule *rule)
{
    struct stat stat;
    int fd = open(rule->path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return;
    struct landlock_path_beneath_attr beneath = {
        .allowed_access = access_of(rule->rights) & handled, .parent_fd = fd};
    if (fstat(fd, &stat) != 0 || !S_ISDIR(stat.st_mode))
        beneath.allowed_access &= OF_FILES;
    syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    close(fd);
}

static enum err_code lacking(struct err *err, int os_errno)
{
    return err_set_internal(err, ERR_CONFIG, os_errno, "Landlock", "no Landlock (%s)",
                            strerror(os_errno));
}

enum err_code sandbox_restrict_files(const struct sandbox_rule *rules, size_t count, bool connects,
                                     struct err *err)
{
    int reason = 0;
    int abi = sandbox_landlock_abi(&reason);
    if (abi == 0)
        return lacking(err, reason);
    const struct ruleset ruleset = ruleset_of(abi, connects);
    int fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof ruleset, 0);
    if (fd < 0)
        return lacking(err, errno);
    for (size_t i = 0; i < count; i++)
        add_rule(fd, ruleset.files, &rules[i]);
    reason = syscall(SYS_landlock_restrict_self, fd, 0) == 0 ? 0 : errno;
    close(fd);
    return reason == 0 ? ERR_OK : lacking(err, reason);
}
