#include "base/text.h"
#include "storage/s3/storage_s3.h"

#define PATH_BYTES (S3_XML_DEPTH * (S3_XML_NAME_BYTES + 1))

struct xml {
    struct str rest; /* not read yet */
    s3_xml_callback *callback;
    void *context;
    struct buf path;
    size_t depth;
    struct buf text;   /* since the last tag */
    bool is_leaf;      /* the element that is open holds no other one */
    bool is_past_root; /* the root has ended */
};

static enum err_code malformed(struct err *err)
{
    return err_set_internal(err, ERR_STORAGE, 0, "read XML",
                            "The store answered XML that can't be read.");
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static bool is_name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '_' || byte == '-' || byte == '.' ||
           byte == ':' || ((unsigned char)byte & 0x80);
}

static void skip(struct xml *xml, size_t len)
{
    xml->rest.data += len;
    xml->rest.len -= len;
}

static void skip_space(struct xml *xml)
{
    while (xml->rest.len > 0 && is_space(xml->rest.data[0]))
        skip(xml, 1);
}

static bool take(struct xml *xml, struct str expected)
{
    if (!str_starts_with(xml->rest, expected))
        return false;
    skip(xml, expected.len);
    return true;
}

static bool skip_past(struct xml *xml, struct str end)
{
    const char *found =
        xml->rest.len > 0 ? memmem(xml->rest.data, xml->rest.len, end.data, end.len) : NULL;
    if (!found)
        return false;
    skip(xml, (size_t)(found - xml->rest.data) + end.len);
    return true;
}

/* A name without its prefix. */
static bool take_name(struct xml *xml, struct str *ret_name)
{
    struct str name = {xml->rest.data, 0};
    while (name.len < xml->rest.len && is_name_byte(name.data[name.len]))
        name.len++;
    skip(xml, name.len);
    size_t colon = str_find(name, ':');
    if (colon < name.len) {
        name.data += colon + 1;
        name.len -= colon + 1;
    }
    *ret_name = name;
    return name.len > 0 && name.len <= S3_XML_NAME_BYTES && str_find(name, ':') == name.len &&
           str_find(name, '/') == name.len;
}

/* XML 1.0 §2.2 */
static bool is_xml_char(uint32_t code_point)
{
    return code_point == 0x9 || code_point == 0xA || code_point == 0xD ||
           (code_point >= 0x20 && code_point <= 0xD7FF) ||
           (code_point >= 0xE000 && code_point <= 0xFFFD) ||
           (code_point >= 0x10000 && code_point <= 0x10FFFF);
}

static void append_utf8(uint32_t code_point, struct buf *out)
{
    if (code_point < 0x80) {
        buf_append_char(out, (char)code_point);
        return;
    }
    if (code_point < 0x800) {
        buf_append_char(out, (char)(0xC0 | (code_point >> 6)));
    } else {
        if (code_point < 0x10000) {
            buf_append_char(out, (char)(0xE0 | (code_point >> 12)));
        } else {
            buf_append_char(out, (char)(0xF0 | (code_point >> 18)));
            buf_append_char(out, (char)(0x80 | ((code_point >> 12) & 0x3F)));
        }
        buf_append_char(out, (char)(0x80 | ((code_point >> 6) & 0x3F)));
    }
    buf_append_char(out, (char)(0x80 | (code_point & 0x3F)));
}

static int digit_value(char byte, uint32_t base)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (base == 16 && byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    if (base == 16 && byte >= 'A' && byte <= 'F')
        return byte - 'A' + 10;
    return -1;
}

/* "34" or "x22" */
static bool decode_number(struct str digits, uint32_t *ret_code_point)
{
    uint32_t value = 0;
    uint32_t base = 10;
    if (digits.len > 0 && digits.data[0] == 'x') {
        base = 16;
        digits.data++;
        digits.len--;
    }
    if (digits.len == 0 || digits.len > 8)
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        int digit = digit_value(digits.data[i], base);
        if (digit < 0)
            return false;
        value = value * base + (uint32_t)digit;
        if (value > 0x10FFFF)
            return false;
    }
    *ret_code_point = value;
    return is_xml_char(value);
}

static bool take_reference(struct xml *xml)
{
    static const struct {
        const char *name;
        char byte;
    } named[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    struct str name = {xml->rest.data + 1, xml->rest.len - 1};
    name.len = str_find(name, ';');
    if (name.len + 1 >= xml->rest.len)
        return false;
    skip(xml, name.len + 2);
    if (name.len > 0 && name.data[0] == '#') {
        uint32_t code_point = 0;
        if (!decode_number((struct str){name.data + 1, name.len - 1}, &code_point))
            return false;
        append_utf8(code_point, &xml->text);
        return true;
    }
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (str_equal(name, str_of(named[i].name))) {
            buf_append_char(&xml->text, named[i].byte);
            return true;
        }
    return false;
}

/* Up to the next tag or the end of the document. */
static bool take_text(struct xml *xml)
{
    while (xml->rest.len > 0 && xml->rest.data[0] != '<') {
        size_t at = 0;
        uint32_t code_point = 0;
        if (xml->rest.data[0] == '&') {
            if (!take_reference(xml))
                return false;
            continue;
        }
        if (!text_utf8_next(xml->rest, &at, &code_point) || !is_xml_char(code_point))
            return false;
        buf_append(&xml->text, xml->rest.data, at);
        skip(xml, at);
    }
    return !xml->text.failed;
}

/* Outside the root there is only white space. */
static bool is_blank(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_space(text.data[i]))
            return false;
    return true;
}

static bool skip_attributes(struct xml *xml)
{
    for (;;) {
        struct str name;
        size_t before = xml->rest.len;
        skip_space(xml);
        if (xml->rest.len == 0)
            return false;
        if (xml->rest.data[0] == '>' || xml->rest.data[0] == '/')
            return true;
        if (xml->rest.len == before || !take_name(xml, &name))
            return false;
        skip_space(xml);
        if (!take(xml, STR("=")))
            return false;
        skip_space(xml);
        bool is_single = take(xml, STR("'"));
        if ((!is_single && !take(xml, STR("\""))) ||
            !skip_past(xml, is_single ? STR("'") : STR("\"")))
            return false;
    }
}

/* Tells of the open element and leaves it. */
static enum err_code end_element(struct xml *xml, struct err *err)
{
    const struct str text = xml->is_leaf ? buf_str(&xml->text) : (struct str){NULL, 0};
    enum err_code code = xml->callback(xml->context, buf_str(&xml->path), text, err);
    size_t len = xml->path.len;
    while (len > 0 && xml->path.data[len - 1] != '/')
        len--;
    xml->path.len = len > 0 ? len - 1 : 0;
    xml->path.data[xml->path.len] = '\0';
    xml->depth--;
    xml->is_leaf = false;
    xml->is_past_root = xml->depth == 0;
    buf_reset(&xml->text);
    return code;
}

static enum err_code start_tag(struct xml *xml, struct err *err)
{
    struct str name;
    if (xml->is_past_root || xml->depth == S3_XML_DEPTH || !take_name(xml, &name) ||
        !skip_attributes(xml))
        return malformed(err);
    if (xml->depth++ > 0)
        buf_append_char(&xml->path, '/');
    buf_append_str(&xml->path, name);
    if (xml->path.failed)
        return malformed(err);
    xml->is_leaf = true;
    buf_reset(&xml->text);
    if (take(xml, STR("/>")))
        return end_element(xml, err);
    return take(xml, STR(">")) ? ERR_OK : malformed(err);
}

static enum err_code end_tag(struct xml *xml, struct err *err)
{
    struct str name;
    struct str open = buf_str(&xml->path);
    if (xml->depth == 0 || !take_name(xml, &name))
        return malformed(err);
    skip_space(xml);
    size_t slash = open.len;
    while (slash > 0 && open.data[slash - 1] != '/')
        slash--;
    open.data += slash;
    open.len -= slash;
    if (!str_equal(name, open) || !take(xml, STR(">")))
        return malformed(err);
    return end_element(xml, err);
}

static enum err_code take_markup(struct xml *xml, struct err *err)
{
    if (take(xml, STR("</")))
        return end_tag(xml, err);
    if (take(xml, STR("<!--")))
        return skip_past(xml, STR("-->")) ? ERR_OK : malformed(err);
    if (take(xml, STR("<?")))
        return skip_past(xml, STR("?>")) ? ERR_OK : malformed(err);
    skip(xml, 1);
    return start_tag(xml, err);
}

/* Unicode 15.0, table 23-5 */
static void skip_byte_order_mark(struct xml *xml)
{
    take(xml, STR("\xef\xbb\xbf"));
}

enum err_code s3_xml_read(struct str document, s3_xml_callback *callback, void *context,
                          struct err *err)
{
    struct xml xml = {.rest = document, .callback = callback, .context = context};
    enum err_code code = ERR_OK;
    buf_init(&xml.path, PATH_BYTES);
    buf_init(&xml.text, S3_XML_TEXT_BYTES);
    skip_byte_order_mark(&xml);
    while (code == ERR_OK && xml.rest.len > 0) {
        if (!take_text(&xml) || (xml.depth == 0 && !is_blank(buf_str(&xml.text))))
            code = malformed(err);
        else if (xml.rest.len > 0)
            code = take_markup(&xml, err);
    }
    if (code == ERR_OK && !xml.is_past_root)
        code = malformed(err);
    buf_release(&xml.path);
    buf_release(&xml.text);
    return code;
}

bool s3_xml_has_root(struct str document, const char *name)
{
    struct xml xml = {.rest = document};
    struct str root;
    skip_byte_order_mark(&xml);
    for (;;) {
        skip_space(&xml);
        bool is_comment = take(&xml, STR("<!--"));
        if (!is_comment && !take(&xml, STR("<?")))
            break;
        if (!skip_past(&xml, is_comment ? STR("-->") : STR("?>")))
            return false;
    }
    return take(&xml, STR("<")) && take_name(&xml, &root) && str_equal(root, str_of(name));
}

/* ---- one value ---- */

struct sought {
    struct str path;
    struct buf *text;
    bool found;
};

static enum err_code note_value(void *context, struct str path, struct str text, struct err *err)
{
    struct sought *sought = context;
    (void)err;
    if (!sought->found && str_equal(path, sought->path)) {
        sought->found = true;
        buf_append_str(sought->text, text);
    }
    return ERR_OK;
}

enum err_code s3_xml_value(struct str document, const char *path, struct buf *ret_text,
                           struct err *err)
{
    struct sought sought = {str_of(path), ret_text, false};
    enum err_code code = s3_xml_read(document, note_value, &sought, err);
    if (code != ERR_OK)
        return code;
    return sought.found && !ret_text->failed ? ERR_OK : malformed(err);
}

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

/* s3_run for a page of a listing: what is not found is the bucket. */
static enum err_code s3_run_listing(struct storage_s3 *s3, const struct s3_call *call,
                                    struct http_reply *reply, struct err *err)
{
    enum err_code code = s3_run(s3, call, reply, err);
    if (code != ERR_NOT_FOUND)
        return code;
    code = err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, call->operation,
                            "%s: the bucket does not exist.", call->operation);
    err->remote_status = reply->status;
    return code;
}

static enum err_code list_page(struct storage_s3 *s3, struct s3_page *page,
                               storage_list_callback *callback, void *context, struct err *err)
{
    struct s3_call call = {
        .operation = "list objects", .method = "GET", .max_body = S3_LISTING_BYTES};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_query(&call, "list-type", "2");
    s3_call_query(&call, "max-keys", S3_PAGE_KEYS);
    /* XML has no way to write some bytes that a foreign key may hold. */
    s3_call_query(&call, "encoding-type", "url");
    if (page->token.len > 0)
        s3_call_query(&call, "continuation-token", buf_text(&page->token));
    enum err_code code = s3_run_listing(s3, &call, &reply, err);
    if (code == ERR_OK)
        code = s3_page_objects(page, buf_str(&reply.body), callback, context, err);
    http_reply_release(&reply);
    return code;
}

enum err_code s3_list(void *state, storage_list_callback *callback, void *context, struct err *err)
{
    struct s3_page page;
    enum err_code code = ERR_OK;
    s3_page_init(&page);
    do
        code = list_page(state, &page, callback, context, err);
    while (code == ERR_OK && page.token.len > 0);
    s3_page_release(&page);
    return code;
}

/*
 * Uploads that were begun and never ended. Their parts take room that no listing of objects shows.
 * Those of a process that died are purged when they are old; those whose beginning was sent more
 * than once, because an answer was lost, are looked for at once.
 */

#define LOOK_MS 2000 /* while an upload waits; what stays is found by the purge */

/* Which uploads are told of, and to whom. */
struct search {
    struct storage_s3 *s3;
    const char *key;     /* NULL: of every key */
    int64_t deadline_ms; /* of each call; 0: the handle's */
    s3_upload_callback *callback;
    void *context;
};

static enum err_code search_page(const struct search *search, struct s3_page *page, struct err *err)
{
    struct s3_call call = {.operation = "list multipart uploads",
                           .method = "GET",
                           .deadline_ms = search->deadline_ms,
                           .max_body = S3_LISTING_BYTES};
    struct http_reply reply;
    http_reply_init(&reply);
    s3_call_query(&call, "uploads", "");
    s3_call_query(&call, "max-uploads", S3_PAGE_KEYS);
    s3_call_query(&call, "encoding-type", "url");
    if (search->key)
        s3_call_query(&call, "prefix", search->key);
    if (page->token.len > 0)
        s3_call_query(&call, "key-marker", buf_text(&page->token));
    if (page->upload_id.len > 0)
        s3_call_query(&call, "upload-id-marker", buf_text(&page->upload_id));
    enum err_code code = s3_run_listing(search->s3, &call, &reply, err);
    if (code == ERR_OK)
        code = s3_page_uploads(page, buf_str(&reply.body), search->callback, search->context, err);
    http_reply_release(&reply);
    return code;
}

static enum err_code find_uploads(const struct search *search, struct err *err)
{
    struct s3_page page;
    enum err_code code = ERR_OK;
    s3_page_init(&page);
    do
        code = search_page(search, &page, err);
    while (code == ERR_OK && page.token.len > 0);
    s3_page_release(&page);
    return code;
}

/* ---- old ones ---- */

struct purge {
    struct storage_s3 *s3;
    int64_t before_ms;
    int purged;
};

static enum err_code purge_upload(void *context, const struct s3_upload *upload, struct err *err)
{
    struct purge *purge = context;
    if (upload->begun_ms >= purge->before_ms)
        return ERR_OK;
    enum err_code code = s3_multipart_abort(purge->s3, upload->key, upload->upload_id, err);
    if (code == ERR_OK)
        purge->purged++;
    return code;
}

enum err_code s3_purge(void *state, int64_t before_ms, int *ret_purged, struct err *err)
{
    struct purge purge = {.s3 = state, .before_ms = before_ms};
    const struct search search = {.s3 = state, .callback = purge_upload, .context = &purge};
    enum err_code code = find_uploads(&search, err);
    if (code == ERR_OK)
        *ret_purged = purge.purged;
    return code;
}

/* ---- doubles ---- */

/* Each upload has a key of its own, so nobody else begins one there. */
struct double_search {
    struct storage_s3 *s3;
    const char *key;
    struct str ours;
};

static enum err_code abort_double(void *context, const struct s3_upload *upload, struct err *err)
{
    const struct double_search *doubles = context;
    if (strcmp(upload->key, doubles->key) != 0 ||
        str_equal(str_of(upload->upload_id), doubles->ours))
        return ERR_OK;
    return s3_multipart_abort(doubles->s3, upload->key, upload->upload_id, err);
}

/* May the store have begun one that we do not know? What it refused (4xx) it has not begun. */
static bool may_have_doubles(enum err_code code, const struct http_reply *reply)
{
    if (reply->sends > 1)
        return true;
    bool is_refused = reply->status >= 400 && reply->status < 500;
    return code != ERR_OK && reply->sends == 1 && !is_refused;
}

void s3_abort_doubles(struct storage_s3 *s3, const char *key, struct str ours, enum err_code code,
                      const struct http_reply *reply)
{
    struct err ignored;
    struct double_search doubles = {s3, key, ours};
    const struct search search = {s3, key, LOOK_MS, abort_double, &doubles};
    if (may_have_doubles(code, reply))
        code = find_uploads(&search, &ignored);
    (void)code;
}
