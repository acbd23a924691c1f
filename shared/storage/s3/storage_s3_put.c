/*
 * Uploads. What is written gathers in a part buffer. What fits into one part is sent by one PUT at
 * commit; of what is larger each full part is sent by a thread of its own, while the next one fills
 * and follows it where there is memory for two. A put holds SENDERS buffers at most, so there are
 * never more such threads than buffers in UPLOAD_MEMORY.
 *
 * No write overwrites: PUT and CompleteMultipartUpload carry If-None-Match, and where a store does
 * not know that, a HEAD goes before it (s3_send_checked). Each put marks its object with a random nonce; so when
 * an answer was lost, or a repeated call finds the key taken, a HEAD shows whether this very put is
 * what stands there. Nothing that depends on how a store makes its tags is needed for that.
 *
 * The SHA-256 of the whole is only known at commit. A single PUT carries it as x-amz-meta-sha256
 * and as the checksum that the store verifies, where the store takes one. A multipart object's metadata was fixed when it
 * began, so there it becomes the tag "sha256": AWS, MinIO and SeaweedFS have tags, they cost no
 * copy, and they leave the object's ETag as it is. It only tells other clients: an upload does not
 * fail for it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/crash.h"
#include "base/digest.h"
#include "base/text.h"
#include "base/thread.h"
#include "base/trace_context.h"
#include "storage/s3/storage_s3.h"

/*
 * The calls of a multipart upload. Each part carries its SHA-256 twice: as the signed payload, and
 * as a checksum, for there are stores that verify only the latter; Content-MD5 where the store
 * refuses the checksum. So what the store holds of each
 * part is what was sent, and completing it by tags and checksums puts together those and no others.
 */

#define PARTS_MAX 10000 /* of S3 */
#define PARTS_BYTES (PARTS_MAX * 256)
#define UPLOAD_ID_BYTES 2048
#define NUMBER_SIZE 16
#define ABORT_MS 2000 /* what stays is found by the purge, and by the bucket's lifecycle */

static void s3_multipart_init(struct s3_multipart *multipart)
{
    multipart->part_count = 0;
    buf_init(&multipart->upload_id, UPLOAD_ID_BYTES);
    buf_init(&multipart->parts, PARTS_BYTES);
}

static void s3_multipart_release(struct s3_multipart *multipart)
{
    buf_release(&multipart->upload_id);
    buf_release(&multipart->parts);
}

static enum err_code s3_multipart_create(struct storage_s3 *s3, struct s3_multipart *multipart,
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

/* Thread-safe as long as nobody changes `multipart`. */
static void s3_multipart_send(struct storage_s3 *s3, const struct s3_multipart *multipart,
                              const char *key, struct s3_part *part)
{
    part->code = send_part(s3, multipart, key, part);
    crash_point("put.part_sent");
}

/* Takes a part that was sent into the document; parts come in order. */
static enum err_code s3_multipart_add(struct s3_multipart *multipart, const struct s3_part *part,
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

#define SENDER_STACK_BYTES (256 * 1024)
#define NONCE_BYTES 16
#define DEFAULT_TYPE "application/octet-stream" /* always said: some stores guess, by the bytes */
#define COMPLETE_BYTES (4 * 1024 * 1024)
/* Of a call's deadline: the rest is for finding out what became of it. */
#define COMMIT_SHARE(deadline_ms) ((deadline_ms)*3 / 4)
#define RESOLVE_SHARE(deadline_ms) ((deadline_ms) / 4)

#define SENDERS 2

/* A part on its way. */
struct sender {
    struct s3_put *put;
    struct part_buffer buffer;
    struct s3_part part; /* the thread's until it is joined */
    pthread_t thread;
    struct trace_context *trace_context; /* of the request, for the thread */
    bool is_running;
};

struct s3_put {
    struct storage_s3 *s3;
    char key[LIMIT_KEY_BYTES + 1];
    char mime[LIMIT_MIME_BYTES + 1];
    char nonce[S3_NONCE_SIZE];
    size_t first_size; /* of the first buffer */
    int64_t written;
    struct part_buffer filling;
    struct s3_multipart multipart;
    int begun_parts;                /* of these, multipart has the first */
    struct sender senders[SENDERS]; /* part n is sent by the one of index (n - 1) % SENDERS */
    bool is_stored;                 /* the object is there */
};

static void s3_put_set_type(void *state, const char *mime)
{
    struct s3_put *put = state;
    if (!str_copy(put->mime, sizeof put->mime, str_of(mime)) || !*put->mime)
        snprintf(put->mime, sizeof put->mime, DEFAULT_TYPE);
}

static enum err_code s3_put_begin(void *state, const char *key, int64_t size_hint, void **ret_put,
                                  struct err *err)
{
    struct storage_s3 *s3 = state;
    unsigned char nonce[NONCE_BYTES];
    enum err_code code = storage_check_key(key, err);
    if (code != ERR_OK)
        return code;
    struct s3_put *put = calloc(1, sizeof *put);
    if (!put)
        return err_set_internal(err, ERR_NO_MEMORY, ENOMEM, "put_begin", "Out of memory.");
    put->s3 = s3;
    put->first_size = s3->part_size;
    if (size_hint > 0 && (uint64_t)size_hint < s3->part_size)
        put->first_size = (size_t)size_hint;
    s3_multipart_init(&put->multipart);
    snprintf(put->key, sizeof put->key, "%s", key);
    s3_put_set_type(put, DEFAULT_TYPE);
    clock_random(s3->clock, nonce, sizeof nonce);
    text_hex(nonce, sizeof nonce, put->nonce);
    crash_point("put.begun");
    *ret_put = put;
    return ERR_OK;
}

/* ---- parts ---- */

static void *run_sender(void *argument)
{
    struct sender *sender = argument;
    const struct s3_put *put = sender->put;
    trace_context_set(sender->trace_context);
    s3_multipart_send(put->s3, &put->multipart, put->key, &sender->part);
    return NULL;
}

static bool start_sender(struct sender *sender)
{
    sender->trace_context = trace_context_get();
    sender->is_running = thread_start(&sender->thread, SENDER_STACK_BYTES, run_sender, sender);
    return sender->is_running;
}

static int parts_on_way(const struct s3_put *put)
{
    return put->begun_parts - put->multipart.part_count;
}

/* Waits for the part that began first. Its buffer is filled next, unless there is one for that. */
static enum err_code join_first(struct s3_put *put, struct err *err)
{
    struct sender *first = &put->senders[put->multipart.part_count % SENDERS];
    pthread_join(first->thread, NULL);
    first->is_running = false;
    if (put->filling.data) {
        part_memory_give(put->s3->memory, &first->buffer);
    } else {
        put->filling = first->buffer;
        put->filling.len = 0;
        first->buffer = (struct part_buffer){.data = NULL};
    }
    return s3_multipart_add(&put->multipart, &first->part, err);
}

static enum err_code join_all(struct s3_put *put, struct err *err)
{
    enum err_code code = ERR_OK;
    while (code == ERR_OK && parts_on_way(put) > 0)
        code = join_first(put, err);
    return code;
}

static enum err_code begin_multipart(struct s3_put *put, struct err *err)
{
    if (put->multipart.upload_id.len > 0)
        return ERR_OK;
    const struct s3_target target = {put->key, put->mime, put->nonce};
    return s3_multipart_create(put->s3, &put->multipart, &target, err);
}

/* Sends what has filled on the caller's thread. */
static enum err_code send_here(struct s3_put *put, struct s3_part *part, struct err *err)
{
    s3_multipart_send(put->s3, &put->multipart, put->key, part);
    put->filling.len = 0;
    enum err_code code = join_all(put, err); /* parts are added in order */
    put->begun_parts++;
    return code == ERR_OK ? s3_multipart_add(&put->multipart, part, err) : code;
}

/* Sends what has filled: the last part here, the others on threads. */
static enum err_code send_filled(struct s3_put *put, bool is_last, struct err *err)
{
    enum err_code code = begin_multipart(put, err);
    if (code == ERR_OK && parts_on_way(put) == SENDERS)
        code = join_first(put, err);
    if (code != ERR_OK)
        return code;
    struct sender *sender = &put->senders[put->begun_parts % SENDERS];
    *sender = (struct sender){
        .put = put,
        .part = {.number = put->begun_parts + 1,
                 .body = {(const char *)put->filling.data, put->filling.len}},
    };
    if (is_last || !start_sender(sender))
        return send_here(put, &sender->part, err);
    put->begun_parts++;
    sender->buffer = put->filling;
    put->filling = (struct part_buffer){.data = NULL};
    return ERR_OK;
}

/* A buffer to fill while parts are on their way: a second one when nobody waits for memory, else
 * that of the first part which has arrived. */
static enum err_code take_next(struct s3_put *put, struct err *err)
{
    struct part_memory *memory = put->s3->memory;
    if (parts_on_way(put) < SENDERS && part_memory_try(memory, put->s3->part_size, &put->filling))
        return ERR_OK;
    enum err_code code = join_first(put, err);
    if (code == ERR_OK && parts_on_way(put) > 0 && part_memory_is_wanted(memory)) {
        part_memory_give(memory, &put->filling);
        code = join_first(put, err);
    }
    return code;
}

/* Room for at least one byte. */
static enum err_code make_room(struct s3_put *put, struct err *err)
{
    struct storage_s3 *s3 = put->s3;
    struct part_buffer *filling = &put->filling;
    enum err_code code = ERR_OK;
    if (filling->data && filling->len < filling->size)
        return ERR_OK;
    if (filling->data && filling->size < s3->part_size)
        return part_memory_grow(s3->memory, filling, s3->part_size, s3->deadline_ms, err);
    if (filling->data)
        code = send_filled(put, false, err);
    if (code == ERR_OK && parts_on_way(put) > 0)
        return take_next(put, err);
    if (code == ERR_OK && !filling->data)
        code = part_memory_take(s3->memory, put->first_size, s3->deadline_ms, filling, err);
    return code;
}

static enum err_code s3_put_write(void *state, const void *data, size_t len, struct err *err)
{
    struct s3_put *put = state;
    const unsigned char *at = data;
    while (len > 0) {
        enum err_code code = make_room(put, err);
        if (code != ERR_OK)
            return code;
        size_t room = put->filling.size - put->filling.len;
        size_t step = len < room ? len : room;
        memcpy(put->filling.data + put->filling.len, at, step);
        put->filling.len += step;
        at += step;
        len -= step;
        if (put->written == 0)
            crash_point("put.first_write");
        put->written += (int64_t)step;
    }
    return ERR_OK;
}

/* ---- commit ---- */

/* After a call that failed, in whatever way: does the store hold what this put wrote? When another
 * object stands there and the store said so, the key is taken; else the failure is as it was. */
static enum err_code resolve(struct s3_put *put, int status, enum err_code failure,
                             char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct s3_head head;
    struct err ignored;
    enum err_code code =
        s3_head_object(put->s3, put->key, RESOLVE_SHARE(put->s3->deadline_ms), &head, &ignored);
    if (code != ERR_OK)
        return failure;
    if (strcmp(head.nonce, put->nonce) == 0 && head.stat.size == put->written) {
        memcpy(ret_tag, head.stat.tag, sizeof head.stat.tag);
        return ERR_OK;
    }
    if (status == 412 || status == 409)
        return err_set_internal(err, ERR_EXISTS, 0, "put object", "The storage key is taken.");
    return failure;
}

static enum err_code read_put_reply(const struct s3_call *call, const struct http_reply *reply,
                                    char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct str tag;
    enum err_code code = s3_check(call, reply, err);
    if (code != ERR_OK)
        return code;
    return s3_copy_tag(ret_tag,
                       http_reply_header(reply, "etag", &tag) ? tag : (struct str){NULL, 0}, err);
}

static enum err_code put_single(struct s3_put *put, const unsigned char sha256[32],
                                char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    char hex[65];
    char checksum[45];
    struct http_reply reply;
    struct s3_call call = {.operation = "put object",
                           .method = "PUT",
                           .key = put->key,
                           .body = {(const char *)put->filling.data, put->filling.len},
                           .body_sha256 = hex,
                           .checksum_header = S3_CHECKSUM_HEADER,
                           .checksum = checksum,
                           .keeps_existing = true,
                           .deadline_ms = COMMIT_SHARE(put->s3->deadline_ms)};
    text_hex(sha256, 32, hex);
    text_base64(sha256, 32, checksum);
    s3_call_header(&call, "content-type", put->mime);
    s3_call_header(&call, S3_SHA256_HEADER, hex);
    s3_call_header(&call, S3_NONCE_HEADER, put->nonce);
    http_reply_init(&reply);
    enum err_code code = s3_send(put->s3, &call, &reply, err);
    if (code == ERR_OK)
        code = read_put_reply(&call, &reply, ret_tag, err);
    crash_point("put.stored");
    if (code != ERR_OK && code != ERR_EXISTS)
        code = resolve(put, reply.status, code, ret_tag, err);
    http_reply_release(&reply);
    return code;
}

/* Only the document says that it is done. */
static enum err_code read_complete_reply(const struct s3_call *call, const struct http_reply *reply,
                                         char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct buf tag;
    enum err_code code = s3_check(call, reply, err);
    if (code != ERR_OK)
        return code;
    buf_init(&tag, S3_XML_TEXT_BYTES);
    code = s3_xml_value(buf_str(&reply->body), "CompleteMultipartUploadResult/ETag", &tag, err);
    if (code == ERR_OK)
        code = s3_copy_tag(ret_tag, buf_str(&tag), err);
    else
        code = s3_failure(call, reply, err);
    buf_release(&tag);
    return code;
}

static enum err_code complete(struct s3_put *put, char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct buf document;
    struct http_reply reply;
    buf_init(&document, COMPLETE_BYTES);
    http_reply_init(&reply);
    buf_printf(&document,
               "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">%s"
               "</CompleteMultipartUpload>",
               buf_text(&put->multipart.parts));
    struct s3_call call = {.operation = "complete multipart upload",
                           .method = "POST",
                           .key = put->key,
                           .body = buf_str(&document),
                           .keeps_existing = true,
                           .deadline_ms = COMMIT_SHARE(put->s3->deadline_ms)};
    s3_call_query(&call, "uploadId", buf_text(&put->multipart.upload_id));
    enum err_code code =
        document.failed ? err_set_internal(err, ERR_NO_MEMORY, 0, call.operation, "Out of memory.")
                        : ERR_OK;
    crash_point("put.before_complete");
    if (code == ERR_OK)
        code = s3_send(put->s3, &call, &reply, err);
    if (code == ERR_OK)
        code = read_complete_reply(&call, &reply, ret_tag, err);
    crash_point("put.completed");
    if (code != ERR_OK && code != ERR_EXISTS)
        code = resolve(put, reply.status, code, ret_tag, err);
    if (code == ERR_NOT_FOUND) /* of the upload, not of an object that somebody asked for */
        code = err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, call.operation,
                                "The store has forgotten the upload.");
    http_reply_release(&reply);
    buf_release(&document);
    return code;
}

/* For other clients of the store; see above. */
static void describe(struct s3_put *put, const unsigned char sha256[32])
{
    char hex[65];
    char md5[S3_MD5_SIZE];
    char document[256];
    struct err ignored;
    struct http_reply reply;
    struct s3_call call = {.operation = "tag object",
                           .method = "PUT",
                           .key = put->key,
                           .deadline_ms = RESOLVE_SHARE(put->s3->deadline_ms)};
    text_hex(sha256, 32, hex);
    snprintf(document, sizeof document,
             "<Tagging><TagSet><Tag><Key>sha256</Key><Value>%s</Value></Tag></TagSet></Tagging>",
             hex);
    call.body = str_of(document);
    http_reply_init(&reply);
    s3_call_query(&call, "tagging", "");
    enum err_code code = s3_call_md5(&call, md5, &ignored);
    if (code == ERR_OK)
        code = s3_run(put->s3, &call, &reply, &ignored);
    (void)code;
    http_reply_release(&reply);
    crash_point("put.tagged");
}

static enum err_code put_multipart(struct s3_put *put, const unsigned char sha256[32],
                                   char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    enum err_code code = send_filled(put, true, err);
    if (code == ERR_OK)
        code = complete(put, ret_tag, err);
    if (code == ERR_OK)
        describe(put, sha256);
    return code;
}

static enum err_code s3_put_commit(void *state, const unsigned char sha256[32],
                                   char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct s3_put *put = state;
    char tag[STORAGE_TAG_SIZE];
    crash_point("put.written");
    enum err_code code = put->multipart.upload_id.len > 0 ? put_multipart(put, sha256, tag, err)
                                                          : put_single(put, sha256, tag, err);
    if (code != ERR_OK)
        return code;
    put->is_stored = true;
    memcpy(ret_tag, tag, sizeof tag);
    return ERR_OK;
}

static void s3_put_close(void *state)
{
    struct s3_put *put = state;
    struct err ignored;
    if (!put)
        return;
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < SENDERS; i++) {
        struct sender *sender = &put->senders[i];
        if (sender->is_running)
            pthread_join(sender->thread, NULL);
        part_memory_give(put->s3->memory, &sender->buffer);
    }
    if (put->multipart.upload_id.len > 0 && !put->is_stored)
        code = s3_multipart_abort(put->s3, put->key, buf_text(&put->multipart.upload_id), &ignored);
    (void)code; /* the purge finds what is left */
    part_memory_give(put->s3->memory, &put->filling);
    s3_multipart_release(&put->multipart);
    free(put);
}

const struct storage_uploads s3_uploads = {
    .begin = s3_put_begin,
    .set_type = s3_put_set_type,
    .write = s3_put_write,
    .commit = s3_put_commit,
    .close = s3_put_close,
    .purge = s3_purge,
};
