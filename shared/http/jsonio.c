#include "http/jsonio.h"

#include <math.h>

#include "base/limits.h"
#include "http/jsonio_scan.h"

/* No patch that moves metadata within its limit has more: a name takes three bytes at least. */
#define PATCH_MEMBERS_MAX (LIMIT_METADATA_BYTES / 3)

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, because a comparison of all with all would be a weapon. */
static enum err_code check_names(const cJSON *object, struct err *err)
{
    size_t count = 0;
    for (const cJSON *item = object->child; item; item = item->next)
        count++;
    if (count < 2)
        return ERR_OK;
    const char **names = calloc(count, sizeof *names);
    if (!names)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "json", "cannot hold %zu names", count);
    size_t i = 0;
    for (const cJSON *item = object->child; item; item = item->next)
        names[i++] = item->string;
    qsort(names, count, sizeof *names, compare_names);
    bool is_doubled = false;
    for (i = 1; i < count; i++)
        is_doubled = is_doubled || strcmp(names[i - 1], names[i]) == 0;
    free(names);
    if (is_doubled)
        return err_set(err, ERR_BAD_JSON, "json", "An object in the JSON text repeats a name.");
    return ERR_OK;
}

/* Recursion ends at LIMIT_JSON_DEPTH: the text was scanned. */
static enum err_code check_tree(const cJSON *value, struct err *err)
{
    enum err_code code = ERR_OK;
    if (cJSON_IsNumber(value) && !isfinite(value->valuedouble))
        return err_set(err, ERR_BAD_JSON, "json", "A number in the JSON text is too large.");
    if (cJSON_IsObject(value))
        code = check_names(value, err);
    for (const cJSON *item = value->child; item && code == ERR_OK; item = item->next)
        code = check_tree(item, err);
    return code;
}

enum err_code jsonio_parse(struct str text, cJSON **ret_value, struct err *err)
{
    if (text.len > LIMIT_JSON_BODY_BYTES)
        return err_set(err, ERR_BAD_JSON, "json", "The JSON text is longer than %d bytes.",
                       LIMIT_JSON_BODY_BYTES);
    const char *problem = jsonio_scan(text);
    if (problem)
        return err_set(err, ERR_BAD_JSON, "json", "%s", problem);
    cJSON *value = cJSON_ParseWithLength(text.data, text.len);
    if (!value)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "json", "cannot parse %zu bytes", text.len);
    enum err_code code = check_tree(value, err);
    if (code != ERR_OK) {
        cJSON_Delete(value);
        return code;
    }
    *ret_value = value;
    return ERR_OK;
}

static enum err_code refuse_metadata(struct err *err)
{
    return err_set(err, ERR_BAD_PARAMETER, "metadata", "metadata must be an object of strings.");
}

static enum err_code write_metadata(const cJSON *object, struct buf *out, struct err *err)
{
    struct buf text;
    enum err_code code = ERR_OK;
    buf_init(&text, LIMIT_METADATA_BYTES);
    jsonw_begin_object(&text, NULL);
    for (const cJSON *item = object->child; item; item = item->next)
        jsonw_string(&text, item->string, str_of(item->valuestring));
    jsonw_end_object(&text);
    if (text.failed)
        code = err_set(err, ERR_BAD_PARAMETER, "metadata", "metadata is larger than %d bytes.",
                       LIMIT_METADATA_BYTES);
    else
        buf_append_str(out, buf_str(&text));
    if (code == ERR_OK && out->failed)
        code = err_set_internal(err, ERR_NO_MEMORY, 0, "metadata", "cannot hold the metadata");
    buf_release(&text);
    return code;
}

enum err_code jsonio_metadata(const cJSON *object, struct buf *out, struct err *err)
{
    if (!cJSON_IsObject(object))
        return refuse_metadata(err);
    for (const cJSON *item = object->child; item; item = item->next)
        if (!cJSON_IsString(item))
            return refuse_metadata(err);
    return write_metadata(object, out, err);
}

static bool merge_member(cJSON *target, const cJSON *item)
{
    if (cJSON_IsNull(item)) {
        cJSON_DeleteItemFromObjectCaseSensitive(target, item->string);
        return true;
    }
    cJSON *copy = cJSON_Duplicate(item, true);
    if (!copy)
        return false;
    bool added = cJSON_GetObjectItemCaseSensitive(target, item->string)
                     ? cJSON_ReplaceItemInObjectCaseSensitive(target, item->string, copy)
                     : cJSON_AddItemToObject(target, item->string, copy);
    if (!added)
        cJSON_Delete(copy);
    return added;
}

enum err_code jsonio_merge_metadata(struct str current, const cJSON *patch, struct buf *out,
                                    struct err *err)
{
    cJSON *target = NULL;
    size_t count = 0;
    if (!cJSON_IsObject(patch))
        return refuse_metadata(err);
    for (const cJSON *item = patch->child; item; item = item->next)
        if (++count > PATCH_MEMBERS_MAX || (!cJSON_IsString(item) && !cJSON_IsNull(item)))
            return refuse_metadata(err);
    enum err_code code = jsonio_parse(current, &target, err);
    if (code != ERR_OK)
        return err_set_internal(err, ERR_INTERNAL, 0, "metadata", "stored metadata is not JSON");
    for (const cJSON *item = patch->child; item && code == ERR_OK; item = item->next)
        if (!merge_member(target, item))
            code = err_set_internal(err, ERR_NO_MEMORY, 0, "metadata", "cannot merge");
    if (code == ERR_OK)
        code = jsonio_metadata(target, out, err);
    cJSON_Delete(target);
    return code;
}
