#include "files/file_json.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/text.h"
#include "http/disposition.h"
#include "http/jsonio.h"

static const char *status_name(enum file_status status)
{
    switch (status) {
    case FILE_READY:
        return "ready";
    case FILE_DELETED:
        return "deleted";
    case FILE_DAMAGED:
        return "damaged";
    }
    return "damaged";
}

static void write_time(struct buf *out, const char *name, int64_t unix_ms)
{
    char text[TEXT_TIME_SIZE];
    text_time(unix_ms, text);
    jsonw_string(out, name, str_of(text));
}

static void write_links(struct buf *out, const struct file *file)
{
    char path[FILE_PATH_SIZE];
    char self[FILE_PATH_SIZE + 8];
    file_path(file, path);
    snprintf(self, sizeof self, "%s/meta", path);
    jsonw_begin_object(out, "links");
    jsonw_string(out, "self", str_of(self));
    jsonw_string(out, "download", str_of(path));
    jsonw_end_object(out);
}

void file_json_write(struct buf *out, const char *name, const struct file *file)
{
    bool is_public = file->visibility == VISIBILITY_PUBLIC;
    jsonw_begin_object(out, name);
    jsonw_string(out, "id", str_of(file->id));
    jsonw_string(out, "originalName", str_of(file->name));
    jsonw_string(out, "mimeType", str_of(file->mime));
    jsonw_int(out, "size", file->size);
    jsonw_string(out, "sha256", str_of(file->sha256));
    jsonw_string(out, "bucket", str_of(file->bucket));
    jsonw_string(out, "key", str_of(file->key));
    jsonw_string(out, "owner", str_of(file->owner));
    jsonw_string(out, "visibility", is_public ? STR("public") : STR("private"));
    jsonw_raw(out, "metadata", str_of(file->metadata));
    jsonw_string(out, "status", str_of(status_name(file->status)));
    write_time(out, "createdAt", file->created_ms);
    write_time(out, "updatedAt", file->updated_ms);
    if (file->expires_ms != 0)
        write_time(out, "expiresAt", file->expires_ms);
    else
        jsonw_null(out, "expiresAt");
    write_links(out, file);
    jsonw_end_object(out);
}

void file_version_tag(const struct file *file, char target[FILE_TAG_SIZE])
{
    snprintf(target, FILE_TAG_SIZE, "v%" PRId64, file->version);
}

void file_path(const struct file *file, char target[FILE_PATH_SIZE])
{
    snprintf(target, FILE_PATH_SIZE, "/api/files/%s", file->id);
}

#define DISPOSITION_MAX 2048

/* RFC 9530 */
static void write_digest(struct response *response, const struct file *file)
{
    unsigned char sha256[32];
    char base64[48];
    char value[64];
    if (!text_unhex(str_of(file->sha256), sha256, sizeof sha256))
        return;
    text_base64(sha256, sizeof sha256, base64);
    snprintf(value, sizeof value, "sha-256=:%s:", base64);
    response_header_text(response, "Repr-Digest", value);
}

static void write_etag(struct response *response, const char *tag)
{
    char etag[72];
    snprintf(etag, sizeof etag, "\"%s\"", tag);
    response_header_text(response, "ETag", etag);
}

int64_t file_modified_seconds(const struct file *file, int64_t now_ms)
{
    return (file->created_ms < now_ms ? file->created_ms : now_ms) / 1000;
}

static void write_date(struct response *response, const char *name, int64_t seconds)
{
    char date[TEXT_HTTP_DATE_SIZE];
    text_http_date(seconds, date);
    response_header_text(response, name, date);
}

void file_headers_validators(struct response *response, const struct file *file, int64_t now_ms,
                             bool is_inline)
{
    struct buf disposition;
    buf_init(&disposition, DISPOSITION_MAX);
    disposition_write(&disposition, is_inline, str_of(file->name));
    write_etag(response, file->sha256);
    write_date(response, "Last-Modified", file_modified_seconds(file, now_ms));
    write_date(response, "Date", now_ms / 1000);
    response_header_text(response, "Cache-Control", "private, no-cache");
    response_header(response, "Content-Disposition", buf_str(&disposition));
    buf_release(&disposition);
}

void file_content_type(const struct file *file, char target[FILE_CONTENT_TYPE_SIZE])
{
    snprintf(target, FILE_CONTENT_TYPE_SIZE, "%s%s%s", file->mime,
             file->charset[0] ? "; charset=" : "", file->charset);
}

void file_headers_content(struct response *response, const struct file *file)
{
    char type[FILE_CONTENT_TYPE_SIZE];
    file_content_type(file, type);
    response_header_text(response, "Content-Type", type);
    response_header_text(response, "X-Content-Type-Options", "nosniff");
    response_header_text(response, "Content-Security-Policy", "sandbox; default-src 'none'");
    write_digest(response, file);
}

void file_headers_version(struct response *response, const struct file *file)
{
    char tag[FILE_TAG_SIZE];
    file_version_tag(file, tag);
    write_etag(response, tag);
}
