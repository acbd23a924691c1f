/*
 * The headers of a file's bytes (API.md, GET /api/files/{id}).
 */
#ifndef COFFER_FILES_FILE_HEADERS_H
#define COFFER_FILES_FILE_HEADERS_H

#include "http/response.h"
#include "metadata/file.h"

/* ETag, Last-Modified, Cache-Control: on 200, 206 and 304. */
void file_headers_validators(struct response *response, const struct file *file);
/* The media type with its charset, as it is served. */
#define FILE_CONTENT_TYPE_SIZE (LIMIT_MIME_BYTES + LIMIT_CHARSET_BYTES + sizeof "; charset=")
void file_content_type(const struct file *file, char target[FILE_CONTENT_TYPE_SIZE]);
/* Content-Type, Content-Disposition, Repr-Digest and what keeps a browser from running the file. */
void file_headers_content(struct response *response, const struct file *file, bool is_inline);
/* The version's ETag, of answers that carry the file object. */
void file_headers_version(struct response *response, const struct file *file);

#endif
