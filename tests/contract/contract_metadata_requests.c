/* Requests with an Idempotency-Key. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "contract_metadata.h"

#define NOW STORE_NOW_MS

static enum err_code begin(struct metadata *metadata, const char *key, const char *nonce,
                           int64_t now_ms, struct idempotency_record *record)
{
    struct err err;
    return store_begin(metadata, STR("alice"), str_of(key), str_of(nonce), now_ms, now_ms + 1000,
                       record, &err);
}

/* The state of a begin, or -1. */
static int begin_state(struct metadata *metadata, const char *key, const char *nonce,
                       int64_t now_ms)
{
    struct idempotency_record record;
    idempotency_record_init(&record);
    int state = begin(metadata, key, nonce, now_ms, &record) == ERR_OK ? (int)record.state : -1;
    idempotency_record_release(&record);
    return state;
}

static struct idempotency_answer answer_of(const char *key, const char *nonce)
{
    return (struct idempotency_answer){.owner = STR("alice"),
                                       .key = str_of(key),
                                       .nonce = str_of(nonce),
                                       .fingerprint = STR("f00d"),
                                       .status = 201,
                                       .location = STR("/api/files/x"),
                                       .etag = STR("\"v1\""),
                                       .body = STR("{\"id\":1}")};
}

CONTRACT(a_key_is_started_running_done)
{
    struct err err;
    struct idempotency_record record;
    struct idempotency_answer answer = answer_of("k", "one");
    idempotency_record_init(&record);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", NOW + 999), IDEMPOTENCY_RUNNING);
    CHECK_INT_ROW(label, begin_state(metadata, "K", "two", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, metadata_idempotency_finish(metadata, &answer, NOW + 10, &err), ERR_OK,
                  &err);
    CHECK_INT_ROW(label, begin(metadata, "k", "two", NOW + 20, &record), ERR_OK);
    CHECK_INT_ROW(label, record.state, IDEMPOTENCY_DONE);
    CHECK_INT_ROW(label, record.status, 201);
    CHECK_STR_ROW(label, str_of(record.fingerprint), "f00d");
    CHECK_STR_ROW(label, buf_str(&record.location), "/api/files/x");
    CHECK_STR_ROW(label, buf_str(&record.etag), "\"v1\"");
    CHECK_STR_ROW(label, buf_str(&record.body), "{\"id\":1}");
    idempotency_record_release(&record);
    CHECK_ERR_ROW(label, metadata_idempotency_finish(metadata, &answer, NOW + 30, &err),
                  ERR_CONFLICT, &err);
}

CONTRACT(a_key_is_its_owners)
{
    struct err err;
    struct idempotency_record record;
    idempotency_record_init(&record);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(
        label,
        store_begin(metadata, STR("bob"), STR("k"), STR("two"), NOW, NOW + 1000, &record, &err),
        ERR_OK, &err);
    CHECK_INT_ROW(label, record.state, IDEMPOTENCY_STARTED);
    idempotency_record_release(&record);
}

CONTRACT(a_lease_runs_out_and_is_lost_to_who_takes_it)
{
    struct err err;
    struct idempotency_answer late = answer_of("k", "one");
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label,
                  store_renew(metadata, STR("alice"), STR("k"), STR("one"), NOW + 3000, &err),
                  ERR_OK, &err);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", NOW + 2999), IDEMPOTENCY_RUNNING);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", NOW + 3000), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label,
                  store_renew(metadata, STR("alice"), STR("k"), STR("one"), NOW + 9000, &err),
                  ERR_CONFLICT, &err);
    CHECK_ERR_ROW(label, metadata_idempotency_finish(metadata, &late, NOW, &err), ERR_CONFLICT,
                  &err);
    CHECK_ERR_ROW(label, store_release(metadata, STR("alice"), STR("k"), STR("one"), &err), ERR_OK,
                  &err);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "three", NOW + 3500), IDEMPOTENCY_RUNNING);
}

/* Clocks may differ a little, and be set back. */
CONTRACT(a_lease_further_ahead_than_its_length_has_run_out)
{
    int64_t skewed = NOW - LIMIT_CLOCK_SKEW_MS;
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", skewed), IDEMPOTENCY_RUNNING);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", skewed - 1), IDEMPOTENCY_STARTED);
}

CONTRACT(a_released_key_is_free_and_a_finished_one_is_not)
{
    struct err err;
    struct idempotency_answer answer = answer_of("k", "two");
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, store_release(metadata, STR("alice"), STR("k"), STR("one"), &err), ERR_OK,
                  &err);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, metadata_idempotency_finish(metadata, &answer, NOW, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, store_release(metadata, STR("alice"), STR("k"), STR("two"), &err), ERR_OK,
                  &err);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "three", NOW), IDEMPOTENCY_DONE);
}

CONTRACT(an_answer_is_kept_a_day)
{
    struct err err;
    int purged = 0;
    struct idempotency_answer answer = answer_of("k", "one");
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, metadata_idempotency_finish(metadata, &answer, NOW, &err), ERR_OK, &err);
    int64_t last = NOW + LIMIT_IDEMPOTENCY_KEEP_MS - 1;
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", last), IDEMPOTENCY_DONE);
    CHECK_ERR_ROW(label, metadata_purge_requests(metadata, last, &purged, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, purged, 0);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", last + 1), IDEMPOTENCY_STARTED);
    CHECK_INT_ROW(label, begin_state(metadata, "other", "two", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, metadata_purge_requests(metadata, last + 1, &purged, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, purged, 1);
}

CONTRACT(an_answer_stands_and_falls_with_its_change)
{
    struct err err;
    struct file file;
    struct file back;
    struct idempotency_answer foreign = answer_of("k", "stranger");
    struct idempotency_answer ours = answer_of("k", "one");
    store_file(&file, 1, "alice");
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, &foreign, &err), ERR_CONFLICT, &err);
    CHECK_ERR_ROW(label, metadata_file_get(metadata, file.id, NOW, &back, &err), ERR_NOT_FOUND,
                  &err);
    CHECK_INT_ROW(label, kept_total(metadata, "", NOW), 0);
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, &ours, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", NOW + 1), IDEMPOTENCY_DONE);
    ours = answer_of("u", "one");
    file.version = 2;
    snprintf(file.name, sizeof file.name, "renamed");
    CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, 1, &ours, &err), ERR_CONFLICT, &err);
    CHECK_ERR_ROW(label, metadata_file_get(metadata, file.id, NOW, &back, &err), ERR_OK, &err);
    CHECK_STR_ROW(label, str_of(back.name), "file-1");
    CHECK_INT_ROW(label, begin_state(metadata, "u", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, 1, &ours, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, begin_state(metadata, "u", "two", NOW), IDEMPOTENCY_DONE);
}

/* The key "k<number>" of an owner, finished at NOW + number. */
static void finish_key(struct metadata *metadata, const char *owner, int number, const char *label)
{
    struct err err;
    struct idempotency_record record;
    char key[16];
    snprintf(key, sizeof key, "k%d", number);
    struct idempotency_answer answer = answer_of(key, "one");
    answer.owner = str_of(owner);
    idempotency_record_init(&record);
    CHECK_ERR_ROW(label,
                  store_begin(metadata, answer.owner, answer.key, answer.nonce, NOW, NOW + 1000,
                              &record, &err),
                  ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_idempotency_finish(metadata, &answer, NOW + number, &err), ERR_OK,
                  &err);
    idempotency_record_release(&record);
}

CONTRACT(the_oldest_answers_of_an_owner_go_and_no_running_key)
{
    enum { BYTES_OF_ALL = 16 << 20 };
    struct err err;
    CHECK_INT_ROW(label, begin_state(metadata, "running", "one", NOW), IDEMPOTENCY_STARTED);
    for (int i = 0; i < 12; i++)
        finish_key(metadata, "alice", i, label);
    finish_key(metadata, "alice0", 1, label);
    finish_key(metadata, "al", 1, label);
    CHECK_ERR_ROW(label, store_trim(metadata, STR("alice"), 10, BYTES_OF_ALL, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, begin_state(metadata, "k2", "two", NOW), IDEMPOTENCY_DONE);
    CHECK_INT_ROW(label, begin_state(metadata, "k1", "two", NOW), IDEMPOTENCY_STARTED);
    CHECK_INT_ROW(label, begin_state(metadata, "running", "two", NOW), IDEMPOTENCY_RUNNING);
    CHECK_ERR_ROW(label, store_trim(metadata, STR("alice"), 10, 2000, &err), ERR_OK, &err);
    CHECK_INT_ROW(label, begin_state(metadata, "k11", "two", NOW), IDEMPOTENCY_DONE);
    CHECK_INT_ROW(label, begin_state(metadata, "k3", "two", NOW), IDEMPOTENCY_STARTED);
    CHECK_INT_ROW(label, begin_state(metadata, "running", "two", NOW), IDEMPOTENCY_RUNNING);
    static const char *const others[] = {"alice0", "al"};
    for (size_t i = 0; i < 2; i++) {
        struct idempotency_record record;
        idempotency_record_init(&record);
        CHECK_ERR_ROW(label,
                      store_begin(metadata, str_of(others[i]), STR("k1"), STR("two"), NOW,
                                  NOW + 1000, &record, &err),
                      ERR_OK, &err);
        CHECK_INT_ROW(label, record.state, IDEMPOTENCY_DONE);
        idempotency_record_release(&record);
    }
}

struct results {
    struct idempotency_answer answer;
    int asked;
    enum err_code seen[2]; /* when it was last asked */
};

static enum err_code give_answer(void *context, const enum err_code *results,
                                 struct idempotency_answer *ret_answer, struct err *err)
{
    struct results *given = context;
    (void)err;
    given->asked++;
    memcpy(given->seen, results, sizeof given->seen);
    *ret_answer = given->answer;
    return ERR_OK;
}

CONTRACT(the_answer_of_a_delete_is_stored_with_its_marks)
{
    struct err err;
    struct file back;
    char ids[2][ID_SIZE];
    const char *const pointers[2] = {ids[0], ids[1]};
    enum err_code results[2] = {ERR_INTERNAL, ERR_INTERNAL};
    struct results given = {.answer = answer_of("k", "stranger")};
    const struct file_marking marking = {.ids = pointers,
                                         .count = 2,
                                         .now_ms = NOW,
                                         .results = results,
                                         .answer = give_answer,
                                         .context = &given};
    CHECK_INT_ROW(label, insert_row(metadata, 1, "alice"), ERR_OK);
    store_id(ids[0], 1);
    store_id(ids[1], 2); /* there is none */
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, metadata_file_mark_deleted(metadata, &marking, &err), ERR_CONFLICT, &err);
    CHECK_ERR_ROW(label, metadata_file_get(metadata, ids[0], NOW, &back, &err), ERR_OK, &err);
    given = (struct results){.answer = answer_of("k", "one")};
    CHECK_ERR_ROW(label, metadata_file_mark_deleted(metadata, &marking, &err), ERR_OK, &err);
    CHECK_ROW(label, given.asked > 0);
    for (int i = 0; i < 2; i++) {
        CHECK_INT_ROW(label, results[i], i == 0 ? ERR_OK : ERR_NOT_FOUND);
        CHECK_INT_ROW(label, given.seen[i], results[i]);
    }
    CHECK_ERR_ROW(label, metadata_file_get(metadata, ids[0], NOW, &back, &err), ERR_NOT_FOUND,
                  &err);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", NOW + 1), IDEMPOTENCY_DONE);
    CHECK_INT_ROW(label, kept_total(metadata, "alice", NOW), 0);
}

/* Begins with a key whose answer must be there, word for word. */
static void check_done(struct metadata *metadata, const char *key, int64_t now_ms,
                       const char *label)
{
    struct idempotency_record record;
    idempotency_record_init(&record);
    CHECK_INT_ROW(label, begin(metadata, key, "late", now_ms, &record), ERR_OK);
    CHECK_INT_ROW(label, record.state, IDEMPOTENCY_DONE);
    CHECK_INT_ROW(label, record.status, 201);
    CHECK_STR_ROW(label, str_of(record.fingerprint), "f00d");
    CHECK_STR_ROW(label, buf_str(&record.location), "/api/files/x");
    CHECK_STR_ROW(label, buf_str(&record.etag), "\"v1\"");
    CHECK_STR_ROW(label, buf_str(&record.body), "{\"id\":1}");
    idempotency_record_release(&record);
}

CONTRACT(an_answer_outlives_its_file)
{
    struct err err;
    struct file file;
    int purged = 0;
    struct idempotency_answer made = answer_of("k", "one");
    struct idempotency_answer changed = answer_of("u", "one");
    int64_t last = NOW + LIMIT_IDEMPOTENCY_KEEP_MS - 1;
    store_file(&file, 1, "alice");
    file.created_ms = file.updated_ms = NOW;
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, &made, &err), ERR_OK, &err);
    check_done(metadata, "k", NOW, label);
    CHECK_INT_ROW(label, begin_state(metadata, "u", "one", NOW), IDEMPOTENCY_STARTED);
    file.version = 2;
    CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, 1, &changed, &err), ERR_OK, &err);
    check_done(metadata, "u", NOW, label);
    CHECK_INT_ROW(label, mark_row(metadata, 1, 2, ""), ERR_OK);
    check_done(metadata, "k", NOW, label);
    CHECK_ERR_ROW(label, metadata_file_remove(metadata, file.id, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_purge_requests(metadata, last, &purged, &err), ERR_OK, &err);
    check_done(metadata, "k", last, label);
    check_done(metadata, "u", last, label);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", last + 1), IDEMPOTENCY_STARTED);
    CHECK_INT_ROW(label, begin_state(metadata, "u", "two", last + 1), IDEMPOTENCY_STARTED);
}

/* While the file lives on, its key is free again after a day: by itself, and after a purge. */
CONTRACT(a_key_makes_another_file_after_a_day)
{
    for (int purge = 0; purge <= 1; purge++) {
        struct err err;
        struct file file;
        int purged = 0;
        const char *key = purge ? "purged" : "old";
        struct idempotency_answer first = answer_of(key, "one");
        struct idempotency_answer second = answer_of(key, "two");
        int64_t later = NOW + LIMIT_IDEMPOTENCY_KEEP_MS;
        store_file(&file, 2 * purge, "alice");
        file.created_ms = file.updated_ms = NOW;
        CHECK_INT_ROW(label, begin_state(metadata, key, "one", NOW), IDEMPOTENCY_STARTED);
        CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, &first, &err), ERR_OK, &err);
        if (purge)
            CHECK_ERR_ROW(label, metadata_purge_requests(metadata, later, &purged, &err), ERR_OK,
                          &err);
        CHECK_INT_ROW(label, begin_state(metadata, key, "two", later), IDEMPOTENCY_STARTED);
        store_file(&file, 2 * purge + 1, "alice");
        file.created_ms = file.updated_ms = later;
        CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, &second, &err), ERR_OK, &err);
        check_done(metadata, key, later + 1, label);
    }
    CHECK_INT_ROW(label, kept_total(metadata, "alice", NOW), 4);
}

/* A request that lost its lease while it was at work must not make a second file. */
CONTRACT(a_key_whose_lease_was_lost_makes_one_file)
{
    struct err err;
    struct file file;
    struct idempotency_answer late = answer_of("k", "one");
    struct idempotency_answer taker = answer_of("k", "two");
    CHECK_INT_ROW(label, begin_state(metadata, "k", "one", NOW), IDEMPOTENCY_STARTED);
    CHECK_INT_ROW(label, begin_state(metadata, "k", "two", NOW + 1000), IDEMPOTENCY_STARTED);
    store_file(&file, 1, "alice");
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, &late, &err), ERR_CONFLICT, &err);
    store_file(&file, 2, "alice");
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, &taker, &err), ERR_OK, &err);
    store_file(&file, 3, "alice");
    CHECK_ERR_ROW(label, metadata_file_insert(metadata, &file, &taker, &err), ERR_CONFLICT, &err);
    CHECK_INT_ROW(label, kept_total(metadata, "alice", NOW), 1);
}

/* Changes with answers follow each other on one file. */
CONTRACT(each_change_keeps_its_own_answer)
{
    struct err err;
    struct file file;
    char key[16];
    CHECK_INT_ROW(label, insert_row(metadata, 1, "alice"), ERR_OK);
    store_file(&file, 1, "alice");
    file.updated_ms = NOW;
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "u%d", i);
        struct idempotency_answer answer = answer_of(key, "one");
        CHECK_INT_ROW(label, begin_state(metadata, key, "one", NOW), IDEMPOTENCY_STARTED);
        file.version = i + 2;
        CHECK_ERR_ROW(label, metadata_file_update(metadata, &file, i + 1, &answer, &err), ERR_OK,
                      &err);
    }
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "u%d", i);
        check_done(metadata, key, NOW + 1, label);
    }
}

struct race {
    struct metadata *metadata;
    atomic_int started;
    atomic_int running;
    atomic_int done;
    atomic_int failed;
};

/* As a client that tries again: one makes the file, the others get its answer or wait. */
static void race_for_key(void *context, int index)
{
    struct race *race = context;
    struct err err;
    struct file file;
    char nonce[16];
    snprintf(nonce, sizeof nonce, "n%d", index);
    switch (begin_state(race->metadata, "k", nonce, NOW)) {
    case IDEMPOTENCY_STARTED: {
        struct idempotency_answer answer = answer_of("k", nonce);
        store_file(&file, index, "alice");
        bool inserted = metadata_file_insert(race->metadata, &file, &answer, &err) == ERR_OK;
        atomic_fetch_add(inserted ? &race->started : &race->failed, 1);
        break;
    }
    case IDEMPOTENCY_RUNNING:
        atomic_fetch_add(&race->running, 1);
        break;
    case IDEMPOTENCY_DONE:
        atomic_fetch_add(&race->done, 1);
        break;
    default:
        atomic_fetch_add(&race->failed, 1);
    }
}

CONTRACT(sixty_four_racers_for_a_key_make_one_file)
{
    struct race race = {.metadata = metadata};
    store_threads(64, race_for_key, &race);
    CHECK_INT_ROW(label, race.started, 1);
    CHECK_INT_ROW(label, race.running + race.done, 63);
    CHECK_INT_ROW(label, race.failed, 0);
    CHECK_INT_ROW(label, kept_total(metadata, "alice", NOW), 1);
}

CONTRACT(connections_are_idle_between_calls)
{
    struct err err;
    struct pool_usage usage;
    CHECK_ERR_ROW(label, metadata_ping(metadata, &err), ERR_OK, &err);
    if (!metadata_connections(metadata, &usage)) {
        CHECK_ROW(label, false);
        return;
    }
    CHECK_INT_ROW(label, usage.busy, 0);
    CHECK_INT_ROW(label, usage.idle, 1);
}

CONTRACT(the_mark_changes_only_from_what_was_expected)
{
    struct err err;
    char text[METADATA_MARK_SIZE] = "";
    unsigned char secret[METADATA_SECRET_BYTES];
    CHECK_ERR_ROW(label, metadata_read_mark(metadata, text, &err), ERR_NOT_FOUND, &err);
    CHECK_ERR_ROW(label, metadata_write_mark(metadata, "one\n", "two\n", &err), ERR_CONFLICT, &err);
    CHECK_ERR_ROW(label, metadata_write_mark(metadata, "", "one\n", &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_write_mark(metadata, "", "two\n", &err), ERR_CONFLICT, &err);
    CHECK_ERR_ROW(label, metadata_read_mark(metadata, text, &err), ERR_OK, &err);
    CHECK_STR_ROW(label, str_of(text), "one\n");
    CHECK_ERR_ROW(label, metadata_write_mark(metadata, "one\n", "two\n", &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, metadata_write_mark(metadata, "one\n", "three\n", &err), ERR_CONFLICT,
                  &err);
    CHECK_ERR_ROW(label, metadata_read_mark(metadata, text, &err), ERR_OK, &err);
    CHECK_STR_ROW(label, str_of(text), "two\n");
    CHECK_ERR_ROW(label, metadata_secret(metadata, secret, &err), ERR_OK, &err);
}

struct mark_race {
    struct metadata *metadata;
    atomic_int won;
    atomic_int lost;
};

static void race_for_mark(void *context, int index)
{
    struct mark_race *race = context;
    struct err err;
    char text[METADATA_MARK_SIZE];
    snprintf(text, sizeof text, "writer %d\n", index);
    enum err_code code = metadata_write_mark(race->metadata, "", text, &err);
    if (code == ERR_OK)
        atomic_fetch_add(&race->won, 1);
    else if (code == ERR_CONFLICT)
        atomic_fetch_add(&race->lost, 1);
}

CONTRACT(of_writers_of_the_first_mark_one_wins)
{
    struct mark_race race = {.metadata = metadata};
    store_threads(8, race_for_mark, &race);
    CHECK_INT_ROW(label, race.won, 1);
    CHECK_INT_ROW(label, race.lost, 7);
}
