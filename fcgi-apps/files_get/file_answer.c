#include "files_get/file_answer.h"

#include <inttypes.h>

#include "files/file_json.h"
#include "files/files_open.h"
#include "observe/metrics.h"

static enum err_code refuse_range(const struct file *file, struct err *err)
{
    err_set(err, ERR_RANGE_NOT_SATISFIABLE, "range", "The file has %lld bytes.",
            (long long)file->size);
    err_detail(err, "size", file->size); /* serve makes Content-Range of it */
    return ERR_RANGE_NOT_SATISFIABLE;
}

static void count_download(const struct app_ctx *ctx, int64_t bytes)
{
    if (ctx->request.method != METHOD_GET)
        return;
    metrics_add(ctx->files->metrics, METRIC_FILES_DOWNLOADED, NULL, 1);
    metrics_add(ctx->files->metrics, METRIC_DOWNLOAD_BYTES, NULL, bytes);
}

/* The store's own headers then; what the service knows is who may have the URL. */
static enum err_code redirect(struct app_ctx *ctx, const struct file *file, struct err *err)
{
    struct buf url;
    buf_init(&url, RESPONSE_HEADERS_MAX / 2);
    enum err_code code = files_download_url(ctx->files, file, &url, err);
    if (code == ERR_OK) {
        ctx->response.status = 302;
        response_header(&ctx->response, "Location", buf_str(&url));
        response_header_text(&ctx->response, "Cache-Control", "no-store");
        count_download(ctx, 0); /* its bytes are the store's to count */
    }
    buf_release(&url);
    return code;
}

/* The gateway slices the file for a single range that it can read, or is told what to send. */
static enum err_code hand_over(struct app_ctx *ctx, const struct file *file,
                               const struct range *range, struct err *err)
{
    ctx->response.sendfile_part = range->kind == RANGE_ONE && range->is_saturated;
    ctx->response.sendfile_first = range->first;
    return files_locate(ctx->files, file, &ctx->response.sendfile_path, err);
}

/* What asks the store holds its worker as long as the store and the client take. */
static enum err_code take_slot(struct app_ctx *ctx, struct err *err)
{
    enum err_code code = ctx->slots ? slots_take(ctx->slots, LIMIT_DOWNLOAD_WAIT_MS, err) : ERR_OK;
    ctx->has_slot = ctx->slots && code == ERR_OK;
    return code;
}

static enum err_code stream(struct app_ctx *ctx, const struct file *file, const struct range *range,
                            struct err *err)
{
    bool is_part = range->kind == RANGE_ONE;
    const struct download_part part = {is_part ? range->first : 0,
                                       is_part ? range->last - range->first + 1 : file->size};
    enum err_code code = take_slot(ctx, err);
    if (code != ERR_OK || ctx->request.method == METHOD_HEAD)
        return code == ERR_OK ? files_download_probe(ctx->files, file, err) : code;
    code = files_download_open(ctx->files, file, &part, &ctx->download, err);
    if (code == ERR_OK)
        ctx->response.source = files_download_source(ctx->download);
    return code;
}

static void write_content_range(struct response *response, const struct range *range, int64_t size)
{
    char value[80];
    snprintf(value, sizeof value, "bytes %" PRId64 "-%" PRId64 "/%" PRId64, range->first,
             range->last, size);
    response_header_text(response, "Content-Range", value);
    response->status = 206;
}

static void write_headers(struct app_ctx *ctx, const struct file *file, bool is_inline,
                          const struct range *range)
{
    struct response *response = &ctx->response;
    struct str unused;
    /* What must be sent whole: the gateway is told not to slice it. */
    bool whole = range->kind != RANGE_ONE && request_header(&ctx->request, "RANGE", &unused);
    file_headers_validators(response, file, clock_wall_ms(ctx->files->clock), is_inline);
    file_headers_content(response, file);
    response_header_text(response, "Accept-Ranges", whole ? "none" : "bytes");
    response->content_length =
        range->kind == RANGE_ONE ? range->last - range->first + 1 : file->size;
    count_download(ctx, response->content_length);
}

enum err_code app_answer_file(struct app_ctx *ctx, const struct file *file, bool is_inline,
                              const struct validators *validators, struct err *err)
{
    struct range range = range_evaluate(&ctx->request, validators, file->size);
    enum err_code code = ERR_OK;
    if (range.kind == RANGE_UNSATISFIABLE)
        return refuse_range(file, err);
    switch (files_download_way(ctx->files)) {
    case DOWNLOAD_BY_REDIRECT:
        if (ctx->request.method == METHOD_GET) /* what is signed for it is no use to HEAD */
            return redirect(ctx, file, err);
        code = stream(ctx, file, &range, err);
        break;
    case DOWNLOAD_BY_GATEWAY:
        code = hand_over(ctx, file, &range, err);
        if (code == ERR_OK && ctx->response.sendfile_part)
            write_content_range(&ctx->response, &range, file->size);
        break;
    case DOWNLOAD_BY_STREAM:
        code = stream(ctx, file, &range, err);
        if (code == ERR_OK && range.kind == RANGE_ONE)
            write_content_range(&ctx->response, &range, file->size);
        break;
    }
    if (code == ERR_OK)
        write_headers(ctx, file, is_inline, &range);
    return code;
}
