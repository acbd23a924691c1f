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
#include "storage/s3/storage_s3.h"

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
