/* The storage contract: what was wanted is what is read, or nothing is; copies; types; hints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage_contract.h"
#include "store.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"
#define OTHER_KEY "cd/0123456789abcdef0123456789abcdef"
#define MISSING_KEY "ef/0123456789abcdef0123456789abcdef"
#define MIB (1024 * 1024)

static bool has_tags(const struct storage *storage)
{
    return (storage_capabilities(storage) & STORAGE_HAS_TAGS) != 0;
}

CONTRACT(ranges_are_exact)
{
    static const struct {
        int64_t size;
        int64_t offset;
        int64_t length;
        const char *want;
    } ranges[] = {
        {10, 0, -1, "0123456789"}, {10, 0, 10, "0123456789"}, {10, 0, 1, "0"},  {10, 4, 3, "456"},
        {10, 9, 1, "9"},           {10, 9, -1, "9"},          {10, 3, 0, ""},   {10, 10, -1, ""},
        {10, 10, 0, ""},           {-1, 0, -1, "0123456789"}, {-1, 2, 2, "23"}, {-1, 7, -1, "789"},
        {-1, 10, -1, ""},          {-1, 0, 10, "0123456789"}, {-1, 0, 0, ""},
    };
    struct err err;
    CHECK_INT_ROW(label, put_object(storage, KEY, "0123456789", 10), ERR_OK);
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        const struct storage_wanted wanted = {.key = KEY,
                                              .size = ranges[i].size,
                                              .offset = ranges[i].offset,
                                              .length = ranges[i].length};
        char back[16] = "";
        char row[64];
        snprintf(row, sizeof row, "%s, range %zu", label, i);
        CHECK_INT_ROW(row, get_wanted(storage, &wanted, back, sizeof back, &err),
                      (int64_t)strlen(ranges[i].want));
        CHECK_STR_ROW(row, str_of(back), ranges[i].want);
    }
}

CONTRACT(an_object_of_another_size_or_tag_is_not_read)
{
    static const struct {
        const char *key;
        int64_t size;
        bool other_tag;
        int64_t offset;
        int64_t length;
        enum err_code want;
    } rows[] = {
        {KEY, 5, false, 0, -1, ERR_OK},
        {KEY, 4, false, 0, -1, ERR_STORAGE},
        {KEY, 6, false, 0, -1, ERR_STORAGE},
        {KEY, 6, false, 1, 2, ERR_STORAGE},
        {KEY, 0, false, 0, -1, ERR_STORAGE},
        {KEY, 6, false, 6, 0, ERR_STORAGE},
        {KEY, 5, true, 0, -1, ERR_STORAGE},
        {KEY, 5, true, 1, 2, ERR_STORAGE},
        {KEY, 5, true, 5, 0, ERR_STORAGE},
        {MISSING_KEY, 5, false, 0, -1, ERR_NOT_FOUND},
        {MISSING_KEY, 5, true, 1, 2, ERR_NOT_FOUND},
        {MISSING_KEY, 0, false, 0, -1, ERR_NOT_FOUND},
        {MISSING_KEY, -1, false, 3, -1, ERR_NOT_FOUND},
    };
    struct err err;
    char tag[STORAGE_TAG_SIZE];
    const struct put_options options = {.size_hint = 5, .step = 5, .ret_tag = tag};
    CHECK_INT_ROW(label, put_object_with(storage, KEY, STR("bytes"), &options, &err), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct storage_wanted wanted = {
            .key = rows[i].key,
            .size = rows[i].size,
            .tag = rows[i].other_tag ? "\"0123456789abcdef0123456789abcdef\"" : tag,
            .offset = rows[i].offset,
            .length = rows[i].length};
        struct storage_get *handle = NULL;
        char row[64];
        snprintf(row, sizeof row, "%s, row %zu", label, i);
        if (rows[i].other_tag && !has_tags(storage))
            continue;
        CHECK_ERR_ROW(row, storage_get_open(storage, &wanted, &handle, &err), rows[i].want, &err);
        if (handle)
            storage_get_close(handle);
    }
}

CONTRACT(what_was_changed_behind_our_back_is_not_read)
{
    struct err err;
    char tag[STORAGE_TAG_SIZE];
    char back[8];
    struct storage_stat stat;
    const struct put_options options = {.size_hint = 5, .step = 5, .ret_tag = tag};
    const struct storage_wanted wanted = {.key = KEY, .size = 5, .tag = tag, .length = -1};
    CHECK_INT_ROW(label, put_object_with(storage, KEY, STR("bytes"), &options, &err), ERR_OK);
    CHECK_ERR_ROW(label, storage_stat_object(storage, KEY, &stat, &err), ERR_OK, &err);
    CHECK_STR_ROW(label, str_of(stat.tag), tag);
    if (!has_tags(storage)) {
        CHECK_STR_ROW(label, str_of(tag), "");
        return;
    }
    CHECK_ROW(label, tag[0] == '"' && strlen(tag) > 2);
    CHECK_INT_ROW(label, get_wanted(storage, &wanted, back, sizeof back, &err), 5);
    CHECK_ERR_ROW(label, storage_remove(storage, KEY, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, put_object(storage, KEY, "other", 5), ERR_OK);
    CHECK_INT_ROW(label, get_wanted(storage, &wanted, back, sizeof back, &err), -1);
    CHECK_INT_ROW(label, err.code, ERR_STORAGE);
}

/* ---- hints ---- */

CONTRACT(a_hint_of_the_size_is_only_a_hint)
{
    static const struct {
        size_t size;
        int64_t hint;
        size_t step;
    } rows[] = {
        {100, 0, 100},
        {100, -1, 7},
        {100, 1, 100},
        {100, 99, 33},
        {100, 1 << 30, 100},
        {6 * MIB, 1, 65536},
        {6 * MIB, 5 * MIB, 1000000},
        {12 * MIB, -1, 12 * MIB},
        {11 * MIB, 12345, 77777},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        char row[64];
        char *content = make_content(rows[i].size, (unsigned)i);
        char *back = malloc(rows[i].size + 1);
        const struct put_options options = {
            .size_hint = rows[i].hint, .step = rows[i].step, .mime = "text/plain"};
        snprintf(row, sizeof row, "%s, row %zu", label, i);
        CHECK_ERR_ROW(
            row, put_object_with(storage, KEY, (struct str){content, rows[i].size}, &options, &err),
            ERR_OK, &err);
        CHECK_INT_ROW(row, get_object(storage, KEY, 0, back, rows[i].size + 1, LIMIT_IO_BUFFER),
                      (int64_t)rows[i].size);
        CHECK_ROW(row, memcmp(content, back, rows[i].size) == 0);
        CHECK_ERR_ROW(row, storage_remove(storage, KEY, &err), ERR_OK, &err);
        free(content);
        free(back);
    }
}

CONTRACT(purging_leaves_objects_and_young_uploads)
{
    struct err err;
    int purged = -1;
    char tag[STORAGE_TAG_SIZE];
    struct storage_put *put = NULL;
    char *content = make_content(12 * MIB, 3);
    int64_t now_ms = clock_wall_ms(&clock_system);
    CHECK_INT_ROW(label, put_object(storage, OTHER_KEY, "bytes", 5), ERR_OK);
    CHECK_ERR_ROW(label, storage_put_begin(storage, KEY, -1, &put, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(put, content, 12 * MIB, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_purge_unfinished(storage, now_ms - 3600000, &purged, &err), ERR_OK,
                  &err);
    CHECK_INT_ROW(label, purged, 0);
    CHECK_ERR_ROW(label, commit_content(put, (struct str){content, 12 * MIB}, tag, &err), ERR_OK,
                  &err);
    storage_put_close(put);
    CHECK_ERR_ROW(label, storage_purge_unfinished(storage, now_ms + 3600000, &purged, &err), ERR_OK,
                  &err);
    CHECK_INT_ROW(label, purged, 0);
    CHECK_INT_ROW(label, count_objects(storage), 2);
    free(content);
}
