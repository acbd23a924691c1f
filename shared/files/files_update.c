#include "files/files_update.h"

#include "base/crash.h"
#include "base/text.h"
#include "files/file_json.h"
#include "files/files_open.h"
#include "files/upload_form.h"
#include "http/jsonio.h"

#define ATTEMPTS 10 /* without a precondition, a patch meets the newest version */

static enum err_code patch_name(struct file *file, const cJSON *value, int64_t now_ms,
                                struct err *err)
{
    (void)now_ms;
    if (!cJSON_IsString(value))
        return err_set(err, ERR_BAD_PARAMETER, "originalName", "originalName must be a string.");
    struct str name = str_of(value->valuestring);
    enum err_code code = file_name_check(name, err);
    if (code == ERR_OK && !str_copy(file->name, sizeof file->name, name))
        code = err_set(err, ERR_BAD_NAME, "originalName", "The name is too long.");
    return code;
}

static enum err_code patch_metadata(struct file *file, const cJSON *value, int64_t now_ms,
                                    struct err *err)
{
    (void)now_ms;
    struct buf merged;
    enum err_code code = ERR_OK;
    buf_init(&merged, LIMIT_METADATA_BYTES);
    if (cJSON_IsNull(value))
        buf_append_text(&merged, "{}");
    else
        code = jsonio_merge_metadata(str_of(file->metadata), value, &merged, err);
    if (code == ERR_OK && !str_copy(file->metadata, sizeof file->metadata, buf_str(&merged)))
        code = err_set(err, ERR_BAD_PARAMETER, "metadata", "metadata is larger than %d bytes.",
                       LIMIT_METADATA_BYTES);
    buf_release(&merged);
    return code;
}

static enum err_code patch_visibility(struct file *file, const cJSON *value, int64_t now_ms,
                                      struct err *err)
{
    (void)now_ms;
    struct str text = cJSON_IsString(value) ? str_of(value->valuestring) : STR("");
    return visibility_parse(text, &file->visibility, err);
}

static enum err_code patch_expires(struct file *file, const cJSON *value, int64_t now_ms,
                                   struct err *err)
{
    int64_t expires_ms;
    if (cJSON_IsNull(value)) {
        file->expires_ms = 0;
        return ERR_OK;
    }
    if (!cJSON_IsString(value) || !text_parse_time(str_of(value->valuestring), &expires_ms))
        return err_set(err, ERR_BAD_PARAMETER, "expiresAt",
                       "expiresAt must be an RFC 3339 time or null.");
    if (expires_ms <= now_ms || expires_ms > TEXT_TIME_MAX_MS)
        return err_set(err, ERR_BAD_PARAMETER, "expiresAt",
                       "expiresAt must lie in the future, at the latest in the year 9999.");
    file->expires_ms = expires_ms;
    return ERR_OK;
}

struct member {
    const char *name;
    enum err_code (*patch)(struct file *file, const cJSON *value, int64_t now_ms, struct err *err);
};

static const struct member members[] = {
    {"originalName", patch_name},
    {"metadata", patch_metadata},
    {"visibility", patch_visibility},
    {"expiresAt", patch_expires},
};

static enum err_code apply(struct file *file, const cJSON *patch, int64_t now_ms, struct err *err)
{
    if (!cJSON_IsObject(patch))
        return err_set(err, ERR_BAD_PARAMETER, "patch", "The body must be a JSON object.");
    for (const cJSON *item = patch->child; item; item = item->next) {
        size_t i = 0;
        while (i < sizeof members / sizeof *members && strcmp(members[i].name, item->string) != 0)
            i++;
        enum err_code code = ERR_OK;
        if (i < sizeof members / sizeof *members)
            code = members[i].patch(file, item, now_ms, err);
        else
            code = err_set(err, ERR_BAD_PARAMETER, "patch",
                           "Only originalName, metadata, visibility, expiresAt can be changed.");
        if (code != ERR_OK) {
            err_subject(err, "field", str_of(item->string));
            return code;
        }
    }
    return ERR_OK;
}

static enum err_code check_condition(const struct request *request, const struct file *file,
                                     struct err *err)
{
    char tag[FILE_TAG_SIZE];
    file_version_tag(file, tag);
    const struct validators validators = {str_of(file->sha256), str_of(tag),
                                          file->updated_ms / 1000};
    if (condition_evaluate(request, &validators) == CONDITION_PASS)
        return ERR_OK;
    return err_set(err, ERR_PRECONDITION_FAILED, "condition",
                   "The file is not the version the request names.");
}

struct update {
    const struct files *files;
    const struct update_request *asked;
    const cJSON *patch;
    const char *fingerprint;
};

static enum err_code write_row(const struct update *update, const struct file *file,
                               struct err *err)
{
    struct buf body;
    struct buf etag;
    char tag[FILE_TAG_SIZE];
    buf_init(&body, 32 * 1024);
    buf_init(&etag, FILE_TAG_SIZE + 2);
    file_version_tag(file, tag);
    buf_printf(&etag, "\"%s\"", tag);
    file_json_write(&body, NULL, file);
    struct idempotency_answer stored = {.fingerprint = str_of(update->fingerprint),
                                        .status = 200,
                                        .etag = buf_str(&etag),
                                        .body = buf_str(&body)};
    enum err_code code =
        body.failed || etag.failed
            ? err_set_internal(err, ERR_NO_MEMORY, 0, "update", "cannot write the answer")
            : metadata_file_update(update->files->metadata, file, file->version - 1,
                                   idempotency_answer_of(update->asked->idempotency, &stored), err);
    if (code == ERR_OK)
        update->asked->idempotency->finished = true;
    buf_release(&body);
    buf_release(&etag);
    return code;
}

static enum err_code try_update(const struct update *update, struct file *file, struct err *err)
{
    const struct files *files = update->files;
    enum err_code code = files_open_to_change(files, update->asked->principal,
                                              update->asked->request->id, file, err);
    if (code == ERR_OK)
        code = check_condition(update->asked->request, file, err);
    if (code == ERR_OK && crash_or_fail("step.update"))
        code = err_set_internal(err, ERR_INTERNAL, 0, "update", "a test has it fail");
    if (code == ERR_OK)
        code = apply(file, update->patch, clock_wall_ms(files->clock), err);
    if (code != ERR_OK)
        return code;
    file->version++;
    file->updated_ms = clock_wall_ms(files->clock);
    return write_row(update, file, err);
}

enum err_code files_update(const struct files *files, const struct update_request *asked,
                           struct file *ret_file, bool *ret_replayed, struct err *err)
{
    char fingerprint[65];
    cJSON *patch = NULL;
    struct file file;
    const struct str parts[] = {STR("PATCH"), asked->request->id, asked->json};
    *ret_replayed = false;
    enum err_code code = idempotency_fingerprint(parts, 3, fingerprint, err);
    if (code == ERR_OK && asked->idempotency->replay) {
        code = idempotency_match(asked->idempotency, fingerprint, err);
        *ret_replayed = code == ERR_OK;
        return code;
    }
    if (code == ERR_OK)
        code = jsonio_parse(asked->json, &patch, err);
    const struct update update = {files, asked, patch, fingerprint};
    for (int attempt = 0; code == ERR_OK && attempt < ATTEMPTS; attempt++) {
        code = try_update(&update, &file, err);
        if (code != ERR_CONFLICT)
            break;
        if (attempt + 1 < ATTEMPTS)
            code = ERR_OK;
    }
    if (code == ERR_OK)
        *ret_file = file;
    cJSON_Delete(patch);
    return code;
}
