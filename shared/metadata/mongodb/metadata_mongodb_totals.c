/*
 * Kept totals: a document an owner in `totals`, moved after the row it counts. A process that died
 * in between, or a reply that was lost, leaves one wrong: settling counts the rows, and corrects a
 * difference that stays the same while it is looked at again, which one in flight does not.
 *
 * A total says `lasting: 1` while none of its owner's files was ever given a time to expire: then
 * none has expired that would have to be taken off, which on some servers means to read every row.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "metadata/mongodb/metadata_mongodb.h"

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

enum err_code mongodb_kept_total(struct mongodb_session *session, struct str owner,
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
