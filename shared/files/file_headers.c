#include "files/file_headers.h"

#include "base/text.h"
#include "files/file_json.h"
#include "http/disposition.h"

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
