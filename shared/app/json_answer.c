#include "app/app.h"

static enum err_code refuse_length(struct err *err)
{
    err_set(err, ERR_BAD_JSON, "body", "The body is larger than %d bytes.", LIMIT_JSON_BODY_BYTES);
    err_detail(err, "limit", LIMIT_JSON_BODY_BYTES);
    return ERR_BAD_JSON;
}

static enum err_code read_body(struct app_ctx *ctx, struct buf *json, struct err *err)
{
    struct str piece;
    for (;;) {
        enum err_code code = source_next(ctx->body, &piece, err);
        if (code != ERR_OK || piece.len == 0)
            return code;
        buf_append_str(json, piece);
        if (json->failed)
            return refuse_length(err);
    }
}

enum err_code app_read_json(struct app_ctx *ctx, const char *other_type, struct buf *json,
                            struct err *err)
{
    char type[LIMIT_MIME_BYTES + 1];
    bool known =
        media_type_parse(ctx->request.content_type, type, sizeof type) &&
        (strcmp(type, "application/json") == 0 || (other_type && strcmp(type, other_type) == 0));
    if (!known)
        return err_set(err, ERR_UNSUPPORTED_MEDIA_TYPE, "body", "The body must be %s%s%s.",
                       "application/json", other_type ? " or " : "", other_type ? other_type : "");
    enum err_code code = request_check_coding(&ctx->request, err);
    if (code != ERR_OK)
        return code;
    if (ctx->request.content_length > LIMIT_JSON_BODY_BYTES)
        return refuse_length(err);
    code = read_body(ctx, json, err);
    if (code == ERR_OK && json->len == 0)
        return err_set(err, ERR_BAD_JSON, "body", "The body is empty.");
    return code;
}

static void write_json_headers(struct app_ctx *ctx)
{
    response_header_text(&ctx->response, "Content-Type", "application/json");
    response_header_text(&ctx->response, "Cache-Control", "private, no-cache");
    response_header_text(&ctx->response, "X-Content-Type-Options", "nosniff");
    response_header_text(&ctx->response, "Accept-Ranges", "none");
}

void app_answer_json(struct app_ctx *ctx, int status)
{
    ctx->response.status = status;
    write_json_headers(ctx);
}

void app_answer_replay(struct app_ctx *ctx)
{
    const struct idempotency_record *record = &ctx->idempotency.record;
    buf_append_str(&ctx->response.body, buf_str(&record->body));
    if (record->location.len > 0)
        response_header(&ctx->response, "Location", buf_str(&record->location));
    if (record->etag.len > 0)
        response_header(&ctx->response, "ETag", buf_str(&record->etag));
    response_header_text(&ctx->response, "Idempotency-Replayed", "true");
    app_answer_json(ctx, record->status);
}
