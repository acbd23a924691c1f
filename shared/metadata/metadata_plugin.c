#include "metadata/metadata_plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLUGIN "coffer-mongodb.so"
#define SYMBOL "metadata_mongodb_driver"
#define WATCH_SYMBOL "metadata_mongodb_watch_errors"

extern const struct metadata_driver metadata_mongodb_driver __attribute__((weak));

struct plugin {
    const struct metadata_driver *driver;
    char failure[ERR_MESSAGE_MAX];
};

static struct plugin plugin;

/* In the program's folder; or, for the admin command of an installation, in the programs' one. */
static const char *const folders[] = {"", "../libexec/coffer/"};

static void *load_from(const char *program_folder, const char *folder)
{
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s" PLUGIN, program_folder, folder);
    /* It is never closed: its threads and the library's state live as long as the process. */
    return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

/* The object has a copy of the library of its own: its errors are watched like the program's. */
static void watch_errors(void *object)
{
    void (*watch)(err_watcher *);
    *(void **)&watch = dlsym(object, WATCH_SYMBOL);
    if (watch)
        watch(err_watching());
}

static void load(void)
{
    char program[PATH_MAX];
    void *object = NULL;
    const char *why = NULL;
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    program[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = '\0';
    /* libmongoc's counters would be a file in /dev/shm, which a killed process leaves behind and the
     * next one with its id stumbles over. It looks when it is loaded. */
    setenv("MONGOC_DISABLE_SHM", "1", 1);
    for (size_t i = 0; !object && i < sizeof folders / sizeof *folders; i++) {
        object = load_from(program, folders[i]);
        if (!object && !why) /* the first folder's failure says most */
            why = dlerror();
    }
    if (object)
        plugin.driver = dlsym(object, SYMBOL);
    if (plugin.driver)
        watch_errors(object);
    if (!plugin.driver)
        snprintf(plugin.failure, sizeof plugin.failure, "%s", why ? why : "it holds no driver");
}

enum err_code metadata_plugin_mongodb(const struct metadata_driver **ret_driver, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (&metadata_mongodb_driver) {
        *ret_driver = &metadata_mongodb_driver;
        return ERR_OK;
    }
    pthread_once(&once, load);
    if (!plugin.driver)
        return err_set_internal(err, ERR_CONFIG, 0, "load driver",
                                "METADATA_DRIVER=mongodb: " PLUGIN " can't be loaded (%s); is "
                                "libmongoc-1.0-0 installed?",
                                plugin.failure);
    *ret_driver = plugin.driver;
    return ERR_OK;
}
