/*
 * The file object of API.md, its entity tags, and the answer that carries one.
 */
#ifndef COFFER_FILES_FILE_JSON_H
#define COFFER_FILES_FILE_JSON_H

#include "base/str.h"
#include "http/range_condition.h"
#include "http/response.h"
#include "metadata/file.h"

#define FILE_TAG_SIZE 32

void file_json_write(struct buf *out, const char *name, const struct file *file);
/* The version's tag without quotes, "v3": every change moves it. */
void file_version_tag(const struct file *file, char target[FILE_TAG_SIZE]);
/* "/api/files/{id}" into target. */
#define FILE_PATH_SIZE 64
void file_path(const struct file *file, char target[FILE_PATH_SIZE]);

/*
 * The headers of a file's bytes (API.md, GET /api/files/{id}).
 */

/* When the bytes were last modified, in seconds: when they were created, but never later than now
 * (RFC 9110 §8.8.2.1), as a clock that was set back would have it. */
int64_t file_modified_seconds(const struct file *file, int64_t now_ms);
/* ETag, Last-Modified, Date, Cache-Control, Content-Disposition: on 200, 206 and 304. A rename changes
 * the last of them. The gateway's own Date may be a second behind. */
void file_headers_validators(struct response *response, const struct file *file, int64_t now_ms,
                             bool is_inline);
/* The media type with its charset, as it is served. */
#define FILE_CONTENT_TYPE_SIZE (LIMIT_MIME_BYTES + LIMIT_CHARSET_BYTES + sizeof "; charset=")
void file_content_type(const struct file *file, char target[FILE_CONTENT_TYPE_SIZE]);
/* Content-Type, Repr-Digest and what keeps a browser from running the file. */
void file_headers_content(struct response *response, const struct file *file);
/* The version's ETag, of answers that carry the file object. */
void file_headers_version(struct response *response, const struct file *file);

#endif
