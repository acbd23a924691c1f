/* The store's mark: one small object of a name that is no key, so no listing of ours shows it. */
#include "storage/libs3/storage_libs3.h"

static void start_head(struct libs3_request *request, S3RequestContext *context)
{
    request->libs3->library->head_object(&request->libs3->target, STORAGE_MARK, context,
                                         &libs3_response_handler, request);
}

/* ERR_NOT_FOUND only where the bucket is there. */
static enum err_code look(struct storage_libs3 *libs3, int64_t *ret_length, struct err *err)
{
    struct libs3_request request = {
        .libs3 = libs3, .operation = "look at mark", .start = start_head};
    enum err_code code = libs3_run(&request, err);
    if (code == ERR_NOT_FOUND) {
        code = libs3_ask_for_bucket(libs3, NULL, err);
        if (code == ERR_OK)
            code = err_set_internal(err, ERR_NOT_FOUND, 0, "look at mark", "There is no mark.");
    }
    *ret_length = request.length;
    return code;
}

static void start_get(struct libs3_request *request, S3RequestContext *context)
{
    S3GetObjectHandler handler = {libs3_response_handler, libs3_receive};
    S3GetConditions conditions = {-1, -1, NULL, NULL};
    request->libs3->library->get_object(&request->libs3->target, STORAGE_MARK, &conditions, 0, 0,
                                        context, &handler, request);
}

static enum err_code no_mark_of_ours(struct err *err)
{
    return err_set_internal(err, ERR_CONFIG, 0, "read mark",
                            "The object " STORAGE_MARK " is not one of coffer.");
}

enum err_code libs3_read_mark(void *state, char ret_text[STORAGE_MARK_SIZE], struct err *err)
{
    char text[STORAGE_MARK_SIZE] = "";
    int64_t length = 0;
    enum err_code code = look(state, &length, err);
    if (code == ERR_OK && (length <= 0 || length > LIMIT_MARK_BYTES))
        code = no_mark_of_ours(err);
    if (code != ERR_OK)
        return code;
    struct libs3_request request = {.libs3 = state,
                                    .operation = "read mark",
                                    .start = start_get,
                                    .body = length,
                                    .target = text};
    code = libs3_run(&request, err);
    if (code != ERR_OK)
        return code;
    return str_copy(ret_text, STORAGE_MARK_SIZE, (struct str){text, (size_t)length})
               ? ERR_OK
               : no_mark_of_ours(err);
}

static int give_bytes(int size, char *target, void *callback_data)
{
    struct libs3_request *request = callback_data;
    const char *text = request->detail;
    int64_t left = request->body - request->sent;
    int len = left < size ? (int)left : size;
    if (len > 0)
        memcpy(target, text + request->sent, (size_t)len);
    request->sent += len;
    request->moved_ns = clock_steady_ns(request->libs3->clock);
    return len;
}

static void start_put(struct libs3_request *request, S3RequestContext *context)
{
    const S3PutProperties properties = {
        .contentType = "text/plain", .expires = -1, .cannedAcl = S3CannedAclPrivate};
    const S3PutObjectHandler handler = {libs3_response_handler, give_bytes};
    request->libs3->library->put_object(&request->libs3->target, STORAGE_MARK,
                                        (uint64_t)request->body, &properties, context, &handler,
                                        request);
}

/* libs3 may lose the status of a PUT, so what stands there afterwards decides. */
static enum err_code send(struct storage_libs3 *libs3, const char *text, struct err *err)
{
    char text_of_request[STORAGE_MARK_SIZE];
    char there[STORAGE_MARK_SIZE] = "";
    struct err unseen;
    struct libs3_request request = {.libs3 = libs3,
                                    .operation = "write mark",
                                    .start = start_put,
                                    .detail = text_of_request,
                                    .body = (int64_t)strlen(text)};
    if (!str_copy(text_of_request, sizeof text_of_request, str_of(text)))
        return err_set_internal(err, ERR_INTERNAL, 0, "write mark", "The mark is too long.");
    enum err_code code = libs3_run(&request, err);
    if (libs3_read_mark(libs3, there, &unseen) == ERR_OK && strcmp(there, text) == 0)
        return ERR_OK;
    return code == ERR_OK ? err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "write mark",
                                             "The store took the mark and does not have it.")
                          : code;
}

enum err_code libs3_write_mark(void *state, const char *text, bool replace, struct err *err)
{
    int64_t length = 0;
    enum err_code code = replace ? ERR_NOT_FOUND : look(state, &length, err);
    if (code == ERR_OK)
        return err_set_internal(err, ERR_EXISTS, 0, "write mark", "There is a mark already.");
    return code == ERR_NOT_FOUND ? send(state, text, err) : code;
}
