#include "app/fcgi_body.h"

#include <stdlib.h>
#include <unistd.h>

/* https://fastcgi-archives.github.io/FastCGI_Specification.html §3.3, §8 */
enum { VERSION = 1, TYPE_STDIN = 5 };
enum { HEADER_BYTES = 8 };

#define SMALL_BODY_BUFFER (16UL * 1024)
#define LARGE_BODY_BUFFER (128UL * 1024)

enum err_code fcgi_body_init(struct fcgi_body *body, int fd, int64_t length, struct err *err)
{
    size_t size = length + HEADER_BYTES * 2 > (int64_t)SMALL_BODY_BUFFER ? LARGE_BODY_BUFFER
                                                                         : SMALL_BODY_BUFFER;
    *body = (struct fcgi_body){.fd = fd, .size = size, .buffer = malloc(size)};
    return body->buffer ? ERR_OK
                        : err_set_internal(err, ERR_NO_MEMORY, 0, "receive", "out of memory");
}

void fcgi_body_release(struct fcgi_body *body)
{
    free(body->buffer);
    *body = (struct fcgi_body){.fd = -1};
}

static bool fill(struct fcgi_body *body)
{
    if (body->start > 0) { /* at most a part of a header is left */
        memmove(body->buffer, body->buffer + body->start, body->end - body->start);
        body->end -= body->start;
        body->start = 0;
    }
    ssize_t len = read(body->fd, body->buffer + body->end, body->size - body->end);
    if (len <= 0)
        return false;
    body->end += (size_t)len;
    return true;
}

static size_t skip(struct fcgi_body *body, size_t wanted)
{
    size_t here = body->end - body->start;
    size_t len = wanted < here ? wanted : here;
    body->start += len;
    return len;
}

static bool read_header(struct fcgi_body *body)
{
    while (body->end - body->start < HEADER_BYTES)
        if (!fill(body))
            return false;
    const unsigned char *header = body->buffer + body->start;
    if (header[0] != VERSION || header[1] != TYPE_STDIN)
        return false;
    body->record_left = (size_t)header[4] << 8 | header[5];
    body->padding_left = header[6];
    body->start += HEADER_BYTES;
    return body->record_left > 0; /* an empty record is the end */
}

static struct str take_content(struct fcgi_body *body)
{
    struct str piece = {(const char *)body->buffer + body->start, 0};
    piece.len = skip(body, body->record_left);
    body->record_left -= piece.len;
    return piece;
}

struct str fcgi_body_next(struct fcgi_body *body)
{
    for (;;) {
        if (body->record_left > 0 && body->end > body->start)
            return take_content(body);
        if (body->record_left == 0 && body->padding_left > 0 && body->end > body->start)
            body->padding_left -= skip(body, body->padding_left);
        else if (body->record_left > 0 || body->padding_left > 0) {
            if (!fill(body))
                return (struct str){0};
        } else if (!read_header(body)) {
            return (struct str){0};
        }
    }
}
