#include "storage/libs3/storage_libs3.h"

#include <stdlib.h>

#include "storage/storage_drivers.h"

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
    libs3_pool_init(libs3);
    set_limits(libs3, options->config);
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

enum err_code libs3_ask_for_bucket(struct storage_libs3 *libs3, S3Status *ret_status,
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
    .copy = libs3_copy,
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
