#include "app/fcgi_records.h"

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/limits.h"

#define VERSION 1
#define TYPE_STDOUT 6
#define HEADER_BYTES 8
/* lighttpd 1.4.69 reads about 64 KiB at once while it has nothing left to send, and writes what is more
 * than 64 KiB of whole records to a temporary file: with one record a read, a body stays in memory. Some
 * more wait in the socket, so that neither side stands still. No padding is needed. */
#define CONTENT_MAX LIMIT_STREAM_STEP
#define SOCKET_BUFFER (128 * 1024) /* the kernel doubles it */
#define RECORDS_AT_ONCE 8

struct batch {
    unsigned char headers[RECORDS_AT_ONCE][HEADER_BYTES];
    struct iovec parts[2 * RECORDS_AT_ONCE];
    int count; /* of parts */
};

static void add_record(struct batch *batch, int request_id, const char *data, size_t len)
{
    unsigned char *header = batch->headers[batch->count / 2];
    header[0] = VERSION;
    header[1] = TYPE_STDOUT;
    header[2] = (unsigned char)((unsigned)request_id >> 8);
    header[3] = (unsigned char)request_id;
    header[4] = (unsigned char)(len >> 8);
    header[5] = (unsigned char)len;
    header[6] = 0; /* no padding */
    header[7] = 0;
    batch->parts[batch->count++] = (struct iovec){header, HEADER_BYTES};
    /* writev only reads, but iovec has no const. */
    const union {
        const void *read;
        void *base;
    } content = {data};
    batch->parts[batch->count++] = (struct iovec){content.base, len};
}

static void advance(struct iovec **parts, int *count, size_t written)
{
    while (*count > 0 && written >= (*parts)->iov_len) {
        written -= (*parts)->iov_len;
        ++*parts;
        --*count;
    }
    if (*count > 0) {
        (*parts)->iov_base = (char *)(*parts)->iov_base + written;
        (*parts)->iov_len -= written;
    }
}

static bool write_batch(int fd, struct batch *batch, struct watch *watch)
{
    struct iovec *parts = batch->parts;
    int count = batch->count;
    while (count > 0) {
        if (atomic_load(&watch->timed_out))
            return false;
        ssize_t written = writev(fd, parts, count);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            advance(&parts, &count, (size_t)written);
            atomic_fetch_add(&watch->sent, written);
        }
    }
    return true;
}

void fcgi_records_begin(int fd)
{
    const int size = SOCKET_BUFFER;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* a matter of speed only */
}

bool fcgi_records_write(int fd, int request_id, struct str piece, struct watch *watch)
{
    bool is_written = true;
    atomic_store(&watch->writing, true);
    while (is_written && piece.len > 0) {
        struct batch batch;
        batch.count = 0;
        while (piece.len > 0 && batch.count < 2 * RECORDS_AT_ONCE) {
            size_t len = piece.len < CONTENT_MAX ? piece.len : CONTENT_MAX;
            add_record(&batch, request_id, piece.data, len);
            piece.data += len;
            piece.len -= len;
        }
        is_written = write_batch(fd, &batch, watch);
    }
    atomic_store(&watch->writing, false);
    return is_written;
}
