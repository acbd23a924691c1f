/* What `coffer-serve check` tries besides settings and lighttpd. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "base/service_user.h"
#include "command.h"

#define PATH_SIZE (CONFIG_TEXT_SIZE + 64)
#define OPERATION "check"

static bool is_there(const char *folder, const char *name)
{
    char path[PATH_SIZE];
    struct stat stat_buf;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return lstat(path, &stat_buf) == 0;
}

/* The folder a path is in. */
static void parent_of(const char *path, char parent[PATH_SIZE])
{
    snprintf(parent, PATH_SIZE, "%s", path);
    char *slash = strrchr(parent, '/');
    slash[slash == parent ? 1 : 0] = '\0';
}

static enum err_code check_writable(const char *setting, const char *path, struct err *err)
{
    if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
        return ERR_OK;
    return err_set_internal(err, ERR_CONFIG, errno, OPERATION, "%s: %.160s can't be written: %s",
                            setting, path, strerror(errno));
}

/* A folder of Coffer's, an empty one, or a place for a new one. */
static enum err_code check_data_dir(const struct config *config, struct err *err)
{
    char parent[PATH_SIZE];
    const char *path = config->data_dir;
    struct stat stat_buf;
    enum err_code code = data_dir_check(config, err);
    if (code != ERR_OK)
        return code;
    parent_of(path, parent);
    if (stat(path, &stat_buf) != 0)
        return errno == ENOENT ? check_writable("DATA_DIR", parent, err)
                               : err_set_internal(err, ERR_CONFIG, errno, OPERATION,
                                                  "DATA_DIR %.160s: %s", path, strerror(errno));
    if (!S_ISDIR(stat_buf.st_mode))
        return err_set_internal(err, ERR_CONFIG, ENOTDIR, OPERATION, "DATA_DIR %.160s is no folder",
                                path);
    if (!is_there(path, "coffer-format") && !is_there(path, "coffer-database") &&
        !is_empty_folder(path))
        return err_set_internal(err, ERR_CONFIG, 0, OPERATION,
                                "DATA_DIR %.160s is neither empty nor a data folder of coffer",
                                path);
    return check_writable("DATA_DIR", path, err);
}

static enum err_code check_log_file(const struct config *config, struct err *err)
{
    char parent[PATH_SIZE];
    char made[PATH_SIZE];
    const char *path = config->log_file;
    struct stat stat_buf;
    if (str_starts_with(str_of(path), STR("unix:")))
        return ERR_OK; /* its receiver may come later */
    if (stat(path, &stat_buf) == 0) {
        if (S_ISDIR(stat_buf.st_mode))
            return err_set_internal(err, ERR_CONFIG, EISDIR, OPERATION,
                                    "LOG_FILE %.160s is a folder", path);
        return check_writable("LOG_FILE", path, err);
    }
    parent_of(path, parent);
    snprintf(made, sizeof made, "%s/log", config->data_dir);
    if (strcmp(parent, made) == 0 && access(parent, F_OK) != 0)
        return ERR_OK; /* made with DATA_DIR */
    return check_writable("LOG_FILE", parent, err);
}

static enum err_code lack(const struct config *config, const char *part, int os_errno,
                          struct err *err)
{
    if (config->sandbox == SANDBOX_REQUIRE)
        return err_set_internal(err, ERR_CONFIG, os_errno, OPERATION,
                                "SANDBOX=require, and this kernel has no %s: %s", part,
                                strerror(os_errno));
    fprintf(stderr, "coffer: warning: this kernel has no %s for the sandbox of programs: %s\n",
            part, strerror(os_errno));
    return ERR_OK;
}

static enum err_code check_sandbox(const struct config *config, struct err *err)
{
    int reason = 0;
    enum err_code code = ERR_OK;
    if (config->sandbox == SANDBOX_OFF)
        return ERR_OK;
    if (sandbox_landlock_abi(&reason) == 0)
        code = lack(config, "Landlock", reason, err);
    if (code == ERR_OK && !sandbox_has_filters(&reason))
        code = lack(config, "seccomp filter", reason, err);
    return code;
}

static enum err_code try_listening(const struct addrinfo *at)
{
    const int one = 1;
    int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    bool listens = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
                   bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, 1) == 0;
    int os_errno = errno;
    if (fd >= 0)
        close(fd);
    errno = os_errno;
    return listens ? ERR_OK : ERR_CONFIG;
}

static enum err_code check_address(const char *host, const char *port, struct err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed)
        return err_set_internal(err, ERR_CONFIG, 0, OPERATION, "%.64s is no address: %s", host,
                                gai_strerror(failed));
    enum err_code code = try_listening(found);
    int os_errno = errno;
    freeaddrinfo(found);
    if (code == ERR_OK)
        return ERR_OK;
    if (os_errno == EADDRINUSE)
        return err_set_internal(err, ERR_CONFIG, os_errno, OPERATION,
                                "port %.8s of %.64s is already in use", port, host);
    if (os_errno == EADDRNOTAVAIL)
        return err_set_internal(err, ERR_CONFIG, os_errno, OPERATION,
                                "%.64s is no address of this machine", host);
    return err_set_internal(err, ERR_CONFIG, os_errno, OPERATION, "port %.8s of %.64s: %s", port,
                            host, strerror(os_errno));
}

static int run(const struct command *command, int argc, char **argv)
{
    struct command_line line = {NULL, 0, {NULL}, 0};
    struct config config;
    struct err err;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    if (line.word_count != 0 && line.word_count != 2)
        return command_misuse(command, "it takes an address and a port, or nothing");
    command_warn();
    enum err_code code = command_load_settings(&config, &err);
    if (code == ERR_OK)
        code = command_give_up_root(&config, &err);
    if (code == ERR_OK && command_keeps_data(&config))
        code = check_data_dir(&config, &err);
    if (code == ERR_OK)
        code = check_log_file(&config, &err);
    if (code == ERR_OK)
        code = check_sandbox(&config, &err);
    if (code == ERR_OK && line.word_count == 2)
        code = check_address(line.words[0], line.words[1], &err);
    return code == ERR_OK ? EXIT_DONE : command_fail(command, &err);
}

const struct command command_check = {
    .name = "check",
    .usage = "check [ADDRESS PORT]",
    .summary =
        "Tries the settings, DATA_DIR, LOG_FILE and the address to listen on; makes nothing.",
    .help = "As the user of the service. `coffer-serve check` does it, and checks lighttpd too.\n",
    .run = run,
};
