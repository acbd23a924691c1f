/* What each kind of program is left with, in a data folder as init makes it. */
#include "app/program_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sandbox.h"
#include "base/sanitizer.h"
#include "check.h"
#include "metadata/metadata.h"
#include "storage/storage.h"

#define READER (NEEDS_DATABASE | NEEDS_OBJECTS_READ)
#define UPLOAD (READER | NEEDS_OBJECTS_ADD)
#define DELETE (READER | NEEDS_OBJECTS_REMOVE)
#define HEALTH (READER | NEEDS_OBJECTS_PROBE)
#define METRICS (NEEDS_DATABASE | NEEDS_GATEWAY)
#define ACCESS_LOG 0

#define UNEXPECTED 251

enum act { READ, WRITE, CUT, MAKE, REMOVE };

static const struct row {
    const char *name;
    unsigned needs;
    enum act act;
    const char *path;
    int want;
} rows[] = {
    {"a reader reads objects", READER, READ, "data/objects/01/object", 0},
    {"a reader writes no object", READER, WRITE, "data/objects/01/object", EACCES},
    {"a reader makes no object", READER, MAKE, "data/objects/01/new", EACCES},
    {"a reader removes no object", READER, REMOVE, "data/objects/01/object", EACCES},
    {"a reader changes no mark", READER, WRITE, "data/coffer-format", EACCES},
    {"a reader has the database", READER, WRITE, "data/db/coffer.sqlite", 0},
    {"a reader has the log", READER, WRITE, "data/log/coffer.ndjson", 0},
    {"a reader cuts no log", READER, CUT, "data/log/coffer.ndjson", EACCES},
    {"a reader removes no log", READER, REMOVE, "data/log/coffer.ndjson", EACCES},
    {"a reader makes a new log", READER, MAKE, "data/log/new", 0},
    {"a reader sees no sockets", READER, READ, "run", EACCES},
    {"a reader sees no users", READER, READ, "/etc/passwd", EACCES},
    {"an upload makes objects", UPLOAD, MAKE, "data/objects/01/new", 0},
    {"an upload takes them back", UPLOAD, REMOVE, "data/objects/01/object", 0},
    {"an upload changes no mark", UPLOAD, WRITE, "data/coffer-format", EACCES},
    {"a delete removes objects", DELETE, REMOVE, "data/objects/01/object", 0},
    {"a delete writes no object", DELETE, WRITE, "data/objects/01/object", EACCES},
    {"a delete makes no object", DELETE, MAKE, "data/objects/01/new", EACCES},
    {"health tries one folder", HEALTH, MAKE, "data/objects/00/new", 0},
    {"health makes nothing elsewhere", HEALTH, MAKE, "data/objects/01/new", EACCES},
    {"metrics read no objects", METRICS, READ, "data/objects/01/object", EACCES},
    {"metrics have the runtime folder", METRICS, MAKE, "run/new", 0},
    {"the access log has no objects", ACCESS_LOG, READ, "data/objects/01/object", EACCES},
    {"the access log has no database", ACCESS_LOG, READ, "data/db/coffer.sqlite", EACCES},
    {"the access log has the log", ACCESS_LOG, WRITE, "data/log/coffer.ndjson", 0},
};

struct scene {
    const char *folder;
    struct config config;
    const struct row *row;
};

static void touch(const char *folder, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

static bool prepare(struct scene *scene, const char *mode)
{
    char path[512];
    struct err err = {0};
    scene->folder = check_temp_dir();
    snprintf(path, sizeof path, "%s/data", scene->folder);
    setenv("DATA_DIR", path, 1);
    snprintf(path, sizeof path, "%s/run", scene->folder);
    setenv("RUNTIME_DIR", path, 1);
    mkdir(path, 0700);
    setenv("SANDBOX", mode, 1);
    bool is_ready = config_load(&scene->config, &err) == ERR_OK &&
                    storage_init(&scene->config, &clock_system, &err) == ERR_OK &&
                    metadata_init(&scene->config, &clock_system, &err) == ERR_OK;
    unsetenv("DATA_DIR");
    unsetenv("RUNTIME_DIR");
    unsetenv("SANDBOX");
    touch(scene->folder, "data/objects/01/object");
    touch(scene->folder, "data/log/coffer.ndjson");
    return is_ready;
}

static int try_to(enum act act, const char *path)
{
    static const int flags[] = {[READ] = O_RDONLY,
                                [WRITE] = O_WRONLY | O_APPEND,
                                [CUT] = O_WRONLY | O_TRUNC,
                                [MAKE] = O_WRONLY | O_CREAT | O_EXCL};
    int result = act == REMOVE ? unlink(path) : open(path, flags[act] | O_CLOEXEC, 0600);
    return result < 0 ? errno : 0;
}

static int act_in_sandbox(struct scene *scene)
{
    char path[600];
    struct err err = {0};
    struct program_sandbox *sandbox = NULL;
    const struct row *row = scene->row;
    if (program_sandbox_enter_always(&sandbox, &scene->config, row->needs, &err) != ERR_OK)
        return UNEXPECTED;
    snprintf(path, sizeof path, "%s/%s", scene->folder, row->path);
    return try_to(row->act, row->path[0] == '/' ? row->path : path);
}

static int in_child(int (*body)(struct scene *), struct scene *scene)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        _exit(body(scene));
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return UNEXPECTED;
    return WEXITSTATUS(status);
}

static void take_back(const struct scene *scene)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", scene->folder, scene->row->path);
    if (scene->row->act == MAKE)
        unlink(path);
}

TEST(program_sandbox, leaves_each_program_the_files_it_needs)
{
    int ignored;
    int abi = sandbox_landlock_abi(&ignored);
    struct scene scene;
    REQUIRE(prepare(&scene, "on"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_kept = abi >= (rows[i].act == CUT ? 3 : 1);
        scene.row = &rows[i];
        touch(scene.folder, "data/objects/01/object");
        touch(scene.folder, "data/log/coffer.ndjson");
        CHECK_INT_ROW(rows[i].name, in_child(act_in_sandbox, &scene), is_kept ? rows[i].want : 0);
        take_back(&scene);
    }
}

TEST(program_sandbox, off_leaves_everything)
{
    const struct row row = {"off", READER, MAKE, "data/objects/01/new", 0};
    struct scene scene;
    REQUIRE(prepare(&scene, "off"));
    scene.row = &row;
    CHECK_INT(in_child(act_in_sandbox, &scene), 0);
}

/* On a kernel without Landlock. */
static int enter_lacking(struct scene *scene)
{
    struct err err = {0};
    struct program_sandbox *sandbox = NULL;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter ||
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(landlock_create_ruleset), 0) != 0)
        return UNEXPECTED;
    seccomp_load(filter); /* or it lacks it anyway */
    seccomp_release(filter);
    enum err_code code = program_sandbox_enter_always(&sandbox, &scene->config, READER, &err);
    program_sandbox_close(sandbox);
    return code == ERR_OK ? 0 : code == ERR_CONFIG && strstr(err.message, "no Landlock") ? 1 : 2;
}

TEST(program_sandbox, a_kernel_without_landlock_is_refused_only_where_it_is_required)
{
    struct scene scene;
    REQUIRE(prepare(&scene, "require"));
    CHECK_INT(in_child(enter_lacking, &scene), 1);
    REQUIRE(prepare(&scene, "on"));
    CHECK_INT(in_child(enter_lacking, &scene), 0);
}

static int enter_as_programs_do(struct scene *scene)
{
    struct err err = {0};
    struct program_sandbox *sandbox = NULL;
    return program_sandbox_enter(&sandbox, &scene->config, READER, &err) == ERR_OK ? 0
           : err.code == ERR_CONFIG && strstr(err.message, "SANDBOX=require")      ? 1
                                                                                   : UNEXPECTED;
}

TEST(program_sandbox, required_is_refused_where_it_can_not_be)
{
    int ignored;
    struct scene scene;
    REQUIRE(prepare(&scene, "require"));
    bool is_kept = !HAS_SANITIZER && sandbox_landlock_abi(&ignored) > 0 &&
                   access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0;
    CHECK_INT(in_child(enter_as_programs_do, &scene), is_kept ? 0 : 1);
}
