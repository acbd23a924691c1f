/* Listings, against a plain model: filter and sort all rows in memory. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract_metadata.h"

#define ROWS 240
#define SLOW_ROWS 45 /* has no factor in common with 7919, as ROWS */

static const char *const owners[] = {"alice", "bob"};
static const char *const mimes[] = {"text/plain", "image/png", "text/plain; charset=utf-8"};
static const char *const stems[] = {
    "a", "ab", "abc", "B", "\xc3\xa9t\xc3\xa9", "z%_", "\x7f", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"};

struct model {
    struct file files[ROWS];
    int order[ROWS]; /* of the rows a query finds */
    int found;
    int rows;
    int first_limit; /* of those tried */
};

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* Rows with few different names, sizes and times, so that ids break many ties. */
static void model_fill(struct model *model, struct metadata *metadata, const char *label)
{
    for (int i = 0; i < model->rows; i++) {
        struct err err;
        struct file *file = &model->files[i];
        int mixed = (i * 7919) % model->rows;
        store_file(file, mixed, owners[mixed % 3 == 0]);
        snprintf(file->name, sizeof file->name, "%s%d", stems[mixed % COUNT_OF(stems)], mixed % 4);
        snprintf(file->mime, sizeof file->mime, "%s", mimes[mixed % COUNT_OF(mimes)]);
        file->size = mixed % 9;
        file->created_ms = STORE_NOW_MS - mixed % 11;
        file->expires_ms = mixed % 10 == 0 ? STORE_NOW_MS : mixed % 10 == 1 ? STORE_NOW_MS + 1 : 0;
        CHECK_ERR_ROW(label, metadata_file_insert(metadata, file, NULL, &err), ERR_OK, &err);
    }
}

static bool matches(const struct file *file, const struct file_query *query)
{
    return (file->expires_ms == 0 || file->expires_ms > STORE_NOW_MS) &&
           (query->owner.len == 0 || str_equal(query->owner, str_of(file->owner))) &&
           (query->mime.len == 0 || str_equal(query->mime, str_of(file->mime))) &&
           str_starts_with(str_of(file->name), query->prefix);
}

static int compare(const struct file *a, const struct file *b, enum file_sort sort)
{
    int order = 0;
    if (sort == SORT_NAME)
        order = strcmp(a->name, b->name);
    else if (sort == SORT_SIZE)
        order = (a->size > b->size) - (a->size < b->size);
    else
        order = (a->created_ms > b->created_ms) - (a->created_ms < b->created_ms);
    order = order ? order : strcmp(a->id, b->id);
    return sort == SORT_CREATED_DESC ? -order : order;
}

static void model_query(struct model *model, const struct file_query *query)
{
    model->found = 0;
    for (int i = 0; i < model->rows; i++) {
        if (!matches(&model->files[i], query))
            continue;
        int at = model->found++;
        for (; at > 0 &&
               compare(&model->files[model->order[at - 1]], &model->files[i], query->sort) > 0;
             at--)
            model->order[at] = model->order[at - 1];
        model->order[at] = i;
    }
}

struct walk {
    const struct model *model;
    int at;
    int wrong;
};

static enum err_code expect_row(void *context, const struct file *file, struct err *err)
{
    struct walk *walk = context;
    (void)err;
    if (walk->at >= walk->model->found ||
        strcmp(file->id, walk->model->files[walk->model->order[walk->at]].id) != 0)
        walk->wrong++;
    walk->at++;
    return ERR_OK;
}

static void walk_by_cursor(struct metadata *metadata, const struct model *model,
                           struct file_query query, const char *label)
{
    struct walk walk = {.model = model};
    struct file_page page = {.more = true};
    for (int pages = 0; page.more && pages <= ROWS; pages++) {
        struct err err;
        CHECK_ERR_ROW(label,
                      store_list(metadata, &query, STORE_NOW_MS, expect_row, &walk, &page, &err),
                      ERR_OK, &err);
        CHECK_INT_ROW(label, page.total, model->found);
        CHECK_INT_ROW(label, page.more, walk.at < model->found);
        query.after = page.last;
    }
    CHECK_INT_ROW(label, walk.at, model->found);
    CHECK_INT_ROW(label, walk.wrong, 0);
}

static void walk_by_offset(struct metadata *metadata, const struct model *model,
                           struct file_query query, const char *label)
{
    struct walk walk = {.model = model};
    for (query.offset = 0; query.offset <= model->found; query.offset += query.limit) {
        struct err err;
        struct file_page page;
        walk.at = query.offset;
        CHECK_ERR_ROW(label,
                      store_list(metadata, &query, STORE_NOW_MS, expect_row, &walk, &page, &err),
                      ERR_OK, &err);
        CHECK_INT_ROW(label, page.total, model->found);
    }
    CHECK_INT_ROW(label, walk.wrong, 0);
}

static void check_query(struct metadata *metadata, struct model *model, struct file_query query)
{
    static const int limits[] = {1, 7, LIMIT_PAGE};
    char label[128];
    model_query(model, &query);
    for (int i = model->first_limit; i < COUNT_OF(limits); i++) {
        query.limit = limits[i];
        snprintf(label, sizeof label, "sort %d owner %.*s prefix %.*s mime %.*s limit %d",
                 (int)query.sort, (int)query.owner.len, query.owner.data, (int)query.prefix.len,
                 query.prefix.data, (int)query.mime.len, query.mime.data, query.limit);
        walk_by_cursor(metadata, model, query, label);
        walk_by_offset(metadata, model, query, label);
    }
}

CONTRACT(every_listing_agrees_with_the_model_by_cursor_and_offset)
{
    static const char *const prefixes[] = {"",   "a", "ab",   "\xc3\xa9",     "\x7f",
                                           "z%", "%", "none", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"};
    static const char *const asked_mimes[] = {"", "text/plain", "no/such"};
    struct model *model = calloc(1, sizeof *model);
    REQUIRE(model);
    model->rows = store->is_slow ? SLOW_ROWS : ROWS;
    model->first_limit = store->is_slow ? 1 : 0;
    model_fill(model, metadata, label);
    for (int sort = SORT_CREATED; sort <= SORT_SIZE; sort++)
        for (int owner = 0; owner <= 1; owner++)
            for (int prefix = 0; prefix < COUNT_OF(prefixes); prefix++)
                for (int mime = 0; mime < COUNT_OF(asked_mimes); mime++)
                    check_query(metadata, model,
                                (struct file_query){.sort = (enum file_sort)sort,
                                                    .owner = str_of(owner ? "alice" : ""),
                                                    .prefix = str_of(prefixes[prefix]),
                                                    .mime = str_of(asked_mimes[mime])});
    free(model);
}

struct seen {
    int count[2 * ROWS];
    int outside;
};

static enum err_code see(void *context, const struct file *file, struct err *err)
{
    struct seen *seen = context;
    (void)err;
    if (file->size >= 0 && file->size < 2 * ROWS)
        seen->count[file->size]++;
    else
        seen->outside++;
    return ERR_OK;
}

/* Even rows stay; odd ones come and go between pages. */
CONTRACT(pages_neither_repeat_nor_skip_while_rows_come_and_go)
{
    static const enum file_sort sorts[] = {SORT_CREATED, SORT_CREATED_DESC, SORT_NAME, SORT_SIZE};
    int rows = store->is_slow ? SLOW_ROWS : ROWS;
    for (int i = 0; i < rows; i++)
        CHECK_INT_ROW(label, insert_row(metadata, 2 * i, "alice"), ERR_OK);
    for (int i = 0; i < COUNT_OF(sorts); i++) {
        struct seen seen = {.outside = 0};
        struct file_query query = {.sort = sorts[i], .limit = 10};
        struct file_page page = {.more = true};
        for (int round = 0; page.more; round++) {
            struct err err;
            int odd = 2 * ((round * 37 + i) % rows) + 1;
            CHECK_ERR_ROW(label,
                          store_list(metadata, &query, STORE_NOW_MS, see, &seen, &page, &err),
                          ERR_OK, &err);
            query.after = page.last;
            char id[ID_SIZE];
            store_id(id, odd);
            if (insert_row(metadata, odd, "alice") == ERR_OK && round % 2 == 0) {
                CHECK_INT_ROW(label, mark_row(metadata, odd, 0, ""), ERR_OK);
                CHECK_ERR_ROW(label, metadata_file_remove(metadata, id, &err), ERR_OK, &err);
            }
        }
        for (int row = 0; row < 2 * rows; row++)
            CHECK_ROW(label, row % 2 == 0 ? seen.count[row] == 1 : seen.count[row] <= 1);
        CHECK_INT_ROW(label, seen.outside, 0);
    }
}

static enum err_code no_row(void *context, const struct file *file, struct err *err)
{
    (void)file;
    (void)err;
    ++*(int *)context;
    return ERR_OK;
}

#define BULK_THREADS 16
#define BULK_ROWS ((LIMIT_COUNT + 16) / BULK_THREADS)
#define SLOW_BULK_ROWS 50

struct bulk {
    struct metadata *metadata;
    int rows; /* of each thread */
    atomic_int failed;
};

static void insert_bulk(void *context, int index)
{
    struct bulk *bulk = context;
    for (int i = 0; i < bulk->rows; i++)
        if (insert_row(bulk->metadata, index * bulk->rows + i, "alice") != ERR_OK)
            bulk->failed++;
}

/* -1 above the limit; a slow store counts fewer rows here, and its own test goes above. */
CONTRACT(a_filtered_total_is_counted_up_to_the_limit)
{
    struct bulk bulk = {.metadata = metadata, .rows = store->is_slow ? SLOW_BULK_ROWS : BULK_ROWS};
    struct err err;
    struct file_page page;
    int all = BULK_THREADS * bulk.rows;
    int kept = all > LIMIT_COUNT ? LIMIT_COUNT : all - 16;
    int rows = 0;
    struct file_query query = {.limit = 5, .prefix = STR("file-"), .sort = SORT_SIZE};
    store_threads(BULK_THREADS, insert_bulk, &bulk);
    CHECK_INT_ROW(label, bulk.failed, 0);
    CHECK_INT_ROW(label, kept_total(metadata, "", STORE_NOW_MS), all);
    CHECK_ERR_ROW(label, store_list(metadata, &query, STORE_NOW_MS, no_row, &rows, &page, &err),
                  ERR_OK, &err);
    CHECK_INT_ROW(label, page.total, all > LIMIT_COUNT ? -1 : all);
    CHECK_INT_ROW(label, rows, 5);
    query.offset = kept;
    CHECK_ERR_ROW(label, store_list(metadata, &query, STORE_NOW_MS, no_row, &rows, &page, &err),
                  ERR_OK, &err);
    CHECK_INT_ROW(label, rows, 10);
    for (int i = 0; i < all - kept; i++)
        CHECK_INT_ROW(label, mark_row(metadata, i, 0, ""), ERR_OK);
    query.offset = 0;
    CHECK_ERR_ROW(label, store_list(metadata, &query, STORE_NOW_MS, no_row, &rows, &page, &err),
                  ERR_OK, &err);
    CHECK_INT_ROW(label, page.total, kept);
}
