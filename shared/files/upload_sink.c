#include "files/upload_sink.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/digest.h"
#include "base/limits.h"
#include "base/text.h"

#define SMALL_BUFFER (16 * 1024)
#define NETWORK_BUFFER (128 * 1024) /* where the put gathers larger parts itself */

struct sink_buffer {
    unsigned char *data;
    size_t len;
    size_t size;
};

struct upload_sink {
    struct work step; /* first member: step_run gets the sink back from it */
    const struct upload_sink_options *options;
    struct digest *sha256;
    struct digest *md5;
    struct text_utf8 utf8;
    struct sink_buffer filling;  /* the caller's */
    struct sink_buffer flushing; /* the step's while it is pending */
    enum err_code flush_code;
    struct err flush_err;
    struct upload_result *result;
    bool has_begun; /* the caller knows how the file begins */
};

static void hash_buffer(struct upload_sink *sink)
{
    const struct sink_buffer *buffer = &sink->flushing;
    digest_update(sink->sha256, buffer->data, buffer->len);
    if (sink->md5)
        digest_update(sink->md5, buffer->data, buffer->len);
    if (sink->options->with_utf8)
        text_utf8_add(&sink->utf8, buffer->data, buffer->len);
}

static void write_buffer(struct upload_sink *sink)
{
    const struct sink_buffer *buffer = &sink->flushing;
    if (sink->options->put && buffer->len > 0)
        sink->flush_code =
            storage_put_write(sink->options->put, buffer->data, buffer->len, &sink->flush_err);
}

static void step_run(struct work *step)
{
    struct upload_sink *sink = (struct upload_sink *)step;
    hash_buffer(sink);
    if (!sink->options->put_waits)
        write_buffer(sink);
}

/* Hashes and writes what is to be flushed, without the caller where the pool can do it. */
static void flush_buffer(struct upload_sink *sink)
{
    if (!sink->options->queue) {
        hash_buffer(sink);
        write_buffer(sink);
        return;
    }
    work_queue_submit(sink->options->queue, &sink->step);
    if (sink->options->put_waits)
        write_buffer(sink);
}

static enum err_code wait_for_flush(struct upload_sink *sink, struct err *err)
{
    if (sink->options->queue)
        work_queue_wait(sink->options->queue, &sink->step);
    if (sink->flush_code != ERR_OK)
        *err = sink->flush_err;
    return sink->flush_code;
}

static size_t large_buffer(const struct upload_sink_options *options)
{
    return options->put_waits ? NETWORK_BUFFER : LIMIT_IO_BUFFER;
}

static enum err_code make_buffer(struct sink_buffer *buffer, size_t size, struct err *err)
{
    if (buffer->data)
        return ERR_OK;
    buffer->data = malloc(size);
    if (!buffer->data)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "upload", "out of memory");
    buffer->size = size;
    buffer->len = 0;
    return ERR_OK;
}

static void tell_beginning(struct upload_sink *sink)
{
    if (sink->options->begins && !sink->has_begun)
        sink->options->begins(sink->options->context, sink->result);
    sink->has_begun = true;
}

/* Hands the full buffer over and takes the other one. */
static enum err_code turn_buffers(struct upload_sink *sink, struct err *err)
{
    enum err_code code = wait_for_flush(sink, err);
    if (code == ERR_OK)
        code = make_buffer(&sink->flushing, large_buffer(sink->options), err);
    if (code != ERR_OK)
        return code;
    struct sink_buffer full = sink->filling;
    sink->filling = sink->flushing;
    sink->filling.len = 0;
    sink->flushing = full;
    tell_beginning(sink);
    flush_buffer(sink);
    return ERR_OK;
}

static void keep_head(struct upload_result *result, struct str piece)
{
    size_t room = sizeof result->head - result->head_len;
    size_t len = piece.len < room ? piece.len : room;
    memcpy(result->head + result->head_len, piece.data, len);
    result->head_len += len;
}

enum err_code upload_too_large(int64_t max_size, struct err *err)
{
    err_set(err, ERR_FILE_TOO_LARGE, "upload", "The file is larger than %" PRId64 " bytes.",
            max_size);
    err_detail(err, "limit", max_size);
    return ERR_FILE_TOO_LARGE;
}

static enum err_code take_piece(struct upload_sink *sink, struct str piece, struct err *err)
{
    struct upload_result *result = sink->result;
    if ((int64_t)piece.len > sink->options->max_size - result->size)
        return upload_too_large(sink->options->max_size, err);
    result->size += (int64_t)piece.len;
    if (result->head_len < sizeof result->head)
        keep_head(result, piece);
    while (piece.len > 0) {
        struct sink_buffer *buffer = &sink->filling;
        if (buffer->len == buffer->size) {
            enum err_code code = turn_buffers(sink, err);
            if (code != ERR_OK)
                return code;
        }
        size_t room = buffer->size - buffer->len;
        size_t len = piece.len < room ? piece.len : room;
        memcpy(buffer->data + buffer->len, piece.data, len);
        buffer->len += len;
        piece.data += len;
        piece.len -= len;
    }
    return ERR_OK;
}

static size_t first_buffer_size(const struct upload_sink_options *options)
{
    bool is_small = options->size_hint >= 0 && options->size_hint <= SMALL_BUFFER;
    return is_small ? SMALL_BUFFER : large_buffer(options);
}

static enum err_code open_sink(struct upload_sink *sink, struct err *err)
{
    enum err_code code = digest_open(&sink->sha256, DIGEST_SHA256, err);
    if (code == ERR_OK && sink->options->with_md5)
        code = digest_open(&sink->md5, DIGEST_MD5, err);
    if (code == ERR_OK)
        code = make_buffer(&sink->filling, first_buffer_size(sink->options), err);
    return code;
}

/* Flushes the last buffer on this thread and finishes the digests. */
static enum err_code finish_sink(struct upload_sink *sink, struct err *err)
{
    enum err_code code = wait_for_flush(sink, err);
    if (code != ERR_OK)
        return code;
    struct sink_buffer last = sink->filling;
    sink->filling = sink->flushing;
    sink->flushing = last;
    tell_beginning(sink);
    hash_buffer(sink);
    write_buffer(sink);
    if (sink->flush_code != ERR_OK) {
        *err = sink->flush_err;
        return sink->flush_code;
    }
    sink->result->is_utf8 = sink->options->with_utf8 && text_utf8_holds(&sink->utf8);
    if (code == ERR_OK)
        code = digest_finish(sink->sha256, sink->result->sha256, err);
    if (code == ERR_OK && sink->md5)
        code = digest_finish(sink->md5, sink->result->md5, err);
    return code;
}

enum err_code upload_sink_run(const struct upload_sink_options *options, struct source *source,
                              struct upload_result *ret_result, struct err *err)
{
    struct upload_sink sink = {.step = {.run = step_run}, .options = options, .result = ret_result};
    struct str piece;
    ret_result->size = 0;
    ret_result->head_len = 0;
    enum err_code code = open_sink(&sink, err);
    while (code == ERR_OK) {
        code = source_next(source, &piece, err);
        if (code != ERR_OK || piece.len == 0)
            break;
        code = take_piece(&sink, piece, err);
    }
    if (code == ERR_OK)
        code = finish_sink(&sink, err);
    else if (options->queue)
        work_queue_wait(options->queue, &sink.step);
    digest_close(sink.sha256);
    digest_close(sink.md5);
    free(sink.filling.data);
    free(sink.flushing.data);
    return code;
}
