#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>

#include "base/backoff.h"
#include "base/text.h"
#include "storage/libs3/storage_libs3.h"

#define NS_PER_MS 1000000LL
#define NS_PER_SECOND 1000000000LL

static void end_context(void *context, void *item)
{
    const struct storage_libs3 *libs3 = context;
    libs3->library->destroy_request_context(item);
}

enum err_code libs3_pool_init(struct storage_libs3 *libs3, struct err *err)
{
    const struct pool_options options = {.max = LIBS3_CONNECTIONS,
                                         .idle_max = LIBS3_IDLE_CONNECTIONS,
                                         .end = end_context,
                                         .context = libs3};
    pthread_mutex_init(&libs3->claim_mutex, NULL);
    pthread_cond_init(&libs3->claim_released, NULL);
    return pool_init(&libs3->pool, &options, err);
}

void libs3_pool_release(struct storage_libs3 *libs3)
{
    pool_release(&libs3->pool);
    pthread_cond_destroy(&libs3->claim_released);
    pthread_mutex_destroy(&libs3->claim_mutex);
}

/* A context without a request; waits for one until `deadline_ns` (steady). ERR_STORAGE_UNAVAILABLE.
 * The caller gives it back with pool_give. */
static enum err_code take_context(struct storage_libs3 *libs3, int64_t deadline_ns,
                                  S3RequestContext **ret_context, struct err *err)
{
    void *item = NULL;
    int64_t left_ns = deadline_ns - clock_steady_ns(libs3->clock);
    if (!pool_take(&libs3->pool, left_ns / NS_PER_MS, &item))
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "take connection",
                                "All %d connections to the store are in use.", LIBS3_CONNECTIONS);
    S3RequestContext *context = item;
    if (!context && libs3->library->create_request_context(&context) != S3StatusOK) {
        pool_give(&libs3->pool, NULL);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "take connection", "Out of memory.");
    }
    *ret_context = context;
    return ERR_OK;
}

void libs3_pool_usage(void *state, struct pool_usage *ret_usage)
{
    struct storage_libs3 *libs3 = state;
    pool_usage(&libs3->pool, ret_usage);
}

static bool is_claimed(const struct storage_libs3 *libs3, const char *key)
{
    for (const struct libs3_claim *claim = libs3->claims; claim; claim = claim->next)
        if (strcmp(claim->key, key) == 0)
            return true;
    return false;
}

void libs3_claim_take(struct storage_libs3 *libs3, struct libs3_claim *claim)
{
    pthread_mutex_lock(&libs3->claim_mutex);
    while (is_claimed(libs3, claim->key))
        pthread_cond_wait(&libs3->claim_released, &libs3->claim_mutex);
    claim->next = libs3->claims;
    libs3->claims = claim;
    pthread_mutex_unlock(&libs3->claim_mutex);
}

void libs3_claim_release(struct storage_libs3 *libs3, const struct libs3_claim *claim)
{
    pthread_mutex_lock(&libs3->claim_mutex);
    struct libs3_claim **at = &libs3->claims;
    while (*at != claim)
        at = &(*at)->next;
    *at = claim->next;
    pthread_cond_broadcast(&libs3->claim_released);
    pthread_mutex_unlock(&libs3->claim_mutex);
}

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

/* Held while a request is composed, not while it runs: libs3 dates requests with gmtime, which
 * has one result for all threads. */
static void libs3_compose_lock(void)
{
    pthread_mutex_lock(&compose_mutex);
}

static void libs3_compose_unlock(void)
{
    pthread_mutex_unlock(&compose_mutex);
}

#define WAIT_MAX_MS 200  /* between two looks at the clock */
#define WAIT_UNSEEN_MS 5 /* between two looks at a socket that select can't watch */

/* ---- what libs3 tells ---- */

static void keep_metadata(struct libs3_request *request, const S3ResponseProperties *properties)
{
    for (int i = 0; i < properties->metaDataCount; i++) {
        struct str name = str_of(properties->metaData[i].name);
        struct str value = str_of(properties->metaData[i].value);
        bool fits = true;
        if (str_equal_nocase(name, STR("sha256")))
            fits = str_copy(request->sha256, sizeof request->sha256, value);
        else if (str_equal_nocase(name, STR("upload")))
            fits = str_copy(request->nonce, sizeof request->nonce, value);
        (void)fits; /* what does not fit is not ours, and "" */
    }
}

static S3Status keep_properties(const S3ResponseProperties *properties, void *callback_data)
{
    struct libs3_request *request = callback_data;
    request->moved_ns = clock_steady_ns(request->libs3->clock);
    request->length =
        properties->contentLength <= INT64_MAX ? (int64_t)properties->contentLength : INT64_MAX;
    request->modified_s = properties->lastModified;
    if (!str_copy(request->tag, sizeof request->tag, str_of(properties->eTag)))
        request->tag[0] = '\0';
    keep_metadata(request, properties);
    if (request->target && request->length != 0 && request->length != request->body) {
        request->is_nonsense = true;
        return S3StatusAbortedByCallback;
    }
    return S3StatusOK;
}

static void keep_outcome(S3Status status, const S3ErrorDetails *details, void *callback_data)
{
    struct libs3_request *request = callback_data;
    (void)details; /* names keys and signed texts */
    request->status = status;
    request->is_done = true;
}

const S3ResponseHandler libs3_response_handler = {keep_properties, keep_outcome};

S3Status libs3_receive(int len, const char *bytes, void *callback_data)
{
    struct libs3_request *request = callback_data;
    if (len < 0 || len > request->body - request->received) {
        request->is_nonsense = true;
        return S3StatusAbortedByCallback;
    }
    memcpy(request->target + request->received, bytes, (size_t)len);
    request->received += len;
    request->moved_ns = clock_steady_ns(request->libs3->clock);
    return S3StatusOK;
}

/* ---- what it means ---- */

static const struct {
    S3Status status;
    enum err_code code;
    bool may_repeat;
} meanings[] = {
    {S3StatusOK, ERR_OK, false},
    {S3StatusOutOfMemory, ERR_NO_MEMORY, false},
    /* connections: "internal" are all faults of libcurl that libs3 has no name for, as a reset */
    {S3StatusInternalError, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusInterrupted, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusNameLookupError, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusFailedToConnect, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusConnectionFailed, ERR_STORAGE_UNAVAILABLE, true},
    /* an error that is no XML is a proxy's page, whatever its status was */
    {S3StatusXmlParseFailure, ERR_STORAGE_UNAVAILABLE, true},
    /* the store is ill for now; "unknown" are 429, 502, 504 and codes younger than libs3 */
    {S3StatusErrorInternalError, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusErrorSlowDown, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusErrorOperationAborted, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusErrorRequestTimeout, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusErrorUnknown, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusHttpErrorUnknown, ERR_STORAGE_UNAVAILABLE, true},
    {S3StatusErrorRequestTimeTooSkewed, ERR_STORAGE_UNAVAILABLE, false},
    {S3StatusErrorNoSuchBucket, ERR_STORAGE_UNAVAILABLE, false},
    {S3StatusErrorNoSuchKey, ERR_NOT_FOUND, false},
    {S3StatusHttpErrorNotFound, ERR_NOT_FOUND, false},
};

enum err_code libs3_status_code(S3Status status, bool *ret_may_repeat)
{
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++) {
        if (meanings[i].status == status) {
            *ret_may_repeat = meanings[i].may_repeat;
            return meanings[i].code;
        }
    }
    *ret_may_repeat = false;
    return ERR_STORAGE;
}

static const char *explanation(S3Status status)
{
    if (status == S3StatusErrorRequestTimeTooSkewed)
        return ": this machine's clock differs from the store's";
    if (status == S3StatusErrorPreconditionFailed)
        return ": the object was changed behind our back";
    if (status == S3StatusErrorNoSuchBucket)
        return ": `coffer init` makes the bucket";
    return "";
}

static enum err_code told_too_late(const struct libs3_request *request, struct err *err)
{
    static const char *const reasons[] = {
        [LIBS3_NOT_CONNECTED] = "The store did not take the connection in time.",
        [LIBS3_STALLED] = "The store was silent for too long.",
        [LIBS3_TOO_LATE] = "The store did not answer before the deadline.",
    };
    return err_set_internal(err, ERR_UPSTREAM_TIMEOUT, 0, request->operation, "%s",
                            reasons[request->given_up]);
}

/* What came of an attempt. */
static enum err_code judge(struct libs3_request *request, struct err *err)
{
    if (request->is_failed_here)
        return request->err->code;
    if (request->is_nonsense)
        return err_set_internal(err, ERR_STORAGE, 0, request->operation,
                                "The store sends other bytes than were asked for.");
    if (request->given_up != LIBS3_RUNNING) {
        request->may_repeat = true;
        return told_too_late(request, err);
    }
    enum err_code code = libs3_status_code(request->status, &request->may_repeat);
    if (code != ERR_OK)
        return err_set_internal(err, code, 0, request->operation, "The store: %s%s.",
                                request->libs3->library->get_status_name(request->status),
                                explanation(request->status));
    if (request->target && request->received != request->body) {
        request->may_repeat = true;
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, request->operation,
                                "The store's answer was cut.");
    }
    return ERR_OK;
}

/* ---- running ---- */

struct watch {
    S3RequestContext *context;
    int64_t begun_ns;
    bool is_connected;
};

/* Is one of the sockets connected over the network? The resolver's are not. */
static bool has_peer(const fd_set *readable, const fd_set *writable, int max_fd)
{
    for (int fd = 0; fd <= max_fd; fd++) {
        struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof peer;
        if ((FD_ISSET(fd, readable) || FD_ISSET(fd, writable)) &&
            getpeername(fd, (struct sockaddr *)&peer, &len) == 0 &&
            (peer.ss_family == AF_INET || peer.ss_family == AF_INET6))
            return true;
    }
    return false;
}

/* Waits until there is something to do, or for a moment. libcurl leaves out sockets that do not fit
 * a set (1024 and above): then there is nothing to watch, and nothing to see about connecting. */
static void wait_for_socket(const struct libs3_request *request, struct watch *watch)
{
    const struct libs3_library *library = request->libs3->library;
    fd_set readable;
    fd_set writable;
    fd_set exceptional;
    int max_fd = -1;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_ZERO(&exceptional);
    (void)library->get_request_context_fdsets(watch->context, &readable, &writable, &exceptional,
                                              &max_fd);
    int64_t wait_ms = library->get_request_context_timeout(watch->context);
    int64_t longest_ms = max_fd < 0 ? WAIT_UNSEEN_MS : WAIT_MAX_MS;
    if (wait_ms < 0 || wait_ms > longest_ms)
        wait_ms = longest_ms;
    if (!watch->is_connected)
        watch->is_connected = max_fd < 0 || has_peer(&readable, &writable, max_fd);
    struct timeval timeout = {.tv_sec = 0, .tv_usec = (suseconds_t)(wait_ms * 1000)};
    (void)select(max_fd + 1, &readable, &writable, &exceptional, &timeout);
}

/* A body that moves extends the deadline, by what it takes at the slowest rate. */
static enum libs3_given_up too_long(const struct libs3_request *request, const struct watch *watch)
{
    const struct storage_libs3 *libs3 = request->libs3;
    int64_t now_ns = clock_steady_ns(libs3->clock);
    int64_t silent_ns = now_ns - request->moved_ns;
    int64_t extended_ns = request->body / LIBS3_SLOWEST * NS_PER_SECOND;
    if (!watch->is_connected && now_ns - watch->begun_ns >= libs3->connect_ns)
        return LIBS3_NOT_CONNECTED;
    if (silent_ns >= libs3->stall_ns)
        return LIBS3_STALLED;
    if (now_ns >= request->deadline_ns &&
        (silent_ns >= NS_PER_SECOND || now_ns >= request->deadline_ns + extended_ns))
        return LIBS3_TOO_LATE;
    return LIBS3_RUNNING;
}

static void begin_attempt(struct libs3_request *request)
{
    request->is_done = false;
    request->status = S3StatusInternalError;
    request->given_up = LIBS3_RUNNING;
    request->may_repeat = false;
    request->is_nonsense = false;
    request->is_failed_here = false;
    request->sent = 0;
    request->received = 0;
    request->moved_ns = clock_steady_ns(request->libs3->clock);
    request->length = 0;
    request->modified_s = -1;
    request->tag[0] = '\0';
    request->sha256[0] = '\0';
    request->nonce[0] = '\0';
}

/* Runs the context until the request is done. *context becomes NULL when it had to be destroyed:
 * that is the only way to end a request. */
static void drive(struct libs3_request *request, S3RequestContext **context)
{
    const struct libs3_library *library = request->libs3->library;
    struct watch watch = {*context, request->moved_ns, false};
    while (!request->is_done) {
        int left = 0;
        S3Status status = library->runonce_request_context(*context, &left);
        if (request->is_done)
            return;
        request->given_up = too_long(request, &watch);
        if (status != S3StatusOK || left == 0 || request->given_up != LIBS3_RUNNING) {
            library->destroy_request_context(*context);
            *context = NULL;
            return;
        }
        wait_for_socket(request, &watch);
    }
}

static enum err_code attempt(struct libs3_request *request, struct err *err)
{
    struct storage_libs3 *libs3 = request->libs3;
    S3RequestContext *context = NULL;
    enum err_code code = take_context(libs3, request->deadline_ns, &context, err);
    if (code != ERR_OK)
        return code;
    request->err = err;
    begin_attempt(request);
    libs3_compose_lock();
    request->start(request, context);
    libs3_compose_unlock();
    drive(request, &context);
    pool_give(&libs3->pool, context);
    return judge(request, err);
}

static const struct backoff backoff = {50, 1000, BACKOFF_FULL_JITTER};

static void rest(int64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / NS_PER_SECOND),
                            .tv_nsec = (long)(ns % NS_PER_SECOND)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

bool libs3_may_try(struct storage_libs3 *libs3, unsigned attempt, int64_t deadline_ns)
{
    int64_t wait_ns = backoff_ms(&backoff, attempt - 2, libs3->clock) * NS_PER_MS;
    if (attempt > libs3->attempts || clock_steady_ns(libs3->clock) + wait_ns >= deadline_ns)
        return false;
    rest(wait_ns);
    if (libs3->retried)
        libs3->retried(libs3->context);
    return true;
}

enum err_code libs3_run(struct libs3_request *request, struct err *err)
{
    struct storage_libs3 *libs3 = request->libs3;
    struct err failure = {.code = ERR_INTERNAL};
    enum err_code code = ERR_OK;
    unsigned number = 0;
    if (request->deadline_ns == 0)
        request->deadline_ns = clock_steady_ns(libs3->clock) + libs3->deadline_ns;
    do {
        code = attempt(request, &failure);
        if (code == ERR_OK)
            return ERR_OK;
        number++;
    } while (request->may_repeat && number != request->attempts &&
             libs3_may_try(libs3, number + 1, request->deadline_ns));
    *err = failure;
    return code;
}
