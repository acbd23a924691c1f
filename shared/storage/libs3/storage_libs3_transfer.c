/* Reading: a small object comes whole while it is opened, a larger one piece by piece. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crash.h"
#include "base/digest.h"
#include "base/io.h"
#include "base/text.h"
#include "storage/libs3/storage_libs3.h"

struct libs3_get {
    struct storage_libs3 *libs3;
    char key[LIMIT_KEY_BYTES + 1];
    char tag[STORAGE_TAG_SIZE]; /* every piece must carry it */
    int64_t size;               /* of the object */
    int64_t offset;             /* of the next byte to hand out */
    int64_t end;                /* behind the last one */
    char *piece;
    int64_t piece_offset; /* of its first byte in the object */
    int64_t piece_length;
};

static void start_get(struct libs3_request *request, S3RequestContext *context)
{
    const struct libs3_get *get = request->detail;
    S3GetObjectHandler handler = {libs3_response_handler, libs3_receive};
    S3GetConditions conditions = {-1, -1, get->tag[0] ? get->tag : NULL, NULL};
    /* A count of 0 asks for the whole object, so an empty one needs no range either. */
    bool is_whole = get->piece_length == get->size;
    request->libs3->library->get_object(
        &request->libs3->target, get->key, &conditions, is_whole ? 0 : (uint64_t)get->piece_offset,
        is_whole ? 0 : (uint64_t)get->piece_length, context, &handler, request);
}

/* Brings the piece that begins at `offset`. */
static enum err_code fetch(struct libs3_get *get, int64_t offset, int64_t length, struct err *err)
{
    get->piece_offset = offset;
    get->piece_length = length;
    struct libs3_request request = {.libs3 = get->libs3,
                                    .operation = "get",
                                    .start = start_get,
                                    .detail = get,
                                    .body = length,
                                    .target = get->piece};
    struct storage_wanted wanted = {.key = get->key, .size = -1, .tag = get->tag};
    enum err_code code = libs3_run(&request, err);
    if (code == ERR_OK)
        code = libs3_check_wanted(&request, &wanted, err);
    if (code != ERR_OK) {
        get->piece_length = 0;
        return code;
    }
    memcpy(get->tag, request.tag, sizeof get->tag);
    return ERR_OK;
}

/* Learns size and tag, where they are not both known or too much would have to come for it. */
static enum err_code look(struct libs3_get *get, const struct storage_wanted *wanted,
                          struct err *err)
{
    struct libs3_request seen;
    enum err_code code = libs3_look(get->libs3, get->key, &seen, err);
    if (code == ERR_OK)
        code = libs3_check_wanted(&seen, wanted, err);
    if (code != ERR_OK)
        return code;
    get->size = seen.length;
    memcpy(get->tag, seen.tag, sizeof get->tag);
    return ERR_OK;
}

static enum err_code set_range(struct libs3_get *get, const struct storage_wanted *wanted,
                               struct err *err)
{
    if (wanted->offset < 0 || wanted->offset > get->size ||
        (wanted->length >= 0 && wanted->length > get->size - wanted->offset))
        return err_set_internal(err, ERR_STORAGE, 0, "get",
                                "The range wanted lies outside the object.");
    get->offset = wanted->offset;
    get->end = wanted->length < 0 ? get->size : wanted->offset + wanted->length;
    return ERR_OK;
}

static enum err_code begin(struct libs3_get *get, const struct storage_wanted *wanted,
                           struct err *err)
{
    enum err_code code = ERR_OK;
    get->size = wanted->size;
    if (get->size < 0 || get->size > LIBS3_GATHERED)
        code = look(get, wanted, err);
    if (code == ERR_OK)
        code = set_range(get, wanted, err);
    if (code != ERR_OK)
        return code;
    bool is_small = get->size <= LIBS3_GATHERED;
    int64_t buffer = is_small ? get->size : get->end - get->offset;
    if (buffer > LIBS3_PIECE)
        buffer = LIBS3_PIECE;
    get->piece = malloc((size_t)buffer + 1);
    if (!get->piece)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "get", "Out of memory.");
    return is_small ? fetch(get, 0, get->size, err) : ERR_OK;
}

enum err_code libs3_get_open(void *state, const struct storage_wanted *wanted, void **ret_get,
                             struct err *err)
{
    struct libs3_get *get = calloc(1, sizeof *get);
    if (!get)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "get", "Out of memory.");
    get->libs3 = state;
    enum err_code code = libs3_copy_key(get->key, wanted->key, err);
    if (code == ERR_OK && !str_copy(get->tag, sizeof get->tag, str_of(wanted->tag)))
        code = err_set_internal(err, ERR_INTERNAL, 0, "get", "The tag is too long.");
    if (code == ERR_OK)
        code = begin(get, wanted, err);
    if (code != ERR_OK) {
        libs3_get_close(get);
        return code;
    }
    *ret_get = get;
    return ERR_OK;
}

enum err_code libs3_get_read(void *state, void *target, size_t size, size_t *ret_len,
                             struct err *err)
{
    struct libs3_get *get = state;
    int64_t left = get->end - get->offset;
    enum err_code code = ERR_OK;
    if (left == 0) {
        *ret_len = 0;
        return ERR_OK;
    }
    if (get->offset >= get->piece_offset + get->piece_length)
        code = fetch(get, get->offset, left < LIBS3_PIECE ? left : LIBS3_PIECE, err);
    if (code == ERR_NOT_FOUND)
        return err_set_internal(err, ERR_STORAGE, 0, "get",
                                "The object vanished while it was read.");
    if (code != ERR_OK)
        return code;
    int64_t held = get->piece_offset + get->piece_length - get->offset;
    if (held > left)
        held = left;
    size_t len = size < (size_t)held ? size : (size_t)held;
    memcpy(target, get->piece + (get->offset - get->piece_offset), len);
    get->offset += (int64_t)len;
    *ret_len = len;
    return ERR_OK;
}

void libs3_get_close(void *state)
{
    struct libs3_get *get = state;
    if (!get)
        return;
    free(get->piece);
    free(get);
}

/* Writing: gathered in memory, then in a file without a name, and sent whole by the commit. */

#define FIRST_GATHERED (16 * 1024)
#define MD5_BYTES 16
#define SPOOL_FOLDER "/spool"
#define NAME_TEMPLATE "/.put-XXXXXX"
#define SPOOL_MODE 0600
#define LOOK_NS 2000000000LL /* for an answer about an upload that failed */

struct libs3_put {
    struct storage_libs3 *libs3;
    char key[LIMIT_KEY_BYTES + 1];
    char mime[LIBS3_MIME_BYTES + 1];         /* "": not told, or longer than libs3 takes */
    char md5[4 * ((MD5_BYTES + 2) / 3) + 1]; /* base64 */
    char sha256[LIBS3_SHA256_SIZE];
    char nonce[LIBS3_NONCE_SIZE]; /* by which the object is known as ours */
    int64_t size_hint;
    int64_t size;
    struct digest *digest; /* MD5 */
    char *gathered;
    size_t capacity;
    int spool_fd; /* -1 while all is gathered in memory */
};

enum err_code libs3_put_begin(void *state, const char *key, int64_t size_hint, void **ret_put,
                              struct err *err)
{
    struct storage_libs3 *libs3 = state;
    unsigned char random[(LIBS3_NONCE_SIZE - 1) / 2];
    struct libs3_put *put = calloc(1, sizeof *put);
    if (!put)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "put", "Out of memory.");
    put->libs3 = libs3;
    put->size_hint = size_hint;
    put->spool_fd = -1;
    enum err_code code = digest_open(&put->digest, DIGEST_MD5, err);
    if (code == ERR_OK)
        code = libs3_copy_key(put->key, key, err);
    if (code != ERR_OK) {
        libs3_put_close(put);
        return code;
    }
    clock_random(libs3->clock, random, sizeof random);
    text_hex(random, sizeof random, put->nonce);
    crash_point("put.begun");
    *ret_put = put;
    return ERR_OK;
}

void libs3_put_set_type(void *state, const char *mime)
{
    struct libs3_put *put = state;
    if (!str_copy(put->mime, sizeof put->mime, str_of(mime)))
        put->mime[0] = '\0';
}

/* ---- gathering ---- */

static enum err_code spool_failed(struct err *err, int os_errno, const char *operation)
{
    bool is_full = os_errno == ENOSPC || os_errno == EDQUOT;
    return err_set_internal(err, is_full ? ERR_DISK_FULL : ERR_STORAGE_UNAVAILABLE, os_errno,
                            operation, "The file that an upload waits in failed.");
}

/* A file without a name, also where the file system has no such thing. */
static int open_unnamed(const char *folder)
{
    char path[CONFIG_TEXT_SIZE + sizeof SPOOL_FOLDER + sizeof NAME_TEMPLATE];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, SPOOL_MODE);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd;
    snprintf(path, sizeof path, "%s" NAME_TEMPLATE, folder);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

/* In the spool of the gateway, a file system of SPOOL_MAX_BYTES (docs/decisions/0008). An
 * administrator's command may run before there is one. */
static int open_spool(const struct storage_libs3 *libs3)
{
    char folder[CONFIG_TEXT_SIZE + sizeof SPOOL_FOLDER];
    snprintf(folder, sizeof folder, "%s%s", libs3->runtime_dir, SPOOL_FOLDER);
    int fd = open_unnamed(folder);
    return fd < 0 && errno == ENOENT ? open_unnamed(libs3->runtime_dir) : fd;
}

/* Moves what was gathered to a file. Where the size is known its room is taken now, so that a full
 * disk is found before the client has sent everything. */
static enum err_code spill(struct libs3_put *put, struct err *err)
{
    put->spool_fd = open_spool(put->libs3);
    if (put->spool_fd < 0)
        return spool_failed(err, errno, "open spool file");
    if (put->size_hint > put->size &&
        fallocate(put->spool_fd, FALLOC_FL_KEEP_SIZE, 0, put->size_hint) != 0 &&
        (errno == ENOSPC || errno == EDQUOT))
        return spool_failed(err, errno, "fallocate");
    enum err_code code =
        put->size > 0 ? io_write_all(put->spool_fd, put->gathered, (size_t)put->size, err) : ERR_OK;
    free(put->gathered);
    put->gathered = NULL;
    return code;
}

static enum err_code gather(struct libs3_put *put, const void *data, size_t len, struct err *err)
{
    size_t needed = (size_t)put->size + len;
    size_t capacity = put->capacity ? put->capacity : FIRST_GATHERED;
    while (capacity < needed)
        capacity *= 2;
    if (capacity != put->capacity) {
        char *gathered = realloc(put->gathered, capacity);
        if (!gathered)
            return err_set_internal(err, ERR_NO_MEMORY, 0, "put", "Out of memory.");
        put->gathered = gathered;
        put->capacity = capacity;
    }
    memcpy(put->gathered + put->size, data, len);
    return ERR_OK;
}

enum err_code libs3_put_write(void *state, const void *data, size_t len, struct err *err)
{
    struct libs3_put *put = state;
    int64_t most =
        put->size_hint > put->libs3->max_file_size ? put->size_hint : put->libs3->max_file_size;
    enum err_code code = ERR_OK;
    if (len == 0)
        return ERR_OK;
    if (len > (size_t)INT64_MAX || (int64_t)len > most - put->size)
        return err_set_internal(err, ERR_FILE_TOO_LARGE, 0, "put",
                                "More is written than MAX_FILE_SIZE.");
    if (put->spool_fd < 0 && put->size + (int64_t)len > LIBS3_GATHERED)
        code = spill(put, err);
    if (code == ERR_OK)
        code = put->spool_fd >= 0 ? io_write_all(put->spool_fd, data, len, err)
                                  : gather(put, data, len, err);
    if (code != ERR_OK)
        return code;
    digest_update(put->digest, data, len);
    if (put->size == 0)
        crash_point("put.first_write");
    put->size += (int64_t)len;
    return ERR_OK;
}

/* ---- sending ---- */

/* The next bytes for libs3; 0 at the end, -1 to end the request. */
static int give_bytes(int size, char *target, void *callback_data)
{
    struct libs3_request *request = callback_data;
    const struct libs3_put *put = request->detail;
    int64_t left = put->size - request->sent;
    ssize_t len = left < size ? (ssize_t)left : size;
    if (put->spool_fd < 0) {
        if (len > 0)
            memcpy(target, put->gathered + request->sent, (size_t)len);
    } else if (len > 0) {
        do
            len = pread(put->spool_fd, target, (size_t)len, request->sent);
        while (len < 0 && errno == EINTR);
        if (len <= 0) {
            (void)spool_failed(request->err, len < 0 ? errno : EIO, "read spool file");
            request->is_failed_here = true;
            return -1;
        }
    }
    request->sent += len;
    request->moved_ns = clock_steady_ns(request->libs3->clock);
    return (int)len;
}

static void start_put(struct libs3_request *request, S3RequestContext *context)
{
    const struct libs3_put *put = request->detail;
    const S3NameValue metadata[] = {{"sha256", put->sha256}, {"upload", put->nonce}};
    const S3PutProperties properties = {.contentType = put->mime,
                                        .md5 = put->md5,
                                        .expires = -1,
                                        .cannedAcl = S3CannedAclPrivate,
                                        .metaDataCount = sizeof metadata / sizeof metadata[0],
                                        .metaData = metadata};
    const S3PutObjectHandler handler = {libs3_response_handler, give_bytes};
    request->libs3->library->put_object(&request->libs3->target, put->key, (uint64_t)put->size,
                                        &properties, context, &handler, request);
}

static enum err_code finish_digests(struct libs3_put *put, const unsigned char sha256[32],
                                    struct err *err)
{
    unsigned char md5[MD5_BYTES];
    enum err_code code = digest_finish(put->digest, md5, err);
    if (code != ERR_OK)
        return code;
    text_base64(md5, sizeof md5, put->md5);
    text_hex(sha256, 32, put->sha256);
    return ERR_OK;
}

/* Is what stands under the key what was sent? This is also how the outcome of a PUT is learnt whose
 * answer was lost. ERR_NOT_FOUND, ERR_EXISTS (it is another writer's), ERR_STORAGE. */
static enum err_code verify(const struct libs3_put *put, int64_t deadline_ns,
                            char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct libs3_request seen;
    enum err_code code = libs3_head(put->libs3, put->key, deadline_ns, &seen, err);
    if (code != ERR_OK)
        return code;
    if (strcmp(seen.nonce, put->nonce) != 0)
        return err_set_internal(err, ERR_EXISTS, 0, "put", "Another writer took the storage key.");
    if (seen.length != put->size || strcmp(seen.sha256, put->sha256) != 0 || !seen.tag[0])
        return err_set_internal(err, ERR_STORAGE, 0, "put",
                                "The store has another object than was sent.");
    memcpy(ret_tag, seen.tag, STORAGE_TAG_SIZE);
    return ERR_OK;
}

/* Sends once and looks at what came of it. *ret_may_repeat: it is not there, and may be sent
 * again. */
static enum err_code send_once(struct libs3_put *put, int64_t deadline_ns, bool *ret_may_repeat,
                               char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    const struct storage_libs3 *libs3 = put->libs3;
    struct err sent_err;
    struct err seen_err;
    struct libs3_request request = {.libs3 = put->libs3,
                                    .operation = "put",
                                    .start = start_put,
                                    .detail = put,
                                    .body = put->size,
                                    .attempts = 1,
                                    .deadline_ns = deadline_ns};
    enum err_code sent = libs3_run(&request, &sent_err);
    crash_point("put.sent");
    int64_t look_ns =
        clock_steady_ns(libs3->clock) + (sent == ERR_OK ? libs3->deadline_ns : LOOK_NS);
    enum err_code seen =
        verify(put, look_ns > deadline_ns ? look_ns : deadline_ns, ret_tag, &seen_err);
    *ret_may_repeat = seen == ERR_NOT_FOUND && (sent == ERR_OK || request.may_repeat);
    if (seen == ERR_OK)
        return ERR_OK;
    if (seen == ERR_NOT_FOUND && sent == ERR_OK)
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "put",
                                "The store took an object and does not have it.");
    bool is_explained = seen == ERR_EXISTS || seen == ERR_STORAGE || sent == ERR_OK;
    *err = is_explained ? seen_err : sent_err;
    return is_explained ? seen : sent;
}

static enum err_code publish(struct libs3_put *put, char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct libs3_request seen;
    struct err failure;
    int64_t deadline_ns = clock_steady_ns(put->libs3->clock) + put->libs3->deadline_ns;
    enum err_code code = libs3_head(put->libs3, put->key, deadline_ns, &seen, &failure);
    if (code == ERR_OK)
        return err_set_internal(err, ERR_EXISTS, 0, "put", "The storage key is taken.");
    bool may_repeat = code == ERR_NOT_FOUND;
    for (unsigned number = 1; may_repeat; number++) {
        code = send_once(put, deadline_ns, &may_repeat, ret_tag, &failure);
        if (code == ERR_OK)
            return ERR_OK;
        may_repeat = may_repeat && libs3_may_try(put->libs3, number + 1, deadline_ns);
    }
    *err = failure;
    return code;
}

enum err_code libs3_put_commit(void *state, const unsigned char sha256[32],
                               char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct libs3_put *put = state;
    struct libs3_claim claim = {.key = put->key};
    crash_point("put.written");
    enum err_code code = finish_digests(put, sha256, err);
    if (code != ERR_OK)
        return code;
    libs3_claim_take(put->libs3, &claim);
    code = publish(put, ret_tag, err);
    libs3_claim_release(put->libs3, &claim);
    return code;
}

void libs3_put_close(void *state)
{
    struct libs3_put *put = state;
    if (!put)
        return;
    if (put->spool_fd >= 0)
        close(put->spool_fd);
    free(put->gathered);
    digest_close(put->digest);
    free(put);
}

/* A put is one request: it leaves nothing unfinished in the store. */
enum err_code libs3_put_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err)
{
    (void)state;
    (void)before_ms;
    (void)err;
    *ret_purged = 0;
    return ERR_OK;
}
