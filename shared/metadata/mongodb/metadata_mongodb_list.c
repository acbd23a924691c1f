/*
 * Listings, with the plans of the SQLite driver (docs/decisions/0006): every one names its index; a
 * page is read in index order from where the page before it ended; a filter that matches at most
 * LIMIT_COUNT rows ("narrow") walks its own index instead and sorts what it finds.
 */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "metadata/mongodb/metadata_mongodb.h"

#define HINT_SIZE 32

static const struct {
    const char *field;
    const char *index;
    int direction;
} sorts[] = {
    [SORT_CREATED] = {"createdMs", "created", 1},
    [SORT_CREATED_DESC] = {"createdMs", "created", -1},
    [SORT_NAME] = {"name", "name", 1},
    [SORT_SIZE] = {"size", "size", 1},
};

struct list_args {
    const struct file_query *query;
    int64_t now_ms;
    const struct file_listing *listing;
    struct mongodb_session *session;
    struct file_page page;
    int rows;
    bool is_filtered;
    bool is_narrow;
    bool has_prefix_end;
    char prefix_end[LIMIT_NAME_BYTES + 4];
};

/* ---- what is asked ---- */

static void write_utf8(uint32_t point, struct buf *out)
{
    if (point < 0x80) {
        buf_append_char(out, (char)point);
    } else if (point < 0x800) {
        buf_append_char(out, (char)(0xC0 | point >> 6));
        buf_append_char(out, (char)(0x80 | (point & 0x3F)));
    } else if (point < 0x10000) {
        buf_append_char(out, (char)(0xE0 | point >> 12));
        buf_append_char(out, (char)(0x80 | (point >> 6 & 0x3F)));
        buf_append_char(out, (char)(0x80 | (point & 0x3F)));
    } else {
        buf_append_char(out, (char)(0xF0 | point >> 18));
        buf_append_char(out, (char)(0x80 | (point >> 12 & 0x3F)));
        buf_append_char(out, (char)(0x80 | (point >> 6 & 0x3F)));
        buf_append_char(out, (char)(0x80 | (point & 0x3F)));
    }
}

/* The first text that sorts after all that begin with the prefix: its last character that has a
 * next one is that, and what follows goes. None when all are the last there is. */
static void set_prefix_end(struct list_args *list)
{
    struct str prefix = list->query->prefix;
    size_t cut = 0;
    uint32_t next = 0;
    for (size_t at = 0, start = 0; at < prefix.len; start = at) {
        uint32_t point = 0;
        if (!text_utf8_next(prefix, &at, &point))
            return;
        if (point < 0x10FFFF) {
            cut = start;
            next = point == 0xD7FF ? 0xE000 : point + 1;
        }
    }
    struct buf end;
    buf_init(&end, sizeof list->prefix_end - 1);
    buf_append(&end, prefix.data, cut);
    if (next)
        write_utf8(next, &end);
    list->has_prefix_end =
        next && str_copy(list->prefix_end, sizeof list->prefix_end, buf_str(&end));
    buf_release(&end);
}

static void put_common(bson_t *filter, const struct list_args *list)
{
    const struct file_query *query = list->query;
    if (query->owner.len > 0)
        mongodb_put_str(filter, "owner", query->owner);
    if (query->mime.len > 0)
        mongodb_put_str(filter, "mime", query->mime);
    mongodb_put_visible(filter, list->now_ms);
}

/* name: {$gte: prefix, $lt: its end}; where the position is in the names, it is the lower bound. */
static void put_name(bson_t *filter, const struct list_args *list, const char *operator_name,
                     const char *after)
{
    const struct file_query *query = list->query;
    bson_t inner;
    if (!after && query->prefix.len == 0)
        return;
    bson_append_document_begin(filter, "name", -1, &inner);
    if (after)
        mongodb_put_text(&inner, operator_name, after);
    else
        mongodb_put_str(&inner, "$gte", query->prefix);
    if (list->has_prefix_end)
        mongodb_put_text(&inner, "$lt", list->prefix_end);
    bson_append_document_end(filter, &inner);
}

/* One of the two ways to stand after the position: a later value, or the same and a later id. */
static void put_branch(bson_t *list_of, const char *index, const struct list_args *list,
                       bool same_value)
{
    const struct file_query *query = list->query;
    const char *later = sorts[query->sort].direction > 0 ? "$gt" : "$lt";
    const char *field = sorts[query->sort].field;
    bson_t branch;
    bson_t inner;
    bson_append_document_begin(list_of, index, -1, &branch);
    put_common(&branch, list);
    if (query->sort == SORT_NAME) {
        put_name(&branch, list, same_value ? "$eq" : "$gt", query->after.name);
    } else {
        put_name(&branch, list, NULL, NULL);
        mongodb_put_compared(&branch, field, same_value ? "$eq" : later, query->after.number);
    }
    if (same_value) {
        bson_append_document_begin(&branch, "_id", -1, &inner);
        mongodb_put_text(&inner, later, query->after.id);
        bson_append_document_end(&branch, &inner);
    }
    bson_append_document_end(list_of, &branch);
}

/* A position before all names with the prefix is none. */
static bool has_position(const struct list_args *list)
{
    const struct file_query *query = list->query;
    if (query->after.id[0] == '\0')
        return false;
    return query->sort != SORT_NAME || query->prefix.len == 0 ||
           strncmp(query->after.name, query->prefix.data, query->prefix.len) >= 0;
}

/* Where nothing is asked of an index's first field MongoDB reads every row it leads to, instead of
 * passing over rows by their untilMs in the index: so what all rows keep is asked. */
static void put_start(bson_t *filter, const struct list_args *list)
{
    const struct file_query *query = list->query;
    if (query->owner.len > 0)
        return;
    if (query->sort != SORT_NAME)
        mongodb_put_compared(filter, sorts[query->sort].field, "$gte", INT64_MIN);
    else if (query->prefix.len == 0)
        put_name(filter, list, "$gte", "");
}

static void put_filter(bson_t *filter, const struct list_args *list)
{
    if (!has_position(list)) {
        put_common(filter, list);
        put_name(filter, list, NULL, NULL);
        put_start(filter, list);
        return;
    }
    /* Each branch is whole, so that each is a walk along the index and the two are merged. */
    bson_t branches;
    bson_append_array_begin(filter, "$or", -1, &branches);
    put_branch(&branches, "0", list, true);
    put_branch(&branches, "1", list, false);
    bson_append_array_end(filter, &branches);
}

static void put_hint(bson_t *options, const struct list_args *list, bool is_count)
{
    const struct file_query *query = list->query;
    bool by_created = query->sort == SORT_CREATED || query->sort == SORT_CREATED_DESC;
    bool by_filter = is_count || list->is_narrow;
    const char *index = sorts[query->sort].index;
    char hint[HINT_SIZE];
    if (query->prefix.len > 0 && by_filter)
        index = "name";
    else if (query->mime.len > 0 && (by_filter || by_created))
        index = "mime";
    snprintf(hint, sizeof hint, "%s%s", query->owner.len > 0 ? "owner_" : "", index);
    mongodb_put_text(options, "hint", hint);
}

/* ---- the total ---- */

static enum err_code count_filtered(struct list_args *list, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    int64_t total = 0;
    const struct mongodb_question question = {
        .collection = COLLECTION_FILES, .filter = &filter, .options = &options};
    put_common(&filter, list);
    put_name(&filter, list, NULL, NULL);
    mongodb_put_number(&options, "limit", LIMIT_COUNT + 1);
    put_hint(&options, list, true);
    enum err_code code = mongodb_count(list->session, &question, &total, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    list->is_narrow = total <= LIMIT_COUNT;
    list->page.total = list->is_narrow ? total : -1;
    return code;
}

/* What is kept, less what has expired and waits for the sweep. */
static enum err_code count_kept(struct list_args *list, struct err *err)
{
    struct str owner = list->query->owner;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    struct mongodb_kept kept = {.files = 0};
    int64_t gone = 0;
    const struct mongodb_question question = {
        .collection = COLLECTION_FILES, .filter = &filter, .options = &options};
    if (owner.len > 0)
        mongodb_put_str(&filter, "owner", owner);
    mongodb_put_expired(&filter, list->now_ms);
    mongodb_put_text(&options, "hint", owner.len > 0 ? "owner_until" : "until");
    enum err_code code = mongodb_kept_total(list->session, owner, &kept, err);
    if (code == ERR_OK && !kept.lasting)
        code = mongodb_count(list->session, &question, &gone, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    list->page.total = kept.files > gone ? kept.files - gone : 0;
    return code;
}

/* ---- the page ---- */

static void set_last(struct list_args *list, const struct file *file)
{
    struct file_position *last = &list->page.last;
    memcpy(last->id, file->id, sizeof last->id);
    memcpy(last->name, file->name, sizeof last->name);
    last->number = list->query->sort == SORT_SIZE ? file->size : file->created_ms;
}

/* One row more than asked for is read, to know whether there is one. */
static enum err_code read_row(void *context, const bson_t *document, struct err *err)
{
    struct list_args *list = context;
    struct file file;
    if (list->rows++ == list->query->limit) {
        list->page.more = true;
        return ERR_OK;
    }
    enum err_code code = mongodb_read_file(document, &file, err);
    if (code == ERR_OK) {
        list->session->told = true;
        code = list->listing->callback(list->listing->context, &file, err);
    }
    if (code == ERR_OK)
        set_last(list, &file);
    return code;
}

static void put_options(bson_t *options, const struct list_args *list)
{
    const struct file_query *query = list->query;
    int direction = sorts[query->sort].direction;
    bson_t inner;
    bson_append_document_begin(options, "sort", -1, &inner);
    bson_append_int32(&inner, sorts[query->sort].field, -1, direction);
    bson_append_int32(&inner, "_id", -1, direction);
    bson_append_document_end(options, &inner);
    bson_append_document_begin(options, "projection", -1, &inner);
    bson_append_int32(&inner, "answer", -1, 0);
    bson_append_int32(&inner, "change", -1, 0);
    bson_append_document_end(options, &inner);
    mongodb_put_number(options, "limit", query->limit + 1);
    /* One more than there can be: a full batch would be asked for a next one. */
    bson_append_int32(options, "batchSize", -1, query->limit + 2);
    if (query->after.id[0] == '\0' && query->offset > 0)
        mongodb_put_number(options, "skip", query->offset);
    put_hint(options, list, false);
}

static enum err_code list_page(struct mongodb_session *session, void *args, struct err *err)
{
    struct list_args *list = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = read_row,
                                              .context = list};
    list->session = session;
    list->rows = 0;
    list->page = (struct file_page){.more = false};
    enum err_code code = list->is_filtered ? count_filtered(list, err) : count_kept(list, err);
    put_filter(&filter, list);
    put_options(&options, list);
    if (code == ERR_OK)
        code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

enum err_code mongodb_file_list(void *state, const struct file_query *query, int64_t now_ms,
                                struct file_listing *listing, struct err *err)
{
    struct list_args list = {.query = query, .now_ms = now_ms, .listing = listing};
    if (query->limit < 1 || query->limit > LIMIT_PAGE || query->offset < 0 ||
        query->offset > LIMIT_OFFSET || query->prefix.len > LIMIT_NAME_BYTES ||
        !text_is_utf8(query->prefix) || !text_is_utf8(query->owner) || !text_is_utf8(query->mime))
        return err_set_internal(err, ERR_INTERNAL, 0, "list", "A query outside its limits.");
    list.is_filtered = query->prefix.len > 0 || query->mime.len > 0;
    if (query->prefix.len > 0)
        set_prefix_end(&list);
    enum err_code code = mongodb_run(state, list_page, &list, err);
    if (code == ERR_OK)
        listing->page = list.page;
    return code;
}
