/* Reading: a small object comes whole while it is opened, a larger one piece by piece. */
#include <stdlib.h>

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
