#include "storage/s3/storage_s3.h"
#include "storage/s3/storage_s3_page.h"

enum err_code s3_run_listing(struct storage_s3 *s3, const struct s3_call *call,
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
    s3_call_query(&call, "max-keys", S3_PAGE_KEYS);
    /* XML has no way to write some bytes that a foreign key may hold. */
    s3_call_query(&call, "encoding-type", "url");
    if (page->token.len > 0)
        s3_call_query(&call, "continuation-token", buf_text(&page->token));
    enum err_code code = s3_run_listing(s3, &call, &reply, err);
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
