#include "storage/libs3/storage_libs3_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define USER_AGENT "coffer/" COFFER_VERSION

static pthread_mutex_t load_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t compose_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct libs3_library loaded;
static bool is_loaded;

#define SYMBOL(member)                                        \
    {                                                         \
        "S3_" #member, offsetof(struct libs3_library, member) \
    }

static const struct {
    const char *name;
    size_t offset; /* of its pointer in struct libs3_library */
} symbols[] = {
    SYMBOL(initialize),
    SYMBOL(get_status_name),
    SYMBOL(validate_bucket_name),
    SYMBOL(create_request_context),
    SYMBOL(destroy_request_context),
    SYMBOL(runonce_request_context),
    SYMBOL(get_request_context_fdsets),
    SYMBOL(get_request_context_timeout),
    SYMBOL(test_bucket),
    SYMBOL(create_bucket),
    SYMBOL(list_bucket),
    SYMBOL(put_object),
    SYMBOL(get_object),
    SYMBOL(head_object),
    SYMBOL(copy_object),
    SYMBOL(delete_object),
    {"xmlInitParser", offsetof(struct libs3_library, init_xml)},
};

_Static_assert(sizeof symbols / sizeof symbols[0] * sizeof(void *) == sizeof(struct libs3_library),
               "each member has its symbol");

enum err_code libs3_library_load(const char *file, struct libs3_library *ret_library,
                                 struct err *err)
{
    struct libs3_library library;
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle)
        return err_set(err, ERR_CONFIG, "load libs3",
                       "STORAGE_DRIVER=libs3 needs the library %s (Debian's package libs3-2).",
                       file);
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(handle, symbols[i].name);
        if (!symbol)
            return err_set(err, ERR_CONFIG, "load libs3",
                           "The library %s has no %s: not libs3 2.0?", file, symbols[i].name);
        memcpy((char *)&library + symbols[i].offset, &symbol, sizeof symbol);
    }
    *ret_library = library;
    return ERR_OK;
}

/* What libs3's libcurl would take from the environment: no proxy stands before the store. */
static void forget_proxies(void)
{
    static const char *const names[] = {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

static enum err_code load_once(struct err *err)
{
    enum err_code code = libs3_library_load(LIBS3_FILE, &loaded, err);
    if (code != ERR_OK)
        return code;
    forget_proxies();
    loaded.init_xml();
    if (loaded.initialize(USER_AGENT, S3_INIT_ALL, NULL) != S3StatusOK)
        return err_set_internal(err, ERR_INTERNAL, 0, "load libs3", "S3_initialize failed.");
    is_loaded = true;
    return ERR_OK;
}

enum err_code libs3_library_open(const struct libs3_library **ret_library, struct err *err)
{
    pthread_mutex_lock(&load_mutex);
    enum err_code code = is_loaded ? ERR_OK : load_once(err);
    pthread_mutex_unlock(&load_mutex);
    if (code == ERR_OK)
        *ret_library = &loaded;
    return code;
}

void libs3_compose_lock(void)
{
    pthread_mutex_lock(&compose_mutex);
}

void libs3_compose_unlock(void)
{
    pthread_mutex_unlock(&compose_mutex);
}
