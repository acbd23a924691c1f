/* What is done to whole objects. */
#include "storage/libs3/storage_libs3.h"

enum err_code libs3_copy_key(char target[LIMIT_KEY_BYTES + 1], const char *key, struct err *err)
{
    enum err_code code = storage_check_key(key, err);
    if (code == ERR_OK && !str_copy(target, LIMIT_KEY_BYTES + 1, str_of(key)))
        code = err_set_internal(err, ERR_INTERNAL, 0, "check key", "The key is too long.");
    return code;
}

static void start_head(struct libs3_request *request, S3RequestContext *context)
{
    request->libs3->library->head_object(&request->libs3->target, request->detail, context,
                                         &libs3_response_handler, request);
}

enum err_code libs3_head(struct storage_libs3 *libs3, const char *key, int64_t deadline_ns,
                         struct libs3_request *ret_seen, struct err *err)
{
    char name[LIMIT_KEY_BYTES + 1];
    enum err_code code = libs3_copy_key(name, key, err);
    if (code != ERR_OK)
        return code;
    *ret_seen = (struct libs3_request){.libs3 = libs3,
                                       .operation = "look at object",
                                       .start = start_head,
                                       .detail = name,
                                       .deadline_ns = deadline_ns};
    code = libs3_run(ret_seen, err);
    ret_seen->detail = NULL;
    return code;
}

enum err_code libs3_look(struct storage_libs3 *libs3, const char *key,
                         struct libs3_request *ret_seen, struct err *err)
{
    struct err unsure;
    enum err_code code = libs3_head(libs3, key, 0, ret_seen, &unsure);
    if (code == ERR_NOT_FOUND) { /* an answer to HEAD does not say what is missing */
        code = libs3_ask_for_bucket(libs3, NULL, err);
        if (code != ERR_OK)
            return code;
        code = ERR_NOT_FOUND;
    }
    if (code != ERR_OK) {
        *err = unsure;
        return code;
    }
    if (!ret_seen->tag[0])
        return err_set_internal(err, ERR_STORAGE, 0, "look at object",
                                "The store's answer has no ETag that libs3 can read.");
    return ERR_OK;
}

enum err_code libs3_check_wanted(const struct libs3_request *seen,
                                 const struct storage_wanted *wanted, struct err *err)
{
    if (wanted->size >= 0 && seen->length != wanted->size)
        return err_set_internal(err, ERR_STORAGE, 0, seen->operation,
                                "The object has another size than it was stored with.");
    if (!seen->tag[0] || (wanted->tag && *wanted->tag && strcmp(seen->tag, wanted->tag) != 0))
        return err_set_internal(err, ERR_STORAGE, 0, seen->operation,
                                "The object has another tag than it was stored with.");
    return ERR_OK;
}

enum err_code libs3_stat(void *state, const char *key, struct storage_stat *ret_stat,
                         struct err *err)
{
    struct libs3_request seen;
    enum err_code code = libs3_look(state, key, &seen, err);
    if (code != ERR_OK)
        return code;
    ret_stat->size = seen.length;
    ret_stat->modified_ms = seen.modified_s * 1000;
    memcpy(ret_stat->tag, seen.tag, sizeof ret_stat->tag);
    return ERR_OK;
}

static void start_delete(struct libs3_request *request, S3RequestContext *context)
{
    request->libs3->library->delete_object(&request->libs3->target, request->detail, context,
                                           &libs3_response_handler, request);
}

enum err_code libs3_remove(void *state, const char *key, struct err *err)
{
    char name[LIMIT_KEY_BYTES + 1];
    struct libs3_request request = {
        .libs3 = state, .operation = "remove", .start = start_delete, .detail = name};
    enum err_code code = libs3_copy_key(name, key, err);
    return code == ERR_OK ? libs3_run(&request, err) : code;
}

/* No claims: the question keeps the key from being recorded afterwards. */
enum err_code libs3_remove_orphan(void *state, const char *key,
                                  const struct orphan_question *question, bool *ret_removed,
                                  struct err *err)
{
    bool is_known = false;
    enum err_code code = question->is_known(question->context, key, &is_known, err);
    if (code == ERR_OK && !is_known)
        code = libs3_remove(state, key, err);
    if (code == ERR_OK)
        *ret_removed = !is_known;
    return code;
}

/* ---- copying ---- */

#define COPIED_TAG_SIZE 256 /* libs3 writes no bound of ours, but its own of this many bytes */

struct copying {
    const char *from;
    const char *to;
    char tag[COPIED_TAG_SIZE];
    int64_t modified_s;
};

static void start_copy(struct libs3_request *request, S3RequestContext *context)
{
    struct copying *copying = request->detail;
    copying->tag[0] = '\0';
    request->libs3->library->copy_object(&request->libs3->target, copying->from, NULL, copying->to,
                                         NULL, &copying->modified_s, COPIED_TAG_SIZE, copying->tag,
                                         context, &libs3_response_handler, request);
}

/* The copy must be of the object that was meant: libs3 can't make that a condition. A copy with the
 * same tag is; else the original must still have its own. */
static enum err_code check_copy(struct storage_libs3 *libs3, const struct storage_wanted *from,
                                const char *to, char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct libs3_request copy;
    struct libs3_request original;
    const struct storage_wanted copied = {.key = to, .size = from->size};
    enum err_code code = libs3_look(libs3, to, &copy, err);
    if (code == ERR_OK)
        code = libs3_check_wanted(&copy, &copied, err);
    if (code == ERR_OK && strcmp(copy.tag, from->tag) != 0) {
        code = libs3_look(libs3, from->key, &original, err);
        if (code == ERR_OK)
            code = libs3_check_wanted(&original, from, err);
    }
    if (code == ERR_OK)
        memcpy(ret_tag, copy.tag, STORAGE_TAG_SIZE);
    return code;
}

/* The object to copy is there as it must be, and nothing stands where the copy goes. */
static enum err_code check_before_copy(struct storage_libs3 *libs3,
                                       const struct storage_wanted *wanted, const char *to,
                                       struct libs3_request *ret_seen, struct err *err)
{
    struct libs3_request taken;
    struct err expected;
    enum err_code code = libs3_look(libs3, wanted->key, ret_seen, err);
    if (code == ERR_OK)
        code = libs3_check_wanted(ret_seen, wanted, err);
    if (code != ERR_OK)
        return code;
    code = libs3_head(libs3, to, 0, &taken, &expected);
    if (code == ERR_NOT_FOUND)
        return ERR_OK;
    if (code == ERR_OK)
        return err_set_internal(err, ERR_EXISTS, 0, "copy", "The storage key is taken.");
    *err = expected;
    return code;
}

static enum err_code copy_claimed(struct storage_libs3 *libs3, const struct storage_wanted *wanted,
                                  const char *to, char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct libs3_request seen;
    struct err ignored;
    struct copying copying = {.from = wanted->key, .to = to};
    struct libs3_request request = {
        .libs3 = libs3, .operation = "copy", .start = start_copy, .detail = &copying};
    enum err_code code = check_before_copy(libs3, wanted, to, &seen, err);
    if (code == ERR_OK)
        code = libs3_run(&request, err);
    if (code != ERR_OK)
        return code;
    const struct storage_wanted from = {.key = wanted->key, .size = seen.length, .tag = seen.tag};
    code = check_copy(libs3, &from, to, ret_tag, err);
    if (code != ERR_OK)
        (void)!libs3_remove(libs3, to, &ignored); /* what stays is the sweep's */
    return code;
}

enum err_code libs3_copy(void *state, const struct storage_wanted *from, const char *to,
                         char ret_tag[STORAGE_TAG_SIZE], struct err *err)
{
    struct libs3_claim claim = {.key = to};
    libs3_claim_take(state, &claim);
    enum err_code code = copy_claimed(state, from, to, ret_tag, err);
    libs3_claim_release(state, &claim);
    return code;
}
