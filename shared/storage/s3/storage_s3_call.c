#include "base/digest.h"
#include "base/text.h"
#include "base/trace_context.h"
#include "storage/s3/storage_s3.h"

/* The host as libcurl puts it into the Host header: without the scheme's default port. */
static struct str drop_default_port(struct str host, bool is_https)
{
    const struct str port = is_https ? STR(":443") : STR(":80");
    if (host.len > port.len && memcmp(host.data + host.len - port.len, port.data, port.len) == 0)
        host.len -= port.len;
    return host;
}

enum err_code s3_endpoint_parse(struct s3_endpoint *ret_endpoint, const char *text,
                                const char *bucket, enum s3_addressing addressing, struct err *err)
{
    struct s3_endpoint endpoint = {.scheme = "http",
                                   .bucket_in_path = addressing == S3_ADDRESSING_PATH};
    struct str rest = {text, strlen(text)};
    bool is_https = str_starts_with(rest, STR("https://"));
    if (!is_https && !str_starts_with(rest, STR("http://")))
        return err_set(err, ERR_CONFIG, "read endpoint",
                       "The store's endpoint must begin with http:// or https://.");
    size_t scheme_len = is_https ? strlen("https://") : strlen("http://");
    rest.data += scheme_len;
    rest.len -= scheme_len;
    if (rest.len > 0 && rest.data[rest.len - 1] == '/')
        rest.len--;
    rest = drop_default_port(rest, is_https);
    if (rest.len == 0 || str_find(rest, '/') < rest.len)
        return err_set(err, ERR_CONFIG, "read endpoint",
                       "The store's endpoint must be a host and an optional port.");
    if (is_https)
        endpoint.scheme = "https";
    snprintf(endpoint.host, sizeof endpoint.host, "%s%s%.*s", endpoint.bucket_in_path ? "" : bucket,
             endpoint.bucket_in_path ? "" : ".", (int)rest.len, rest.data);
    *ret_endpoint = endpoint;
    return ERR_OK;
}

void s3_path(const struct s3_endpoint *endpoint, const char *bucket, const char *key,
             struct buf *out)
{
    if (endpoint->bucket_in_path)
        buf_printf(out, "/%s", bucket);
    if (key)
        buf_printf(out, "/%s", key);
    else if (!endpoint->bucket_in_path)
        buf_append_char(out, '/');
}

static bool is_tag_byte(char byte)
{
    return byte > ' ' && byte <= '~' && byte != '<' && byte != '>' && byte != '&' && byte != '"';
}

enum err_code s3_copy_tag(char target[STORAGE_TAG_SIZE], struct str tag, struct err *err)
{
    if (tag.len >= 2 && tag.data[0] == '"' && tag.data[tag.len - 1] == '"') {
        tag.data++;
        tag.len -= 2;
    }
    bool valid = tag.len > 0 && tag.len + 2 < STORAGE_TAG_SIZE;
    for (size_t i = 0; valid && i < tag.len; i++)
        valid = is_tag_byte(tag.data[i]);
    if (!valid)
        return err_set_internal(err, ERR_STORAGE, 0, "read tag",
                                "The store answered without a usable ETag.");
    snprintf(target, STORAGE_TAG_SIZE, "\"%.*s\"", (int)tag.len, tag.data);
    return ERR_OK;
}

/* What an answer means that is no success (S3 API Reference, "Error responses"). */

struct meaning {
    const char *code; /* the store's; at the end of the text where it begins with "*" */
    enum err_code meaning;
    const char *hint;
};

/* The codes that say more than their status. */
static const struct meaning by_code[] = {
    {"NoSuchBucket", ERR_STORAGE_UNAVAILABLE, "the bucket does not exist"},
    {"NoSuchKey", ERR_NOT_FOUND, "no such object"},
    {"NoSuchUpload", ERR_NOT_FOUND, "no such multipart upload"},
    {"RequestTimeTooSkewed", ERR_STORAGE_UNAVAILABLE,
     "this machine's clock and the store's differ"},
    {"RequestExpired", ERR_STORAGE_UNAVAILABLE, "this machine's clock and the store's differ"},
    {"AuthorizationHeaderMalformed", ERR_STORAGE, "S3_REGION may be another one"},
    {"SignatureDoesNotMatch", ERR_STORAGE, "S3_SECRET_KEY may be wrong"},
    {"InvalidAccessKeyId", ERR_STORAGE, "S3_ACCESS_KEY is not known"},
    {"SlowDown", ERR_STORAGE_UNAVAILABLE, "the store asks for fewer calls"},
    {"SlowDownRead", ERR_STORAGE_UNAVAILABLE, "the store asks for fewer calls"},
    {"SlowDownWrite", ERR_STORAGE_UNAVAILABLE, "the store asks for fewer calls"},
    {"InternalError", ERR_STORAGE_UNAVAILABLE, "the store failed"},
    {"ServiceUnavailable", ERR_STORAGE_UNAVAILABLE, "the store is away"},
    {"RequestTimeout", ERR_STORAGE_UNAVAILABLE, "the store waited for us too long"},
    {"*StorageFull", ERR_DISK_FULL, "the store is full"},
    {"*QuotaExceeded", ERR_DISK_FULL, "the store is full"},
    {"InsufficientStorage", ERR_DISK_FULL, "the store is full"},
    {"InsufficientCapacity", ERR_DISK_FULL, "the store is full"},
};

static struct meaning by_status(int status)
{
    switch (status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return (struct meaning){"", ERR_STORAGE,
                                "a redirect: S3_ENDPOINT, S3_REGION or S3_ADDRESSING may be wrong"};
    case 404:
        return (struct meaning){"", ERR_NOT_FOUND, "nothing is there"};
    case 412:
        return (struct meaning){"", ERR_STORAGE, "the object is not the one that was written"};
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return (struct meaning){"", ERR_STORAGE_UNAVAILABLE, "the store failed"};
    case 507:
        return (struct meaning){"", ERR_DISK_FULL, "the store is full"};
    default:
        return (struct meaning){"", ERR_STORAGE, "refused"};
    }
}

static bool ends_with(struct str text, struct str end)
{
    return text.len >= end.len && memcmp(text.data + text.len - end.len, end.data, end.len) == 0;
}

static struct meaning find_meaning(int status, struct str code)
{
    for (size_t i = 0; i < sizeof by_code / sizeof by_code[0]; i++) {
        struct str known = str_of(by_code[i].code);
        bool is_end = known.data[0] == '*';
        if (is_end ? ends_with(code, (struct str){known.data + 1, known.len - 1})
                   : str_equal(code, known))
            return by_code[i];
    }
    return by_status(status);
}

/* The store's own word for it, "" when there is none; letters and digits only, for it goes into the
 * log. */
static void read_code(const struct http_reply *reply, char target[S3_CODE_BYTES + 1])
{
    struct err ignored;
    struct buf text;
    size_t len = 0;
    buf_init(&text, S3_XML_TEXT_BYTES);
    struct str header;
    if (s3_xml_value(buf_str(&reply->body), "Error/Code", &text, &ignored) != ERR_OK) {
        buf_reset(&text);
        if (http_reply_header(reply, "x-minio-error-code", &header))
            buf_append_str(&text, header);
    }
    for (size_t i = 0; i < text.len && len < S3_CODE_BYTES; i++)
        if ((text.data[i] >= 'a' && text.data[i] <= 'z') ||
            (text.data[i] >= 'A' && text.data[i] <= 'Z') ||
            (text.data[i] >= '0' && text.data[i] <= '9') || text.data[i] == '.')
            target[len++] = text.data[i];
    target[len] = '\0';
    buf_release(&text);
}

bool s3_is_error(const struct http_reply *reply, const char *code)
{
    char found[S3_CODE_BYTES + 1];
    read_code(reply, found);
    return strcmp(found, code) == 0;
}

enum err_code s3_failure(const struct s3_call *call, const struct http_reply *reply,
                         struct err *err)
{
    char store_code[S3_CODE_BYTES + 1];
    read_code(reply, store_code);
    const struct meaning meaning = find_meaning(reply->status, str_of(store_code));
    enum err_code code = err_set_internal(
        err, meaning.meaning, 0, call->operation, "%s: the store answered %d%s%s: %s.",
        call->operation, reply->status, *store_code ? " " : "", store_code, meaning.hint);
    err->remote_status = reply->status;
    return code;
}

static bool is_success(const struct http_reply *reply)
{
    return reply->status >= 200 && reply->status < 300;
}

/* Calls that take long are answered 200 before their outcome is known, and a failure follows in the
 * body ("CompleteMultipartUpload"). */
static bool holds_error(const struct http_reply *reply)
{
    return s3_xml_has_root(buf_str(&reply->body), "Error");
}

/* Whether a 2xx answer holds an error that another attempt may overcome. */
static bool s3_hides_failure(const struct http_reply *reply)
{
    char store_code[S3_CODE_BYTES + 1];
    if (!is_success(reply) || !holds_error(reply))
        return false;
    read_code(reply, store_code);
    return find_meaning(reply->status, str_of(store_code)).meaning == ERR_STORAGE_UNAVAILABLE;
}

enum err_code s3_check(const struct s3_call *call, const struct http_reply *reply, struct err *err)
{
    if (is_success(reply) && !holds_error(reply))
        return ERR_OK;
    return s3_failure(call, reply, err);
}

enum err_code s3_sent(const struct s3_call *call, enum err_code code, struct err *err)
{
    if (code == ERR_UPSTREAM_UNAVAILABLE)
        code = ERR_STORAGE_UNAVAILABLE;
    else if (code == ERR_UPSTREAM)
        code = ERR_STORAGE;
    if (code != ERR_OK) {
        err->code = code;
        err->operation = call->operation;
    }
    return code;
}

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

/* Sends it without checksum and condition, and reads the whole answer. Any status is ERR_OK. */
static enum err_code s3_send_as_is(struct storage_s3 *s3, const struct s3_call *call,
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

/*
 * What a write carries and not every store takes: a checksum ("x-amz-checksum-…") and the condition
 * not to overwrite ("If-None-Match: *"). A store that refuses one of them answers 501, or 400 for a
 * checksum, and seldom names the header. So the call is sent again without the one, the other and
 * both, and the call that the store takes shows which header was at fault: it is left out from then
 * on, for the life of the process. The other one is still sent.
 *
 * Without the checksum, Content-MD5 has the store verify the body. Without the condition, a HEAD
 * before the call shows whether the key is free.
 */

#define NOT_IMPLEMENTED 501
#define BAD_REQUEST 400

static enum err_code check_free(struct storage_s3 *s3, const struct s3_call *call, struct err *err)
{
    struct s3_head head;
    enum err_code code = s3_head_object(s3, call->key, 0, &head, err);
    if (code == ERR_NOT_FOUND)
        return ERR_OK;
    return code == ERR_OK
               ? err_set_internal(err, ERR_EXISTS, 0, call->operation, "The storage key is taken.")
               : code;
}

static enum err_code send_carrying(struct storage_s3 *s3, const struct s3_call *prepared,
                                   unsigned carried, struct http_reply *reply, struct err *err)
{
    struct s3_call call = *prepared;
    char md5[S3_MD5_SIZE];
    enum err_code code = ERR_OK;
    if (carried & S3_CHECKSUM)
        s3_call_header(&call, prepared->checksum_header, prepared->checksum);
    else if (prepared->checksum && prepared->body.len > 0)
        code = s3_call_md5(&call, md5, err);
    if (carried & S3_CONDITION)
        s3_call_header(&call, "if-none-match", "*");
    else if (code == ERR_OK && prepared->keeps_existing)
        code = check_free(s3, prepared, err);
    return code == ERR_OK ? s3_send_as_is(s3, &call, reply, err) : code;
}

/* A 400 that has another cause than a header which is not known. The store may have compared the body
 * with the checksum, so that must not be left out. */
static bool is_about_content(const struct http_reply *reply)
{
    static const char *const codes[] = {"BadDigest",
                                        "InvalidDigest",
                                        "XAmzContentSHA256Mismatch",
                                        "XAmzContentChecksumMismatch",
                                        "IncompleteBody",
                                        "RequestTimeout",
                                        "EntityTooLarge",
                                        "EntityTooSmall"};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (s3_is_error(reply, codes[i]))
            return true;
    return false;
}

/* What may be the cause of that answer. */
static unsigned suspects(const struct http_reply *reply)
{
    if (reply->status == NOT_IMPLEMENTED)
        return S3_CHECKSUM | S3_CONDITION;
    return reply->status == BAD_REQUEST && !is_about_content(reply) ? S3_CHECKSUM : 0;
}

/* Whether the store carried the call out, or would have if the key were free. */
static bool is_taken(const struct http_reply *reply)
{
    return (reply->status >= 200 && reply->status < 300) || reply->status == 409 ||
           reply->status == 412;
}

enum err_code s3_send_checked(struct storage_s3 *s3, const struct s3_call *call,
                              unsigned *ret_carried, struct http_reply *reply, struct err *err)
{
    static const unsigned trials[] = {0, S3_CHECKSUM, S3_CONDITION, S3_CHECKSUM | S3_CONDITION};
    const unsigned wanted =
        (call->checksum ? S3_CHECKSUM : 0) | (call->keeps_existing ? S3_CONDITION : 0);
    const unsigned carried = wanted & ~atomic_load(&s3->refused);
    unsigned suspected = 0;
    for (size_t i = 0; i < sizeof trials / sizeof trials[0]; i++) {
        if ((trials[i] & ~(carried & suspected)) != 0)
            continue;
        enum err_code code = send_carrying(s3, call, carried & ~trials[i], reply, err);
        if (code != ERR_OK)
            return code;
        *ret_carried = carried & ~trials[i];
        if (trials[i] != 0 && is_taken(reply))
            atomic_fetch_or(&s3->refused, trials[i]);
        if (suspects(reply) == 0)
            break;
        suspected |= suspects(reply);
    }
    return ERR_OK;
}

enum err_code s3_send(struct storage_s3 *s3, const struct s3_call *call, struct http_reply *reply,
                      struct err *err)
{
    unsigned carried = 0;
    return s3_send_checked(s3, call, &carried, reply, err);
}
