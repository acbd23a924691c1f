/*
 * Marking rows deleted. One round trip marks, each row under its own condition; a second one reads
 * which of them bear this call's `by`, and judges the others.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "metadata/metadata_mongodb.h"

#define EXPIRED_ROWS 500 /* marked in one go */
#define ROWS_AT_ONCE 50  /* in one command: FerretDB 1.24 never answers one of 100 */

struct marking {
    struct file_marking wanted;
    bool expired; /* rows that have run out, instead of live ones */
    struct mongodb_session *session;
    struct mongodb_tally tally;
    int marked;
    size_t seen; /* rows with one of the ids */
};

static void put_condition(bson_t *filter, const struct marking *marking, size_t index)
{
    const struct file_marking *wanted = &marking->wanted;
    int64_t version = wanted->expected_versions ? wanted->expected_versions[index] : 0;
    mongodb_put_text(filter, "_id", wanted->ids[index]);
    bson_append_bool(filter, "live", -1, true);
    mongodb_put_compared(filter, "untilMs", marking->expired ? "$lte" : "$gt", wanted->now_ms);
    if (version != 0)
        mongodb_put_number(filter, "version", version);
    if (wanted->owner.len > 0)
        mongodb_put_str(filter, "owner", wanted->owner);
}

static void put_mark(bson_t *update, const struct marking *marking)
{
    bson_t inner;
    bson_append_document_begin(update, "$set", -1, &inner);
    bson_append_int32(&inner, "status", -1, FILE_DELETED);
    bson_append_bool(&inner, "live", -1, false);
    mongodb_put_number(&inner, "updatedMs", marking->wanted.now_ms);
    mongodb_put_text(&inner, "by", marking->session->by);
    bson_append_document_end(update, &inner);
    bson_append_document_begin(update, "$inc", -1, &inner);
    mongodb_put_number(&inner, "version", 1);
    bson_append_document_end(update, &inner);
}

static enum err_code mark_some(struct marking *marking, const bson_t *update, size_t first,
                               struct err *err)
{
    struct mongodb_bulk bulk;
    mongodb_bulk_init(marking->session, COLLECTION_FILES, &bulk);
    for (size_t i = first; i < marking->wanted.count && i < first + ROWS_AT_ONCE; i++) {
        bson_t filter = BSON_INITIALIZER;
        put_condition(&filter, marking, i);
        mongodb_bulk_add(&bulk, &filter, update, false);
        bson_destroy(&filter);
    }
    return mongodb_bulk_run(marking->session, &bulk, err);
}

static enum err_code mark_rows(struct marking *marking, struct err *err)
{
    bson_t update = BSON_INITIALIZER;
    enum err_code code = ERR_OK;
    put_mark(&update, marking);
    for (size_t first = 0; code == ERR_OK && first < marking->wanted.count; first += ROWS_AT_ONCE)
        code = mark_some(marking, &update, first, err);
    bson_destroy(&update);
    return code;
}

static void judge_ours(struct marking *marking, struct str id, int64_t version_before)
{
    const struct file_marking *wanted = &marking->wanted;
    bool won = false; /* an id may be asked for twice */
    for (size_t i = 0; i < wanted->count; i++) {
        int64_t expected = wanted->expected_versions ? wanted->expected_versions[i] : 0;
        if (!str_equal(id, str_of(wanted->ids[i])))
            continue;
        if (won)
            wanted->results[i] = ERR_NOT_FOUND;
        else if (expected != 0 && expected != version_before)
            wanted->results[i] = ERR_CONFLICT;
        else
            won = true, wanted->results[i] = ERR_OK;
    }
}

/* A live row that was not marked: it had another version. When it has not, what is there doesn't
 * show what an interrupted first run did. */
static enum err_code judge_other(struct marking *marking, struct str id, int64_t version,
                                 struct err *err)
{
    const struct file_marking *wanted = &marking->wanted;
    for (size_t i = 0; i < wanted->count; i++) {
        int64_t expected = wanted->expected_versions ? wanted->expected_versions[i] : 0;
        if (!str_equal(id, str_of(wanted->ids[i])))
            continue;
        if (marking->session->unknown && (expected == 0 || expected == version))
            return mongodb_doubtful(err);
        wanted->results[i] = ERR_CONFLICT;
    }
    return ERR_OK;
}

static enum err_code judge_row(void *context, const bson_t *row, struct err *err)
{
    struct marking *marking = context;
    const struct file_marking *wanted = &marking->wanted;
    struct str id = mongodb_read_str(row, "_id");
    struct str owner = mongodb_read_str(row, "owner");
    marking->seen++;
    if (str_equal(mongodb_read_str(row, "by"), str_of(marking->session->by))) {
        judge_ours(marking, id, mongodb_read_number(row, "version") - 1);
        mongodb_tally_add(&marking->tally, owner, -1, -mongodb_read_number(row, "size"));
        marking->marked++;
        return ERR_OK;
    }
    bool is_there = mongodb_read_bool(row, "live") &&
                    mongodb_read_number(row, "untilMs") > wanted->now_ms &&
                    (wanted->owner.len == 0 || str_equal(owner, wanted->owner));
    return is_there ? judge_other(marking, id, mongodb_read_number(row, "version"), err) : ERR_OK;
}

static enum err_code judge_rows(struct marking *marking, struct err *err)
{
    static const char *const members[] = {"owner", "size", "live", "untilMs", "version", "by"};
    const struct file_marking *wanted = &marking->wanted;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = judge_row,
                                              .context = marking};
    if (wanted->count == 1)
        mongodb_put_text(&filter, "_id", wanted->ids[0]);
    else
        mongodb_put_any_of(&filter, "_id", wanted->ids, wanted->count);
    mongodb_put_each(&options, "projection", members, sizeof members / sizeof members[0], 1);
    marking->marked = 0;
    marking->seen = 0;
    for (size_t i = 0; i < wanted->count; i++)
        wanted->results[i] = ERR_NOT_FOUND;
    mongodb_tally_init(marking->session, &marking->tally);
    enum err_code code = mongodb_find(marking->session, &question, err);
    crash_point("delete.committed");
    mongodb_tally_end(marking->session, &marking->tally, code == ERR_OK);
    crash_point("delete.counted");
    bson_destroy(&options);
    bson_destroy(&filter);
    /* An interrupted first run may have marked a row that a sweep has removed since. */
    if (code == ERR_OK && marking->session->unknown && marking->seen < wanted->count)
        code = mongodb_doubtful(err);
    return code;
}

static enum err_code mark(struct mongodb_session *session, void *args, struct err *err)
{
    struct marking *marking = args;
    marking->session = session;
    crash_point("delete.before_commit");
    enum err_code code = mark_rows(marking, err);
    return code == ERR_OK ? judge_rows(marking, err) : code;
}

enum err_code mongodb_mark_deleted(void *state, const struct file_marking *marking, struct err *err)
{
    struct marking args = {.wanted = *marking};
    return marking->count > 0 ? mongodb_run(state, mark, &args, err) : ERR_OK;
}

/* ---- rows that have expired ---- */

struct expired {
    int64_t now_ms;
    size_t limit;
    size_t count;
    char ids[EXPIRED_ROWS][ID_SIZE];
    const char *pointers[EXPIRED_ROWS];
    enum err_code results[EXPIRED_ROWS];
};

static enum err_code note_id(void *context, const bson_t *row, struct err *err)
{
    struct expired *expired = context;
    if (expired->count == expired->limit ||
        !mongodb_read_text(row, "_id", expired->ids[expired->count], ID_SIZE))
        return err_set_internal(err, ERR_INTERNAL, 0, "mark expired", "A row's id is wrong.");
    expired->pointers[expired->count] = expired->ids[expired->count];
    expired->count++;
    return ERR_OK;
}

static enum err_code find_expired(struct mongodb_session *session, void *args, struct err *err)
{
    struct expired *expired = args;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = note_id,
                                              .context = expired};
    bson_append_bool(&filter, "live", -1, true);
    mongodb_put_compared(&filter, "untilMs", "$lte", expired->now_ms);
    mongodb_put_one(&options, "sort", "untilMs");
    mongodb_put_one(&options, "projection", "_id");
    mongodb_put_number(&options, "limit", (int64_t)expired->limit);
    mongodb_put_text(&options, "hint", "until");
    expired->count = 0;
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static enum err_code mark_some_expired(void *state, struct expired *expired, int *ret_marked,
                                       struct err *err)
{
    *ret_marked = 0;
    enum err_code code = mongodb_run(state, find_expired, expired, err);
    if (code != ERR_OK || expired->count == 0)
        return code;
    struct marking marking = {.wanted = {.ids = expired->pointers,
                                         .count = expired->count,
                                         .now_ms = expired->now_ms,
                                         .results = expired->results},
                              .expired = true};
    code = mongodb_run(state, mark, &marking, err);
    *ret_marked = marking.marked;
    return code;
}

enum err_code mongodb_mark_expired(void *state, int64_t now_ms, int limit, int *ret_marked,
                                   struct err *err)
{
    int marked = 0;
    int some = 1;
    enum err_code code = ERR_OK;
    struct expired *expired = calloc(1, sizeof *expired);
    if (!expired)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "mark expired", "Out of memory.");
    expired->now_ms = now_ms;
    while (code == ERR_OK && some > 0 && marked < limit) {
        expired->limit = limit - marked < EXPIRED_ROWS ? (size_t)(limit - marked) : EXPIRED_ROWS;
        code = mark_some_expired(state, expired, &some, err);
        marked += some;
    }
    free(expired);
    if (code == ERR_OK)
        *ret_marked = marked;
    return code;
}
