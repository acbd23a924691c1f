#include "base/crash.h"

#ifdef COFFER_CRASH_POINTS

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_how(const char *how, const char *wanted)
{
    return strcmp(*how ? how : "kill", wanted) == 0;
}

/* Whoever removes the file is the one that dies: one process, however many get here. */
static bool is_removed(const char *path)
{
    return unlink(path) == 0;
}

static const char *given(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

const char *crash_folder(void)
{
    return given("CRASH_FOLDER");
}

const char *crash_once(void)
{
    return given("CRASH_ONCE");
}

/* What CRASH_AT says of this point: how it ends, or false. */
static bool read_environment(const char *name, const char *kind, char how[16])
{
    const char *at = getenv("CRASH_AT");
    const char *asked = getenv("CRASH_HOW");
    const char *once = crash_once();
    if (!at || strcmp(at, name) != 0)
        return false;
    snprintf(how, 16, "%s", asked ? asked : "");
    if (is_how(how, "error") != is_how(kind, "error"))
        return false;
    return !once || is_removed(once);
}

/* The same of the point's file in CRASH_FOLDER. */
static bool read_folder(const char *name, const char *kind, char how[16])
{
    char path[PATH_MAX];
    const char *folder = crash_folder();
    if (!folder)
        return false;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t len = read(fd, how, 15);
    close(fd);
    how[len > 0 ? len : 0] = '\0';
    how[strcspn(how, "\n")] = '\0';
    return is_how(how, "error") == is_how(kind, "error") && is_removed(path);
}

static bool is_asked(const char *name, const char *kind, char how[16])
{
    return read_environment(name, kind, how) || read_folder(name, kind, how);
}

/* The volatile bytes keep each call's frame on the stack. */
static int fill_the_stack(int depth) /* NOLINT(misc-no-recursion) */
{
    volatile char frame[1024];
    frame[0] = (char)depth;
    return depth < 0 ? 0 : fill_the_stack(depth + 1) + frame[0];
}

char *crash_target(const char *name)
{
    static char harmless;
    char how[16];
    if (!is_asked(name, "end", how))
        return &harmless;
    if (is_how(how, "segv"))
        return NULL;
    if (is_how(how, "abort"))
        abort();
    if (is_how(how, "stack"))
        harmless = (char)fill_the_stack(0);
    raise(SIGKILL);
    return &harmless;
}

bool crash_wants_error(const char *name)
{
    char how[16];
    return is_asked(name, "error", how);
}

#endif
