/*
 * Uploads that were begun and never ended. Their parts take room that no listing of objects shows.
 * Those of a process that died are purged when they are old; those whose beginning was sent more
 * than once, because an answer was lost, are looked for at once.
 */
#include "storage/s3/storage_s3.h"
#include "storage/s3/storage_s3_page.h"

#define LOOK_MS 2000 /* while an upload waits; what stays is found by the purge */

/* Which uploads are told of, and to whom. */
struct search {
    struct storage_s3 *s3;
    const char *key;     /* NULL: of every key */
    int64_t deadline_ms; /* of each call; 0: the handle's */
    s3_upload_callback *callback;
    void *context;
};

static enum err_code search_page(const struct search *search, struct s3_page *page, struct err *err)
{
    struct s3_call call = {.operation = "list multipart uploads",
                           .method = "GET",
                           .deadline_ms = search->deadline_ms,
                           .max_body = S3_LISTING_BYTES};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_query(&call, "uploads", "");
    s3_call_query(&call, "max-uploads", S3_PAGE_KEYS);
    s3_call_query(&call, "encoding-type", "url");
    if (search->key)
        s3_call_query(&call, "prefix", search->key);
    if (page->token.len > 0)
        s3_call_query(&call, "key-marker", buf_text(&page->token));
    if (page->upload_id.len > 0)
        s3_call_query(&call, "upload-id-marker", buf_text(&page->upload_id));
    enum err_code code = s3_run_listing(search->s3, &call, &reply, err);
    if (code == ERR_OK)
        code = s3_page_uploads(page, buf_str(&reply.body), search->callback, search->context, err);
    http_reply_release(&reply);
    return code;
}

static enum err_code find_uploads(const struct search *search, struct err *err)
{
    struct s3_page page;
    enum err_code code = ERR_OK;
    s3_page_init(&page);
    do
        code = search_page(search, &page, err);
    while (code == ERR_OK && page.token.len > 0);
    s3_page_release(&page);
    return code;
}

/* ---- old ones ---- */

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

enum err_code s3_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err)
{
    struct purge purge = {.s3 = state, .before_ms = before_ms};
    const struct search search = {.s3 = state, .callback = purge_upload, .context = &purge};
    enum err_code code = find_uploads(&search, err);
    if (code == ERR_OK)
        *ret_purged = purge.purged;
    return code;
}

/* ---- doubles ---- */

/* Each upload has a key of its own, so nobody else begins one there. */
struct double_search {
    struct storage_s3 *s3;
    const char *key;
    struct str ours;
};

static enum err_code abort_double(void *context, const struct s3_upload *upload, struct err *err)
{
    const struct double_search *doubles = context;
    if (strcmp(upload->key, doubles->key) != 0 ||
        str_equal(str_of(upload->upload_id), doubles->ours))
        return ERR_OK;
    return s3_multipart_abort(doubles->s3, upload->key, upload->upload_id, err);
}

/* May the store have begun one that we do not know? What it refused (4xx) it has not begun. */
static bool may_have_doubles(enum err_code code, const struct http_reply *reply)
{
    if (reply->sends > 1)
        return true;
    bool is_refused = reply->status >= 400 && reply->status < 500;
    return code != ERR_OK && reply->sends == 1 && !is_refused;
}

void s3_abort_doubles(struct storage_s3 *s3, const char *key, struct str ours, enum err_code code,
                      const struct http_reply *reply)
{
    struct err ignored;
    struct double_search doubles = {s3, key, ours};
    const struct search search = {s3, key, LOOK_MS, abort_double, &doubles};
    if (may_have_doubles(code, reply))
        code = find_uploads(&search, &ignored);
    (void)code;
}
