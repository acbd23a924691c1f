#include "storage/s3/storage_s3.h"

#include <stdlib.h>

#include "base/text.h"
#include "storage/storage_drivers.h"

static enum err_code s3_head_bucket(struct storage_s3 *s3, const char *operation, struct err *err);
static enum err_code s3_init(const struct config *config, const struct clock *clock,
                             struct err *err);

/* The store's mark: one small object of a name that is no key, so no listing of ours shows it. */

/* A store may say 404 for a missing bucket without naming it. */
static enum err_code tell_missing(struct storage_s3 *s3, struct err *err)
{
    enum err_code code = s3_head_bucket(s3, "read mark", err);
    return code == ERR_OK
               ? err_set_internal(err, ERR_NOT_FOUND, 0, "read mark", "There is no mark.")
               : code;
}

static enum err_code s3_read_mark(void *state, char ret_text[STORAGE_MARK_SIZE], struct err *err)
{
    const struct s3_call call = {.operation = "read mark", .method = "GET", .key = STORAGE_MARK};
    struct http_reply reply;
    http_reply_init(&reply);
    enum err_code code = s3_run(state, &call, &reply, err);
    if (code == ERR_NOT_FOUND)
        code = tell_missing(state, err);
    else if (code == ERR_OK && !str_copy(ret_text, STORAGE_MARK_SIZE, buf_str(&reply.body)))
        code = err_set_internal(err, ERR_CONFIG, 0, call.operation,
                                "The object " STORAGE_MARK " is not one of coffer.");
    http_reply_release(&reply);
    return code;
}

static enum err_code taken(struct err *err)
{
    return err_set_internal(err, ERR_EXISTS, 0, "write mark", "There is a mark already.");
}

/* Sends it; any status is ERR_OK. */
static enum err_code send_mark(struct storage_s3 *s3, const char *text, bool is_conditional,
                               int *ret_status, struct err *err)
{
    struct s3_call call = {
        .operation = "write mark", .method = "PUT", .key = STORAGE_MARK, .body = str_of(text)};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_header(&call, "content-type", "text/plain");
    if (is_conditional)
        s3_call_header(&call, "if-none-match", "*");
    enum err_code code = s3_send(s3, &call, &reply, err);
    if (code == ERR_OK) {
        *ret_status = reply.status;
        code = s3_check(&call, &reply, err);
    }
    http_reply_release(&reply);
    return code;
}

static enum err_code s3_write_mark(void *state, const char *text, bool replace, struct err *err)
{
    char there[STORAGE_MARK_SIZE];
    int status = 0;
    enum err_code code = ERR_NOT_FOUND;
    if (!replace && !(atomic_load(&((struct storage_s3 *)state)->refused) & S3_CONDITION)) {
        code = send_mark(state, text, true, &status, err);
        if (status == 412 || status == 409)
            return taken(err);
        if (status != 400 && status != 501)
            return code;
    }
    /* The store knows no condition: a look goes before the write. */
    if (!replace) {
        code = s3_read_mark(state, there, err);
        if (code == ERR_OK)
            return taken(err);
        if (code != ERR_NOT_FOUND)
            return code;
    }
    return send_mark(state, text, false, &status, err);
}

static enum err_code no_object_head(struct err *err)
{
    return err_set_internal(err, ERR_STORAGE, 0, "read head",
                            "The store answered without an object's headers.");
}

enum err_code s3_read_head(const struct http_reply *reply, struct s3_head *ret_head,
                           struct err *err)
{
    struct s3_head head = {.nonce = ""};
    struct str value;
    int64_t seconds = 0;
    head.stat.size = -1;
    if ((http_reply_header(reply, "content-length", &value) &&
         !text_parse_int(value, 0, INT64_MAX, &head.stat.size)) ||
        !http_reply_header(reply, "last-modified", &value) ||
        !text_parse_http_date(value, &seconds))
        return no_object_head(err);
    head.stat.modified_ms = seconds * 1000;
    if (http_reply_header(reply, S3_NONCE_HEADER, &value) &&
        !str_copy(head.nonce, sizeof head.nonce, value))
        head.nonce[0] = '\0';
    if (!http_reply_header(reply, "etag", &value))
        return no_object_head(err);
    enum err_code code = s3_copy_tag(head.stat.tag, value, err);
    if (code == ERR_OK)
        *ret_head = head;
    return code;
}

static enum err_code s3_head_bucket(struct storage_s3 *s3, const char *operation, struct err *err)
{
    const struct s3_call call = {.operation = operation, .method = "HEAD"};
    struct http_reply reply;
    http_reply_init(&reply);
    enum err_code code = s3_run(s3, &call, &reply, err);
    if (code == ERR_NOT_FOUND) {
        code = err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, operation,
                                "%s: the bucket does not exist.", operation);
        err->remote_status = reply.status;
    }
    http_reply_release(&reply);
    return code;
}

/* An answer to HEAD has no body: only the bucket can say whether the object or the bucket is
 * missing. */
enum err_code s3_head_object(struct storage_s3 *s3, const char *key, int64_t deadline_ms,
                             struct s3_head *ret_head, struct err *err)
{
    const struct s3_call call = {
        .operation = "head object", .method = "HEAD", .key = key, .deadline_ms = deadline_ms};
    struct http_reply reply;
    http_reply_init(&reply);
    enum err_code code = s3_run(s3, &call, &reply, err);
    if (code == ERR_OK) {
        code = s3_read_head(&reply, ret_head, err);
        if (code == ERR_OK && ret_head->stat.size < 0)
            code = no_object_head(err);
    } else if (code == ERR_NOT_FOUND) {
        struct err bucket_err;
        enum err_code bucket_code = s3_head_bucket(s3, call.operation, &bucket_err);
        if (bucket_code != ERR_OK) {
            code = bucket_code;
            *err = bucket_err;
        }
    }
    http_reply_release(&reply);
    return code;
}

static enum err_code s3_stat(void *state, const char *key, struct storage_stat *ret_stat,
                             struct err *err)
{
    struct s3_head head;
    enum err_code code = storage_check_key(key, err);
    if (code == ERR_OK)
        code = s3_head_object(state, key, 0, &head, err);
    if (code == ERR_OK)
        *ret_stat = head.stat;
    return code;
}

/* ---- remove ---- */

static enum err_code s3_remove(void *state, const char *key, struct err *err)
{
    const struct s3_call call = {.operation = "delete object", .method = "DELETE", .key = key};
    struct http_reply reply;
    enum err_code code = storage_check_key(key, err);
    if (code != ERR_OK)
        return code;
    http_reply_init(&reply);
    code = s3_run(state, &call, &reply, err);
    http_reply_release(&reply);
    return code;
}

static enum err_code s3_remove_orphan(void *state, const char *key,
                                      const struct orphan_question *question, bool *ret_removed,
                                      struct err *err)
{
    bool known = true;
    enum err_code code = storage_check_key(key, err);
    if (code == ERR_OK)
        code = question->is_known(question->context, key, &known, err);
    if (code == ERR_OK && !known)
        code = s3_remove(state, key, err);
    if (code == ERR_OK)
        *ret_removed = !known;
    return code;
}

const struct storage_objects s3_objects = {
    .stat = s3_stat,
    .remove = s3_remove,
    .remove_orphan = s3_remove_orphan,
    .list = s3_list,
    .read_mark = s3_read_mark,
    .write_mark = s3_write_mark,
};

#define METRIC_INDEX 1
#define IDLE_CONNECTIONS 64 /* kept open */

static void copy_texts(struct storage_s3 *s3, const struct config *config)
{
    snprintf(s3->bucket, sizeof s3->bucket, "%.*s", LIMIT_BUCKET_BYTES, config->s3_bucket);
    snprintf(s3->access_key, sizeof s3->access_key, "%s", config->s3_access_key);
    snprintf(s3->secret_key, sizeof s3->secret_key, "%s", config->s3_secret_key);
    snprintf(s3->session_token, sizeof s3->session_token, "%s", config->s3_session_token);
    snprintf(s3->region, sizeof s3->region, "%s", config->s3_region);
    s3->credentials = (struct sigv4_credentials){.access_key = s3->access_key,
                                                 .secret_key = s3->secret_key,
                                                 .session_token = s3->session_token,
                                                 .region = s3->region};
}

static enum err_code find_endpoints(struct storage_s3 *s3, const struct config *config,
                                    struct err *err)
{
    const char *public =
        *config->s3_public_endpoint ? config->s3_public_endpoint : config->s3_endpoint;
    enum err_code code = s3_endpoint_parse(&s3->endpoint, config->s3_endpoint, s3->bucket,
                                           config->s3_addressing, err);
    if (code == ERR_OK)
        code =
            s3_endpoint_parse(&s3->public_endpoint, public, s3->bucket, config->s3_addressing, err);
    return code;
}

static enum err_code open_parts(struct storage_s3 *s3, const struct storage_options *options,
                                struct err *err)
{
    const struct config *config = options->config;
    const struct http_client_options client = {.clock = options->clock,
                                               .connect_ms = config->s3_connect_timeout_ms,
                                               .stall_ms = s3->stall_ms,
                                               .ca_file = config->s3_ca_file,
                                               .idle_connections = IDLE_CONNECTIONS,
                                               .retried = options->retried,
                                               .context = options->context};
    /* One part must always fit. */
    size_t memory = config->upload_memory > config->s3_part_size ? (size_t)config->upload_memory
                                                                 : s3->part_size;
    enum err_code code = find_endpoints(s3, config, err);
    if (code == ERR_OK)
        code = part_memory_open(&s3->memory, memory, err);
    if (code == ERR_OK)
        code = http_client_open(&s3->client, &client, err);
    return code;
}

enum err_code s3_open(void **ret_state, const struct storage_options *options, struct err *err)
{
    const struct config *config = options->config;
    struct storage_s3 *s3 = calloc(1, sizeof *s3);
    if (!s3)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "storage_open", "Out of memory.");
    s3->clock = options->clock;
    s3->deadline_ms = config->s3_deadline_seconds * 1000;
    s3->stall_ms = config->s3_stall_seconds * 1000;
    if (s3->stall_ms > s3->deadline_ms)
        s3->stall_ms = s3->deadline_ms;
    s3->attempts = (unsigned)config->s3_attempts;
    s3->part_size = (size_t)config->s3_part_size;
    s3->retried = options->retried;
    s3->context = options->context;
    copy_texts(s3, config);
    enum err_code code = open_parts(s3, options, err);
    if (code != ERR_OK) {
        s3_close(s3);
        return code;
    }
    *ret_state = s3;
    return ERR_OK;
}

void s3_close(void *state)
{
    struct storage_s3 *s3 = state;
    if (!s3)
        return;
    if (s3->client)
        http_client_close(s3->client);
    part_memory_close(s3->memory);
    explicit_bzero(s3->secret_key, sizeof s3->secret_key);
    explicit_bzero(s3->session_token, sizeof s3->session_token);
    free(s3);
}

/* Whether the bucket is there and we may use it: one call without a body. That it also takes writes
 * is only known from writes. */
static enum err_code s3_ping(void *state, struct err *err)
{
    return s3_head_bucket(state, "ping", err);
}

static void s3_connections(void *state, struct pool_usage *ret_usage)
{
    const struct storage_s3 *s3 = state;
    http_client_usage(s3->client, ret_usage);
}

const struct storage_driver storage_s3_driver = {
    .name = "s3",
    .metric_index = METRIC_INDEX,
    .capabilities = STORAGE_CAN_PRESIGN | STORAGE_WAITS | STORAGE_HAS_TAGS | STORAGE_MAY_LAG,
    .init = s3_init,
    .open = s3_open,
    .close = s3_close,
    .ping = s3_ping,
    .connections = s3_connections,
    .uploads = &s3_uploads,
    .downloads = &s3_downloads,
    .objects = &s3_objects,
    .presigning = &s3_presigning,
};

/*
 * The bucket. One that is there already is left as it is: its settings are its owner's. A new one
 * is closed to the public and drops unfinished uploads after a day, where the store knows of such
 * settings; many don't, and refuse them each in its own way.
 */

#define DEFAULT_REGION "us-east-1" /* the one that must not be named in CreateBucket */
#define NAMESPACE " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static const char public_access[] =
    "<PublicAccessBlockConfiguration" NAMESPACE "><BlockPublicAcls>true</BlockPublicAcls>"
    "<IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy>"
    "<RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>";

static const char lifecycle[] =
    "<LifecycleConfiguration" NAMESPACE "><Rule><ID>unfinished-uploads</ID>"
    "<Filter><Prefix></Prefix></Filter><Status>Enabled</Status><AbortIncompleteMultipartUpload>"
    "<DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"
    "</LifecycleConfiguration>";

static enum err_code create_bucket(struct storage_s3 *s3, struct err *err)
{
    struct s3_call call = {.operation = "create bucket", .method = "PUT"};
    struct http_reply reply;
    struct buf body;
    buf_init(&body, CONFIG_TEXT_SIZE + 256);
    http_reply_init(&reply);
    if (strcmp(s3->region, DEFAULT_REGION) != 0)
        buf_printf(&body,
                   "<CreateBucketConfiguration" NAMESPACE
                   "><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>",
                   s3->region);
    call.body = buf_str(&body);
    enum err_code code = s3_send(s3, &call, &reply, err);
    if (code == ERR_OK && s3_is_error(&reply, "BucketAlreadyOwnedByYou"))
        code = err_set_internal(err, ERR_EXISTS, 0, call.operation, "The bucket is there.");
    else if (code == ERR_OK && s3_is_error(&reply, "BucketAlreadyExists"))
        code = err_set(err, ERR_CONFIG, call.operation,
                       "The bucket %s belongs to somebody else: choose another S3_BUCKET.",
                       s3->bucket);
    else if (code == ERR_OK)
        code = s3_check(&call, &reply, err);
    http_reply_release(&reply);
    buf_release(&body);
    return code;
}

/* A refusal is no failure, but an answer must come. */
static enum err_code configure(struct storage_s3 *s3, const char *setting, const char *document,
                               struct err *err)
{
    struct s3_call call = {
        .operation = "configure bucket", .method = "PUT", .body = str_of(document)};
    char md5[S3_MD5_SIZE];
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_query(&call, setting, "");
    enum err_code code = s3_call_md5(&call, md5, err);
    if (code == ERR_OK)
        code = s3_send(s3, &call, &reply, err);
    http_reply_release(&reply);
    return code;
}

static enum err_code make(struct storage_s3 *s3, struct err *err)
{
    enum err_code code = s3_head_bucket(s3, "look for the bucket", err);
    if (code == ERR_OK)
        return err_set_internal(err, ERR_EXISTS, 0, "create bucket", "The bucket is there.");
    if (err->remote_status != 404)
        return code;
    code = create_bucket(s3, err);
    if (code == ERR_OK)
        code = configure(s3, "publicAccessBlock", public_access, err);
    if (code == ERR_OK)
        code = configure(s3, "lifecycle", lifecycle, err);
    return code;
}

static enum err_code s3_init(const struct config *config, const struct clock *clock,
                             struct err *err)
{
    const struct storage_options options = {.config = config, .clock = clock};
    void *state = NULL;
    enum err_code code = s3_open(&state, &options, err);
    if (code == ERR_OK)
        code = make(state, err);
    s3_close(state);
    return code;
}

/* What clients are given to reach the store themselves. No request is made here. */

#define PATH_BYTES 512

static enum err_code s3_presign_get(void *state, const struct storage_link *link,
                                    struct buf *ret_url, struct err *err)
{
    const struct storage_s3 *s3 = state;
    struct buf path;
    enum err_code code = storage_check_key(link->key, err);
    if (code != ERR_OK)
        return code;
    buf_init(&path, PATH_BYTES);
    s3_path(&s3->public_endpoint, s3->bucket, link->key, &path);
    const struct sigv4_pair query[] = {
        {STR("response-content-disposition"), str_of(link->disposition)},
        {STR("response-content-type"), str_of(link->mime)},
    };
    const struct sigv4_request request = {
        .method = "GET",
        .scheme = s3->public_endpoint.scheme,
        .host = s3->public_endpoint.host,
        .path = buf_str(&path),
        .query = query,
        .query_count = sizeof query / sizeof query[0],
        .now_ms = clock_wall_ms(s3->clock),
    };
    code = sigv4_presign(&s3->credentials, &request, link->seconds, ret_url, err);
    buf_release(&path);
    return code;
}

const struct storage_presigning s3_presigning = {
    .get = s3_presign_get,
};
