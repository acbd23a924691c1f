#include "app/fcgi_head.h"

#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>

/* https://fastcgi-archives.github.io/FastCGI_Specification.html §3.3, §3.4, §8 */
enum { VERSION = 1, TYPE_BEGIN = 1, TYPE_PARAMS = 4, TYPE_STDIN = 5, ROLE_RESPONDER = 1 };
#define RETRY_MS 1

enum { HEADER_BYTES = 8, BEGIN_BYTES = 8, LONG_LENGTH = 0x80 };

struct reader {
    const unsigned char *at;
    size_t left;
};

struct record {
    int type;
    struct reader content;
};

static bool take(struct reader *reader, size_t len, const unsigned char **ret_bytes)
{
    if (reader->left < len)
        return false;
    *ret_bytes = reader->at;
    reader->at += len;
    reader->left -= len;
    return true;
}

/* A record that has not arrived whole is incomplete, another version is bad. */
static enum fcgi_head take_record(struct reader *reader, struct record *ret_record)
{
    const unsigned char *header;
    const unsigned char *padding;
    if (!take(reader, HEADER_BYTES, &header))
        return FCGI_HEAD_INCOMPLETE;
    if (header[0] != VERSION)
        return FCGI_HEAD_BAD;
    struct reader content = {NULL, (size_t)header[4] << 8 | header[5]};
    if (!take(reader, content.left, &content.at) || !take(reader, header[6], &padding))
        return FCGI_HEAD_INCOMPLETE;
    *ret_record = (struct record){header[1], content};
    return FCGI_HEAD_SOUND;
}

/* One byte, or four when its high bit is set. */
static bool take_length(struct reader *reader, size_t *ret_length)
{
    const unsigned char *bytes;
    if (!take(reader, 1, &bytes))
        return false;
    *ret_length = bytes[0];
    if (bytes[0] < LONG_LENGTH)
        return true;
    size_t high = bytes[0] & (LONG_LENGTH - 1);
    if (!take(reader, 3, &bytes))
        return false;
    *ret_length = high << 24 | (size_t)bytes[0] << 16 | (size_t)bytes[1] << 8 | bytes[2];
    return true;
}

static bool pairs_are_sound(struct reader pairs)
{
    const unsigned char *unused;
    size_t name_len;
    size_t value_len;
    while (pairs.left > 0)
        if (!take_length(&pairs, &name_len) || !take_length(&pairs, &value_len) ||
            !take(&pairs, name_len, &unused) || !take(&pairs, value_len, &unused))
            return false;
    return true;
}

static bool is_begin(const struct record *record)
{
    return record->type == TYPE_BEGIN && record->content.left == BEGIN_BYTES &&
           record->content.at[0] == 0 && record->content.at[1] == ROLE_RESPONDER;
}

enum fcgi_head fcgi_head_check(const unsigned char *head, size_t len, size_t *ret_head_len)
{
    struct reader reader = {head, len};
    struct record record;
    enum fcgi_head judgement = take_record(&reader, &record);
    if (judgement == FCGI_HEAD_SOUND && !is_begin(&record))
        return FCGI_HEAD_BAD;
    while (judgement == FCGI_HEAD_SOUND) {
        judgement = take_record(&reader, &record);
        if (judgement != FCGI_HEAD_SOUND)
            break;
        if (record.type != TYPE_PARAMS || !pairs_are_sound(record.content))
            return FCGI_HEAD_BAD;
        if (record.content.left == 0) {
            *ret_head_len = len - reader.left;
            break;
        }
    }
    return judgement;
}

/* Waits a moment, as there is no wait for "more than is there"; true when no more can come. */
static bool has_ended(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
    return poll(&poll_fd, 1, RETRY_MS) > 0;
}

/* Do these bytes behind a head hold the whole body, its empty last record included? */
static bool is_whole_body(const unsigned char *bytes, size_t len)
{
    struct reader reader = {bytes, len};
    struct record record;
    while (take_record(&reader, &record) == FCGI_HEAD_SOUND && record.type == TYPE_STDIN)
        if (record.content.left == 0)
            return true;
    return false;
}

bool fcgi_head_peek(int fd, const atomic_bool *timed_out, struct fcgi_peek *ret_peek)
{
    struct fcgi_peek *peek = ret_peek;
    bool ended = false;
    peek->len = 0;
    while (!atomic_load(timed_out)) {
        ssize_t len = recv(fd, peek->bytes, sizeof peek->bytes, MSG_PEEK);
        if (len <= 0)
            return false;
        peek->len = (size_t)len;
        enum fcgi_head judgement = fcgi_head_check(peek->bytes, (size_t)len, &peek->head_len);
        if (judgement == FCGI_HEAD_SOUND) {
            peek->has_body =
                is_whole_body(peek->bytes + peek->head_len, (size_t)len - peek->head_len);
            return true;
        }
        if (judgement == FCGI_HEAD_BAD || len == FCGI_HEAD_MAX || ended)
            return false;
        ended = has_ended(fd);
    }
    return false;
}
