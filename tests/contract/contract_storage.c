/* The storage contract: objects, keys, listings. Claims are in contract_storage_claims.c, tags and
 * ranges in contract_storage_read.c, what only S3 does in contract_storage_s3*.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage_contract.h"
#include "store.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"
#define OTHER_KEY "cd/0123456789abcdef0123456789abcdef"

CONTRACT(bytes_survive_the_round_trip)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 262144, 5242880, 5242881, 20 * 1024 * 1024};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char key[LIMIT_KEY_BYTES];
        char *data = malloc(sizes[i] + 1);
        char *back = malloc(sizes[i] + 2);
        REQUIRE(data && back);
        for (size_t at = 0; at < sizes[i]; at++)
            data[at] = (char)(at * 31 + at / 257);
        snprintf(key, sizeof key, "0f/%032zu", sizes[i]);
        CHECK_INT_ROW(label, put_object(storage, key, data, sizes[i]), ERR_OK);
        CHECK_INT_ROW(label, get_object(storage, key, 0, back, sizes[i] + 2, 100000),
                      (int64_t)sizes[i]);
        CHECK_ROW(label, memcmp(data, back, sizes[i]) == 0);
        free(data);
        free(back);
    }
    CHECK_INT_ROW(label, count_objects(storage), sizeof sizes / sizeof sizes[0]);
}

CONTRACT(reading_starts_at_the_offset)
{
    char back[16];
    CHECK_INT_ROW(label, put_object(storage, KEY, "0123456789", 10), ERR_OK);
    CHECK_INT_ROW(label, get_object(storage, KEY, 4, back, sizeof back, 3), 6);
    CHECK_ROW(label, memcmp(back, "456789", 6) == 0);
    CHECK_INT_ROW(label, get_object(storage, KEY, 10, back, sizeof back, 3), 0);
}

CONTRACT(nothing_is_visible_before_commit)
{
    struct err err;
    char tag[STORAGE_TAG_SIZE];
    struct storage_put *handle = NULL;
    struct storage_stat stat;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, -1, &handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(handle, "abc", 3, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_NOT_FOUND, &err);
    CHECK_INT_ROW(label, count_objects(storage), 0);
    CHECK_ERR_ROW(label, commit_content(handle, STR("abc"), tag, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, stat.size, 3);
    CHECK_ROW(label, llabs(stat.modified_ms - clock_wall_ms(&clock_system)) < 60000);
    storage_put_close(handle);
    CHECK_INT_ROW(label, count_objects(storage), 1);
}

CONTRACT(a_put_that_is_closed_without_commit_leaves_nothing)
{
    struct err err;
    struct storage_put *handle = NULL;
    struct storage_stat stat;
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, 3, &handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(handle, "abc", 3, &err), ERR_OK, &err);
    storage_put_close(handle);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_NOT_FOUND, &err);
    CHECK_INT_ROW(label, count_objects(storage), 0);
    storage_put_close(NULL);
}

CONTRACT(a_taken_key_is_never_overwritten)
{
    char back[8];
    CHECK_INT_ROW(label, put_object(storage, KEY, "first", 5), ERR_OK);
    CHECK_INT_ROW(label, put_object(storage, KEY, "other", 5), ERR_EXISTS);
    CHECK_INT_ROW(label, get_object(storage, KEY, 0, back, sizeof back, 8), 5);
    CHECK_ROW(label, memcmp(back, "first", 5) == 0);
    CHECK_INT_ROW(label, count_objects(storage), 1);
}

CONTRACT(what_is_removed_is_gone_once)
{
    struct err err;
    char back[8];
    CHECK_INT_ROW(label, put_object(storage, KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, storage_remove(storage, KEY, &err), ERR_OK, &err);
    /* S3 does not tell. */
    enum err_code again = storage_remove(storage, KEY, &err);
    CHECK_ROW(label, again == ERR_NOT_FOUND || (is_remote(storage) && again == ERR_OK));
    CHECK_INT_ROW(label, get_object(storage, KEY, 0, back, sizeof back, 8), -1);
    CHECK_INT_ROW(label, count_objects(storage), 0);
}

CONTRACT(a_reader_never_gets_other_bytes_than_it_opened)
{
    struct err err;
    const struct storage_wanted wanted = {.key = KEY, .size = 5, .length = -1};
    struct storage_get *handle = NULL;
    char back[8];
    size_t len = 0;
    CHECK_INT_ROW(label, put_object(storage, KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, storage_get_open(storage, &wanted, &handle, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_remove(storage, KEY, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, put_object(storage, KEY, "other", 5), ERR_OK);
    enum err_code code = storage_get_read(handle, back, sizeof back, &len, &err);
    if (code == ERR_OK)
        CHECK_ROW(label, len == 5 && memcmp(back, "bytes", 5) == 0);
    CHECK_ROW(label, code == ERR_OK || is_remote(storage));
    storage_get_close(handle);
}

CONTRACT(the_sendfile_path_is_checked)
{
    struct err err;
    struct buf path;
    if (!(storage_capabilities(storage) & STORAGE_CAN_SENDFILE))
        return;
    buf_init(&path, 4096);
    CHECK_INT_ROW(label, put_object(storage, KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, storage_sendfile_path(storage, KEY, 5, &path, &err), ERR_OK, &err);
    FILE *file = fopen(buf_text(&path), "rb");
    char back[8] = "";
    CHECK_ROW(label, buf_text(&path)[0] == '/' && file && fread(back, 1, 8, file) == 5);
    CHECK_ROW(label, memcmp(back, "bytes", 5) == 0);
    if (file)
        fclose(file);
    CHECK_ERR_ROW(label, storage_sendfile_path(storage, KEY, 6, &path, &err), ERR_STORAGE, &err);
    CHECK_ERR_ROW(label, storage_sendfile_path(storage, OTHER_KEY, 5, &path, &err), ERR_NOT_FOUND,
                  &err);
    buf_release(&path);
}

CONTRACT(keys_outside_the_grammar_are_refused)
{
    static const char *const keys[] = {
        "",
        "ab",
        "ab/",
        "/ab/cd",
        "../cd",
        "ab/../cd",
        "ab/..",
        "ab/.x",
        "ab/x/y",
        "AB/x",
        "ab/X",
        "ab/x y",
        "ag/x",
        "abc/x",
        "ab/x..y",
        "ab\\x",
        "ab/\xc3\xa9",
        "ab//x",
        "a/x",
        "ab/x\n",
        "./ab/x",
        "ab/"
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "0123456789abcdef0123456789abcdef0123456789abcdef",
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct err err;
        struct storage_put *handle = NULL;
        struct storage_stat stat;
        CHECK_ERR_ROW(keys[i], storage_put_begin(storage, keys[i], 1, &handle, &err), ERR_INTERNAL,
                      &err);
        CHECK_ERR_ROW(keys[i], storage_stat_object(storage, keys[i], &stat, &err), ERR_INTERNAL,
                      &err);
        CHECK_ERR_ROW(keys[i], storage_remove(storage, keys[i], &err), ERR_INTERNAL, &err);
    }
    CHECK_INT_ROW(label, count_objects(storage), 0);
}

struct listed {
    int seen[64];
    int wrong;
};

static enum err_code note_object(void *context, const char *key, const struct storage_stat *stat,
                                 struct err *err)
{
    struct listed *listed = context;
    (void)err;
    if (stat->size < 0 || stat->size >= 64 || key[2] != '/')
        listed->wrong++;
    else
        listed->seen[stat->size]++;
    return ERR_OK;
}

static enum err_code stop_listing(void *context, const char *key, const struct storage_stat *stat,
                                  struct err *err)
{
    (void)key;
    (void)stat;
    ++*(int *)context;
    return err_set(err, ERR_CLIENT_GONE, "test", "enough");
}

CONTRACT(a_listing_shows_each_object_once)
{
    struct err err;
    struct listed listed = {.wrong = 0};
    int calls = 0;
    char data[64] = "";
    for (unsigned i = 0; i < 64; i++) {
        char key[LIMIT_KEY_BYTES];
        snprintf(key, sizeof key, "%02x/%032u", i * 4, i);
        CHECK_INT_ROW(label, put_object(storage, key, data, i), ERR_OK);
    }
    CHECK_ERR_ROW(label, storage_list(storage, note_object, &listed, &err), ERR_OK, &err);
    for (int i = 0; i < 64; i++)
        CHECK_INT_ROW(label, listed.seen[i], 1);
    CHECK_INT_ROW(label, listed.wrong, 0);
    CHECK_ERR_ROW(label, storage_list(storage, stop_listing, &calls, &err), ERR_CLIENT_GONE, &err);
    CHECK_INT_ROW(label, calls, 1);
}

CONTRACT(ping_succeeds_and_leaves_nothing)
{
    struct err err;
    CHECK_ERR_ROW(label, storage_ping(storage, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, count_objects(storage), 0);
}

CONTRACT(connections_are_idle_between_calls)
{
    struct err err;
    struct pool_usage usage;
    CHECK_ERR_ROW(label, storage_ping(storage, &err), ERR_OK, &err);
    bool has_any = storage_connections(storage, &usage);
    CHECK_ROW(label, has_any == ((storage_capabilities(storage) & STORAGE_WAITS) != 0));
    if (!has_any)
        return;
    CHECK_INT_ROW(label, usage.busy, 0);
    CHECK_INT_ROW(label, usage.idle, 1);
}

CONTRACT(the_mark_is_written_once_replaced_when_asked_and_never_listed)
{
    struct err err;
    char text[STORAGE_MARK_SIZE] = "";
    char longest[STORAGE_MARK_SIZE];
    memset(longest, 'm', LIMIT_MARK_BYTES);
    longest[LIMIT_MARK_BYTES] = '\0';
    /* A server's bucket may have it from another run. */
    enum err_code first = storage_read_mark(storage, text, &err);
    CHECK_ROW(label, first == ERR_NOT_FOUND || (first == ERR_OK && is_remote(storage)));
    CHECK_ERR_ROW(label, storage_write_mark(storage, "one\n", first == ERR_OK, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_write_mark(storage, "two\n", false, &err), ERR_EXISTS, &err);
    CHECK_ERR_ROW(label, storage_read_mark(storage, text, &err), ERR_OK, &err);
    CHECK_STR_ROW(label, str_of(text), "one\n");
    CHECK_ERR_ROW(label, storage_write_mark(storage, longest, true, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_read_mark(storage, text, &err), ERR_OK, &err);
    CHECK_STR_ROW(label, str_of(text), longest);
    CHECK_INT_ROW(label, count_objects(storage), 0);
    CHECK_ERR_ROW(label, storage_ping(storage, &err), ERR_OK, &err);
}
