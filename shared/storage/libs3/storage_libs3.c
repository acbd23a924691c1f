#include "storage/libs3/storage_libs3.h"

#include <stdlib.h>
#include <time.h>

#include "storage/storage_drivers.h"

/* Listing, page by page. The caller is told of a page when its request has ended, so that it may
 * make requests of its own. */

struct listed_object {
    char key[LIMIT_KEY_BYTES + 1];
    struct storage_stat stat;
};

struct page {
    char marker[LIBS3_KEY_SIZE]; /* the page begins behind this key */
    char last[LIBS3_KEY_SIZE];   /* the last key seen; "": none */
    size_t count;
    struct listed_object objects[LIBS3_PAGE];
};

static enum err_code libs3_ask_for_bucket(struct storage_libs3 *libs3, S3Status *ret_status,
                                          struct err *err);

int64_t libs3_listed_time(int64_t seconds)
{
    time_t local = (time_t)seconds;
    struct tm parts;
    return localtime_r(&local, &parts) ? (int64_t)timegm(&parts) : seconds;
}

/* What does not look like one of our keys, or is too large, is not ours. */
static void keep_object(struct page *page, const S3ListBucketContent *content)
{
    struct err err;
    struct listed_object *object = &page->objects[page->count];
    if (content->size > INT64_MAX || storage_check_key(content->key, &err) != ERR_OK ||
        !str_copy(object->key, sizeof object->key, str_of(content->key)))
        return;
    if (!str_copy(object->stat.tag, sizeof object->stat.tag, str_of(content->eTag)))
        object->stat.tag[0] = '\0';
    object->stat.size = (int64_t)content->size;
    object->stat.modified_ms =
        content->lastModified < 0 ? -1 : libs3_listed_time(content->lastModified) * 1000;
    page->count++;
}

/* libs3's S3ListBucketCallback. NOLINTNEXTLINE(readability-function-size) */
static S3Status keep_page(int is_truncated, const char *next_marker, int count,
                          const S3ListBucketContent *contents, int prefix_count,
                          const char **prefixes, void *callback_data)
{
    struct libs3_request *request = callback_data;
    struct page *page = request->detail;
    (void)is_truncated;
    (void)next_marker;
    (void)prefix_count;
    (void)prefixes;
    request->moved_ns = clock_steady_ns(request->libs3->clock);
    for (int i = 0; i < count; i++) {
        const char *before = page->last[0] ? page->last : page->marker;
        if (page->count == LIBS3_PAGE || strcmp(contents[i].key, before) <= 0 ||
            !str_copy(page->last, sizeof page->last, str_of(contents[i].key))) {
            request->is_nonsense = true;
            return S3StatusAbortedByCallback;
        }
        keep_object(page, &contents[i]);
    }
    return S3StatusOK;
}

static void start_list(struct libs3_request *request, S3RequestContext *context)
{
    const S3ListBucketHandler handler = {libs3_response_handler, keep_page};
    struct page *page = request->detail;
    page->last[0] = '\0';
    page->count = 0;
    request->libs3->library->list_bucket(&request->libs3->target, NULL,
                                         page->marker[0] ? page->marker : NULL, NULL, LIBS3_PAGE,
                                         context, &handler, request);
}

static enum err_code show(const struct storage_libs3 *libs3, struct page *page,
                          storage_list_callback *callback, void *context, struct err *err)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < page->count && code == ERR_OK; i++) {
        struct storage_stat *stat = &page->objects[i].stat;
        if (stat->modified_ms < 0) /* unreadable: nobody is to think that it is old */
            stat->modified_ms = clock_wall_ms(libs3->clock);
        code = callback(context, page->objects[i].key, stat, err);
    }
    return code;
}

enum err_code libs3_list(void *state, storage_list_callback *callback, void *context,
                         struct err *err)
{
    struct storage_libs3 *libs3 = state;
    struct page *page = calloc(1, sizeof *page);
    enum err_code code = ERR_OK;
    int empty_pages = 0;
    if (!page)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "list", "Out of memory.");
    while (code == ERR_OK && empty_pages < 2) {
        struct libs3_request request = {
            .libs3 = libs3, .operation = "list", .start = start_list, .detail = page};
        code = libs3_run(&request, err);
        if (code == ERR_OK)
            code = show(libs3, page, callback, context, err);
        empty_pages = page->last[0] ? 0 : empty_pages + 1;
        if (page->last[0])
            memcpy(page->marker, page->last, sizeof page->marker);
    }
    free(page);
    return code;
}

/* The store's mark: one small object of a name that is no key, so no listing of ours shows it. */

static void start_mark_head(struct libs3_request *request, S3RequestContext *context)
{
    request->libs3->library->head_object(&request->libs3->target, STORAGE_MARK, context,
                                         &libs3_response_handler, request);
}

/* ERR_NOT_FOUND only where the bucket is there. */
static enum err_code look(struct storage_libs3 *libs3, int64_t *ret_length, struct err *err)
{
    struct libs3_request request = {
        .libs3 = libs3, .operation = "look at mark", .start = start_mark_head};
    enum err_code code = libs3_run(&request, err);
    if (code == ERR_NOT_FOUND) {
        code = libs3_ask_for_bucket(libs3, NULL, err);
        if (code == ERR_OK)
            code = err_set_internal(err, ERR_NOT_FOUND, 0, "look at mark", "There is no mark.");
    }
    *ret_length = request.length;
    return code;
}

static void start_get(struct libs3_request *request, S3RequestContext *context)
{
    S3GetObjectHandler handler = {libs3_response_handler, libs3_receive};
    S3GetConditions conditions = {-1, -1, NULL, NULL};
    request->libs3->library->get_object(&request->libs3->target, STORAGE_MARK, &conditions, 0, 0,
                                        context, &handler, request);
}

static enum err_code no_mark_of_ours(struct err *err)
{
    return err_set_internal(err, ERR_CONFIG, 0, "read mark",
                            "The object " STORAGE_MARK " is not one of coffer.");
}

static enum err_code libs3_read_mark(void *state, char ret_text[STORAGE_MARK_SIZE], struct err *err)
{
    char text[STORAGE_MARK_SIZE] = "";
    int64_t length = 0;
    enum err_code code = look(state, &length, err);
    if (code == ERR_OK && (length <= 0 || length > LIMIT_MARK_BYTES))
        code = no_mark_of_ours(err);
    if (code != ERR_OK)
        return code;
    struct libs3_request request = {.libs3 = state,
                                    .operation = "read mark",
                                    .start = start_get,
                                    .body = length,
                                    .target = text};
    code = libs3_run(&request, err);
    if (code != ERR_OK)
        return code;
    return str_copy(ret_text, STORAGE_MARK_SIZE, (struct str){text, (size_t)length})
               ? ERR_OK
               : no_mark_of_ours(err);
}

static int give_bytes(int size, char *target, void *callback_data)
{
    struct libs3_request *request = callback_data;
    const char *text = request->detail;
    int64_t left = request->body - request->sent;
    int len = left < size ? (int)left : size;
    if (len > 0)
        memcpy(target, text + request->sent, (size_t)len);
    request->sent += len;
    request->moved_ns = clock_steady_ns(request->libs3->clock);
    return len;
}

static void start_put(struct libs3_request *request, S3RequestContext *context)
{
    const S3PutProperties properties = {
        .contentType = "text/plain", .expires = -1, .cannedAcl = S3CannedAclPrivate};
    const S3PutObjectHandler handler = {libs3_response_handler, give_bytes};
    request->libs3->library->put_object(&request->libs3->target, STORAGE_MARK,
                                        (uint64_t)request->body, &properties, context, &handler,
                                        request);
}

/* libs3 may lose the status of a PUT, so what stands there afterwards decides. */
static enum err_code send(struct storage_libs3 *libs3, const char *text, struct err *err)
{
    char text_of_request[STORAGE_MARK_SIZE];
    char there[STORAGE_MARK_SIZE] = "";
    struct err unseen;
    struct libs3_request request = {.libs3 = libs3,
                                    .operation = "write mark",
                                    .start = start_put,
                                    .detail = text_of_request,
                                    .body = (int64_t)strlen(text)};
    if (!str_copy(text_of_request, sizeof text_of_request, str_of(text)))
        return err_set_internal(err, ERR_INTERNAL, 0, "write mark", "The mark is too long.");
    enum err_code code = libs3_run(&request, err);
    if (libs3_read_mark(libs3, there, &unseen) == ERR_OK && strcmp(there, text) == 0)
        return ERR_OK;
    return code == ERR_OK ? err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "write mark",
                                             "The store took the mark and does not have it.")
                          : code;
}

static enum err_code libs3_write_mark(void *state, const char *text, bool replace, struct err *err)
{
    int64_t length = 0;
    enum err_code code = replace ? ERR_NOT_FOUND : look(state, &length, err);
    if (code == ERR_OK)
        return err_set_internal(err, ERR_EXISTS, 0, "write mark", "There is a mark already.");
    return code == ERR_NOT_FOUND ? send(state, text, err) : code;
}

/* What is done to whole objects. */

enum err_code libs3_copy_key(char target[LIMIT_KEY_BYTES + 1], const char *key, struct err *err)
{
    enum err_code code = storage_check_key(key, err);
    if (code == ERR_OK && !str_copy(target, LIMIT_KEY_BYTES + 1, str_of(key)))
        code = err_set_internal(err, ERR_INTERNAL, 0, "check key", "The key is too long.");
    return code;
}

static void start_head(struct libs3_request *request, S3RequestContext *context)
{
    request->libs3->library->head_object(&request->libs3->target, request->detail, context,
                                         &libs3_response_handler, request);
}

enum err_code libs3_head(struct storage_libs3 *libs3, const char *key, int64_t deadline_ns,
                         struct libs3_request *ret_seen, struct err *err)
{
    char name[LIMIT_KEY_BYTES + 1];
    enum err_code code = libs3_copy_key(name, key, err);
    if (code != ERR_OK)
        return code;
    *ret_seen = (struct libs3_request){.libs3 = libs3,
                                       .operation = "look at object",
                                       .start = start_head,
                                       .detail = name,
                                       .deadline_ns = deadline_ns};
    code = libs3_run(ret_seen, err);
    ret_seen->detail = NULL;
    return code;
}

enum err_code libs3_look(struct storage_libs3 *libs3, const char *key,
                         struct libs3_request *ret_seen, struct err *err)
{
    struct err unsure;
    enum err_code code = libs3_head(libs3, key, 0, ret_seen, &unsure);
    if (code == ERR_NOT_FOUND) { /* an answer to HEAD does not say what is missing */
        code = libs3_ask_for_bucket(libs3, NULL, err);
        if (code != ERR_OK)
            return code;
        code = ERR_NOT_FOUND;
    }
    if (code != ERR_OK) {
        *err = unsure;
        return code;
    }
    if (!ret_seen->tag[0])
        return err_set_internal(err, ERR_STORAGE, 0, "look at object",
                                "The store's answer has no ETag that libs3 can read.");
    return ERR_OK;
}

enum err_code libs3_check_wanted(const struct libs3_request *seen,
                                 const struct storage_wanted *wanted, struct err *err)
{
    if (wanted->size >= 0 && seen->length != wanted->size)
        return err_set_internal(err, ERR_STORAGE, 0, seen->operation,
                                "The object has another size than it was stored with.");
    if (!seen->tag[0] || (wanted->tag && *wanted->tag && strcmp(seen->tag, wanted->tag) != 0))
        return err_set_internal(err, ERR_STORAGE, 0, seen->operation,
                                "The object has another tag than it was stored with.");
    return ERR_OK;
}

enum err_code libs3_stat(void *state, const char *key, struct storage_stat *ret_stat,
                         struct err *err)
{
    struct libs3_request seen;
    enum err_code code = libs3_look(state, key, &seen, err);
    if (code != ERR_OK)
        return code;
    ret_stat->size = seen.length;
    ret_stat->modified_ms = seen.modified_s * 1000;
    memcpy(ret_stat->tag, seen.tag, sizeof ret_stat->tag);
    return ERR_OK;
}

static void start_delete(struct libs3_request *request, S3RequestContext *context)
{
    request->libs3->library->delete_object(&request->libs3->target, request->detail, context,
                                           &libs3_response_handler, request);
}

static enum err_code libs3_remove(void *state, const char *key, struct err *err)
{
    char name[LIMIT_KEY_BYTES + 1];
    struct libs3_request request = {
        .libs3 = state, .operation = "remove", .start = start_delete, .detail = name};
    enum err_code code = libs3_copy_key(name, key, err);
    return code == ERR_OK ? libs3_run(&request, err) : code;
}

/* No claims: the question keeps the key from being recorded afterwards. */
static enum err_code libs3_remove_orphan(void *state, const char *key,
                                         const struct orphan_question *question, bool *ret_removed,
                                         struct err *err)
{
    bool is_known = false;
    enum err_code code = question->is_known(question->context, key, &is_known, err);
    if (code == ERR_OK && !is_known)
        code = libs3_remove(state, key, err);
    if (code == ERR_OK)
        *ret_removed = !is_known;
    return code;
}

/* ---- copying ---- */

#define METRIC_INDEX 2
#define LOCATION_SIZE 256
#define DEFAULT_REGION "us-east-1" /* whose buckets are made without naming it */
#define NS_PER_MS 1000000LL
#define NS_PER_SECOND 1000000000LL

/* ---- opening ---- */

/* Settings that libs3 2.0 would pass over in silence. */
static enum err_code check_settings(const struct config *config, struct err *err)
{
    if (!str_starts_with(str_of(config->s3_endpoint), STR("http://")))
        return err_set(err, ERR_CONFIG, "open store",
                       "STORAGE_DRIVER=libs3 needs an http:// S3_ENDPOINT: libs3 checks no "
                       "certificate. Use STORAGE_DRIVER=s3, or a TLS tunnel on this machine.");
    if (*config->s3_ca_file)
        return err_set(err, ERR_CONFIG, "open store",
                       "STORAGE_DRIVER=libs3 can't use S3_CA_FILE: use STORAGE_DRIVER=s3.");
    if (*config->s3_session_token)
        return err_set(err, ERR_CONFIG, "open store",
                       "STORAGE_DRIVER=libs3 can't use S3_SESSION_TOKEN: use STORAGE_DRIVER=s3.");
    if (strlen(config->s3_access_key) > LIBS3_ACCESS_KEY_BYTES)
        return err_set(err, ERR_CONFIG, "open store",
                       "STORAGE_DRIVER=libs3 takes an S3_ACCESS_KEY of at most %d characters.",
                       LIBS3_ACCESS_KEY_BYTES);
    if (strlen(config->s3_secret_key) > LIBS3_SECRET_KEY_BYTES)
        return err_set(err, ERR_CONFIG, "open store",
                       "STORAGE_DRIVER=libs3 takes an S3_SECRET_KEY of at most %d characters.",
                       LIBS3_SECRET_KEY_BYTES);
    return ERR_OK;
}

static enum err_code set_target(struct storage_libs3 *libs3, const struct config *config,
                                struct err *err)
{
    struct str host = str_of(config->s3_endpoint + strlen("http://"));
    S3UriStyle style =
        config->s3_addressing == S3_ADDRESSING_VIRTUAL ? S3UriStyleVirtualHost : S3UriStylePath;
    while (host.len > 0 && host.data[host.len - 1] == '/')
        host.len--;
    if (!str_copy(libs3->host, sizeof libs3->host, host) ||
        !str_copy(libs3->bucket, sizeof libs3->bucket, str_of(config->s3_bucket)) ||
        !str_copy(libs3->access_key, sizeof libs3->access_key, str_of(config->s3_access_key)) ||
        !str_copy(libs3->secret_key, sizeof libs3->secret_key, str_of(config->s3_secret_key)) ||
        libs3->library->validate_bucket_name(libs3->bucket, style) != S3StatusOK)
        return err_set(err, ERR_CONFIG, "open store",
                       "STORAGE_DRIVER=libs3 can't use this S3_ENDPOINT or S3_BUCKET.");
    libs3->target = (S3BucketContext){.hostName = libs3->host,
                                      .bucketName = libs3->bucket,
                                      .protocol = S3ProtocolHTTP,
                                      .uriStyle = style,
                                      .accessKeyId = libs3->access_key,
                                      .secretAccessKey = libs3->secret_key};
    return ERR_OK;
}

static void set_limits(struct storage_libs3 *libs3, const struct config *config)
{
    memcpy(libs3->region, config->s3_region, sizeof libs3->region);
    memcpy(libs3->runtime_dir, config->runtime_dir, sizeof libs3->runtime_dir);
    libs3->max_file_size = config->max_file_size;
    libs3->connect_ns = config->s3_connect_timeout_ms * NS_PER_MS;
    libs3->stall_ns = config->s3_stall_seconds * NS_PER_SECOND;
    libs3->deadline_ns = config->s3_deadline_seconds * NS_PER_SECOND;
    libs3->attempts = (unsigned)config->s3_attempts;
}

static void libs3_close(void *state)
{
    struct storage_libs3 *libs3 = state;
    if (!libs3)
        return;
    libs3_pool_release(libs3);
    explicit_bzero(libs3->secret_key, sizeof libs3->secret_key);
    free(libs3);
}

static enum err_code libs3_open(void **ret_state, const struct storage_options *options,
                                struct err *err)
{
    const struct libs3_library *library = NULL;
    enum err_code code = check_settings(options->config, err);
    if (code == ERR_OK)
        code = libs3_library_open(&library, err);
    if (code != ERR_OK)
        return code;
    struct storage_libs3 *libs3 = calloc(1, sizeof *libs3);
    if (!libs3)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "open store", "Out of memory.");
    libs3->library = library;
    libs3->clock = options->clock;
    libs3->retried = options->retried;
    libs3->context = options->context;
    set_limits(libs3, options->config);
    code = libs3_pool_init(libs3, err);
    if (code == ERR_OK)
        code = set_target(libs3, options->config, err);
    if (code != ERR_OK) {
        libs3_close(libs3);
        return code;
    }
    *ret_state = libs3;
    return ERR_OK;
}

/* ---- the bucket ---- */

static void start_test(struct libs3_request *request, S3RequestContext *context)
{
    const S3BucketContext *target = &request->libs3->target;
    request->libs3->library->test_bucket(target->protocol, target->uriStyle, target->accessKeyId,
                                         target->secretAccessKey, target->hostName,
                                         target->bucketName, LOCATION_SIZE, request->detail,
                                         context, &libs3_response_handler, request);
}

/* Is the bucket there? *ret_status (may be NULL) is set also on failure: what libs3 made of the
 * answer, where the code says too little. */
static enum err_code libs3_ask_for_bucket(struct storage_libs3 *libs3, S3Status *ret_status,
                                          struct err *err)
{
    char location[LOCATION_SIZE];
    struct libs3_request request = {
        .libs3 = libs3, .operation = "ask for bucket", .start = start_test, .detail = location};
    enum err_code code = libs3_run(&request, err);
    if (code == ERR_NOT_FOUND) /* an answer without a body */
        code = err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "ask for bucket",
                                "The store has no such bucket.");
    if (ret_status)
        *ret_status = request.status;
    return code;
}

static enum err_code libs3_ping(void *state, struct err *err)
{
    return libs3_ask_for_bucket(state, NULL, err);
}

static void start_create(struct libs3_request *request, S3RequestContext *context)
{
    const S3BucketContext *target = &request->libs3->target;
    const char *region = request->libs3->region;
    request->libs3->library->create_bucket(
        target->protocol, target->accessKeyId, target->secretAccessKey, target->hostName,
        target->bucketName, S3CannedAclPrivate, strcmp(region, DEFAULT_REGION) == 0 ? NULL : region,
        context, &libs3_response_handler, request);
}

/* libs3 may take the answer for a lost connection: whether there is a bucket now is what counts. */
static enum err_code create_bucket(struct storage_libs3 *libs3, struct err *err)
{
    struct err failure;
    struct err unseen;
    struct libs3_request request = {
        .libs3 = libs3, .operation = "make bucket", .start = start_create};
    enum err_code code = libs3_run(&request, &failure);
    if (libs3_ask_for_bucket(libs3, NULL, &unseen) == ERR_OK)
        return ERR_OK;
    if (code == ERR_OK || code == ERR_STORAGE)
        return err_set_internal(err, ERR_CONFIG, 0, "make bucket",
                                "The bucket can't be made, or is somebody else's: %s.",
                                libs3->library->get_status_name(request.status));
    *err = failure;
    return code;
}

static enum err_code libs3_init(const struct config *config, const struct clock *clock,
                                struct err *err)
{
    const struct storage_options options = {.config = config, .clock = clock};
    S3Status status = S3StatusOK;
    struct err failure;
    void *state = NULL;
    enum err_code code = libs3_open(&state, &options, err);
    if (code != ERR_OK)
        return code;
    code = libs3_ask_for_bucket(state, &status, &failure);
    if (code == ERR_OK)
        code = err_set(err, ERR_EXISTS, "make bucket", "The bucket is there already.");
    else if (status == S3StatusErrorNoSuchBucket || status == S3StatusHttpErrorNotFound)
        code = create_bucket(state, err);
    else
        *err = failure;
    libs3_close(state);
    return code;
}

static const struct storage_uploads uploads = {
    .begin = libs3_put_begin,
    .set_type = libs3_put_set_type,
    .write = libs3_put_write,
    .commit = libs3_put_commit,
    .close = libs3_put_close,
    .purge = libs3_put_purge,
};

static const struct storage_downloads downloads = {
    .open = libs3_get_open,
    .read = libs3_get_read,
    .close = libs3_get_close,
    .sendfile_path = NULL,
};

static const struct storage_objects objects = {
    .stat = libs3_stat,
    .remove = libs3_remove,
    .remove_orphan = libs3_remove_orphan,
    .list = libs3_list,
    .read_mark = libs3_read_mark,
    .write_mark = libs3_write_mark,
};

const struct storage_driver storage_libs3_driver = {
    .name = "libs3",
    .metric_index = METRIC_INDEX,
    .capabilities = STORAGE_WAITS | STORAGE_HAS_TAGS | STORAGE_MAY_LAG,
    .init = libs3_init,
    .open = libs3_open,
    .close = libs3_close,
    .ping = libs3_ping,
    .connections = libs3_pool_usage,
    .uploads = &uploads,
    .downloads = &downloads,
    .objects = &objects,
    .presigning = NULL,
};
