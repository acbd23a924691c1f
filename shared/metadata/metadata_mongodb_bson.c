#include <stddef.h>
#include <string.h>

#include "metadata/metadata_mongodb.h"

void mongodb_put_text(bson_t *document, const char *name, const char *text)
{
    mongodb_put_str(document, name, str_of(text));
}

void mongodb_put_str(bson_t *document, const char *name, struct str text)
{
    bson_append_utf8(document, name, -1, text.data ? text.data : "", (int)text.len);
}

void mongodb_put_number(bson_t *document, const char *name, int64_t value)
{
    bson_append_int64(document, name, -1, value);
}

void mongodb_put_compared(bson_t *document, const char *name, const char *operator_name,
                          int64_t value)
{
    bson_t inner;
    bson_append_document_begin(document, name, -1, &inner);
    mongodb_put_number(&inner, operator_name, value);
    bson_append_document_end(document, &inner);
}

void mongodb_put_any_of(bson_t *document, const char *name, const char *const *values, size_t count)
{
    bson_t inner;
    bson_t list;
    char buffer[16];
    bson_append_document_begin(document, name, -1, &inner);
    bson_append_array_begin(&inner, "$in", -1, &list);
    for (size_t i = 0; i < count; i++) {
        const char *index = NULL;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof buffer);
        mongodb_put_text(&list, index, values[i]);
    }
    bson_append_array_end(&inner, &list);
    bson_append_document_end(document, &inner);
}

void mongodb_put_each(bson_t *document, const char *name, const char *const *members, size_t count,
                      int value)
{
    bson_t inner;
    bson_append_document_begin(document, name, -1, &inner);
    for (size_t i = 0; i < count; i++)
        bson_append_int32(&inner, members[i], -1, value);
    bson_append_document_end(document, &inner);
}

void mongodb_put_one(bson_t *document, const char *name, const char *member)
{
    mongodb_put_each(document, name, &member, 1, 1);
}

bool mongodb_has(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name);
}

struct str mongodb_read_str(const bson_t *document, const char *name)
{
    bson_iter_t at;
    uint32_t len = 0;
    if (!bson_iter_init_find(&at, document, name) || !BSON_ITER_HOLDS_UTF8(&at))
        return (struct str){"", 0};
    const char *text = bson_iter_utf8(&at, &len);
    return (struct str){text, len};
}

bool mongodb_read_text(const bson_t *document, const char *name, char *target, size_t size)
{
    return str_copy(target, size, mongodb_read_str(document, name));
}

int64_t mongodb_read_number(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name) ? bson_iter_as_int64(&at) : 0;
}

bool mongodb_read_bool(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name) && bson_iter_as_bool(&at);
}

bool mongodb_read_document(const bson_t *document, const char *name, bson_t *ret_inner)
{
    bson_iter_t at;
    uint32_t len = 0;
    const uint8_t *bytes = NULL;
    if (!bson_iter_init_find(&at, document, name) || !BSON_ITER_HOLDS_DOCUMENT(&at))
        return false;
    bson_iter_document(&at, &len, &bytes);
    return bson_init_static(ret_inner, bytes, len);
}

/* ---- files ---- */

static const struct {
    const char *name;
    size_t offset;
    size_t size;
} texts[] = {
    {"_id", offsetof(struct file, id), sizeof(((struct file *)0)->id)},
    {"owner", offsetof(struct file, owner), sizeof(((struct file *)0)->owner)},
    {"name", offsetof(struct file, name), sizeof(((struct file *)0)->name)},
    {"mime", offsetof(struct file, mime), sizeof(((struct file *)0)->mime)},
    {"sha256", offsetof(struct file, sha256), sizeof(((struct file *)0)->sha256)},
    {"bucket", offsetof(struct file, bucket), sizeof(((struct file *)0)->bucket)},
    {"key", offsetof(struct file, key), sizeof(((struct file *)0)->key)},
    {"tag", offsetof(struct file, tag), sizeof(((struct file *)0)->tag)},
    {"metadata", offsetof(struct file, metadata), sizeof(((struct file *)0)->metadata)},
};

/* What most rows have is not written: a listing may have to read every row of its owner. */
#define NO_METADATA "{}"

static const struct {
    const char *name;
    size_t offset;
} numbers[] = {
    {"size", offsetof(struct file, size)},
    {"createdMs", offsetof(struct file, created_ms)},
    {"version", offsetof(struct file, version)},
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

int64_t mongodb_until_ms(const struct file *file)
{
    return file->expires_ms ? file->expires_ms : MONGODB_NEVER;
}

enum err_code mongodb_put_file(bson_t *document, const struct file *file, struct err *err)
{
    const char *base = (const char *)file;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const char *text = base + texts[i].offset;
        if (!bson_utf8_validate(text, strlen(text), false))
            return err_set_internal(err, ERR_INTERNAL, 0, "write row", "%s is no UTF-8.",
                                    texts[i].name);
        if (*text && text != file->metadata)
            mongodb_put_text(document, texts[i].name, text);
    }
    if (strcmp(file->metadata, NO_METADATA) != 0)
        mongodb_put_text(document, "metadata", file->metadata);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        int64_t value = 0;
        memcpy(&value, base + numbers[i].offset, sizeof value);
        mongodb_put_number(document, numbers[i].name, value);
    }
    /* Rows marked deleted are found by it. */
    if (file->updated_ms != file->created_ms || file->status == FILE_DELETED)
        mongodb_put_number(document, "updatedMs", file->updated_ms);
    mongodb_put_number(document, "untilMs", mongodb_until_ms(file));
    if (file->visibility != VISIBILITY_PRIVATE)
        bson_append_int32(document, "visibility", -1, (int32_t)file->visibility);
    if (file->status != FILE_READY)
        bson_append_int32(document, "status", -1, (int32_t)file->status);
    bson_append_bool(document, "live", -1, file->status != FILE_DELETED);
    return ERR_OK;
}

enum err_code mongodb_read_file(const bson_t *document, struct file *ret_file, struct err *err)
{
    char *base = (char *)ret_file;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (!mongodb_read_text(document, texts[i].name, base + texts[i].offset, texts[i].size))
            return err_set_internal(err, ERR_INTERNAL, 0, "read row", "A row's %s is too long.",
                                    texts[i].name);
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        int64_t value = mongodb_read_number(document, numbers[i].name);
        memcpy(base + numbers[i].offset, &value, sizeof value);
    }
    if (!mongodb_has(document, "metadata"))
        memcpy(ret_file->metadata, NO_METADATA, sizeof NO_METADATA);
    ret_file->updated_ms = mongodb_has(document, "updatedMs")
                               ? mongodb_read_number(document, "updatedMs")
                               : ret_file->created_ms;
    ret_file->expires_ms = mongodb_read_number(document, "untilMs");
    if (ret_file->expires_ms == MONGODB_NEVER)
        ret_file->expires_ms = 0;
    ret_file->visibility = (enum visibility)mongodb_read_number(document, "visibility");
    ret_file->status = (enum file_status)mongodb_read_number(document, "status");
    return ERR_OK;
}

void mongodb_put_live(bson_t *filter, int64_t now_ms)
{
    bson_append_bool(filter, "live", -1, true);
    mongodb_put_compared(filter, "untilMs", "$gt", now_ms);
}
