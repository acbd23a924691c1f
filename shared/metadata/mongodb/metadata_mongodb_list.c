/*
 * Listings, with the plans of the SQLite driver (docs/decisions/0006): every one names its index; a
 * page is read in index order from where the page before it ended; a filter that matches at most
 * LIMIT_COUNT rows ("narrow") walks its own index instead and sorts what it finds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "metadata/mongodb/metadata_mongodb.h"

/*
 * Kept totals: a document an owner in `totals`, moved after the row it counts. A process that died
 * in between, or a reply that was lost, leaves one wrong: settling counts the rows, and corrects a
 * difference that stays the same while it is looked at again, which one in flight does not.
 *
 * A total says `lasting: 1` while none of its owner's files was ever given a time to expire: then
 * none has expired that would have to be taken off, which on some servers means to read every row.
 */

#define LOOKS 5
#define LOOK_AGAIN_MS 400

/* ---- moving ---- */

static void flush(struct mongodb_tally *tally)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t inner;
    if (tally->files != 0 || tally->bytes != 0) {
        mongodb_put_text(&filter, "_id", tally->owner);
        bson_append_document_begin(&update, "$inc", -1, &inner);
        mongodb_put_number(&inner, "files", tally->files);
        mongodb_put_number(&inner, "bytes", tally->bytes);
        bson_append_document_end(&update, &inner);
        if (tally->begins) {
            bson_append_document_begin(&update, "$setOnInsert", -1, &inner);
            mongodb_put_number(&inner, "lasting", 1);
            bson_append_document_end(&update, &inner);
        }
        mongodb_bulk_add(&tally->bulk, &filter, &update, true);
    }
    tally->files = 0;
    tally->bytes = 0;
    bson_destroy(&update);
    bson_destroy(&filter);
}

void mongodb_tally_init(struct mongodb_session *session, struct mongodb_tally *tally)
{
    *tally = (struct mongodb_tally){.files = 0};
    mongodb_bulk_init(session, COLLECTION_TOTALS, &tally->bulk);
}

void mongodb_tally_add(struct mongodb_tally *tally, struct str owner, int64_t files, int64_t bytes)
{
    if (!str_equal(owner, str_of(tally->owner))) {
        flush(tally);
        if (!str_copy(tally->owner, sizeof tally->owner, owner))
            return; /* no row of ours */
    }
    tally->files += files;
    tally->bytes += bytes;
}

void mongodb_tally_end(struct mongodb_session *session, struct mongodb_tally *tally)
{
    struct err ignored;
    const struct mongodb_session before = *session;
    flush(tally);
    if (mongodb_bulk_run(session, &tally->bulk, &ignored) != ERR_OK)
        *session = before;
}

void mongodb_add_total(struct mongodb_session *session, const char *owner, int64_t files,
                       int64_t bytes)
{
    struct mongodb_tally tally;
    mongodb_tally_init(session, &tally);
    tally.begins = files > 0;
    mongodb_tally_add(&tally, str_of(owner), files, bytes);
    mongodb_tally_end(session, &tally);
}

enum err_code mongodb_note_expiry(struct mongodb_session *session, const char *owner,
                                  struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    bson_t inner;
    bool matched = false;
    const struct mongodb_change change = {COLLECTION_TOTALS, &filter, &update, true};
    mongodb_put_text(&filter, "_id", owner);
    bson_append_document_begin(&update, "$set", -1, &inner);
    mongodb_put_number(&inner, "lasting", 0);
    bson_append_document_end(&update, &inner);
    enum err_code code = mongodb_update(session, &change, &matched, err);
    if (code == ERR_EXISTS) /* another made it at the same moment */
        code = mongodb_update(session, &change, &matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code;
}

/* ---- asking ---- */

static enum err_code read_kept(void *context, const bson_t *document, struct err *err)
{
    struct mongodb_kept *kept = context;
    (void)err;
    kept->files = mongodb_read_number(document, "files");
    kept->lasting = mongodb_read_number(document, "lasting") == 1;
    return ERR_OK;
}

static void put_sum(bson_t *group, const char *name, const char *field)
{
    bson_t sum;
    bson_append_document_begin(group, name, -1, &sum);
    if (field)
        mongodb_put_text(&sum, "$sum", field);
    else
        mongodb_put_number(&sum, "$sum", 1);
    bson_append_document_end(group, &sum);
}

/* [{$match: `match`}, {$group: {_id: `by`, files: {$sum: …}, …}}, {$sort: {_id: 1}}]; rows count one
 * each, totals what they hold. */
static void put_sums(bson_t *pipeline, const bson_t *match, const char *by, bool rows)
{
    bson_t stage;
    bson_t group;
    bson_t order;
    bson_append_document_begin(pipeline, "0", -1, &stage);
    bson_append_document(&stage, "$match", -1, match);
    bson_append_document_end(pipeline, &stage);
    bson_append_document_begin(pipeline, "1", -1, &stage);
    bson_append_document_begin(&stage, "$group", -1, &group);
    if (by)
        mongodb_put_text(&group, "_id", by);
    else
        bson_append_null(&group, "_id", -1);
    put_sum(&group, "files", rows ? NULL : "$files");
    put_sum(&group, "bytes", rows ? "$size" : "$bytes");
    bson_append_document_end(&stage, &group);
    bson_append_document_end(pipeline, &stage);
    bson_append_document_begin(pipeline, "2", -1, &stage);
    bson_append_document_begin(&stage, "$sort", -1, &order);
    bson_append_int32(&order, "_id", -1, 1);
    bson_append_document_end(&stage, &order);
    bson_append_document_end(pipeline, &stage);
}

/* FerretDB makes one sum of a group right and the others 0: so this is a question of its own. */
static enum err_code all_last(struct mongodb_session *session, bool *ret_lasting, struct err *err)
{
    int64_t others = 0;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    bson_t inner;
    const struct mongodb_question question = {
        .collection = COLLECTION_TOTALS, .filter = &filter, .options = &options};
    bson_append_document_begin(&filter, "lasting", -1, &inner);
    mongodb_put_number(&inner, "$ne", 1);
    bson_append_document_end(&filter, &inner);
    mongodb_put_number(&options, "limit", 1);
    enum err_code code = mongodb_count(session, &question, &others, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    if (code == ERR_OK)
        *ret_lasting = others == 0;
    return code;
}

/* Of an owner, or of all ("" ). */
static enum err_code mongodb_kept_total(struct mongodb_session *session, struct str owner,
                                        struct mongodb_kept *ret_kept, struct err *err)
{
    struct mongodb_kept kept = {.files = 0};
    bson_t filter = BSON_INITIALIZER;
    bson_t pipeline = BSON_INITIALIZER;
    struct mongodb_question question = {
        .collection = COLLECTION_TOTALS, .filter = &filter, .told = read_kept, .context = &kept};
    enum err_code code = ERR_OK;
    if (owner.len > 0) {
        mongodb_put_str(&filter, "_id", owner);
        code = mongodb_find(session, &question, err);
    } else {
        put_sums(&pipeline, &filter, NULL, false);
        question.filter = &pipeline;
        code = mongodb_aggregate(session, &question, err);
        if (code == ERR_OK)
            code = all_last(session, &kept.lasting, err);
    }
    bson_destroy(&pipeline);
    bson_destroy(&filter);
    if (code == ERR_OK)
        *ret_kept = kept;
    return code;
}

/* ---- settling ---- */

struct total {
    char owner[LIMIT_OWNER_BYTES + 1];
    int64_t files;
    int64_t bytes;
};

struct totals {
    struct total *each; /* by owner */
    size_t count;
    size_t room;
};

static enum err_code append_total(struct totals *totals, const struct total *total, struct err *err)
{
    if (totals->count == totals->room) {
        size_t room = totals->room ? 2 * totals->room : 16;
        struct total *each = realloc(totals->each, room * sizeof *each);
        if (!each)
            return err_set_internal(err, ERR_NO_MEMORY, 0, "totals", "Out of memory.");
        totals->each = each;
        totals->room = room;
    }
    totals->each[totals->count++] = *total;
    return ERR_OK;
}

static enum err_code note_total(void *context, const bson_t *document, struct err *err)
{
    struct total total = {.files = mongodb_read_number(document, "files"),
                          .bytes = mongodb_read_number(document, "bytes")};
    if (!mongodb_read_text(document, "_id", total.owner, sizeof total.owner))
        return err_set_internal(err, ERR_INTERNAL, 0, "totals", "An owner is too long.");
    return append_total(context, &total, err);
}

static enum err_code read_totals(struct mongodb_session *session, bool rows, struct totals *totals,
                                 struct err *err)
{
    bson_t match = BSON_INITIALIZER;
    bson_t pipeline = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection =
                                                  rows ? COLLECTION_FILES : COLLECTION_TOTALS,
                                              .filter = &pipeline,
                                              .told = note_total,
                                              .context = totals};
    if (rows)
        mongodb_put_kept(&match);
    put_sums(&pipeline, &match, rows ? "$owner" : "$_id", rows);
    totals->count = 0;
    enum err_code code = mongodb_aggregate(session, &question, err);
    bson_destroy(&pipeline);
    bson_destroy(&match);
    return code;
}

/* Both are in the owners' order; an owner that one lacks has nothing there. */
static enum err_code subtract(const struct totals *rows, const struct totals *kept,
                              struct totals *ret_difference, struct err *err)
{
    enum err_code code = ERR_OK;
    ret_difference->count = 0;
    for (size_t i = 0, j = 0; code == ERR_OK && (i < rows->count || j < kept->count);) {
        int order = i == rows->count   ? 1
                    : j == kept->count ? -1
                                       : strcmp(rows->each[i].owner, kept->each[j].owner);
        struct total total = order <= 0 ? rows->each[i] : kept->each[j];
        if (order > 0)
            total.files = total.bytes = 0;
        if (order >= 0) {
            total.files -= kept->each[j].files;
            total.bytes -= kept->each[j].bytes;
        }
        i += order <= 0;
        j += order >= 0;
        if (total.files != 0 || total.bytes != 0)
            code = append_total(ret_difference, &total, err);
    }
    return code;
}

static bool is_same(const struct total *a, const struct total *b)
{
    return strcmp(a->owner, b->owner) == 0 && a->files == b->files && a->bytes == b->bytes;
}

/* Keeps of `first` what is the same in `second`. */
static void keep_same(struct totals *first, const struct totals *second)
{
    size_t kept = 0;
    for (size_t i = 0, j = 0; i < first->count; i++) {
        while (j < second->count && strcmp(second->each[j].owner, first->each[i].owner) < 0)
            j++;
        if (j < second->count && is_same(&second->each[j], &first->each[i]))
            first->each[kept++] = first->each[i];
    }
    first->count = kept;
}

struct settling {
    struct totals rows;
    struct totals kept;
    struct totals difference;
    struct totals lasting;
};

/* The totals first: a row that came in between makes a difference that does not last. */
static enum err_code compare(struct mongodb_session *session, struct settling *settling,
                             struct err *err)
{
    enum err_code code = read_totals(session, false, &settling->kept, err);
    if (code == ERR_OK)
        code = read_totals(session, true, &settling->rows, err);
    if (code == ERR_OK)
        code = subtract(&settling->rows, &settling->kept, &settling->difference, err);
    return code;
}

static enum err_code find_lasting(struct mongodb_session *session, struct settling *settling,
                                  struct err *err)
{
    enum err_code code = compare(session, settling, err);
    struct totals first = settling->lasting;
    settling->lasting = settling->difference;
    settling->difference = first;
    for (int i = 1; code == ERR_OK && i < LOOKS && settling->lasting.count > 0; i++) {
        const struct timespec pause = {.tv_nsec = LOOK_AGAIN_MS * 1000000L};
        nanosleep(&pause, NULL);
        code = compare(session, settling, err);
        keep_same(&settling->lasting, &settling->difference);
    }
    return code;
}

enum err_code mongodb_settle_totals(struct mongodb_session *session,
                                    char ret_wrong[LIMIT_OWNER_BYTES + 1], struct err *err)
{
    struct settling settling = {.rows = {NULL, 0, 0}};
    struct mongodb_tally tally;
    enum err_code code = find_lasting(session, &settling, err);
    ret_wrong[0] = '\0';
    if (code == ERR_OK && settling.lasting.count > 0) {
        mongodb_tally_init(session, &tally);
        for (size_t i = 0; i < settling.lasting.count; i++) {
            const struct total *total = &settling.lasting.each[i];
            mongodb_tally_add(&tally, str_of(total->owner), total->files, total->bytes);
        }
        mongodb_tally_end(session, &tally);
        code = find_lasting(session, &settling, err);
        if (code == ERR_OK && settling.lasting.count > 0)
            memcpy(ret_wrong, settling.lasting.each[0].owner, LIMIT_OWNER_BYTES + 1);
    }
    free(settling.rows.each);
    free(settling.kept.each);
    free(settling.difference.each);
    free(settling.lasting.each);
    return code;
}

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
