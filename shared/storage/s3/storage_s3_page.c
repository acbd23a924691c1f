#include "storage/s3/storage_s3_page.h"

#include "base/text.h"
#include "storage/s3/storage_s3.h"
#include "storage/s3/storage_s3_xml.h"

#define OBJECTS "ListBucketResult"
#define UPLOADS "ListMultipartUploadsResult"

void s3_page_init(struct s3_page *page)
{
    buf_init(&page->token, S3_TOKEN_BYTES);
    buf_init(&page->upload_id, S3_UPLOAD_ID_BYTES);
}

void s3_page_release(struct s3_page *page)
{
    buf_release(&page->token);
    buf_release(&page->upload_id);
}

static enum err_code unreadable(struct err *err)
{
    return err_set_internal(err, ERR_STORAGE, 0, "list", "The store's listing can't be read.");
}

/* What is found before anything is told: whether it is a listing at all, and where the next one
 * begins. Some stores say only after the keys whether these are encoded. */
struct outline {
    struct s3_page *page;
    const char *root;
    bool has_root;
    bool is_encoded;
    bool is_truncated;
};

static void keep(struct buf *target, struct str text)
{
    buf_reset(target);
    buf_append_str(target, text);
}

/* The path below the root, or the empty text. */
static struct str below(struct str path, const char *root)
{
    struct str start = str_of(root);
    if (!str_starts_with(path, start) || path.len <= start.len + 1)
        return (struct str){NULL, 0};
    return (struct str){path.data + start.len + 1, path.len - start.len - 1};
}

static enum err_code note_outline(void *context, struct str path, struct str text, struct err *err)
{
    struct outline *outline = context;
    struct str name = below(path, outline->root);
    (void)err;
    if (str_equal(path, str_of(outline->root)))
        outline->has_root = true;
    else if (str_equal(name, STR("EncodingType")))
        outline->is_encoded = str_equal(text, STR("url"));
    else if (str_equal(name, STR("IsTruncated")))
        outline->is_truncated = str_equal(text, STR("true"));
    else if (str_equal(name, STR("NextContinuationToken")) || str_equal(name, STR("NextKeyMarker")))
        keep(&outline->page->token, text);
    else if (str_equal(name, STR("NextUploadIdMarker")))
        keep(&outline->page->upload_id, text);
    return ERR_OK;
}

static enum err_code read_outline(struct outline *outline, struct str document, struct err *err)
{
    buf_reset(&outline->page->token);
    buf_reset(&outline->page->upload_id);
    enum err_code code = s3_xml_read(document, note_outline, outline, err);
    if (code != ERR_OK)
        return code;
    if (!outline->is_truncated) {
        buf_reset(&outline->page->token);
        buf_reset(&outline->page->upload_id);
    }
    /* A page without a way to the next one would be read as the last. */
    if (!outline->has_root || outline->page->token.failed || outline->page->upload_id.failed ||
        (outline->is_truncated && outline->page->token.len == 0))
        return unreadable(err);
    return ERR_OK;
}

/* The key as it is, if it is one of ours. */
static bool decode_key(const struct buf *key, bool is_encoded, char target[LIMIT_KEY_BYTES + 1])
{
    struct buf decoded;
    bool ours = !key->failed;
    buf_init(&decoded, LIMIT_KEY_BYTES);
    if (!is_encoded)
        buf_append_str(&decoded, buf_str(key));
    else
        ours = ours && text_percent_decode(buf_str(key), true, &decoded);
    ours = ours && !decoded.failed && storage_is_key(buf_str(&decoded)) &&
           str_copy(target, LIMIT_KEY_BYTES + 1, buf_str(&decoded));
    buf_release(&decoded);
    return ours;
}

/* ---- objects ---- */

struct objects {
    storage_list_callback *callback;
    void *context;
    bool is_encoded;
    struct buf key; /* of the object that is being read, and what else is known of it */
    struct storage_stat stat;
    unsigned known; /* one bit each for size, time and tag */
};

static void note_object(struct objects *objects, struct str name, struct str text)
{
    struct err ignored;
    struct storage_stat *stat = &objects->stat;
    if (str_equal(name, STR("Contents/Key")))
        keep(&objects->key, text);
    else if (str_equal(name, STR("Contents/Size")))
        objects->known |= text_parse_int(text, 0, INT64_MAX, &stat->size) ? 1u : 0u;
    else if (str_equal(name, STR("Contents/LastModified")))
        objects->known |= text_parse_time(text, &stat->modified_ms) ? 2u : 0u;
    else if (str_equal(name, STR("Contents/ETag")))
        objects->known |= s3_copy_tag(stat->tag, text, &ignored) == ERR_OK ? 4u : 0u;
}

static enum err_code tell_object(void *context, struct str path, struct str text, struct err *err)
{
    struct objects *objects = context;
    char key[LIMIT_KEY_BYTES + 1];
    struct str name = below(path, OBJECTS);
    if (!str_equal(name, STR("Contents"))) {
        note_object(objects, name, text);
        return ERR_OK;
    }
    const struct storage_stat stat = objects->stat;
    bool ours = decode_key(&objects->key, objects->is_encoded, key);
    bool is_known = objects->known == 7;
    objects->stat = (struct storage_stat){.size = 0};
    objects->known = 0;
    buf_reset(&objects->key);
    if (!ours)
        return ERR_OK;
    return is_known ? objects->callback(objects->context, key, &stat, err) : unreadable(err);
}

enum err_code s3_page_objects(struct s3_page *page, struct str document,
                              storage_list_callback *callback, void *context, struct err *err)
{
    struct outline outline = {.page = page, .root = OBJECTS};
    struct objects objects = {.callback = callback, .context = context};
    enum err_code code = read_outline(&outline, document, err);
    if (code != ERR_OK)
        return code;
    objects.is_encoded = outline.is_encoded;
    buf_init(&objects.key, S3_XML_TEXT_BYTES);
    code = s3_xml_read(document, tell_object, &objects, err);
    buf_release(&objects.key);
    return code;
}

/* ---- uploads ---- */

struct uploads {
    s3_upload_callback *callback;
    void *context;
    bool is_encoded;
    struct buf key;
    struct buf upload_id;
    struct s3_upload upload;
    bool has_time;
};

static void note_upload(struct uploads *uploads, struct str name, struct str text)
{
    if (str_equal(name, STR("Upload/Key")))
        keep(&uploads->key, text);
    else if (str_equal(name, STR("Upload/UploadId")))
        keep(&uploads->upload_id, text);
    else if (str_equal(name, STR("Upload/Initiated")))
        uploads->has_time = text_parse_time(text, &uploads->upload.begun_ms);
}

static enum err_code tell_upload(void *context, struct str path, struct str text, struct err *err)
{
    struct uploads *uploads = context;
    char key[LIMIT_KEY_BYTES + 1];
    enum err_code code = ERR_OK;
    struct str name = below(path, UPLOADS);
    if (!str_equal(name, STR("Upload"))) {
        note_upload(uploads, name, text);
        return ERR_OK;
    }
    if (decode_key(&uploads->key, uploads->is_encoded, key)) {
        uploads->upload.key = key;
        uploads->upload.upload_id = buf_text(&uploads->upload_id);
        code = uploads->has_time && uploads->upload_id.len > 0 && !uploads->upload_id.failed
                   ? uploads->callback(uploads->context, &uploads->upload, err)
                   : unreadable(err);
    }
    uploads->has_time = false;
    buf_reset(&uploads->key);
    buf_reset(&uploads->upload_id);
    return code;
}

enum err_code s3_page_uploads(struct s3_page *page, struct str document,
                              s3_upload_callback *callback, void *context, struct err *err)
{
    struct outline outline = {.page = page, .root = UPLOADS};
    struct uploads uploads = {.callback = callback, .context = context};
    enum err_code code = read_outline(&outline, document, err);
    if (code != ERR_OK)
        return code;
    uploads.is_encoded = outline.is_encoded;
    buf_init(&uploads.key, S3_XML_TEXT_BYTES);
    buf_init(&uploads.upload_id, S3_UPLOAD_ID_BYTES);
    code = s3_xml_read(document, tell_upload, &uploads, err);
    buf_release(&uploads.key);
    buf_release(&uploads.upload_id);
    return code;
}
