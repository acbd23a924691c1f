#include "base/crash.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* The signal that ended a process which passed `point`, or 0. */
static int signal_at(const char *point)
{
    pid_t pid = fork();
    if (pid == 0) {
        crash_point(point);
        _exit(0);
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

#ifdef COFFER_CRASH_POINTS

TEST(crash, kills_at_the_named_point_only)
{
    unsetenv("CRASH_ONCE");
    setenv("CRASH_AT", "after_rename", 1);
    CHECK_INT(signal_at("after_rename"), SIGKILL);
    CHECK_INT(signal_at("after_ren"), 0);
    CHECK_INT(signal_at("after_rename2"), 0);
    unsetenv("CRASH_AT");
    CHECK_INT(signal_at("after_rename"), 0);
}

TEST(crash, once_means_one_process)
{
    char path[256];
    snprintf(path, sizeof path, "%s/once", check_temp_dir());
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    close(fd);
    setenv("CRASH_AT", "here", 1);
    setenv("CRASH_ONCE", path, 1);
    CHECK_INT(signal_at("elsewhere"), 0);
    CHECK_INT(signal_at("here"), SIGKILL);
    CHECK(access(path, F_OK) != 0);
    CHECK_INT(signal_at("here"), 0);
    unsetenv("CRASH_AT");
    unsetenv("CRASH_ONCE");
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return;
    fputs(text, file);
    fclose(file);
}

TEST(crash, is_what_the_test_asks_for)
{
    setenv("CRASH_AT", "here", 1);
    setenv("CRASH_HOW", "abort", 1);
    CHECK_INT(signal_at("here"), SIGABRT);
    setenv("CRASH_HOW", "error", 1);
    CHECK_INT(signal_at("here"), 0);
    CHECK(crash_or_fail("here") && !crash_or_fail("elsewhere"));
    setenv("CRASH_HOW", "kill", 1);
    CHECK(!crash_wants_error("here"));
    unsetenv("CRASH_AT");
    unsetenv("CRASH_HOW");
}

TEST(crash, a_file_makes_a_point_live_once)
{
    char path[256];
    const char *folder = check_temp_dir();
    setenv("CRASH_FOLDER", folder, 1);
    snprintf(path, sizeof path, "%s/here", folder);
    write_file(path, "abort");
    CHECK_INT(signal_at("elsewhere"), 0);
    CHECK_INT(signal_at("here"), SIGABRT);
    CHECK(access(path, F_OK) != 0);
    CHECK_INT(signal_at("here"), 0);
    write_file(path, "error");
    CHECK_INT(signal_at("here"), 0);
    CHECK(crash_or_fail("here") && !crash_or_fail("here"));
    unsetenv("CRASH_FOLDER");
}

#else

TEST(crash, release_builds_have_no_crash_points)
{
    setenv("CRASH_AT", "after_rename", 1);
    CHECK_INT(signal_at("after_rename"), 0);
    unsetenv("CRASH_AT");
}

#endif
