/*
 * Input: a document that a store answered with. It is read as XML, as a page of objects, as a page of
 * unfinished uploads, and as the error of a failed call.
 */
#include "fuzz.h"
#include "storage/s3/storage_s3.h"

struct told {
    size_t elements;
    size_t texts; /* bytes */
};

static enum err_code note(void *context, struct str path, struct str text, struct err *err)
{
    struct told *told = context;
    (void)err;
    MUST(path.len > 0 && path.data[path.len] == '\0');
    MUST(path.len <= S3_XML_DEPTH * (S3_XML_NAME_BYTES + 1) && text.len <= S3_XML_TEXT_BYTES);
    size_t depth = 1;
    for (size_t i = 0; i < path.len; i++)
        depth += path.data[i] == '/';
    MUST(depth <= S3_XML_DEPTH);
    told->elements++;
    told->texts += text.len;
    return ERR_OK;
}

static enum err_code note_object(void *context, const char *key, const struct storage_stat *stat,
                                 struct err *err)
{
    (void)err;
    ++*(size_t *)context;
    MUST(storage_is_key(str_of(key)));
    MUST(stat->size >= 0 && stat->modified_ms >= 0);
    size_t len = strlen(stat->tag);
    MUST(len > 2 && stat->tag[0] == '"' && stat->tag[len - 1] == '"');
    return ERR_OK;
}

static enum err_code note_upload(void *context, const struct s3_upload *upload, struct err *err)
{
    (void)err;
    ++*(size_t *)context;
    MUST(storage_is_key(str_of(upload->key)) && *upload->upload_id && upload->begun_ms >= 0);
    return ERR_OK;
}

static void check_page(struct str document, bool is_xml)
{
    struct err err;
    struct s3_page page;
    size_t objects = 0;
    size_t uploads = 0;
    s3_page_init(&page);
    enum err_code code = s3_page_objects(&page, document, note_object, &objects, &err);
    MUST(code == ERR_OK || code == ERR_STORAGE);
    MUST(is_xml || (code != ERR_OK && objects == 0));
    bool is_listing = code == ERR_OK;
    code = s3_page_uploads(&page, document, note_upload, &uploads, &err);
    MUST(code == ERR_OK || code == ERR_STORAGE);
    MUST(is_xml || (code != ERR_OK && uploads == 0));
    MUST(!is_listing || code != ERR_OK); /* never both */
    s3_page_release(&page);
}

static void check_failure(struct str document)
{
    const struct s3_call call = {.operation = "fuzz"};
    struct err err;
    struct http_reply reply;
    http_reply_init(&reply);
    reply.status = 400;
    reply.body.max = document.len;
    buf_append_str(&reply.body, document);
    MUST(s3_failure(&call, &reply, &err) != ERR_OK && err.internal && err.remote_status == 400);
    for (const char *at = err.message; *at; at++)
        MUST(*at >= ' ' && *at <= '~');
    http_reply_release(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct err err;
    struct told told = {0, 0};
    struct str document = {(const char *)bytes, size};
    enum err_code code = s3_xml_read(document, note, &told, &err);
    MUST(code == ERR_OK || code == ERR_STORAGE);
    MUST(code != ERR_OK || told.elements > 0);
    MUST(!s3_xml_has_root(document, "Error") || size >= strlen("<Error"));
    MUST(told.elements <= size && told.texts <= size);
    check_page(document, code == ERR_OK);
    check_failure(document);
    return 0;
}
