#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "metadata/mongodb/metadata_mongodb.h"

/*
 * Marking rows deleted. With an answer to be kept, that is planned first (mongodb_plan_answer) and
 * stored last. One round trip reads the rows, a second one marks those that may be, each under
 * its own condition, and the server says how many it marked. Only when these are not all of them, a
 * third one reads which bear this call's `by`. A row may be gone as soon as it is marked: any node's
 * sweep removes it. So what is to be known of it is known before.
 */

#define EXPIRED_ROWS 500 /* marked in one go */
#define ROWS_AT_ONCE 50  /* in one command: FerretDB 1.24 never answers one of 100 */

enum target_state {
    TARGET_UNSEEN, /* there is no row */
    TARGET_PASSED, /* its result says why it is not marked by this call */
    TARGET_CHOSEN, /* to be marked */
    TARGET_MARKED  /* by this call */
};

/* An id that was asked for. */
struct target {
    enum target_state state;
    int64_t size;
    char owner[LIMIT_OWNER_BYTES + 1];
};

struct marking {
    struct file_marking wanted;
    bool expired; /* rows that have run out, instead of live ones */
    struct mongodb_session *session;
    struct target *targets; /* one an id */
    int64_t matched;        /* of the chosen ones, how many the server says it marked */
    int marked;
};

static int64_t expected_version(const struct marking *marking, size_t index)
{
    const int64_t *expected = marking->wanted.expected_versions;
    return expected ? expected[index] : 0;
}

static bool is_by_us(const struct marking *marking, const bson_t *row)
{
    return str_equal(mongodb_read_str(row, "by"), str_of(marking->session->by));
}

/* ---- reading ---- */

static bool may_be_marked(const struct marking *marking, const bson_t *row)
{
    const struct file_marking *wanted = &marking->wanted;
    if (marking->expired)
        return mongodb_is_visible(row, 0) && !mongodb_is_visible(row, wanted->now_ms);
    return mongodb_is_visible(row, wanted->now_ms) &&
           (wanted->owner.len == 0 || str_equal(mongodb_read_str(row, "owner"), wanted->owner));
}

static enum err_code choose_target(void *context, const bson_t *row, struct err *err)
{
    struct marking *marking = context;
    const struct file_marking *wanted = &marking->wanted;
    struct str id = mongodb_read_str(row, "_id");
    bool is_ours = is_by_us(marking, row); /* an interrupted first run marked it */
    bool is_free = is_ours || may_be_marked(marking, row);
    int64_t version = mongodb_read_version(row) - (is_ours ? 1 : 0);
    for (size_t i = 0; i < wanted->count; i++) {
        struct target *target = &marking->targets[i];
        int64_t expected = expected_version(marking, i);
        bool is_expected = expected == 0 || expected == version;
        if (!str_equal(id, str_of(wanted->ids[i])))
            continue;
        target->state = TARGET_PASSED;
        wanted->results[i] = is_free && !is_expected ? ERR_CONFLICT : ERR_NOT_FOUND;
        if (!is_free || !is_expected)
            continue;
        is_free = false; /* an id may be asked for twice */
        target->state = is_ours ? TARGET_MARKED : TARGET_CHOSEN;
        target->size = mongodb_read_number(row, "size");
        if (!mongodb_read_text(row, "owner", target->owner, sizeof target->owner))
            return err_set_internal(err, ERR_INTERNAL, 0, "mark deleted",
                                    "A row's owner is too long.");
    }
    return ERR_OK;
}

/* What became of a row that was to be marked. */
static enum err_code judge_target(void *context, const bson_t *row, struct err *err)
{
    struct marking *marking = context;
    const struct file_marking *wanted = &marking->wanted;
    struct str id = mongodb_read_str(row, "_id");
    for (size_t i = 0; i < wanted->count; i++) {
        struct target *target = &marking->targets[i];
        int64_t expected = expected_version(marking, i);
        if (target->state != TARGET_CHOSEN || !str_equal(id, str_of(wanted->ids[i])))
            continue;
        target->state = is_by_us(marking, row) ? TARGET_MARKED : TARGET_PASSED;
        if (target->state == TARGET_MARKED || !may_be_marked(marking, row))
            continue;
        if (expected == 0 || expected == mongodb_read_version(row))
            return mongodb_doubtful(err); /* it was marked, and that was undone */
        wanted->results[i] = ERR_CONFLICT;
    }
    return ERR_OK;
}

static enum err_code read_rows(struct marking *marking, mongodb_callback *told, struct err *err)
{
    static const char *const members[] = {"owner", "size", "untilMs", "revision", "by"};
    const struct file_marking *wanted = &marking->wanted;
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = told,
                                              .context = marking};
    if (wanted->count == 1)
        mongodb_put_text(&filter, "_id", wanted->ids[0]);
    else
        mongodb_put_any_of(&filter, "_id", wanted->ids, wanted->count);
    mongodb_put_each(&options, "projection", members, sizeof members / sizeof members[0], 1);
    enum err_code code = mongodb_find(marking->session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static size_t count_targets(const struct marking *marking, enum target_state state)
{
    size_t count = 0;
    for (size_t i = 0; i < marking->wanted.count; i++)
        count += marking->targets[i].state == state;
    return count;
}

static enum err_code choose_targets(struct marking *marking, struct err *err)
{
    const struct file_marking *wanted = &marking->wanted;
    memset(marking->targets, 0, wanted->count * sizeof *marking->targets);
    for (size_t i = 0; i < wanted->count; i++)
        wanted->results[i] = ERR_NOT_FOUND;
    enum err_code code = read_rows(marking, choose_target, err);
    /* An interrupted first run may have marked a row that a sweep has removed since. */
    if (code == ERR_OK && marking->session->unknown && count_targets(marking, TARGET_UNSEEN) > 0)
        code = mongodb_doubtful(err);
    return code;
}

/* ---- the answer ---- */

static enum err_code make_answer(const struct marking *marking,
                                 struct idempotency_answer *ret_answer, struct err *err)
{
    const struct file_marking *wanted = &marking->wanted;
    return wanted->answer(wanted->context, wanted->results, ret_answer, err);
}

static void set_results(const struct marking *marking, enum err_code result)
{
    for (size_t i = 0; i < marking->wanted.count; i++) {
        enum target_state state = marking->targets[i].state;
        if (state == TARGET_CHOSEN || state == TARGET_MARKED)
            marking->wanted.results[i] = result;
    }
}

/* Before the first row is marked it is noted what the answer is when all that were chosen can be. */
static enum err_code plan_answer(const struct marking *marking, struct err *err)
{
    struct idempotency_answer answer = {0};
    set_results(marking, ERR_OK);
    enum err_code code = make_answer(marking, &answer, err);
    if (code == ERR_OK)
        code = mongodb_plan_answer(marking->session, &answer, err);
    set_results(marking, ERR_NOT_FOUND);
    return code;
}

static enum err_code store_answer(const struct marking *marking, struct err *err)
{
    struct idempotency_answer answer = {0};
    set_results(marking, ERR_OK);
    enum err_code code = make_answer(marking, &answer, err);
    return code == ERR_OK
               ? mongodb_finish_request(marking->session, &answer, marking->wanted.now_ms, err)
               : code;
}

/* ---- marking ---- */

static void put_condition(bson_t *filter, const struct marking *marking, size_t index)
{
    const struct file_marking *wanted = &marking->wanted;
    int64_t version = expected_version(marking, index);
    mongodb_put_text(filter, "_id", wanted->ids[index]);
    if (marking->expired)
        mongodb_put_expired(filter, wanted->now_ms);
    else
        mongodb_put_visible(filter, wanted->now_ms);
    if (version != 0)
        mongodb_put_version(filter, version);
    if (wanted->owner.len > 0)
        mongodb_put_str(filter, "owner", wanted->owner);
}

static void put_mark(bson_t *update, const struct marking *marking)
{
    bson_t inner;
    bson_append_document_begin(update, "$set", -1, &inner);
    bson_append_int32(&inner, "status", -1, FILE_DELETED);
    mongodb_put_number(&inner, "untilMs", 0);
    mongodb_put_number(&inner, "updatedMs", marking->wanted.now_ms);
    mongodb_put_text(&inner, "by", marking->session->by);
    bson_append_document_end(update, &inner);
    mongodb_count_revision(update);
}

/* From the target *at on; leaves it at the first that was not looked at. */
static enum err_code mark_some(struct marking *marking, const bson_t *update, size_t *at,
                               struct err *err)
{
    struct mongodb_bulk bulk;
    mongodb_bulk_init(marking->session, COLLECTION_FILES, &bulk);
    for (; *at < marking->wanted.count && bulk.count < ROWS_AT_ONCE; ++*at) {
        bson_t filter = BSON_INITIALIZER;
        if (marking->targets[*at].state != TARGET_CHOSEN)
            continue;
        put_condition(&filter, marking, *at);
        mongodb_bulk_add(&bulk, &filter, update, false);
        bson_destroy(&filter);
    }
    enum err_code code = mongodb_bulk_run(marking->session, &bulk, err);
    marking->matched += bulk.matched;
    return code;
}

static enum err_code mark_targets(struct marking *marking, struct err *err)
{
    bson_t update = BSON_INITIALIZER;
    enum err_code code = ERR_OK;
    marking->matched = 0;
    put_mark(&update, marking);
    for (size_t at = 0; code == ERR_OK && at < marking->wanted.count;) {
        code = mark_some(marking, &update, &at, err);
        crash_point("delete.some_marked");
    }
    bson_destroy(&update);
    return code;
}

/* Not all that was chosen was marked: others were faster, or a first run's change was late. Of rows
 * that are gone only the number of those that were marked is known. */
static enum err_code judge_targets(struct marking *marking, struct err *err)
{
    struct mongodb_session *session = marking->session;
    size_t before = count_targets(marking, TARGET_MARKED);
    enum err_code code = read_rows(marking, judge_target, err);
    int64_t seen = (int64_t)(count_targets(marking, TARGET_MARKED) - before);
    int64_t gone = (int64_t)count_targets(marking, TARGET_CHOSEN);
    session->unknown |= code != ERR_OK && marking->matched > 0;
    if (code != ERR_OK)
        return code;
    if (gone == 0 || marking->matched == seen + gone)
        return ERR_OK;
    if (marking->matched > seen || session->unknown)
        return mongodb_doubtful(err);
    for (size_t i = 0; i < marking->wanted.count; i++)
        if (marking->targets[i].state == TARGET_CHOSEN)
            marking->targets[i].state = TARGET_PASSED;
    return ERR_OK;
}

/* What was chosen is marked now. */
static void settle_targets(struct marking *marking)
{
    struct mongodb_tally tally;
    marking->marked = 0;
    mongodb_tally_init(marking->session, &tally);
    for (size_t i = 0; i < marking->wanted.count; i++) {
        const struct target *target = &marking->targets[i];
        if (target->state != TARGET_CHOSEN && target->state != TARGET_MARKED)
            continue;
        marking->wanted.results[i] = ERR_OK;
        marking->marked++;
        mongodb_tally_add(&tally, str_of(target->owner), -1, -target->size);
    }
    mongodb_tally_end(marking->session, &tally);
}

static enum err_code mark(struct mongodb_session *session, void *args, struct err *err)
{
    struct marking *marking = args;
    marking->session = session;
    enum err_code code = choose_targets(marking, err);
    if (code == ERR_OK && marking->wanted.answer)
        code = plan_answer(marking, err);
    crash_point("delete.before_commit");
    if (code == ERR_OK)
        code = mark_targets(marking, err);
    if (code == ERR_OK && marking->matched < (int64_t)count_targets(marking, TARGET_CHOSEN))
        code = judge_targets(marking, err);
    crash_point("delete.committed");
    if (code == ERR_OK && marking->wanted.answer)
        code = store_answer(marking, err);
    if (code == ERR_OK)
        settle_targets(marking);
    crash_point("delete.counted");
    return code;
}

static enum err_code run_marking(void *state, struct marking *marking, struct err *err)
{
    if (marking->wanted.count == 0)
        return ERR_OK;
    marking->targets = calloc(marking->wanted.count, sizeof *marking->targets);
    if (!marking->targets)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "mark deleted", "Out of memory.");
    enum err_code code = mongodb_run(state, mark, marking, err);
    free(marking->targets);
    return code;
}

static enum err_code mongodb_mark_deleted(void *state, const struct file_marking *marking,
                                          struct err *err)
{
    struct marking args = {.wanted = *marking};
    return run_marking(state, &args, err);
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
    mongodb_put_expired(&filter, expired->now_ms);
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
    code = run_marking(state, &marking, err);
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

/* Tells of the row whose `field` is the value, if there is one. */
static enum err_code find_row(struct mongodb_session *session, struct mongodb_question question,
                              const char *field, const char *value, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    question.collection = COLLECTION_FILES;
    question.filter = &filter;
    mongodb_put_text(&filter, field, value);
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&filter);
    return code;
}

/* ---- insert ---- */

struct insert_args {
    const struct file *file;
    const struct idempotency_answer *answer;
};

/* The row that is in a new one's way. */
struct row_in_way {
    const bson_t *ours;
    bool found;
    bool is_ours;      /* the key, made for this upload, and the content are */
    bool is_unchanged; /* since it was inserted */
};

static enum err_code judge_row_in_way(void *context, const bson_t *row, struct err *err)
{
    struct row_in_way *in_way = context;
    const bson_t *ours = in_way->ours;
    (void)err;
    in_way->found = true;
    in_way->is_ours =
        str_equal(mongodb_read_str(row, "key"), mongodb_read_str(ours, "key")) &&
        str_equal(mongodb_read_str(row, "detail"), mongodb_read_str(ours, "detail")) &&
        mongodb_read_number(row, "createdMs") == mongodb_read_number(ours, "createdMs");
    in_way->is_unchanged =
        mongodb_read_version(row) == mongodb_read_version(ours) &&
        mongodb_read_number(row, "status") == mongodb_read_number(ours, "status");
    return ERR_OK;
}

/* Which unique index refused the row? Not every server says so. Only where the first run's reply was
 * lost may the row be our own. */
static enum err_code insert_refused(struct mongodb_session *session, const struct file *file,
                                    const bson_t *ours, struct err *err)
{
    struct row_in_way by_id = {.ours = ours};
    struct row_in_way by_key = {.ours = ours};
    const struct mongodb_question ask_id = {.told = judge_row_in_way, .context = &by_id};
    const struct mongodb_question ask_key = {.told = judge_row_in_way, .context = &by_key};
    enum err_code code = find_row(session, ask_id, "_id", file->id, err);
    if (code == ERR_OK && !by_id.found)
        code = find_row(session, ask_key, "key", file->key, err);
    if (code != ERR_OK)
        return code;
    if (session->unknown && by_id.is_ours)
        return by_id.is_unchanged ? ERR_OK : mongodb_doubtful(err);
    if (by_key.found) /* another row has the key: ours cannot be there */
        session->unknown = false;
    if (by_id.found || by_key.found)
        return err_set_internal(err, ERR_EXISTS, 0, "insert file", "The id or key is taken.");
    return session->unknown ? mongodb_doubtful(err) : mongodb_lease_lost(err);
}

static enum err_code insert_row(struct mongodb_session *session, const struct insert_args *insert,
                                struct err *err)
{
    bson_t document = BSON_INITIALIZER;
    enum err_code code = mongodb_put_file(&document, insert->file, err);
    if (code == ERR_OK)
        code = mongodb_put_answer(&document, insert->file, insert->answer, err);
    if (code == ERR_OK)
        code = mongodb_insert(session, COLLECTION_FILES, &document, err);
    if (code == ERR_EXISTS)
        code = insert_refused(session, insert->file, &document, err);
    bson_destroy(&document);
    return code;
}

static enum err_code insert(struct mongodb_session *session, void *args, struct err *err)
{
    const struct insert_args *insert = args;
    enum err_code code = ERR_OK;
    if (insert->answer && !session->unknown)
        code = mongodb_check_lease(session, insert->answer, err);
    crash_point("insert.before_commit");
    if (code == ERR_OK && insert->file->expires_ms)
        code = mongodb_note_expiry(session, insert->file->owner, err);
    if (code == ERR_OK)
        code = insert_row(session, insert, err);
    if (code != ERR_OK)
        return code;
    crash_point("insert.committed");
    if (insert->file->status != FILE_DELETED)
        mongodb_add_total(session, insert->file->owner, 1, insert->file->size);
    crash_point("insert.counted");
    return ERR_OK;
}

static enum err_code file_insert(void *state, const struct file *file,
                                 const struct idempotency_answer *answer, struct err *err)
{
    struct insert_args args = {file, answer};
    return mongodb_run(state, insert, &args, err);
}

/* ---- get ---- */

struct get_args {
    const char *id;
    int64_t now_ms;
    struct file file;
    bool found;
};

static enum err_code read_row(void *context, const bson_t *document, struct err *err)
{
    struct get_args *get = context;
    get->found = mongodb_is_visible(document, get->now_ms);
    return get->found ? mongodb_read_file(document, &get->file, err) : ERR_OK;
}

static enum err_code get(struct mongodb_session *session, void *args, struct err *err)
{
    struct get_args *get = args;
    const struct mongodb_question question = {.told = read_row, .context = get};
    get->found = false;
    enum err_code code = find_row(session, question, "_id", get->id, err);
    if (code == ERR_OK && !get->found)
        code = err_set(err, ERR_NOT_FOUND, "get file", "There is no such file.");
    return code;
}

static enum err_code file_get(void *state, const char *id, int64_t now_ms, struct file *ret_file,
                              struct err *err)
{
    struct get_args args = {.id = id, .now_ms = now_ms};
    enum err_code code = mongodb_run(state, get, &args, err);
    if (code == ERR_OK)
        *ret_file = args.file;
    return code;
}

/* ---- update ---- */

struct update_args {
    const struct file *file;
    int64_t expected_version;
    const struct idempotency_answer *answer;
};

/* What the row need not have any more. */
static void put_unset(bson_t *update, const bson_t *set)
{
    static const char *const names[] = {"metadata", "visibility", "status"};
    bson_t unset = BSON_INITIALIZER;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!mongodb_has(set, names[i]))
            mongodb_put_text(&unset, names[i], "");
    if (!bson_empty(&unset))
        bson_append_document(update, "$unset", -1, &unset);
    bson_destroy(&unset);
}

static enum err_code put_update(bson_t *update, const struct update_args *args, const char *by,
                                struct err *err)
{
    const struct file *file = args->file;
    bson_t set = BSON_INITIALIZER;
    enum err_code code = ERR_OK;
    if (!bson_utf8_validate(file->name, strlen(file->name), false) ||
        !bson_utf8_validate(file->metadata, strlen(file->metadata), false))
        return err_set_internal(err, ERR_INTERNAL, 0, "update file", "A text is no UTF-8.");
    mongodb_put_text(&set, "name", file->name);
    mongodb_put_state(&set, file);
    mongodb_put_number(&set, "updatedMs", file->updated_ms);
    mongodb_put_text(&set, "by", by);
    if (args->answer)
        code = mongodb_put_change(&set, args->answer, file->updated_ms, err);
    bson_append_document(update, "$set", -1, &set);
    put_unset(update, &set);
    bson_destroy(&set);
    return code;
}

static enum err_code update_row(struct mongodb_session *session, const struct update_args *args,
                                bool *ret_matched, struct err *err)
{
    bson_t filter = BSON_INITIALIZER;
    bson_t update = BSON_INITIALIZER;
    const struct mongodb_change change = {COLLECTION_FILES, &filter, &update, false};
    mongodb_put_text(&filter, "_id", args->file->id);
    mongodb_put_version(&filter, args->expected_version);
    mongodb_put_visible(&filter, args->file->updated_ms);
    if (args->answer)
        mongodb_put_absent(&filter, "changeKey");
    enum err_code code = put_update(&update, args, session->by, err);
    if (code == ERR_OK)
        code = mongodb_update(session, &change, ret_matched, err);
    bson_destroy(&update);
    bson_destroy(&filter);
    return code;
}

static enum err_code settle_row(void *context, const bson_t *document, struct err *err)
{
    return mongodb_settle_change(context, document, err);
}

/* The answer of this change or of one before goes from the row to its request. */
static enum err_code settle(struct mongodb_session *session, const char *id, struct err *err)
{
    const struct mongodb_question question = {.told = settle_row, .context = session};
    return find_row(session, question, "_id", id, err);
}

/* What a change that found no row asks about the row there is. */
struct row_state {
    bool found;
    bool is_visible;
    int64_t version;
    bool is_by_us; /* its last change is this call's own first run */
    bool has_pending_answer;
    int64_t now_ms;
    const char *by;
};

static enum err_code note_state(void *context, const bson_t *document, struct err *err)
{
    struct row_state *state = context;
    (void)err;
    state->found = true;
    state->is_visible = mongodb_is_visible(document, state->now_ms);
    state->version = mongodb_read_version(document);
    state->is_by_us = str_equal(mongodb_read_str(document, "by"), str_of(state->by));
    state->has_pending_answer = mongodb_has(document, "changeKey");
    return ERR_OK;
}

/* Why did an update find no row? ERR_OK: it is done, by our first run; *ret_again: another answer
 * was in its way. */
static enum err_code not_updated(struct mongodb_session *session, const struct update_args *args,
                                 bool *ret_again, struct err *err)
{
    struct row_state row = {.now_ms = args->file->updated_ms, .by = session->by};
    const struct mongodb_question question = {.told = note_state, .context = &row};
    enum err_code code = find_row(session, question, "_id", args->file->id, err);
    *ret_again = false;
    if (code != ERR_OK || (row.found && row.is_by_us))
        return code;
    if (session->unknown)
        return mongodb_doubtful(err);
    if (!row.is_visible)
        return err_set(err, ERR_NOT_FOUND, "change file", "There is no such file.");
    if (row.version == args->expected_version && row.has_pending_answer && args->answer) {
        *ret_again = true;
        return settle(session, args->file->id, err);
    }
    return err_set(err, ERR_CONFLICT, "change file", "The file was changed by another request.");
}

static enum err_code update(struct mongodb_session *session, void *args, struct err *err)
{
    const struct update_args *update = args;
    bool matched = false;
    bool again = true;
    enum err_code code = ERR_OK;
    if (update->answer && !session->unknown)
        code = mongodb_check_lease(session, update->answer, err);
    crash_point("update.before_commit");
    if (code == ERR_OK && update->file->expires_ms)
        code = mongodb_note_expiry(session, update->file->owner, err);
    while (code == ERR_OK && !matched && again) {
        code = update_row(session, update, &matched, err);
        if (code == ERR_OK && !matched)
            code = not_updated(session, update, &again, err);
    }
    if (code != ERR_OK)
        return code;
    crash_point("update.committed");
    if (update->file->status == FILE_DELETED)
        mongodb_add_total(session, update->file->owner, -1, -update->file->size);
    struct err ignored; /* whoever asks for the answer finds it on the row */
    if (update->answer && settle(session, update->file->id, &ignored) != ERR_OK)
        session->again = false;
    return ERR_OK;
}

static enum err_code file_update(void *state, const struct file *file, int64_t expected_version,
                                 const struct idempotency_answer *answer, struct err *err)
{
    struct update_args args = {file, expected_version, answer};
    return mongodb_run(state, update, &args, err);
}

/* ---- remove ---- */

struct remove_args {
    const char *id;
    bool seen; /* by the first run */
    struct mongodb_session *session;
};

static enum err_code save_answers(void *context, const bson_t *document, struct err *err)
{
    struct remove_args *args = context;
    args->seen = true;
    return mongodb_save_answers(args->session, document, err);
}

static enum err_code remove_row(struct mongodb_session *session, void *args, struct err *err)
{
    struct remove_args *wanted = args;
    int64_t removed = 0;
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {
        .collection = COLLECTION_FILES, .filter = &filter, .told = save_answers, .context = wanted};
    wanted->session = session;
    mongodb_put_text(&filter, "_id", wanted->id);
    mongodb_put_number(&filter, "untilMs", 0);
    enum err_code code = mongodb_find(session, &question, err);
    crash_point("remove.before_commit");
    if (code == ERR_OK && wanted->seen)
        code = mongodb_delete(session, COLLECTION_FILES, &filter, &removed, err);
    bson_destroy(&filter);
    if (code != ERR_OK)
        return code;
    crash_point("remove.committed");
    if (removed == 0 && !(wanted->seen && session->unknown))
        return err_set(err, ERR_NOT_FOUND, "remove row", "There is no such file.");
    return ERR_OK;
}

static enum err_code file_remove(void *state, const char *id, struct err *err)
{
    struct remove_args args = {.id = id};
    return mongodb_run(state, remove_row, &args, err);
}

const struct metadata_files mongodb_files = {
    .insert = file_insert,
    .get = file_get,
    .list = mongodb_file_list,
    .update = file_update,
    .mark_deleted = mongodb_mark_deleted,
    .remove = file_remove,
};
