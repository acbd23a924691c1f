/* The store's mark: one small object of a name that is no key, so no listing of ours shows it. */
#include "storage/s3/storage_s3.h"

/* A store may say 404 for a missing bucket without naming it. */
static enum err_code tell_missing(struct storage_s3 *s3, struct err *err)
{
    enum err_code code = s3_head_bucket(s3, "read mark", err);
    return code == ERR_OK
               ? err_set_internal(err, ERR_NOT_FOUND, 0, "read mark", "There is no mark.")
               : code;
}

enum err_code s3_read_mark(void *state, char ret_text[STORAGE_MARK_SIZE], struct err *err)
{
    const struct s3_call call = {.operation = "read mark", .method = "GET", .key = STORAGE_MARK};
    struct http_reply reply;
    http_reply_init(&reply);
    enum err_code code = s3_run(state, &call, &reply, err);
    if (code == ERR_NOT_FOUND)
        code = tell_missing(state, err);
    else if (code == ERR_OK && !str_copy(ret_text, STORAGE_MARK_SIZE, buf_str(&reply.body)))
        code = err_set_internal(err, ERR_CONFIG, 0, call.operation,
                                "The object " STORAGE_MARK " is not one of coffer.");
    http_reply_release(&reply);
    return code;
}

static enum err_code taken(struct err *err)
{
    return err_set_internal(err, ERR_EXISTS, 0, "write mark", "There is a mark already.");
}

/* Sends it; any status is ERR_OK. */
static enum err_code send_mark(struct storage_s3 *s3, const char *text, bool is_conditional,
                               int *ret_status, struct err *err)
{
    struct s3_call call = {
        .operation = "write mark", .method = "PUT", .key = STORAGE_MARK, .body = str_of(text)};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_header(&call, "content-type", "text/plain");
    if (is_conditional)
        s3_call_header(&call, "if-none-match", "*");
    enum err_code code = s3_send(s3, &call, &reply, err);
    if (code == ERR_OK) {
        *ret_status = reply.status;
        code = s3_check(&call, &reply, err);
    }
    http_reply_release(&reply);
    return code;
}

enum err_code s3_write_mark(void *state, const char *text, bool replace, struct err *err)
{
    char there[STORAGE_MARK_SIZE];
    int status = 0;
    enum err_code code = ERR_NOT_FOUND;
    if (!replace && !(atomic_load(&((struct storage_s3 *)state)->refused) & S3_CONDITION)) {
        code = send_mark(state, text, true, &status, err);
        if (status == 412 || status == 409)
            return taken(err);
        if (status != 400 && status != 501)
            return code;
    }
    /* The store knows no condition: a look goes before the write. */
    if (!replace) {
        code = s3_read_mark(state, there, err);
        if (code == ERR_OK)
            return taken(err);
        if (code != ERR_NOT_FOUND)
            return code;
    }
    return send_mark(state, text, false, &status, err);
}
