/*
 * Downloads: one GET, streamed. What the head says must be what was wanted: status, range, length,
 * size and tag. Where no Content-Length says how much comes, the bytes are counted. A connection that
 * breaks in the middle is taken up again where it broke, for the same tag only.
 */
#include <stdlib.h>

#include "base/text.h"
#include "storage/s3/storage_s3.h"

#define RANGE_SIZE 64
#define RESUMES_MAX 2
#define SLOWEST_BYTES_PER_MS 256  /* slower stores are given up */
#define UNKNOWN_BYTES (5LL << 30) /* time is given for so many where the length is not known */

struct s3_get {
    struct storage_s3 *s3;
    struct http_stream *stream; /* NULL while there is none to read */
    char key[LIMIT_KEY_BYTES + 1];
    char tag[STORAGE_TAG_SIZE]; /* of the object as it was opened */
    int64_t size;               /* of the object; -1: not known yet */
    int64_t offset;             /* of the next byte */
    int64_t left;               /* bytes; -1: to the end, until the size is known */
    bool is_counted;            /* the answer has no Content-Length */
    unsigned resumes;
};

static enum err_code changed(struct err *err, const char *what)
{
    return err_set_internal(err, ERR_STORAGE, 0, "get object",
                            "The object is not the one that was written: another %s.", what);
}

/* "bytes 4-9/10" */
static bool read_range(struct str text, int64_t *ret_first, int64_t *ret_last, int64_t *ret_size)
{
    if (!str_starts_with(text, STR("bytes ")))
        return false;
    text.data += strlen("bytes ");
    text.len -= strlen("bytes ");
    struct str first = str_cut(&text, '-');
    struct str last = str_cut(&text, '/');
    return text_parse_int(first, 0, INT64_MAX, ret_first) &&
           text_parse_int(last, 0, INT64_MAX, ret_last) &&
           text_parse_int(text, 0, INT64_MAX, ret_size);
}

static enum err_code bad_range(struct err *err)
{
    return err_set_internal(err, ERR_STORAGE, 0, "get object",
                            "The store answered another range than was asked for.");
}

/* The bytes that are left once the size is known. */
static int64_t clamp(const struct s3_get *get, int64_t size)
{
    int64_t rest = size > get->offset ? size - get->offset : 0;
    return get->left < 0 || get->left > rest ? rest : get->left;
}

/* Size and range of an answer against what was asked for; on success get->size and get->left are
 * known. */
static enum err_code check_range(struct s3_get *get, const struct http_reply *reply,
                                 const struct storage_stat *stat, bool is_range, struct err *err)
{
    struct str text;
    int64_t size = stat->size >= 0 ? stat->size : get->size;
    int64_t first = 0;
    int64_t last = size - 1;
    if (reply->status != (is_range ? 206 : 200))
        return bad_range(err);
    if (is_range && (!http_reply_header(reply, "content-range", &text) ||
                     !read_range(text, &first, &last, &size)))
        return bad_range(err);
    if (size < 0)
        return err_set_internal(err, ERR_STORAGE, 0, "get object", "The store told no size.");
    if (get->size >= 0 && get->size != size)
        return changed(err, "size");
    int64_t left = clamp(get, size);
    if (first != get->offset || last != get->offset + left - 1 ||
        (stat->size >= 0 && stat->size != left))
        return bad_range(err);
    get->is_counted = stat->size < 0;
    get->size = size;
    get->left = left;
    return ERR_OK;
}

static enum err_code check_head(struct s3_get *get, const struct http_reply *reply, bool is_range,
                                struct err *err)
{
    struct s3_head head;
    enum err_code code = s3_read_head(reply, &head, err);
    if (code == ERR_OK && *get->tag && strcmp(get->tag, head.stat.tag) != 0)
        code = changed(err, "tag");
    if (code == ERR_OK)
        code = check_range(get, reply, &head.stat, is_range, err);
    if (code == ERR_OK)
        memcpy(get->tag, head.stat.tag, sizeof get->tag);
    return code;
}

/* The failed answer's body is short: it is read for the store's own code. */
static enum err_code fail(struct http_stream *stream, const struct s3_call *call,
                          struct http_reply *reply, struct err *err)
{
    char piece[1024];
    size_t len = 0;
    struct err ignored;
    reply->body.max = S3_REPLY_BYTES;
    while (!reply->body.failed &&
           http_stream_read(stream, piece, sizeof piece, &len, &ignored) == ERR_OK && len > 0)
        buf_append(&reply->body, piece, len);
    return s3_failure(call, reply, err);
}

static bool is_whole(const struct s3_get *get)
{
    return get->offset == 0 && (get->left < 0 || get->left == get->size);
}

/* The call's deadline also bounds the time spent in reads, so it grows with what is to be read; and
 * that the head comes in the usual time is left to the stall time and to fewer attempts. */
static void limit_time(const struct s3_get *get, struct s3_call *call)
{
    const struct storage_s3 *s3 = get->s3;
    int64_t bytes = get->left >= 0 ? get->left : UNKNOWN_BYTES;
    int64_t attempts = s3->deadline_ms / s3->stall_ms;
    call->deadline_ms = s3->deadline_ms + bytes / SLOWEST_BYTES_PER_MS;
    call->attempts = attempts < 1 ? 1 : (unsigned)attempts;
}

/* Opens the stream at get->offset. */
static enum err_code open_stream(struct s3_get *get, struct err *err)
{
    char range[RANGE_SIZE];
    bool is_range = !is_whole(get);
    struct http_reply reply;
    struct s3_call call = {.operation = "get object", .method = "GET", .key = get->key};
    if (get->left < 0)
        snprintf(range, sizeof range, "bytes=%lld-", (long long)get->offset);
    else
        snprintf(range, sizeof range, "bytes=%lld-%lld", (long long)get->offset,
                 (long long)(get->offset + get->left - 1));
    if (is_range)
        s3_call_header(&call, "range", range);
    if (*get->tag)
        s3_call_header(&call, "if-match", get->tag);
    http_reply_init(&reply);
    limit_time(get, &call);
    enum err_code code = s3_stream(get->s3, &call, &reply, &get->stream, err);
    if (code == ERR_OK)
        code = reply.status == 200 || reply.status == 206 ? check_head(get, &reply, is_range, err)
                                                          : fail(get->stream, &call, &reply, err);
    if (code != ERR_OK && get->stream) {
        http_stream_close(get->stream);
        get->stream = NULL;
    }
    http_reply_release(&reply);
    return code;
}

/* A range of nothing can't be asked for: the object itself is looked at. */
static enum err_code check_only(struct s3_get *get, struct err *err)
{
    struct s3_head head;
    enum err_code code = s3_head_object(get->s3, get->key, 0, &head, err);
    if (code != ERR_OK)
        return code;
    if (*get->tag && strcmp(get->tag, head.stat.tag) != 0)
        return changed(err, "tag");
    if (get->size >= 0 && get->size != head.stat.size)
        return changed(err, "size");
    get->size = head.stat.size;
    get->left = clamp(get, get->size);
    return ERR_OK;
}

/* Without a size a range may begin at the object's end, which no store can answer. */
static enum err_code open_first(struct s3_get *get, struct err *err)
{
    enum err_code code = ERR_OK;
    if (get->size >= 0)
        get->left = clamp(get, get->size);
    if (get->left == 0 || (get->size < 0 && get->offset > 0))
        code = check_only(get, err);
    if (code != ERR_OK || get->left == 0)
        return code;
    return open_stream(get, err);
}

static void s3_get_close(void *state)
{
    struct s3_get *get = state;
    if (!get)
        return;
    http_stream_close(get->stream);
    free(get);
}

static enum err_code s3_get_open(void *state, const struct storage_wanted *wanted, void **ret_get,
                                 struct err *err)
{
    enum err_code code = storage_check_key(wanted->key, err);
    if (code != ERR_OK)
        return code;
    struct s3_get *get = calloc(1, sizeof *get);
    if (!get)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "get_open", "Out of memory.");
    get->s3 = state;
    get->size = wanted->size;
    get->offset = wanted->offset;
    get->left = wanted->length;
    snprintf(get->key, sizeof get->key, "%s", wanted->key);
    if (wanted->tag && *wanted->tag)
        code = s3_copy_tag(get->tag, str_of(wanted->tag), err);
    if (code == ERR_OK)
        code = open_first(get, err);
    if (code != ERR_OK) {
        s3_get_close(get);
        return code;
    }
    *ret_get = get;
    return ERR_OK;
}

static bool may_resume(const struct s3_get *get, enum err_code code)
{
    return code == ERR_STORAGE_UNAVAILABLE && get->resumes < RESUMES_MAX &&
           get->resumes + 1 < get->s3->attempts;
}

/* Takes up the rest; what comes then is of the same tag, or it is an error. */
static enum err_code resume(struct s3_get *get, struct err *err)
{
    http_stream_close(get->stream);
    get->stream = NULL;
    get->resumes++;
    if (get->s3->retried)
        get->s3->retried(get->s3->context);
    return open_stream(get, err);
}

/* Reads the stream to its end, so that its connection is used again. All bytes have come, so only one
 * more than that changes anything, which no Content-Length had told of. */
static enum err_code end_stream(struct s3_get *get, struct err *err)
{
    char rest[1];
    size_t len = 0;
    struct err ignored;
    enum err_code code = http_stream_read(get->stream, rest, sizeof rest, &len, &ignored);
    http_stream_close(get->stream);
    get->stream = NULL;
    return code == ERR_OK && len > 0 && get->is_counted ? changed(err, "size") : ERR_OK;
}

/* At least one byte. An end that comes too early may be a connection's: without Content-Length they
 * look the same. */
static enum err_code read_stream(struct s3_get *get, void *target, size_t wanted, size_t *ret_len,
                                 struct err *err)
{
    static const struct s3_call call = {.operation = "get object"};
    enum err_code code =
        s3_sent(&call, http_stream_read(get->stream, target, wanted, ret_len, err), err);
    if (code != ERR_OK || *ret_len > 0)
        return code;
    return err_set_internal(err, get->is_counted ? ERR_STORAGE_UNAVAILABLE : ERR_STORAGE, 0,
                            call.operation, "The store sent less than it promised.");
}

static enum err_code s3_get_read(void *state, void *target, size_t size, size_t *ret_len,
                                 struct err *err)
{
    struct s3_get *get = state;
    size_t len = 0;
    size_t wanted = (uint64_t)get->left < size ? (size_t)get->left : size;
    if (wanted == 0) {
        *ret_len = 0;
        return ERR_OK;
    }
    if (!get->stream)
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "get object",
                                "The download was broken off.");
    enum err_code code = read_stream(get, target, wanted, &len, err);
    while (code != ERR_OK && may_resume(get, code)) {
        code = resume(get, err);
        if (code == ERR_OK)
            code = read_stream(get, target, wanted, &len, err);
    }
    if (code != ERR_OK)
        return code;
    get->offset += (int64_t)len;
    get->left -= (int64_t)len;
    if (get->left == 0)
        code = end_stream(get, err);
    if (code == ERR_OK)
        *ret_len = len;
    return code;
}

const struct storage_downloads s3_downloads = {
    .open = s3_get_open,
    .read = s3_get_read,
    .close = s3_get_close,
};
