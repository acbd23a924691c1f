/*
 * Marking rows deleted. With an answer to be kept, that is planned first (mongodb_plan_answer) and
 * stored last. One round trip reads the rows, a second one marks those that may be, each under
 * its own condition, and the server says how many it marked. Only when these are not all of them, a
 * third one reads which bear this call's `by`. A row may be gone as soon as it is marked: any node's
 * sweep removes it. So what is to be known of it is known before.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crash.h"
#include "metadata/mongodb/metadata_mongodb.h"

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

enum err_code mongodb_mark_deleted(void *state, const struct file_marking *marking, struct err *err)
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
