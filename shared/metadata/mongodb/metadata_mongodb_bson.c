#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "metadata/mongodb/metadata_mongodb.h"

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

void mongodb_put_absent(bson_t *filter, const char *name)
{
    bson_t inner;
    bson_append_document_begin(filter, name, -1, &inner);
    bson_append_bool(&inner, "$exists", -1, false);
    bson_append_document_end(filter, &inner);
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

/*
 * A row of `files` (docs/decisions/0021): what a question asks by is a member of its own, what most
 * rows share is not written, what nothing asks by is one value.
 *   _id name mime size createdMs key
 *   owner charset                  not written when empty
 *   untilMs                        it is seen before then; MONGODB_NEVER; 0: marked deleted
 *   detail                         "<sha256> <bucket> <tag>"
 *   revision                       its version less one, so that $inc counts from no member; not 0
 *   updatedMs                      unless it is createdMs of a row that is not marked deleted
 *   metadata visibility status     unless they are {}, private, ready
 *   by                             which call changed it last
 *   answerKey answer answerMs, changeKey change changeMs    metadata_mongodb_answers.c
 */
static const struct {
    const char *name;
    size_t offset;
    size_t size;
} texts[] = {
    {"_id", offsetof(struct file, id), sizeof(((struct file *)0)->id)},
    {"owner", offsetof(struct file, owner), sizeof(((struct file *)0)->owner)},
    {"name", offsetof(struct file, name), sizeof(((struct file *)0)->name)},
    {"mime", offsetof(struct file, mime), sizeof(((struct file *)0)->mime)},
    {"charset", offsetof(struct file, charset), sizeof(((struct file *)0)->charset)},
    {"key", offsetof(struct file, key), sizeof(((struct file *)0)->key)},
    {"metadata", offsetof(struct file, metadata), sizeof(((struct file *)0)->metadata)},
};

#define NO_METADATA "{}"
#define SHA256_HEX (sizeof(((struct file *)0)->sha256) - 1)
#define DETAIL_SIZE (SHA256_HEX + LIMIT_BUCKET_BYTES + LIMIT_TAG_BYTES + 3)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static int64_t until_ms_of(const struct file *file)
{
    if (file->status == FILE_DELETED)
        return 0;
    return file->expires_ms ? file->expires_ms : MONGODB_NEVER;
}

/* A fence has neither hash nor bucket. */
static bool is_detail(struct str sha256, struct str bucket)
{
    return (sha256.len == SHA256_HEX || sha256.len == 0) && str_find(sha256, ' ') == sha256.len &&
           str_find(bucket, ' ') == bucket.len;
}

static enum err_code put_detail(bson_t *document, const struct file *file, struct err *err)
{
    char detail[DETAIL_SIZE];
    snprintf(detail, sizeof detail, "%s %s %s", file->sha256, file->bucket, file->tag);
    if (!is_detail(str_of(file->sha256), str_of(file->bucket)) ||
        !bson_utf8_validate(detail, strlen(detail), false))
        return err_set_internal(err, ERR_INTERNAL, 0, "write row",
                                "A hash, bucket or tag cannot be written.");
    mongodb_put_text(document, "detail", detail);
    return ERR_OK;
}

static enum err_code read_detail(const bson_t *document, struct file *file, struct err *err)
{
    struct str rest = mongodb_read_str(document, "detail");
    struct str sha256 = str_cut(&rest, ' ');
    bool is_whole = str_find(rest, ' ') < rest.len;
    struct str bucket = str_cut(&rest, ' ');
    if (is_whole && is_detail(sha256, bucket) &&
        str_copy(file->sha256, sizeof file->sha256, sha256) &&
        str_copy(file->bucket, sizeof file->bucket, bucket) &&
        str_copy(file->tag, sizeof file->tag, rest))
        return ERR_OK;
    return err_set_internal(err, ERR_INTERNAL, 0, "read row", "A row's detail is malformed.");
}

void mongodb_put_state(bson_t *document, const struct file *file)
{
    if (strcmp(file->metadata, NO_METADATA) != 0)
        mongodb_put_text(document, "metadata", file->metadata);
    if (file->visibility != VISIBILITY_PRIVATE)
        bson_append_int32(document, "visibility", -1, (int32_t)file->visibility);
    if (file->status != FILE_READY)
        bson_append_int32(document, "status", -1, (int32_t)file->status);
    mongodb_put_number(document, "untilMs", until_ms_of(file));
    if (file->version != 1)
        mongodb_put_number(document, "revision", file->version - 1);
}

enum err_code mongodb_put_file(bson_t *document, const struct file *file, struct err *err)
{
    const char *base = (const char *)file;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const char *text = base + texts[i].offset;
        if (!bson_utf8_validate(text, strlen(text), false))
            return err_set_internal(err, ERR_INTERNAL, 0, "write row", "%s is no UTF-8.",
                                    texts[i].name);
        if (text != file->metadata && (*text || (text != file->owner && text != file->charset)))
            mongodb_put_text(document, texts[i].name, text);
    }
    mongodb_put_number(document, "size", file->size);
    mongodb_put_number(document, "createdMs", file->created_ms);
    /* Rows marked deleted are found by it. */
    if (file->updated_ms != file->created_ms || file->status == FILE_DELETED)
        mongodb_put_number(document, "updatedMs", file->updated_ms);
    mongodb_put_state(document, file);
    return put_detail(document, file, err);
}

enum err_code mongodb_read_file(const bson_t *document, struct file *ret_file, struct err *err)
{
    char *base = (char *)ret_file;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (!mongodb_read_text(document, texts[i].name, base + texts[i].offset, texts[i].size))
            return err_set_internal(err, ERR_INTERNAL, 0, "read row", "A row's %s is too long.",
                                    texts[i].name);
    if (!mongodb_has(document, "metadata"))
        memcpy(ret_file->metadata, NO_METADATA, sizeof NO_METADATA);
    ret_file->size = mongodb_read_number(document, "size");
    ret_file->created_ms = mongodb_read_number(document, "createdMs");
    ret_file->updated_ms = mongodb_has(document, "updatedMs")
                               ? mongodb_read_number(document, "updatedMs")
                               : ret_file->created_ms;
    ret_file->expires_ms = mongodb_read_number(document, "untilMs");
    if (ret_file->expires_ms == MONGODB_NEVER)
        ret_file->expires_ms = 0;
    ret_file->version = mongodb_read_version(document);
    ret_file->visibility = (enum visibility)mongodb_read_number(document, "visibility");
    ret_file->status = (enum file_status)mongodb_read_number(document, "status");
    return read_detail(document, ret_file, err);
}

int64_t mongodb_read_version(const bson_t *document)
{
    return mongodb_read_number(document, "revision") + 1;
}

void mongodb_put_version(bson_t *filter, int64_t version)
{
    if (version == 1)
        mongodb_put_absent(filter, "revision");
    else
        mongodb_put_number(filter, "revision", version - 1);
}

void mongodb_count_revision(bson_t *update)
{
    bson_t inner;
    bson_append_document_begin(update, "$inc", -1, &inner);
    mongodb_put_number(&inner, "revision", 1);
    bson_append_document_end(update, &inner);
}

void mongodb_put_visible(bson_t *filter, int64_t now_ms)
{
    mongodb_put_compared(filter, "untilMs", "$gt", now_ms);
}

void mongodb_put_expired(bson_t *filter, int64_t now_ms)
{
    bson_t inner;
    bson_append_document_begin(filter, "untilMs", -1, &inner);
    mongodb_put_number(&inner, "$gt", 0);
    mongodb_put_number(&inner, "$lte", now_ms);
    bson_append_document_end(filter, &inner);
}

void mongodb_put_kept(bson_t *filter)
{
    mongodb_put_visible(filter, 0);
}

bool mongodb_is_visible(const bson_t *document, int64_t now_ms)
{
    return mongodb_read_number(document, "untilMs") > now_ms;
}
