/* Listing, page by page. The caller is told of a page when its request has ended, so that it may
 * make requests of its own. */
#include <stdlib.h>
#include <time.h>

#include "storage/libs3/storage_libs3.h"

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
