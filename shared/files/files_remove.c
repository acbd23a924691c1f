#include "files/files_remove.h"

#include <stdlib.h>

#include "base/crash.h"
#include "files/file_json.h"
#include "files/files_open.h"
#include "http/jsonio.h"

enum err_code files_remove_marked(const struct files *files, const char *id, const char *key,
                                  struct err *err)
{
    enum err_code code = storage_remove(files->storage, key, err);
    if (code != ERR_OK && code != ERR_NOT_FOUND)
        return code;
    code = metadata_file_remove(files->metadata, id, err);
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}

/* After the commit the answer is "deleted", whatever becomes of the bytes now. A store that may let
 * us wait is left to the sweep. */
static void remove_bytes(const struct files *files, const char *id, const char *key)
{
    struct err ignored;
    if (files->bytes_left && (storage_capabilities(files->storage) & STORAGE_WAITS)) {
        files->bytes_left(files->context);
        return;
    }
    enum err_code code = files_remove_marked(files, id, key, &ignored);
    (void)code;
}

static enum err_code check_condition(const struct request *request, const struct file *file,
                                     int64_t *ret_expected_version, struct err *err)
{
    struct str unused;
    char tag[FILE_TAG_SIZE];
    file_version_tag(file, tag);
    const struct validators validators = {str_of(file->sha256), str_of(tag),
                                          file->updated_ms / 1000};
    bool conditional = request_header(request, "IF_MATCH", &unused) ||
                       request_header(request, "IF_UNMODIFIED_SINCE", &unused);
    *ret_expected_version = conditional ? file->version : 0;
    if (condition_evaluate(request, &validators) == CONDITION_PASS)
        return ERR_OK;
    return err_set(err, ERR_PRECONDITION_FAILED, "condition",
                   "The file is not the version the request names.");
}

static enum err_code mark(const struct files *files, const struct file *file,
                          int64_t expected_version, struct err *err)
{
    const char *id = file->id;
    enum err_code result = ERR_OK;
    const struct file_marking marking = {.ids = &id,
                                         .expected_versions = &expected_version,
                                         .count = 1,
                                         .owner = str_of(file->owner),
                                         .now_ms = clock_wall_ms(files->clock),
                                         .results = &result};
    if (crash_or_fail("step.delete"))
        return err_set_internal(err, ERR_INTERNAL, 0, "delete", "a test has it fail");
    enum err_code code = metadata_file_mark_deleted(files->metadata, &marking, err);
    if (code != ERR_OK)
        return code;
    if (result == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "delete", "There is no such file.");
    if (result != ERR_OK)
        return err_set(err, ERR_PRECONDITION_FAILED, "delete",
                       "The file was changed by another request.");
    metrics_add(files->metrics, METRIC_FILES_DELETED, NULL, 1);
    return ERR_OK;
}

enum err_code files_remove(const struct files *files, const struct principal *principal,
                           const struct request *request, char ret_id[ID_SIZE], struct err *err)
{
    struct file file;
    int64_t expected_version = 0;
    enum err_code code = files_open_to_change(files, principal, request->id, &file, err);
    if (code == ERR_OK)
        code = check_condition(request, &file, &expected_version, err);
    if (code == ERR_OK)
        code = mark(files, &file, expected_version, err);
    if (code != ERR_OK)
        return code;
    remove_bytes(files, file.id, file.key);
    crash_point("delete.before_reply");
    memcpy(ret_id, file.id, ID_SIZE);
    return ERR_OK;
}

struct batch_item {
    const char *text; /* as sent, borrowed from a JSON tree */
    char id[ID_SIZE];
    char key[LIMIT_KEY_BYTES + 1];
    bool marks; /* its row is to be marked; `id` and `key` are set */
    enum err_code result;
};

struct batch {
    const struct files *files;
    struct batch_item *items;
    size_t count;
    const char *fingerprint;
    struct idempotency *idempotency;
    struct str plan; /* the answer of a request that was interrupted; else empty */
    struct buf *out;
};

static enum err_code refuse_batch(struct err *err)
{
    err_set(err, ERR_BAD_PARAMETER, "ids", "The body must be {\"ids\": […]} with 1 to %d ids.",
            LIMIT_BATCH_IDS);
    err_subject(err, "field", STR("ids"));
    return ERR_BAD_PARAMETER;
}

static enum err_code parse_batch(const cJSON *body, struct batch *batch, struct err *err)
{
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(body, "ids");
    int count = cJSON_GetArraySize(ids);
    if (!cJSON_IsObject(body) || cJSON_GetArraySize(body) != 1 || !cJSON_IsArray(ids) ||
        count < 1 || count > LIMIT_BATCH_IDS)
        return refuse_batch(err);
    batch->items = calloc((size_t)count, sizeof *batch->items);
    if (!batch->items)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "batch", "out of memory");
    const cJSON *item;
    cJSON_ArrayForEach(item, ids)
    {
        if (!cJSON_IsString(item))
            return refuse_batch(err);
        batch->items[batch->count++].text = item->valuestring;
    }
    return ERR_OK;
}

static void note_row(struct batch_item *item, const struct file *file)
{
    memcpy(item->id, file->id, sizeof item->id);
    memcpy(item->key, file->key, sizeof item->key);
    item->marks = true;
}

/* Looks each row up first: its key is needed to remove the bytes afterwards. */
static enum err_code look_up(const struct batch *batch, const struct principal *principal,
                             struct err *err)
{
    struct file file;
    for (size_t i = 0; i < batch->count; i++) {
        struct batch_item *item = &batch->items[i];
        item->result =
            files_open_to_change(batch->files, principal, str_of(item->text), &file, err);
        bool judged =
            item->result == ERR_OK || item->result == ERR_NOT_FOUND || item->result == ERR_BAD_ID;
        if (!judged)
            return item->result;
        if (item->result == ERR_OK)
            note_row(item, &file);
    }
    return ERR_OK;
}

/* What the interrupted request meant to delete, and may have deleted. Only its rows that are still
 * there are marked; the answer stays as it was planned. */
static enum err_code look_up_plan(const struct batch *batch, struct err *err)
{
    struct file file;
    const struct files *files = batch->files;
    for (size_t i = 0; i < batch->count; i++) {
        struct batch_item *item = &batch->items[i];
        if (item->result != ERR_OK)
            continue;
        enum err_code code =
            metadata_file_get(files->metadata, item->text, clock_wall_ms(files->clock), &file, err);
        if (code == ERR_OK)
            note_row(item, &file);
        else if (code != ERR_NOT_FOUND)
            return code;
    }
    return ERR_OK;
}

static void write_results(const struct batch *batch, struct buf *out)
{
    jsonw_begin_object(out, NULL);
    jsonw_begin_array(out, "results");
    for (size_t i = 0; i < batch->count; i++) {
        const struct batch_item *item = &batch->items[i];
        jsonw_begin_object(out, NULL);
        jsonw_string(out, "id", str_of(item->text));
        jsonw_bool(out, "deleted", item->result == ERR_OK);
        if (item->result != ERR_OK)
            jsonw_string(out, "error", str_of(err_info(item->result)->code));
        jsonw_end_object(out);
    }
    jsonw_end_array(out);
    jsonw_end_object(out);
}

/* The answer that these results of the rows to be marked give. */
static enum err_code make_answer(void *context, const enum err_code *results,
                                 struct idempotency_answer *ret_answer, struct err *err)
{
    struct batch *batch = context;
    for (size_t i = 0, at = 0; i < batch->count; i++)
        if (batch->items[i].marks)
            batch->items[i].result = results[at++];
    buf_reset(batch->out);
    if (batch->plan.len > 0)
        buf_append_str(batch->out, batch->plan);
    else
        write_results(batch, batch->out);
    if (batch->out->failed)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "batch", "cannot write the answer");
    *ret_answer = (struct idempotency_answer){
        .fingerprint = str_of(batch->fingerprint), .status = 200, .body = buf_str(batch->out)};
    idempotency_answer_of(batch->idempotency, ret_answer);
    return ERR_OK;
}

static size_t list_marks(const struct batch *batch, const char *ids[LIMIT_BATCH_IDS])
{
    size_t count = 0;
    for (size_t i = 0; i < batch->count; i++)
        if (batch->items[i].marks)
            ids[count++] = batch->items[i].id;
    return count;
}

/* Marks the rows, and stores the answer with them. */
static enum err_code mark_found(struct batch *batch, struct err *err)
{
    const struct files *files = batch->files;
    const char *ids[LIMIT_BATCH_IDS];
    enum err_code results[LIMIT_BATCH_IDS];
    struct idempotency_answer answer;
    bool is_kept = batch->idempotency->active;
    int64_t now_ms = clock_wall_ms(files->clock);
    const struct file_marking marking = {.ids = ids,
                                         .count = list_marks(batch, ids),
                                         .now_ms = now_ms,
                                         .results = results,
                                         .answer = is_kept ? make_answer : NULL,
                                         .context = batch};
    enum err_code code = ERR_OK;
    if (marking.count > 0)
        code = metadata_file_mark_deleted(files->metadata, &marking, err);
    if (code == ERR_OK)
        code = make_answer(batch, results, &answer, err);
    if (code == ERR_OK && marking.count == 0 && is_kept)
        code = metadata_idempotency_finish(files->metadata, &answer, now_ms, err);
    if (code == ERR_OK)
        batch->idempotency->finished = is_kept;
    return code;
}

static void remove_marked_bytes(const struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct batch_item *item = &batch->items[i];
        if (!item->marks || item->result != ERR_OK)
            continue;
        metrics_add(batch->files->metrics, METRIC_FILES_DELETED, NULL, 1);
        remove_bytes(batch->files, item->id, item->key);
    }
}

static enum err_code run_batch(struct batch *batch, const struct principal *principal,
                               const cJSON *body, struct err *err)
{
    enum err_code code = parse_batch(body, batch, err);
    if (code == ERR_OK)
        code = look_up(batch, principal, err);
    if (code == ERR_OK)
        code = mark_found(batch, err);
    if (code == ERR_OK)
        remove_marked_bytes(batch);
    return code;
}

static enum err_code parse_plan(const cJSON *plan, struct batch *batch, struct err *err)
{
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(plan, "results");
    int count = cJSON_GetArraySize(results);
    if (count < 1 || count > LIMIT_BATCH_IDS)
        return err_set_internal(err, ERR_INTERNAL, 0, "batch", "a plan without results");
    batch->items = calloc((size_t)count, sizeof *batch->items);
    if (!batch->items)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "batch", "out of memory");
    const cJSON *item;
    cJSON_ArrayForEach(item, results)
    {
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(item, "id");
        bool deletes = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(item, "deleted"));
        batch->items[batch->count++] = (struct batch_item){
            .text = cJSON_GetStringValue(id), .result = deletes ? ERR_OK : ERR_NOT_FOUND};
        if (!cJSON_IsString(id))
            return err_set_internal(err, ERR_INTERNAL, 0, "batch", "a plan without ids");
    }
    return ERR_OK;
}

/* The key's first request was interrupted while it marked row after row. Its plan is carried out. */
static enum err_code resume_batch(struct batch *batch, struct err *err)
{
    enum err_code code = idempotency_match(batch->idempotency, batch->fingerprint, err);
    if (code != ERR_OK)
        return code;
    batch->plan = buf_str(&batch->idempotency->record.body);
    /* We wrote it: jsonio_parse's limits are for what clients send. */
    cJSON *plan = cJSON_ParseWithLength(batch->plan.data, batch->plan.len);
    code = parse_plan(plan, batch, err);
    if (code == ERR_OK)
        code = look_up_plan(batch, err);
    if (code == ERR_OK)
        code = mark_found(batch, err);
    if (code == ERR_OK)
        remove_marked_bytes(batch);
    cJSON_Delete(plan);
    return code;
}

enum err_code files_remove_batch(const struct files *files, const struct batch_request *asked,
                                 struct buf *out, bool *ret_replayed, struct err *err)
{
    char fingerprint[65];
    cJSON *body = NULL;
    struct idempotency *idempotency = asked->idempotency;
    const struct str parts[] = {STR("POST"), STR("delete"), asked->json};
    *ret_replayed = false;
    enum err_code code = principal_require(asked->principal, SCOPE_WRITE, err);
    if (code == ERR_OK)
        code = idempotency_fingerprint(parts, 3, fingerprint, err);
    if (code == ERR_OK && idempotency->replay) {
        code = idempotency_match(idempotency, fingerprint, err);
        *ret_replayed = code == ERR_OK;
        return code;
    }
    struct batch batch = {
        .files = files, .fingerprint = fingerprint, .idempotency = idempotency, .out = out};
    if (code == ERR_OK && idempotency_has_plan(idempotency)) {
        code = resume_batch(&batch, err);
    } else {
        if (code == ERR_OK)
            code = jsonio_parse(asked->json, &body, err);
        if (code == ERR_OK)
            code = run_batch(&batch, asked->principal, body, err);
    }
    free(batch.items);
    cJSON_Delete(body);
    return code;
}
