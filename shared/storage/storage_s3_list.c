#include "storage/storage_s3.h"
#include "storage/storage_s3_page.h"

#define PAGE_KEYS "1000" /* of S3 */

/* Asks for a page; NotFound of a listing is a bucket that is missing. */
static enum err_code fetch(struct storage_s3 *s3, const struct s3_call *call,
                           struct http_reply *reply, struct err *err)
{
    enum err_code code = s3_run(s3, call, reply, err);
    if (code != ERR_NOT_FOUND)
        return code;
    code = err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, call->operation,
                            "%s: the bucket does not exist.", call->operation);
    err->remote_status = reply->status;
    return code;
}

static enum err_code list_page(struct storage_s3 *s3, struct s3_page *page,
                               storage_list_callback *callback, void *context, struct err *err)
{
    struct s3_call call = {
        .operation = "list objects", .method = "GET", .max_body = S3_LISTING_BYTES};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_query(&call, "list-type", "2");
    s3_call_query(&call, "max-keys", PAGE_KEYS);
    /* XML has no way to write some bytes that a foreign key may hold. */
    s3_call_query(&call, "encoding-type", "url");
    if (page->token.len > 0)
        s3_call_query(&call, "continuation-token", buf_text(&page->token));
    enum err_code code = fetch(s3, &call, &reply, err);
    if (code == ERR_OK)
        code = s3_page_objects(page, buf_str(&reply.body), callback, context, err);
    http_reply_release(&reply);
    return code;
}

enum err_code s3_list(void *state, storage_list_callback *callback, void *context, struct err *err)
{
    struct s3_page page;
    enum err_code code = ERR_OK;
    s3_page_init(&page);
    do
        code = list_page(state, &page, callback, context, err);
    while (code == ERR_OK && page.token.len > 0);
    s3_page_release(&page);
    return code;
}

/* ---- unfinished uploads ---- */

struct purge {
    struct storage_s3 *s3;
    int64_t before_ms;
    int purged;
};

static enum err_code purge_upload(void *context, const struct s3_upload *upload, struct err *err)
{
    struct purge *purge = context;
    if (upload->begun_ms >= purge->before_ms)
        return ERR_OK;
    enum err_code code = s3_multipart_abort(purge->s3, upload->key, upload->upload_id, err);
    if (code == ERR_OK)
        purge->purged++;
    return code;
}

static enum err_code purge_page(struct purge *purge, struct s3_page *page, struct err *err)
{
    struct s3_call call = {
        .operation = "list multipart uploads", .method = "GET", .max_body = S3_LISTING_BYTES};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_query(&call, "uploads", "");
    s3_call_query(&call, "max-uploads", PAGE_KEYS);
    s3_call_query(&call, "encoding-type", "url");
    if (page->token.len > 0)
        s3_call_query(&call, "key-marker", buf_text(&page->token));
    if (page->upload_id.len > 0)
        s3_call_query(&call, "upload-id-marker", buf_text(&page->upload_id));
    enum err_code code = fetch(purge->s3, &call, &reply, err);
    if (code == ERR_OK)
        code = s3_page_uploads(page, buf_str(&reply.body), purge_upload, purge, err);
    http_reply_release(&reply);
    return code;
}

enum err_code s3_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err)
{
    struct purge purge = {.s3 = state, .before_ms = before_ms};
    struct s3_page page;
    enum err_code code = ERR_OK;
    s3_page_init(&page);
    do
        code = purge_page(&purge, &page, err);
    while (code == ERR_OK && page.token.len > 0);
    s3_page_release(&page);
    if (code == ERR_OK)
        *ret_purged = purge.purged;
    return code;
}
