#include <stdlib.h>

#include "base/limits.h"
#include "base/text.h"
#include "check.h"
#include "files/upload_sink.h"

/* Gives `len` bytes of a pattern in pieces of `piece` bytes, then the end or an error. */
struct pattern_source {
    struct source source;
    unsigned char *bytes;
    size_t len;
    size_t piece;
    size_t at;
    enum err_code end;
};

static enum err_code next_piece(struct source *source, struct str *ret_piece, struct err *err)
{
    struct pattern_source *pattern = (struct pattern_source *)source;
    size_t left = pattern->len - pattern->at;
    size_t len = left < pattern->piece ? left : pattern->piece;
    if (len == 0 && pattern->end != ERR_OK)
        return err_set(err, pattern->end, "test", "the source failed");
    *ret_piece = (struct str){(const char *)pattern->bytes + pattern->at, len};
    pattern->at += len;
    return ERR_OK;
}

static struct pattern_source make_source(size_t len, size_t piece)
{
    struct pattern_source pattern = {{next_piece}, malloc(len + 1), len, piece, 0, ERR_OK};
    for (size_t i = 0; i < len; i++)
        pattern.bytes[i] = (unsigned char)(i * 31 + i / 4096);
    return pattern;
}

static void expect_hash(const struct pattern_source *pattern, const struct upload_result *result)
{
    struct upload_result whole;
    struct err err = {0};
    struct pattern_source again = {{next_piece}, pattern->bytes, pattern->len, pattern->len, 0,
                                   ERR_OK};
    const struct upload_sink_options options = {.max_size = INT64_MAX, .size_hint = 0};
    CHECK_ERR(upload_sink_run(&options, &again.source, &whole, &err), ERR_OK, &err);
    CHECK(memcmp(whole.sha256, result->sha256, sizeof whole.sha256) == 0);
}

TEST(upload_sink, hashes_the_same_however_the_body_is_cut_and_on_any_thread)
{
    static const size_t sizes[] = {0,
                                   1,
                                   4096,
                                   LIMIT_IO_BUFFER - 1,
                                   LIMIT_IO_BUFFER,
                                   LIMIT_IO_BUFFER + 1,
                                   5 * LIMIT_IO_BUFFER + 17};
    static const size_t pieces[] = {1000, 8192, LIMIT_IO_BUFFER * 3};
    struct work_queue *queue = NULL;
    struct err err = {0};
    REQUIRE(work_queue_open(&queue, 2, 0, &err) == ERR_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            struct upload_result result;
            struct pattern_source pattern = make_source(sizes[i], pieces[k]);
            const struct upload_sink_options options = {
                .queue = queue, .max_size = INT64_MAX, .size_hint = -1, .with_md5 = true};
            CHECK_ERR(upload_sink_run(&options, &pattern.source, &result, &err), ERR_OK, &err);
            CHECK_INT(result.size, (int64_t)sizes[i]);
            expect_hash(&pattern, &result);
            free(pattern.bytes);
        }
    work_queue_close(queue);
}

TEST(upload_sink, takes_exactly_the_limit_and_no_byte_more)
{
    struct err err = {0};
    struct upload_result result;
    const struct upload_sink_options options = {.max_size = 5000, .size_hint = -1};
    struct pattern_source fits = make_source(5000, 1024);
    struct pattern_source larger = make_source(5001, 1024);
    CHECK_ERR(upload_sink_run(&options, &fits.source, &result, &err), ERR_OK, &err);
    CHECK_ERR(upload_sink_run(&options, &larger.source, &result, &err), ERR_FILE_TOO_LARGE, &err);
    CHECK_TEXT(err.detail_name, "limit");
    CHECK_INT(err.detail_value, 5000);
    free(fits.bytes);
    free(larger.bytes);
}

TEST(upload_sink, passes_the_source_error_on_and_keeps_the_head)
{
    struct err err = {0};
    struct upload_result result;
    const struct upload_sink_options options = {.max_size = INT64_MAX, .size_hint = 10};
    struct pattern_source broken = make_source(LIMIT_IO_BUFFER * 2, 8192);
    broken.end = ERR_CLIENT_GONE;
    CHECK_ERR(upload_sink_run(&options, &broken.source, &result, &err), ERR_CLIENT_GONE, &err);
    CHECK_INT((int64_t)result.head_len, UPLOAD_HEAD_BYTES);
    CHECK(memcmp(result.head, broken.bytes, UPLOAD_HEAD_BYTES) == 0);
    free(broken.bytes);
}
