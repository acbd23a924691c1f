/*
 * Input: a JSON text; or two, of which a NUL stands between: metadata and a patch of it.
 */
#include "base/limits.h"
#include "base/text.h"
#include "fuzz.h"
#include "http/jsonio.h"

static cJSON *parse(struct str text)
{
    cJSON *value = NULL;
    struct err err;
    enum err_code code = jsonio_parse(text, &value, &err);
    MUST(code == ERR_OK || code == ERR_BAD_JSON);
    MUST((code == ERR_OK) == (value != NULL));
    return value;
}

/* What was taken is JSON to the parser underneath too, and means the same when written again. */
static void check_value(const cJSON *value)
{
    char *printed = cJSON_PrintUnformatted(value);
    MUST(printed);
    if (strlen(printed) <= LIMIT_JSON_BODY_BYTES) {
        cJSON *again = parse(str_of(printed));
        MUST(again && cJSON_Compare(value, again, true));
        cJSON_Delete(again);
    }
    free(printed);
}

/* Metadata as it is written; false when the value is none. Written twice, it stays the same. */
static bool write_metadata(const cJSON *value, struct buf *out)
{
    struct err err;
    struct buf again;
    if (jsonio_metadata(value, out, &err) != ERR_OK) {
        MUST(out->len == 0);
        return false;
    }
    MUST(out->len <= LIMIT_METADATA_BYTES);
    cJSON *written = parse(buf_str(out));
    MUST(written);
    buf_init(&again, LIMIT_METADATA_BYTES);
    MUST(jsonio_metadata(written, &again, &err) == ERR_OK);
    MUST(str_equal(buf_str(&again), buf_str(out)));
    cJSON_Delete(written);
    buf_release(&again);
    return true;
}

/* A patch applied twice is a patch applied once, and its names have its values. */
static void check_merge(struct str current, const cJSON *patch)
{
    struct buf once;
    struct buf twice;
    struct err err;
    buf_init(&once, LIMIT_METADATA_BYTES);
    buf_init(&twice, LIMIT_METADATA_BYTES);
    enum err_code code = jsonio_merge_metadata(current, patch, &once, &err);
    MUST(code == ERR_OK || code == ERR_BAD_PARAMETER);
    if (code == ERR_OK) {
        MUST(jsonio_merge_metadata(buf_str(&once), patch, &twice, &err) == ERR_OK);
        MUST(str_equal(buf_str(&once), buf_str(&twice)));
        cJSON *merged = parse(buf_str(&once));
        for (const cJSON *item = patch->child; item; item = item->next) {
            const cJSON *member = cJSON_GetObjectItemCaseSensitive(merged, item->string);
            MUST(cJSON_IsNull(item) ? !member
                                    : member && !strcmp(member->valuestring, item->valuestring));
        }
        cJSON_Delete(merged);
    }
    buf_release(&once);
    buf_release(&twice);
}

/* Any bytes are written as a JSON string; valid text comes back as it was. */
static void check_writer(struct str bytes)
{
    struct buf out;
    buf_init(&out, 8 * LIMIT_JSON_BODY_BYTES);
    jsonw_string(&out, NULL, bytes);
    if (!out.failed && out.len <= LIMIT_JSON_BODY_BYTES && str_find(bytes, '\0') == bytes.len) {
        cJSON *value = parse(buf_str(&out));
        MUST(cJSON_IsString(value));
        if (text_is_utf8(bytes))
            MUST(str_equal(str_of(value->valuestring), bytes));
        cJSON_Delete(value);
    }
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct str rest = {(const char *)bytes, size};
    const struct str first_text = str_cut(&rest, '\0');
    cJSON *first = parse(first_text);
    cJSON *second = parse(rest);
    struct buf metadata;
    buf_init(&metadata, LIMIT_METADATA_BYTES);
    check_writer((struct str){(const char *)bytes, size});
    check_writer(rest);
    if (first) {
        check_value(first);
        if (write_metadata(first, &metadata) && second)
            check_merge(buf_str(&metadata), second);
    }
    cJSON_Delete(first);
    cJSON_Delete(second);
    buf_release(&metadata);
    return 0;
}
