/*
 * The calls of a multipart upload. Each part carries its SHA-256 twice: as the signed payload, and
 * as a checksum, for there are stores that verify only the latter; Content-MD5 where the store
 * refuses the checksum. So what the store holds of each
 * part is what was sent, and completing it by tags and checksums puts together those and no others.
 */
#include "base/crash.h"
#include "base/digest.h"
#include "base/text.h"
#include "storage/s3/storage_s3.h"
#include "storage/s3/storage_s3_xml.h"

#define PARTS_MAX 10000 /* of S3 */
#define PARTS_BYTES (PARTS_MAX * 256)
#define UPLOAD_ID_BYTES 2048
#define NUMBER_SIZE 16
#define ABORT_MS 2000 /* what stays is found by the purge, and by the bucket's lifecycle */

void s3_multipart_init(struct s3_multipart *multipart)
{
    multipart->part_count = 0;
    buf_init(&multipart->upload_id, UPLOAD_ID_BYTES);
    buf_init(&multipart->parts, PARTS_BYTES);
}

void s3_multipart_release(struct s3_multipart *multipart)
{
    buf_release(&multipart->upload_id);
    buf_release(&multipart->parts);
}

enum err_code s3_multipart_create(struct storage_s3 *s3, struct s3_multipart *multipart,
                                  const struct s3_target *target, struct err *err)
{
    struct s3_call call = {.operation = "create multipart upload",
                           .method = "POST",
                           .key = target->key,
                           .checksum_header = "x-amz-checksum-algorithm",
                           .checksum = "SHA256"};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_query(&call, "uploads", "");
    s3_call_header(&call, "content-type", target->mime);
    s3_call_header(&call, S3_NONCE_HEADER, target->nonce);
    enum err_code code = s3_run(s3, &call, &reply, err);
    if (code == ERR_OK)
        code = s3_xml_value(buf_str(&reply.body), "InitiateMultipartUploadResult/UploadId",
                            &multipart->upload_id, err);
    if (code == ERR_OK && multipart->upload_id.len == 0)
        code = err_set_internal(err, ERR_STORAGE, 0, call.operation,
                                "The store began an upload without an id.");
    s3_abort_doubles(s3, target->key, buf_str(&multipart->upload_id), code, &reply);
    http_reply_release(&reply);
    if (code == ERR_NOT_FOUND)
        code = err_set_internal(err, ERR_STORAGE, 0, call.operation,
                                "The store knows no multipart uploads.");
    crash_point("put.multipart_created");
    return code;
}

static enum err_code hash_part(struct s3_part *part, char hex[65], struct err *err)
{
    unsigned char sha256[DIGEST_MAX_BYTES];
    struct digest *digest = NULL;
    enum err_code code = digest_open(&digest, DIGEST_SHA256, err);
    if (code != ERR_OK)
        return code;
    digest_update(digest, part->body.data, part->body.len);
    code = digest_finish(digest, sha256, err);
    digest_close(digest);
    if (code == ERR_OK) {
        text_hex(sha256, 32, hex);
        text_base64(sha256, 32, part->checksum);
    }
    return code;
}

static enum err_code send_part(struct storage_s3 *s3, const struct s3_multipart *multipart,
                               const char *key, struct s3_part *part)
{
    char number[NUMBER_SIZE];
    char hex[65];
    unsigned carried = 0;
    struct str tag;
    struct http_reply reply;
    struct s3_call call = {.operation = "send part",
                           .method = "PUT",
                           .key = key,
                           .body = part->body,
                           .body_sha256 = hex,
                           .checksum_header = S3_CHECKSUM_HEADER,
                           .checksum = part->checksum};
    enum err_code code = hash_part(part, hex, &part->err);
    if (code != ERR_OK)
        return code;
    http_reply_init(&reply);
    snprintf(number, sizeof number, "%d", part->number);
    s3_call_query(&call, "partNumber", number);
    s3_call_query(&call, "uploadId", buf_text(&multipart->upload_id));
    code = s3_send_checked(s3, &call, &carried, &reply, &part->err);
    if (code == ERR_OK)
        code = s3_check(&call, &reply, &part->err);
    if (!(carried & S3_CHECKSUM))
        part->checksum[0] = '\0';
    if (code == ERR_NOT_FOUND)
        code = err_set_internal(&part->err, ERR_STORAGE_UNAVAILABLE, 0, call.operation,
                                "The store has forgotten the upload.");
    else if (code == ERR_OK)
        code = s3_copy_tag(part->tag,
                           http_reply_header(&reply, "etag", &tag) ? tag : (struct str){NULL, 0},
                           &part->err);
    http_reply_release(&reply);
    return code;
}

void s3_multipart_send(struct storage_s3 *s3, const struct s3_multipart *multipart, const char *key,
                       struct s3_part *part)
{
    part->code = send_part(s3, multipart, key, part);
    crash_point("put.part_sent");
}

enum err_code s3_multipart_add(struct s3_multipart *multipart, const struct s3_part *part,
                               struct err *err)
{
    if (part->code != ERR_OK) {
        *err = part->err;
        return part->code;
    }
    buf_printf(&multipart->parts, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag>", part->number,
               part->tag);
    if (part->checksum[0] != '\0')
        buf_printf(&multipart->parts, "<ChecksumSHA256>%s</ChecksumSHA256>", part->checksum);
    buf_append_text(&multipart->parts, "</Part>");
    multipart->part_count++;
    if (multipart->part_count > PARTS_MAX || multipart->parts.failed)
        return err_set_internal(err, ERR_STORAGE, 0, "send part",
                                "A file has more than 10000 parts: S3_PART_SIZE is too small.");
    return ERR_OK;
}

enum err_code s3_multipart_abort(struct storage_s3 *s3, const char *key, const char *upload_id,
                                 struct err *err)
{
    struct s3_call call = {.operation = "abort multipart upload",
                           .method = "DELETE",
                           .key = key,
                           .deadline_ms = ABORT_MS};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_query(&call, "uploadId", upload_id);
    enum err_code code = s3_run(s3, &call, &reply, err);
    http_reply_release(&reply);
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}
