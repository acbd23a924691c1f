/* What an answer means that is no success (S3 API Reference, "Error responses"). */
#include "storage/s3/storage_s3.h"
#include "storage/s3/storage_s3_xml.h"

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
 * body ("CompleteMultipartUpload", "CopyObject"). */
static bool holds_error(const struct http_reply *reply)
{
    return s3_xml_has_root(buf_str(&reply->body), "Error");
}

bool s3_hides_failure(const struct http_reply *reply)
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
