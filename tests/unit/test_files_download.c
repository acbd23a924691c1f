/* Downloads that the program sends itself, and the sweep of a store without claims. */
#include <stdlib.h>
#include <unistd.h>

#include "base/limits.h"
#include "check.h"
#include "files/files_open.h"
#include "files/files_sweep.h"
#include "world.h"

#define LARGE (3 * LIMIT_IO_BUFFER + 77)

static char *make_content(size_t len)
{
    char *content = malloc(len);
    for (size_t i = 0; content && i < len; i++)
        content[i] = (char)(i * 7 + i / 251);
    return content;
}

/* Reads a range into `target`; how the source ended, with the bytes it gave in *ret_len. */
static enum err_code read_range(struct world *world, const struct file *file, int64_t offset,
                                int64_t length, struct buf *target)
{
    const struct download_part part = {offset, length};
    struct download *download = NULL;
    struct str piece = {NULL, 1};
    struct err err = {0};
    buf_reset(target);
    enum err_code code = files_download_open(&world->files, file, &part, &download, &err);
    while (code == ERR_OK && piece.len > 0) {
        code = source_next(files_download_source(download), &piece, &err);
        if (code == ERR_OK)
            buf_append_str(target, piece);
    }
    files_download_close(download);
    return code;
}

TEST(files_download, gives_every_range_of_a_file)
{
    static const struct {
        const char *name;
        int64_t offset;
        int64_t length;
    } rows[] = {{"whole", 0, LARGE},
                {"first byte", 0, 1},
                {"last byte", LARGE - 1, 1},
                {"across pieces", LIMIT_IO_BUFFER - 1, LIMIT_IO_BUFFER + 2},
                {"one piece", 0, LIMIT_IO_BUFFER},
                {"more than one piece", 0, LIMIT_IO_BUFFER + 1},
                {"whole records", 0, 5LL * LIMIT_STREAM_STEP}};
    struct world world;
    struct err err = {0};
    struct file file;
    struct buf out;
    char id[ID_SIZE];
    char *content = make_content(LARGE);
    REQUIRE(content && open_remote_world(&world));
    buf_init(&out, 1 << 20);
    CHECK_ERR(upload(&world, "a.bin", (struct str){content, LARGE}, 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    CHECK(files_download_way(&world.files) == DOWNLOAD_BY_STREAM);
    CHECK_ERR(files_download_probe(&world.files, &file, &err), ERR_OK, &err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_INT_ROW(rows[i].name, read_range(&world, &file, rows[i].offset, rows[i].length, &out),
                      ERR_OK);
        CHECK_ROW(rows[i].name, str_equal(buf_str(&out), (struct str){content + rows[i].offset,
                                                                      (size_t)rows[i].length}));
    }
    buf_release(&out);
    free(content);
    close_world(&world);
}

TEST(files_download, of_an_empty_file_is_empty)
{
    struct world world;
    struct err err = {0};
    struct file file;
    struct buf out;
    char id[ID_SIZE];
    REQUIRE(open_remote_world(&world));
    buf_init(&out, 16);
    CHECK_ERR(upload(&world, "empty", STR(""), 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    CHECK_INT(read_range(&world, &file, 0, 0, &out), ERR_OK);
    CHECK_INT((int64_t)out.len, 0);
    buf_release(&out);
    close_world(&world);
}

/* Changes the byte at `offset` of the object behind our back; or cuts it there. */
static void tamper(const struct world *world, const struct file *file, long offset, bool cut)
{
    char path[2 * CONFIG_TEXT_SIZE];
    snprintf(path, sizeof path, "%s/objects/%s", world->config.data_dir, file->key);
    if (cut) {
        CHECK(truncate(path, offset) == 0);
        return;
    }
    FILE *stream = fopen(path, "r+");
    REQUIRE(stream);
    CHECK(fseek(stream, offset, SEEK_SET) == 0 && fputc('!', stream) != EOF);
    fclose(stream);
}

TEST(files_download, never_ends_well_with_wrong_bytes)
{
    struct world world;
    struct err err = {0};
    struct file small;
    struct file large;
    struct buf out;
    char id[ID_SIZE];
    char *content = make_content(LARGE);
    REQUIRE(content && open_remote_world(&world));
    buf_init(&out, 1 << 20);
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &small, &err), ERR_OK, &err);
    CHECK_ERR(upload(&world, "b.bin", (struct str){content, LARGE}, 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &large, &err), ERR_OK, &err);
    tamper(&world, &small, 4, false);
    tamper(&world, &large, 5, false);
    CHECK_INT(read_range(&world, &small, 0, 5, &out), ERR_STORAGE);
    CHECK_INT((int64_t)out.len, 0); /* refused before anything is answered */
    CHECK_INT(read_range(&world, &large, 0, LARGE, &out), ERR_STORAGE);
    CHECK((int64_t)out.len < LARGE);
    tamper(&world, &large, 100, true);
    CHECK_INT(read_range(&world, &large, 0, 10, &out), ERR_STORAGE);
    CHECK_ERR(files_download_probe(&world.files, &large, &err), ERR_STORAGE, &err);
    CHECK_ERR(storage_remove(world.files.storage, large.key, &err), ERR_OK, &err);
    /* A young object may not be visible yet. */
    CHECK_INT(read_range(&world, &large, 0, 10, &out), ERR_STORAGE_UNAVAILABLE);
    CHECK_ERR(files_download_probe(&world.files, &large, &err), ERR_STORAGE_UNAVAILABLE, &err);
    large.created_ms -= LIMIT_VISIBLE_MS;
    CHECK_INT(read_range(&world, &large, 0, 10, &out), ERR_INTERNAL);
    CHECK_ERR(files_download_probe(&world.files, &large, &err), ERR_INTERNAL, &err);
    large.created_ms += 3 * LIMIT_VISIBLE_MS;
    CHECK_INT(read_range(&world, &large, 0, 10, &out), ERR_INTERNAL);
    buf_release(&out);
    free(content);
    close_world(&world);
}

TEST(files_download, of_a_file_that_is_deleted_meanwhile_is_not_found)
{
    struct world world;
    struct err err = {0};
    struct file file;
    struct buf out;
    char id[ID_SIZE];
    enum err_code result = ERR_INTERNAL;
    const char *ids[] = {id};
    REQUIRE(open_remote_world(&world));
    buf_init(&out, 16);
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    const struct file_marking marking = {
        .ids = ids, .count = 1, .now_ms = clock_wall_ms(&clock_system), .results = &result};
    CHECK_ERR(metadata_file_mark_deleted(world.files.metadata, &marking, &err), ERR_OK, &err);
    CHECK_ERR(storage_remove(world.files.storage, file.key, &err), ERR_OK, &err);
    CHECK_INT(read_range(&world, &file, 0, 5, &out), ERR_NOT_FOUND);
    file.status = FILE_DAMAGED;
    CHECK_INT(read_range(&world, &file, 0, 5, &out), ERR_INTERNAL);
    buf_release(&out);
    close_world(&world);
}

#define ORPHAN_KEY "aa/00000000000000000000000000000001"

static void make_orphan(const struct world *world)
{
    static const unsigned char sha256[32];
    struct err err = {0};
    char tag[STORAGE_TAG_SIZE];
    struct storage_put *put = NULL;
    CHECK_ERR(storage_put_begin(world->files.storage, ORPHAN_KEY, -1, &put, &err), ERR_OK, &err);
    CHECK_ERR(storage_put_write(put, "abc", 3, &err), ERR_OK, &err);
    CHECK_ERR(storage_put_commit(put, sha256, tag, &err), ERR_OK, &err);
    storage_put_close(put);
}

/* Who is late with the row of an object that was swept must fail: its bytes are gone. */
TEST(files_sweep, fences_the_key_of_an_orphan_where_there_are_no_claims)
{
    struct world world;
    struct err err = {0};
    struct sweep_result swept;
    struct file late;
    char id[ID_SIZE];
    REQUIRE(open_remote_world(&world));
    CHECK_ERR(upload(&world, "a.txt", STR("hello"), 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &late, &err), ERR_OK, &err);
    make_orphan(&world);
    world.config.sweep_grace_seconds = 0;
    CHECK_ERR(files_sweep(&world.files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.orphans, 1);
    CHECK_INT(swept.deleted, 0);
    id_new(&clock_system, late.id);
    snprintf(late.key, sizeof late.key, ORPHAN_KEY);
    usleep(2000);
    CHECK_ERR(metadata_file_insert(world.files.metadata, &late, NULL, &err), ERR_EXISTS, &err);
    CHECK_ERR(files_sweep(&world.files, 0, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.deleted, 1); /* the fence, now that it is due */
    CHECK_ERR(metadata_file_insert(world.files.metadata, &late, NULL, &err), ERR_OK, &err);
    close_world(&world);
}

TEST(files_sweep, keeps_a_fence_for_as_long_as_the_grace)
{
    struct world world;
    struct err err = {0};
    struct sweep_result swept;
    bool known = false;
    const char *key = ORPHAN_KEY;
    REQUIRE(open_remote_world(&world));
    make_orphan(&world);
    usleep(1100 * 1000);
    CHECK_ERR(files_sweep(&world.files, 1, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.orphans, 1);
    CHECK_ERR(files_sweep_deleted(&world.files, &swept, &err), ERR_OK, &err);
    CHECK_INT(swept.deleted, 0);
    CHECK_ERR(metadata_keys_known(world.files.metadata, &key, 1, &known, &err), ERR_OK, &err);
    CHECK(known);
    close_world(&world);
}
