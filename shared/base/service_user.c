#include "base/service_user.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"

#define OPERATION "choose the service's user"
#define PATH_SIZE (CONFIG_TEXT_SIZE + 320)
#define DATA_DIR_MODE 0750
#define LOOKED_AT_MAX 100000 /* objects whose owner is looked at */

/* ---- names ---- */

/* By its name, else by its number. */
static bool look_up(const char *name, struct service_user *user)
{
    int64_t number = 0;
    const struct passwd *entry = getpwnam(name);
    if (!entry && text_parse_int(str_of(name), 0, UINT32_MAX - 1, &number))
        entry = getpwuid((uid_t)number);
    if (!entry)
        return false;
    user->uid = entry->pw_uid;
    user->gid = entry->pw_gid;
    snprintf(user->name, sizeof user->name, "%s", entry->pw_name);
    return true;
}

static void set_owner(const struct stat *stat, struct service_user *user)
{
    const struct passwd *entry = getpwuid(stat->st_uid);
    user->uid = stat->st_uid;
    user->gid = entry ? entry->pw_gid : stat->st_gid;
    if (entry)
        snprintf(user->name, sizeof user->name, "%s", entry->pw_name);
    else
        snprintf(user->name, sizeof user->name, "%u", (unsigned)stat->st_uid);
}

static void set_self(struct service_user *user)
{
    const struct stat self = {.st_uid = geteuid(), .st_gid = getegid()};
    set_owner(&self, user);
}

/* ---- becoming ---- */

static bool switch_user(const struct service_user *user)
{
    bool has_name = getpwuid(user->uid) != NULL;
    int groups = has_name ? initgroups(user->name, user->gid) : setgroups(1, &user->gid);
    return groups == 0 && setresgid(user->gid, user->gid, user->gid) == 0 &&
           setresuid(user->uid, user->uid, user->uid) == 0 && setuid(0) != 0;
}

enum err_code service_user_become(const struct service_user *user, struct err *err)
{
    if (!user->drops || switch_user(user))
        return ERR_OK;
    return err_set_internal(err, ERR_CONFIG, errno, OPERATION, "Can't become user %s: %s.",
                            user->name, strerror(errno));
}

/* ---- what is within the user's reach ---- */

enum reach { REACH_ALL, REACH_NO_DATA, REACH_NO_PROGRAM, REACH_UNKNOWN };

/* The folder that DATA_DIR is in. */
static void find_entrance(const struct config *config, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s", config->data_dir);
    char *slash = strrchr(path, '/');
    slash[slash == path ? 1 : 0] = '\0';
}

/* Asked by a process that has become the user: only the kernel knows all rules. */
static enum reach reach_of(const struct service_user *user, const struct config *config)
{
    char entrance[PATH_SIZE];
    char program[PATH_SIZE];
    int status = 0;
    find_entrance(config, entrance);
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    program[len > 0 ? len : 0] = '\0';
    pid_t child = fork();
    if (child == 0) {
        if (!switch_user(user))
            _exit(REACH_UNKNOWN);
        if (access(entrance, X_OK) != 0)
            _exit(REACH_NO_DATA);
        _exit(len > 0 && access(program, X_OK) != 0 ? REACH_NO_PROGRAM : REACH_ALL);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return REACH_UNKNOWN;
    return (enum reach)WEXITSTATUS(status);
}

static const char *missing_text(enum reach reach)
{
    if (reach == REACH_NO_DATA)
        return "can't enter the folder of DATA_DIR";
    return reach == REACH_NO_PROGRAM ? "can't run Coffer's programs where they lie"
                                     : "can't be looked at";
}

bool is_empty_folder(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    bool empty = true;
    const struct dirent *entry = NULL;
    while (empty && (entry = readdir(dir)))
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, "lost+found") == 0;
    closedir(dir);
    return empty;
}

static enum err_code find_named(const struct config *config, struct service_user *user,
                                struct err *err)
{
    if (!look_up(config->coffer_user, user))
        return err_set(err, ERR_CONFIG, OPERATION,
                       "COFFER_USER %.64s: there is no such user; make it (useradd --system).",
                       config->coffer_user);
    user->drops = user->uid != 0;
    if (!user->drops) {
        snprintf(user->why, sizeof user->why, "COFFER_USER=root");
        return ERR_OK;
    }
    enum reach reach = reach_of(user, config);
    if (reach == REACH_ALL)
        return ERR_OK;
    return err_set(err, ERR_CONFIG, OPERATION,
                   "COFFER_USER %.64s %s: move them to where it may go, or set COFFER_USER=root.",
                   user->name, missing_text(reach));
}

static void stay_root(struct service_user *user, enum reach reach)
{
    snprintf(user->why, sizeof user->why, "user %s %s", user->name, missing_text(reach));
    user->drops = false;
}

/* A folder that somebody owns says who is meant; a new one is for SERVICE_USER. */
static enum err_code find_by_folder(const struct config *config, struct service_user *user,
                                    struct err *err)
{
    struct stat stat_buf;
    bool exists = stat(config->data_dir, &stat_buf) == 0;
    bool is_owned = exists && stat_buf.st_uid != 0;
    if (exists && !is_owned && !is_empty_folder(config->data_dir)) {
        snprintf(user->why, sizeof user->why,
                 "DATA_DIR belongs to root; chown -R it to another user to run as that");
        return ERR_OK;
    }
    if (is_owned) {
        set_owner(&stat_buf, user);
    } else if (!look_up(SERVICE_USER, user)) {
        snprintf(user->why, sizeof user->why, "there is no user " SERVICE_USER);
        return ERR_OK;
    }
    user->drops = true;
    enum reach reach = reach_of(user, config);
    if (reach == REACH_ALL)
        return ERR_OK;
    if (is_owned)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "DATA_DIR belongs to user %.64s, who %s: move them to where that user may "
                       "go, or set COFFER_USER=root.",
                       user->name, missing_text(reach));
    stay_root(user, reach);
    return ERR_OK;
}

enum err_code service_user_find(const struct config *config, struct service_user *ret_user,
                                struct err *err)
{
    struct service_user user = {.drops = false};
    enum err_code code = ERR_OK;
    if (geteuid() == 0)
        code = *config->coffer_user ? find_named(config, &user, err)
                                    : find_by_folder(config, &user, err);
    if (code == ERR_OK)
        *ret_user = user;
    return code;
}

/* ---- whose DATA_DIR is ---- */

static enum err_code not_for(const struct service_user *user, const char *path,
                             const struct stat *stat, const struct config *config, struct err *err)
{
    struct service_user owner = {.drops = false};
    set_owner(stat, &owner);
    return err_set_internal(
        err, ERR_CONFIG, EACCES, OPERATION,
        "%s%.70s belongs to %.32s (mode %04o), but the user here is %.32s (uid %u): run "
        "`chown -R %.32s %.70s`",
        *path ? "DATA_DIR" : "DATA_DIR ", *path ? path : config->data_dir, owner.name,
        (unsigned)stat->st_mode & 07777u, user->name, (unsigned)user->uid, user->name,
        config->data_dir);
}

/* What the service needs besides the 256 folders in objects. */
static const char *const needed[] = {
    "",
    "/objects",
    "/db",
    "/db/coffer.sqlite",
    "/db/coffer.sqlite-wal",
    "/db/coffer.sqlite-shm",
    "/log",
    "/log/coffer.ndjson",
    "/log/lighttpd-error.log",
};

/* Of this process. Only EACCES is a matter of owners. */
static bool may_use(const char *path, const struct stat *stat)
{
    int wanted = S_ISDIR(stat->st_mode) ? R_OK | W_OK | X_OK : R_OK | W_OK;
    return faccessat(AT_FDCWD, path, wanted, AT_EACCESS) == 0 || errno != EACCES;
}

enum err_code data_dir_check(const struct config *config, struct err *err)
{
    struct service_user self = {.drops = false};
    struct stat stat_buf;
    set_self(&self);
    if (stat(config->data_dir, &stat_buf) != 0 && errno == EACCES)
        return err_set_internal(err, ERR_CONFIG, EACCES, OPERATION,
                                "DATA_DIR %.100s: a folder above it can't be entered by %.32s (uid "
                                "%u): run `chmod o+x` on it, or set DATA_DIR elsewhere",
                                config->data_dir, self.name, (unsigned)self.uid);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        char path[PATH_SIZE];
        snprintf(path, sizeof path, "%s%s", config->data_dir, needed[i]);
        if (stat(path, &stat_buf) == 0 && !may_use(path, &stat_buf))
            return not_for(&self, needed[i], &stat_buf, config, err);
    }
    return ERR_OK;
}

/* What root left below DATA_DIR/objects while it ran the service would be unreadable. */
static enum err_code check_shard(const struct service_user *user, const struct config *config,
                                 const char *shard, int *looked_at, struct err *err)
{
    char path[PATH_SIZE];
    struct stat stat_buf;
    const struct dirent *entry = NULL;
    enum err_code code = ERR_OK;
    snprintf(path, sizeof path, "%s%s", config->data_dir, shard);
    DIR *dir = opendir(path);
    while (dir && code == ERR_OK && *looked_at < LOOKED_AT_MAX && (entry = readdir(dir))) {
        bool is_dots = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        ++*looked_at;
        snprintf(path, sizeof path, "%s/%s", shard, entry->d_name);
        if (!is_dots && fstatat(dirfd(dir), entry->d_name, &stat_buf, AT_SYMLINK_NOFOLLOW) == 0 &&
            stat_buf.st_uid != user->uid)
            code = not_for(user, path, &stat_buf, config, err);
    }
    if (dir)
        closedir(dir);
    return code;
}

static enum err_code check_owners(const struct service_user *user, const struct config *config,
                                  struct err *err)
{
    enum err_code code = ERR_OK;
    int looked_at = 0;
    for (size_t i = 0; code == ERR_OK && i < sizeof needed / sizeof *needed; i++) {
        char path[PATH_SIZE];
        struct stat stat_buf;
        snprintf(path, sizeof path, "%s%s", config->data_dir, needed[i]);
        if (stat(path, &stat_buf) == 0 && stat_buf.st_uid != user->uid)
            code = not_for(user, needed[i], &stat_buf, config, err);
    }
    if (code == ERR_OK)
        code = check_shard(user, config, "/objects", &looked_at, err);
    for (unsigned i = 0; code == ERR_OK && i < 256; i++) {
        char shard[16];
        snprintf(shard, sizeof shard, "/objects/%02x", i);
        code = check_shard(user, config, shard, &looked_at, err);
    }
    return code;
}

enum err_code service_user_own(const struct service_user *user, const struct config *config,
                               struct err *err)
{
    if (!user->drops)
        return ERR_OK;
    bool is_new = mkdir(config->data_dir, DATA_DIR_MODE) == 0;
    if ((is_new || is_empty_folder(config->data_dir)) &&
        (chown(config->data_dir, user->uid, user->gid) != 0 ||
         (is_new && chmod(config->data_dir, DATA_DIR_MODE) != 0)))
        return err_set_internal(err, ERR_CONFIG, errno, OPERATION, "DATA_DIR %.128s: %s.",
                                config->data_dir, strerror(errno));
    return check_owners(user, config, err);
}
