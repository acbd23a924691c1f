#include "base/digest.h"
#include "base/text.h"
#include "base/trace_context.h"
#include "storage/s3/storage_s3.h"

#define TARGET_BYTES (16 * 1024) /* of an URL, of the headers */
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

void s3_call_query(struct s3_call *call, const char *name, const char *value)
{
    if (call->query_count < S3_CALL_QUERY)
        call->query[call->query_count++] = (struct sigv4_pair){str_of(name), str_of(value)};
}

void s3_call_header(struct s3_call *call, const char *name, const char *value)
{
    if (call->header_count < S3_CALL_HEADERS)
        call->headers[call->header_count++] = (struct sigv4_pair){str_of(name), str_of(value)};
}

static enum err_code digest_of(struct str body, enum digest_kind kind,
                               unsigned char ret_bytes[DIGEST_MAX_BYTES], struct err *err)
{
    struct digest *digest = NULL;
    enum err_code code = digest_open(&digest, kind, err);
    if (code != ERR_OK)
        return code;
    digest_update(digest, body.data, body.len);
    code = digest_finish(digest, ret_bytes, err);
    digest_close(digest);
    return code;
}

enum err_code s3_call_md5(struct s3_call *call, char target[S3_MD5_SIZE], struct err *err)
{
    unsigned char md5[DIGEST_MAX_BYTES];
    enum err_code code = digest_of(call->body, DIGEST_MD5, md5, err);
    if (code != ERR_OK)
        return code;
    text_base64(md5, 16, target);
    s3_call_header(call, "content-md5", target);
    return ERR_OK;
}

static enum err_code hash_body(const struct s3_call *call, char hex[65], struct err *err)
{
    unsigned char sha256[DIGEST_MAX_BYTES];
    if (call->body_sha256 || call->body.len == 0) {
        snprintf(hex, 65, "%.64s", call->body_sha256 ? call->body_sha256 : EMPTY_SHA256);
        return ERR_OK;
    }
    enum err_code code = digest_of(call->body, DIGEST_SHA256, sha256, err);
    if (code == ERR_OK)
        text_hex(sha256, 32, hex);
    return code;
}

/* A call as it goes to the HTTP client; holds what it points to. */
struct prepared {
    struct http_request request;
    struct buf path;
    struct buf url;
    struct buf headers;
    char payload_sha256[65];
};

static void prepared_release(struct prepared *prepared)
{
    buf_release(&prepared->path);
    buf_release(&prepared->url);
    buf_release(&prepared->headers);
}

static enum err_code sign(const struct storage_s3 *s3, const struct s3_call *call,
                          struct prepared *prepared, struct err *err)
{
    const struct sigv4_request request = {
        .method = call->method,
        .scheme = s3->endpoint.scheme,
        .host = s3->endpoint.host,
        .path = buf_str(&prepared->path),
        .query = call->query,
        .query_count = call->query_count,
        .headers = call->headers,
        .header_count = call->header_count,
        .payload_sha256 = prepared->payload_sha256,
        .now_ms = clock_wall_ms(s3->clock),
    };
    buf_printf(&prepared->url, "%s://%s", s3->endpoint.scheme, s3->endpoint.host);
    sigv4_target(&request, &prepared->url);
    return sigv4_sign(&s3->credentials, &request, &prepared->headers, err);
}

/* Of the request that this call is for, if any. Not signed: proxies on the way may put themselves
 * into the trace (https://www.w3.org/TR/trace-context/#mutating-the-traceparent-field). */
static void add_traceparent(struct buf *headers)
{
    char traceparent[TRACE_CONTEXT_HEADER_SIZE];
    if (trace_context_header(traceparent))
        buf_printf(headers, "traceparent: %s\r\n", traceparent);
}

static enum err_code prepare(const struct storage_s3 *s3, const struct s3_call *call,
                             struct prepared *prepared, struct err *err)
{
    buf_init(&prepared->path, TARGET_BYTES);
    buf_init(&prepared->url, TARGET_BYTES);
    buf_init(&prepared->headers, TARGET_BYTES);
    s3_path(&s3->endpoint, s3->bucket, call->key, &prepared->path);
    enum err_code code = hash_body(call, prepared->payload_sha256, err);
    if (code == ERR_OK)
        code = sign(s3, call, prepared, err);
    add_traceparent(&prepared->headers);
    if (code == ERR_OK &&
        (prepared->path.failed || prepared->url.failed || prepared->headers.failed))
        code = err_set_internal(err, ERR_NO_MEMORY, 0, call->operation, "Out of memory.");
    prepared->request = (struct http_request){
        .method = call->method,
        .url = buf_text(&prepared->url),
        .headers = buf_str(&prepared->headers),
        .body = call->body,
        .deadline_ms = call->deadline_ms > 0 ? call->deadline_ms : s3->deadline_ms,
        .attempts =
            call->attempts > 0 && call->attempts < s3->attempts ? call->attempts : s3->attempts,
        .max_body = call->max_body > 0 ? call->max_body : S3_REPLY_BYTES,
        .hides_failure = s3_hides_failure,
    };
    return code;
}

enum err_code s3_send_as_is(struct storage_s3 *s3, const struct s3_call *call,
                            struct http_reply *reply, struct err *err)
{
    struct prepared prepared;
    enum err_code code = prepare(s3, call, &prepared, err);
    if (code == ERR_OK)
        code = s3_sent(call, http_exchange(s3->client, &prepared.request, reply, err), err);
    prepared_release(&prepared);
    return code;
}

enum err_code s3_run(struct storage_s3 *s3, const struct s3_call *call, struct http_reply *reply,
                     struct err *err)
{
    enum err_code code = s3_send(s3, call, reply, err);
    return code == ERR_OK ? s3_check(call, reply, err) : code;
}

enum err_code s3_stream(struct storage_s3 *s3, const struct s3_call *call, struct http_reply *reply,
                        struct http_stream **ret_stream, struct err *err)
{
    struct prepared prepared;
    enum err_code code = prepare(s3, call, &prepared, err);
    if (code == ERR_OK)
        code = s3_sent(
            call, http_stream_open(s3->client, &prepared.request, reply, ret_stream, err), err);
    prepared_release(&prepared);
    return code;
}
