#include <errno.h>
#include <netinet/in.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>

#include "base/text.h"
#include "storage/libs3/storage_libs3.h"

#define NS_PER_SECOND 1000000000LL
#define NS_PER_MS 1000000LL
#define WAIT_MAX_MS 200  /* between two looks at the clock */
#define WAIT_UNSEEN_MS 5 /* between two looks at a socket that select can't watch */
#define BACKOFF_FIRST_NS (50 * NS_PER_MS)
#define BACKOFF_MAX_NS (1000 * NS_PER_MS)

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
    enum err_code code = libs3_pool_take(libs3, request->deadline_ns, &context, err);
    if (code != ERR_OK)
        return code;
    request->err = err;
    begin_attempt(request);
    libs3_compose_lock();
    request->start(request, context);
    libs3_compose_unlock();
    drive(request, &context);
    libs3_pool_give(libs3, context);
    return judge(request, err);
}

int64_t libs3_backoff_ns(const struct clock *clock, unsigned attempt)
{
    uint64_t random = 0;
    int64_t longest_ns = BACKOFF_FIRST_NS;
    for (unsigned i = 2; i < attempt && longest_ns < BACKOFF_MAX_NS; i++)
        longest_ns *= 2;
    if (longest_ns > BACKOFF_MAX_NS)
        longest_ns = BACKOFF_MAX_NS;
    clock_random(clock, &random, sizeof random);
    return (int64_t)(random % (uint64_t)(longest_ns + 1));
}

static void rest(int64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / NS_PER_SECOND),
                            .tv_nsec = (long)(ns % NS_PER_SECOND)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

bool libs3_may_try(struct storage_libs3 *libs3, unsigned attempt, int64_t deadline_ns)
{
    int64_t wait_ns = libs3_backoff_ns(libs3->clock, attempt);
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
