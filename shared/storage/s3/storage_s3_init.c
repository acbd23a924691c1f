/*
 * The bucket. One that is there already is left as it is: its settings are its owner's. A new one
 * is closed to the public and drops unfinished uploads after a day, where the store knows of such
 * settings; many don't, and refuse them each in its own way.
 */
#include "storage/s3/storage_s3.h"

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

enum err_code s3_init(const struct config *config, const struct clock *clock, struct err *err)
{
    const struct storage_options options = {.config = config, .clock = clock};
    void *state = NULL;
    enum err_code code = s3_open(&state, &options, err);
    if (code == ERR_OK)
        code = make(state, err);
    s3_close(state);
    return code;
}
