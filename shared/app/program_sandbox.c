#include "app/program_sandbox.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/sandbox.h"
#include "base/sanitizer.h"
#include "base/text.h"
#include "base/thread.h"
#include "observe/report.h"

#define RULES_MAX 48
#define FOLDERS_MAX 4
#define LOOK_MS 2000
#define TEXT_SIZE 640
#define OPERATION "sandbox"

#define UNGUARDED_FILES "a program that is taken over can read and change what its user can"
#define UNGUARDED_CALLS "a program that is taken over can make every system call"

struct folder {
    const char *path; /* a rule's */
    dev_t device;
    ino_t inode; /* 0: there was none */
};

struct program_sandbox {
    struct log *log;
    enum err_level level; /* of text */
    char text[TEXT_SIZE];
    struct folder folders[FOLDERS_MAX]; /* that may be replaced */
    size_t folder_count;
    bool is_watching;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t closing;
    bool is_closing; /* guarded by mutex */
    size_t rule_count;
    struct sandbox_rule rules[RULES_MAX];
};

/* ---- rules ---- */

/* The rule, or NULL where its path would be too long to be there. */
__attribute__((format(printf, 3, 4))) static const struct sandbox_rule *
allow(struct program_sandbox *sandbox, unsigned rights, const char *format, ...)
{
    struct sandbox_rule *rule = &sandbox->rules[sandbox->rule_count];
    va_list arguments;
    if (sandbox->rule_count == RULES_MAX)
        return NULL;
    va_start(arguments, format);
    int len = vsnprintf(rule->path, sizeof rule->path, format, arguments);
    va_end(arguments);
    if (len < 0 || (size_t)len >= sizeof rule->path)
        return NULL;
    rule->rights = rights;
    sandbox->rule_count++;
    return rule;
}

static void look_after(struct program_sandbox *sandbox, const struct sandbox_rule *rule)
{
    struct stat stat_buf;
    if (!rule || sandbox->folder_count == FOLDERS_MAX)
        return;
    struct folder *folder = &sandbox->folders[sandbox->folder_count++];
    *folder = (struct folder){.path = rule->path};
    if (stat(rule->path, &stat_buf) == 0) {
        folder->device = stat_buf.st_dev;
        folder->inode = stat_buf.st_ino;
    }
}

/* Of a path that begins with '/'. */
static void folder_of(const char *path, char folder[SANDBOX_PATH_SIZE])
{
    if (!str_copy(folder, SANDBOX_PATH_SIZE, str_of(path)))
        folder[0] = '\0'; /* no rule can name it */
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder ? 1 : 0] = '\0';
}

static bool is_above(const char *folder, const char *path)
{
    size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 &&
           (path[len] == '/' || path[len] == '\0' || strcmp(folder, "/") == 0);
}

/* Would a rule for the folder open what programs are kept from? */
static bool holds_files(const struct config *config, const char *folder)
{
    return is_above(folder, config->data_dir) || is_above(folder, config->runtime_dir);
}

/* Libraries that are loaded late, their data, and what libc and OpenSSL look at. */
static void allow_system(struct program_sandbox *sandbox)
{
    static const char *const readable[] = {"/usr",
                                           "/lib",
                                           "/lib64",
                                           "/etc/ld.so.cache",
                                           "/etc/ssl",
                                           "/etc/localtime",
                                           "/etc/magic",
                                           "/etc/magic.mime",
                                           "/dev/urandom",
                                           "/dev/random",
                                           "/proc/self",
                                           "/proc/sys/kernel/random",
                                           "/proc/sys/vm/overcommit_memory",
                                           "/sys/devices/system/cpu"};
    char program[SANDBOX_PATH_SIZE];
    char folder[SANDBOX_PATH_SIZE];
    for (size_t i = 0; i < sizeof readable / sizeof *readable; i++)
        allow(sandbox, SANDBOX_READ, "%s", readable[i]);
    allow(sandbox, SANDBOX_READ | SANDBOX_APPEND, "/dev/null");
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    program[len > 0 ? len : 0] = '\0';
    folder_of(program, folder);
    if (*folder)
        allow(sandbox, SANDBOX_READ, "%s", folder);
}

/* A certificate is replaced by renaming, so its folder is what can be named. */
static void allow_certificates(struct program_sandbox *sandbox, const struct config *config,
                               const char *path)
{
    char folder[SANDBOX_PATH_SIZE];
    if (*path != '/')
        return;
    folder_of(path, folder);
    allow(sandbox, SANDBOX_READ, "%s", holds_files(config, folder) ? path : folder);
}

/* Files that MONGODB_URI names. */
static void allow_mongodb_files(struct program_sandbox *sandbox, const struct config *config)
{
    static const char *const options[] = {"tlsCAFile", "tlsCertificateKeyFile",
                                          "sslCertificateAuthorityFile",
                                          "sslClientCertificateKeyFile"};
    struct str rest = str_of(config->mongodb_uri);
    str_cut(&rest, '?');
    while (rest.len > 0) {
        struct buf path;
        struct str value = str_cut(&rest, '&');
        struct str name = str_cut(&value, '=');
        buf_init(&path, CONFIG_TEXT_SIZE);
        for (size_t i = 0; i < sizeof options / sizeof *options; i++)
            if (str_equal_nocase(name, str_of(options[i])) &&
                text_percent_decode(value, false, &path))
                allow_certificates(sandbox, config, buf_text(&path));
        buf_release(&path);
    }
}

/* Names of other machines are looked up by files that are replaced by renaming: all of /etc. */
static void allow_network(struct program_sandbox *sandbox, const struct config *config)
{
    static const char resolver[] = "/etc/resolv.conf";
    char path[PATH_MAX];
    char folder[SANDBOX_PATH_SIZE];
    allow(sandbox, SANDBOX_READ, "/etc");
    if (realpath(resolver, path) && strcmp(path, resolver) != 0) {
        folder_of(path, folder);
        allow(sandbox, SANDBOX_READ, "%s", holds_files(config, folder) ? path : folder);
    }
    allow_certificates(sandbox, config, config->s3_ca_file);
    allow_mongodb_files(sandbox, config);
}

/* A log file is made anew after a rotation. False where its folder holds more than logs. */
static bool allow_log(struct program_sandbox *sandbox, const struct config *config)
{
    const unsigned rights = SANDBOX_READ | SANDBOX_APPEND | SANDBOX_MAKE;
    char path[PATH_MAX];
    char folder[SANDBOX_PATH_SIZE];
    struct stat stat_buf;
    if (*config->log_file != '/')
        return true;
    allow(sandbox, rights, "%s", config->log_file);
    if (!realpath(config->log_file, path))
        snprintf(path, sizeof path, "%s", config->log_file);
    else if (stat(path, &stat_buf) != 0 || !S_ISREG(stat_buf.st_mode))
        return true;
    folder_of(path, folder);
    look_after(sandbox, allow(sandbox, rights, "%s", folder));
    return !holds_files(config, folder);
}

static void allow_reports(struct program_sandbox *sandbox, const struct config *config)
{
    char folder[SANDBOX_PATH_SIZE];
    if (report_folder_make(config, folder, sizeof folder))
        allow(sandbox, SANDBOX_CHANGE, "%s", folder);
}

static bool is_driver(const char *driver, const char *name)
{
    return strcmp(driver, name) == 0;
}

static void allow_objects(struct program_sandbox *sandbox, const struct config *config,
                          unsigned needs)
{
    const unsigned all = NEEDS_OBJECTS_READ | NEEDS_OBJECTS_ADD | NEEDS_OBJECTS_REMOVE;
    unsigned rights = 0;
    if (!(needs & all))
        return;
    if (needs & NEEDS_OBJECTS_ADD)
        rights |= SANDBOX_CHANGE;
    if (needs & NEEDS_OBJECTS_REMOVE)
        rights |= SANDBOX_REMOVE;
    allow(sandbox, SANDBOX_READ, "%s", config->data_dir);
    look_after(sandbox, allow(sandbox, SANDBOX_READ | rights, "%s/objects", config->data_dir));
    if (needs & NEEDS_OBJECTS_PROBE)
        allow(sandbox, SANDBOX_CHANGE, "%s/objects/00", config->data_dir);
}

/* SQLite's readers write, too: the index of the log, and the log's lock. */
static void allow_stores(struct program_sandbox *sandbox, const struct config *config,
                         unsigned needs)
{
    if (is_driver(config->storage_driver, "fs"))
        allow_objects(sandbox, config, needs);
    if (is_driver(config->storage_driver, "libs3") && needs & NEEDS_OBJECTS_ADD)
        allow(sandbox, SANDBOX_CHANGE, "%s/spool", config->runtime_dir);
    if (is_driver(config->metadata_driver, "sqlite") && needs & NEEDS_DATABASE)
        look_after(sandbox, allow(sandbox, SANDBOX_CHANGE, "%s/db", config->data_dir));
}

static void allow_gateway(struct program_sandbox *sandbox, const struct config *config)
{
    allow(sandbox, SANDBOX_CHANGE, "%s", config->runtime_dir);
    allow(sandbox, SANDBOX_READ, "/proc");
}

/* Of a build that has crash points: what says where. */
static bool allow_crash_points(struct program_sandbox *sandbox)
{
    char folder[SANDBOX_PATH_SIZE];
    if (crash_folder())
        allow(sandbox, SANDBOX_READ | SANDBOX_REMOVE, "%s", crash_folder());
    if (crash_once()) {
        folder_of(crash_once(), folder);
        allow(sandbox, SANDBOX_REMOVE, "%s", folder);
    }
    return crash_folder() || crash_once();
}

/* ---- system calls ---- */

static bool uses_network(const struct config *config, unsigned needs)
{
    const unsigned objects = ~(unsigned)(NEEDS_DATABASE | NEEDS_GATEWAY);
    return *config->sentry_dsn || *config->otlp_endpoint ||
           (needs & objects && !is_driver(config->storage_driver, "fs")) ||
           (needs & NEEDS_DATABASE && !is_driver(config->metadata_driver, "sqlite"));
}

static unsigned calls_of(const struct config *config, unsigned needs, bool has_crash_points)
{
    const unsigned changes =
        NEEDS_OBJECTS_ADD | NEEDS_OBJECTS_REMOVE | NEEDS_OBJECTS_PROBE | NEEDS_GATEWAY;
    unsigned calls = 0;
    if (uses_network(config, needs))
        calls |= SANDBOX_CALLS_NETWORK;
    if (needs & NEEDS_GATEWAY || *config->log_file != '/')
        calls |= SANDBOX_CALLS_UNIX;
    if (needs & changes || has_crash_points || *config->sentry_dsn ||
        (needs & NEEDS_DATABASE && is_driver(config->metadata_driver, "sqlite")))
        calls |= SANDBOX_CALLS_NAMES;
    return calls;
}

/* ---- entering ---- */

static void say(struct program_sandbox *sandbox, const char *text)
{
    size_t len = strlen(sandbox->text);
    snprintf(sandbox->text + len, sizeof sandbox->text - len, "%s%s", len ? ", " : OPERATION ": ",
             text);
}

static void say_missing(struct program_sandbox *sandbox, const struct err *missing,
                        const char *meaning)
{
    char text[ERR_MESSAGE_MAX + 128];
    snprintf(text, sizeof text, "%s: %s", missing->message, meaning);
    say(sandbox, text);
    sandbox->level = ERR_LEVEL_WARN;
}

static void say_abi(struct program_sandbox *sandbox)
{
    char text[32];
    int ignored = 0;
    snprintf(text, sizeof text, "Landlock ABI %d", sandbox_landlock_abi(&ignored));
    say(sandbox, text);
}

static enum err_code required(const struct err *missing, struct err *err)
{
    return err_set_internal(err, ERR_CONFIG, missing->os_errno, OPERATION,
                            "SANDBOX=require, and this kernel gives %.120s; with SANDBOX=on the "
                            "service starts without.",
                            missing->message);
}

static enum err_code restrict_all(struct program_sandbox *sandbox, const struct config *config,
                                  unsigned calls, struct err *err)
{
    bool is_required = config->sandbox == SANDBOX_REQUIRE;
    struct err missing = {.code = ERR_OK};
    bool connects = calls & SANDBOX_CALLS_NETWORK;
    if (sandbox_restrict_files(sandbox->rules, sandbox->rule_count, connects, &missing) == ERR_OK)
        say_abi(sandbox);
    else if (is_required)
        return required(&missing, err);
    else
        say_missing(sandbox, &missing, UNGUARDED_FILES);
    if (sandbox_restrict_calls(calls, &missing) == ERR_OK)
        say(sandbox, "seccomp");
    else if (is_required)
        return required(&missing, err);
    else
        say_missing(sandbox, &missing, UNGUARDED_CALLS);
    return ERR_OK;
}

static enum err_code restrict_by(struct program_sandbox *sandbox, const struct config *config,
                                 unsigned needs, struct err *err)
{
    bool has_own_folder = allow_log(sandbox, config);
    bool has_crash_points = allow_crash_points(sandbox);
    allow_system(sandbox);
    allow_reports(sandbox, config);
    allow_stores(sandbox, config, needs);
    if (uses_network(config, needs))
        allow_network(sandbox, config);
    if (needs & NEEDS_GATEWAY)
        allow_gateway(sandbox, config);
    enum err_code code =
        restrict_all(sandbox, config, calls_of(config, needs, has_crash_points), err);
    if (!has_own_folder) {
        say(sandbox, "LOG_FILE lies in a folder with DATA_DIR or RUNTIME_DIR, where programs can "
                     "write therefore: give it a folder of its own");
        sandbox->level = ERR_LEVEL_WARN;
    }
    return code;
}

static struct program_sandbox *make(void)
{
    struct program_sandbox *sandbox = calloc(1, sizeof *sandbox);
    if (!sandbox)
        return NULL;
    sandbox->level = ERR_LEVEL_INFO;
    pthread_mutex_init(&sandbox->mutex, NULL);
    condition_init(&sandbox->closing);
    return sandbox;
}

enum err_code program_sandbox_enter_always(struct program_sandbox **ret_sandbox,
                                           const struct config *config, unsigned needs,
                                           struct err *err)
{
    enum err_code code = ERR_OK;
    struct program_sandbox *sandbox = make();
    if (!sandbox)
        return err_set(err, ERR_NO_MEMORY, OPERATION, "Out of memory.");
    if (config->sandbox == SANDBOX_OFF)
        say(sandbox, "off (SANDBOX=off)");
    else
        code = restrict_by(sandbox, config, needs, err);
    if (code == ERR_OK)
        *ret_sandbox = sandbox;
    else
        program_sandbox_close(sandbox);
    return code;
}

enum err_code program_sandbox_enter(struct program_sandbox **ret_sandbox,
                                    const struct config *config, unsigned needs, struct err *err)
{
    if (!HAS_SANITIZER || config->sandbox == SANDBOX_OFF)
        return program_sandbox_enter_always(ret_sandbox, config, needs, err);
    if (config->sandbox == SANDBOX_REQUIRE)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "SANDBOX=require, and a build with a sanitizer has none.");
    *ret_sandbox = make();
    if (!*ret_sandbox)
        return err_set(err, ERR_NO_MEMORY, OPERATION, "Out of memory.");
    say(*ret_sandbox, "off in a build with a sanitizer");
    return ERR_OK;
}

/* ---- folders that are replaced ---- */

/* One that went is waited for: it may come back. */
static bool is_replaced(const struct folder *folder)
{
    struct stat stat_buf;
    return stat(folder->path, &stat_buf) == 0 &&
           (stat_buf.st_ino != folder->inode || stat_buf.st_dev != folder->device);
}

static const char *find_replaced(const struct program_sandbox *sandbox)
{
    for (size_t i = 0; i < sandbox->folder_count; i++)
        if (is_replaced(&sandbox->folders[i]))
            return sandbox->folders[i].path;
    return NULL;
}

static bool rest(struct program_sandbox *sandbox)
{
    const struct timespec until = condition_deadline(LOOK_MS);
    bool in_time = true;
    pthread_mutex_lock(&sandbox->mutex);
    while (!sandbox->is_closing && in_time)
        in_time = condition_wait(&sandbox->closing, &sandbox->mutex, &until);
    bool goes_on = !sandbox->is_closing;
    pthread_mutex_unlock(&sandbox->mutex);
    return goes_on;
}

static void *run(void *argument)
{
    struct program_sandbox *sandbox = argument;
    const char *folder = NULL;
    signal_stack_take();
    while (!folder && rest(sandbox))
        folder = find_replaced(sandbox);
    if (!folder)
        return NULL;
    const struct log_field field = LOG_FIELD_STR("file.path", str_of(folder));
    log_write(sandbox->log, ERR_LEVEL_WARN, NULL,
              "a folder was replaced: starting again, as the sandbox knows the former one alone",
              (struct log_fields){&field, 1});
    kill(getpid(), SIGTERM);
    return NULL;
}

enum err_code program_sandbox_watch(struct program_sandbox *sandbox, struct log *log,
                                    struct err *err)
{
    sandbox->log = log;
    log_write(log, sandbox->level, NULL, sandbox->text, LOG_NO_FIELDS);
    if (sandbox->folder_count == 0)
        return ERR_OK;
    sandbox->is_watching = thread_start(&sandbox->thread, 0, run, sandbox);
    return sandbox->is_watching
               ? ERR_OK
               : err_set_internal(err, ERR_NO_MEMORY, 0, OPERATION, "cannot start a thread");
}

void program_sandbox_close(struct program_sandbox *sandbox)
{
    if (!sandbox)
        return;
    pthread_mutex_lock(&sandbox->mutex);
    sandbox->is_closing = true;
    pthread_cond_broadcast(&sandbox->closing);
    pthread_mutex_unlock(&sandbox->mutex);
    if (sandbox->is_watching)
        pthread_join(sandbox->thread, NULL);
    pthread_cond_destroy(&sandbox->closing);
    pthread_mutex_destroy(&sandbox->mutex);
    free(sandbox);
}
