#include <stdlib.h>

#include "base/text.h"
#include "storage/s3/storage_s3.h"
#include "storage/s3/storage_s3_xml.h"

static enum err_code no_object_head(struct err *err)
{
    return err_set_internal(err, ERR_STORAGE, 0, "read head",
                            "The store answered without an object's headers.");
}

enum err_code s3_read_head(const struct http_reply *reply, struct s3_head *ret_head,
                           struct err *err)
{
    struct s3_head head = {.nonce = ""};
    struct str value;
    int64_t seconds = 0;
    head.stat.size = -1;
    if ((http_reply_header(reply, "content-length", &value) &&
         !text_parse_int(value, 0, INT64_MAX, &head.stat.size)) ||
        !http_reply_header(reply, "last-modified", &value) ||
        !text_parse_http_date(value, &seconds))
        return no_object_head(err);
    head.stat.modified_ms = seconds * 1000;
    if (http_reply_header(reply, S3_NONCE_HEADER, &value) &&
        !str_copy(head.nonce, sizeof head.nonce, value))
        head.nonce[0] = '\0';
    if (!http_reply_header(reply, "etag", &value))
        return no_object_head(err);
    enum err_code code = s3_copy_tag(head.stat.tag, value, err);
    if (code == ERR_OK)
        *ret_head = head;
    return code;
}

enum err_code s3_head_bucket(struct storage_s3 *s3, const char *operation, struct err *err)
{
    const struct s3_call call = {.operation = operation, .method = "HEAD"};
    struct http_reply reply;
    http_reply_init(&reply);
    enum err_code code = s3_run(s3, &call, &reply, err);
    if (code == ERR_NOT_FOUND) {
        code = err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, operation,
                                "%s: the bucket does not exist.", operation);
        err->remote_status = reply.status;
    }
    http_reply_release(&reply);
    return code;
}

/* An answer to HEAD has no body: only the bucket can say whether the object or the bucket is
 * missing. */
enum err_code s3_head_object(struct storage_s3 *s3, const char *key, int64_t deadline_ms,
                             struct s3_head *ret_head, struct err *err)
{
    const struct s3_call call = {
        .operation = "head object", .method = "HEAD", .key = key, .deadline_ms = deadline_ms};
    struct http_reply reply;
    http_reply_init(&reply);
    enum err_code code = s3_run(s3, &call, &reply, err);
    if (code == ERR_OK) {
        code = s3_read_head(&reply, ret_head, err);
        if (code == ERR_OK && ret_head->stat.size < 0)
            code = no_object_head(err);
    } else if (code == ERR_NOT_FOUND) {
        struct err bucket_err;
        enum err_code bucket_code = s3_head_bucket(s3, call.operation, &bucket_err);
        if (bucket_code != ERR_OK) {
            code = bucket_code;
            *err = bucket_err;
        }
    }
    http_reply_release(&reply);
    return code;
}

static enum err_code s3_stat(void *state, const char *key, struct storage_stat *ret_stat,
                             struct err *err)
{
    struct s3_head head;
    enum err_code code = storage_check_key(key, err);
    if (code == ERR_OK)
        code = s3_head_object(state, key, 0, &head, err);
    if (code == ERR_OK)
        *ret_stat = head.stat;
    return code;
}

/* ---- remove ---- */

enum err_code s3_remove(void *state, const char *key, struct err *err)
{
    const struct s3_call call = {.operation = "delete object", .method = "DELETE", .key = key};
    struct http_reply reply;
    enum err_code code = storage_check_key(key, err);
    if (code != ERR_OK)
        return code;
    http_reply_init(&reply);
    code = s3_run(state, &call, &reply, err);
    http_reply_release(&reply);
    return code;
}

static enum err_code s3_remove_orphan(void *state, const char *key,
                                      const struct orphan_question *question, bool *ret_removed,
                                      struct err *err)
{
    bool known = true;
    enum err_code code = storage_check_key(key, err);
    if (code == ERR_OK)
        code = question->is_known(question->context, key, &known, err);
    if (code == ERR_OK && !known)
        code = s3_remove(state, key, err);
    if (code == ERR_OK)
        *ret_removed = !known;
    return code;
}

/* ---- copy ---- */

/* The key must be free: CopyObject itself overwrites, and few stores take a condition on it. Keys
 * are random and used once, so nobody else writes there between the question and the copy. */
static enum err_code check_target(struct storage_s3 *s3, const char *to, struct err *err)
{
    struct s3_head head;
    enum err_code code = s3_head_object(s3, to, 0, &head, err);
    if (code == ERR_OK)
        return err_set_internal(err, ERR_EXISTS, 0, "copy object", "The storage key is taken.");
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}

static enum err_code send_copy(struct storage_s3 *s3, const struct storage_wanted *from,
                               const char *to, struct err *err)
{
    struct s3_call call = {.operation = "copy object", .method = "PUT", .key = to};
    struct http_reply reply;
    struct buf source;
    struct buf tag;
    buf_init(&source, LIMIT_BUCKET_BYTES + LIMIT_KEY_BYTES + 2);
    buf_init(&tag, STORAGE_TAG_SIZE);
    http_reply_init(&reply);
    buf_printf(&source, "/%s/%s", s3->bucket, from->key);
    s3_call_header(&call, "x-amz-copy-source", buf_text(&source));
    if (from->tag && *from->tag)
        s3_call_header(&call, "x-amz-copy-source-if-match", from->tag);
    enum err_code code = s3_run(s3, &call, &reply, err);
    if (code == ERR_OK &&
        s3_xml_value(buf_str(&reply.body), "CopyObjectResult/ETag", &tag, err) != ERR_OK)
        code = s3_failure(&call, &reply, err);
    http_reply_release(&reply);
    buf_release(&source);
    buf_release(&tag);
    return code;
}

/* What was copied must be as large as it was said to be, else it goes again. */
static enum err_code check_copy(struct storage_s3 *s3, const struct storage_wanted *from,
                                const char *to, struct s3_head *ret_head, struct err *err)
{
    enum err_code code = s3_head_object(s3, to, 0, ret_head, err);
    if (code == ERR_NOT_FOUND)
        return err_set_internal(err, ERR_STORAGE, 0, "copy object", "The copy is not there.");
    if (code != ERR_OK || from->size < 0 || ret_head->stat.size == from->size)
        return code;
    struct err ignored;
    if (s3_remove(s3, to, &ignored) != ERR_OK)
        return err_set_internal(err, ERR_STORAGE, 0, "copy object",
                                "The object has another size, and so has its copy, which stays.");
    return err_set_internal(err, ERR_STORAGE, 0, "copy object", "The object has another size.");
}

static enum err_code s3_copy(void *state, const struct storage_wanted *from, const char *to,
                             char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct storage_s3 *s3 = state;
    struct s3_head head;
    enum err_code code = storage_check_key(from->key, err);
    if (code == ERR_OK)
        code = storage_check_key(to, err);
    if (code == ERR_OK && from->size > S3_COPY_BYTES)
        code = err_set_internal(err, ERR_STORAGE, 0, "copy object",
                                "A store copies objects of up to 5 GiB only.");
    if (code == ERR_OK)
        code = check_target(s3, to, err);
    if (code == ERR_OK)
        code = send_copy(s3, from, to, err);
    if (code == ERR_OK)
        code = check_copy(s3, from, to, &head, err);
    if (code == ERR_OK)
        memcpy(ret_tag, head.stat.tag, sizeof head.stat.tag);
    return code;
}

const struct storage_objects s3_objects = {
    .stat = s3_stat,
    .copy = s3_copy,
    .remove = s3_remove,
    .remove_orphan = s3_remove_orphan,
    .list = s3_list,
    .read_mark = s3_read_mark,
    .write_mark = s3_write_mark,
};
