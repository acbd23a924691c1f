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

void file_headers_validators(struct response *response, const struct file *file)
{
    char date[TEXT_HTTP_DATE_SIZE];
    text_http_date(file->created_ms / 1000, date); /* the bytes never change after that */
    write_etag(response, file->sha256);
    response_header_text(response, "Last-Modified", date);
    response_header_text(response, "Cache-Control", "private, no-cache");
}

void file_content_type(const struct file *file, char target[FILE_CONTENT_TYPE_SIZE])
{
    snprintf(target, FILE_CONTENT_TYPE_SIZE, "%s%s%s", file->mime,
             file->charset[0] ? "; charset=" : "", file->charset);
}

void file_headers_content(struct response *response, const struct file *file, bool is_inline)
{
    char type[FILE_CONTENT_TYPE_SIZE];
    struct buf disposition;
    file_content_type(file, type);
    buf_init(&disposition, DISPOSITION_MAX);
    disposition_write(&disposition, is_inline, str_of(file->name));
    response_header_text(response, "Content-Type", type);
    response_header(response, "Content-Disposition", buf_str(&disposition));
    response_header_text(response, "X-Content-Type-Options", "nosniff");
    response_header_text(response, "Content-Security-Policy", "sandbox; default-src 'none'");
    write_digest(response, file);
    buf_release(&disposition);
}

void file_headers_version(struct response *response, const struct file *file)
{
    char tag[FILE_TAG_SIZE];
    file_version_tag(file, tag);
    write_etag(response, tag);
}
