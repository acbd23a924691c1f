/*
 * Faults between the S3 driver and each of its servers: every request of an operation is spoiled in
 * turn, in every way. One fault is overcome; where that is not possible, the call fails with a code
 * that says so, and what is visible is whole.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract_storage_s3_proxy.h"
#include "http_tools.h"
#include "storage_contract.h"
#include "store.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"
#define OTHER_KEY "cd/0123456789abcdef0123456789abcdef"
#define MIB (1024 * 1024)
#define LARGE ((size_t)11 * MIB) /* three parts */
#define REQUESTS_MAX 40          /* of one operation; more are a loop */

/* One operation through the proxy, and the store itself to see what came of it. */
struct trial {
    struct storage *direct;
    struct storage *through;
    struct s3_proxy *proxy;
    struct str content;
    char *back;
    const char *store;
    char label[128]; /* the store, the operation and the fault */
    bool must_succeed;
};

typedef void operation(struct trial *trial);

static bool is_store_failure(enum err_code code)
{
    return code == ERR_STORAGE_UNAVAILABLE || code == ERR_UPSTREAM_TIMEOUT;
}

static void check_outcome(const struct trial *trial, enum err_code code, const struct err *err)
{
    if (trial->must_succeed)
        CHECK_ERR_ROW(trial->label, code, ERR_OK, err);
    else if (code != ERR_OK && !is_store_failure(code))
        CHECK_ERR_ROW(trial->label, code, ERR_STORAGE_UNAVAILABLE, err);
}

static void check_whole(const struct trial *trial, const char *key)
{
    CHECK_INT_ROW(trial->label,
                  get_object(trial->direct, key, 0, trial->back, LARGE + 1, LIMIT_IO_BUFFER),
                  (int64_t)trial->content.len);
    CHECK_ROW(trial->label, memcmp(trial->back, trial->content.data, trial->content.len) == 0);
}

static void clean(const struct trial *trial)
{
    struct err err;
    int purged = 0;
    int64_t later_ms = clock_wall_ms(&clock_system) + 3600000;
    CHECK_ERR_ROW(trial->label, storage_remove(trial->direct, KEY, &err), ERR_OK, &err);
    CHECK_ERR_ROW(trial->label, storage_remove(trial->direct, OTHER_KEY, &err), ERR_OK, &err);
    CHECK_ERR_ROW(trial->label, storage_purge_unfinished(trial->direct, later_ms, &purged, &err),
                  ERR_OK, &err);
    if (trial->must_succeed)
        CHECK_INT_ROW(trial->label, purged, 0);
    CHECK_INT_ROW(trial->label, count_objects(trial->direct), 0);
}

static void upload(struct trial *trial)
{
    struct err err;
    struct storage_stat stat;
    const struct put_options options = {
        .size_hint = (int64_t)trial->content.len, .step = LIMIT_IO_BUFFER, .mime = "a/b"};
    enum err_code code = put_object_with(trial->through, KEY, trial->content, &options, &err);
    check_outcome(trial, code, &err);
    if (code == ERR_OK || storage_stat_object(trial->direct, KEY, &stat, &err) != ERR_NOT_FOUND)
        check_whole(trial, KEY);
}

static void download(struct trial *trial)
{
    struct err err;
    char tag[STORAGE_TAG_SIZE];
    const struct put_options options = {.size_hint = -1, .step = LIMIT_IO_BUFFER, .ret_tag = tag};
    const struct storage_wanted wanted = {
        .key = KEY, .size = (int64_t)trial->content.len, .tag = tag, .length = -1};
    CHECK_ERR_ROW(trial->label, put_object_with(trial->direct, KEY, trial->content, &options, &err),
                  ERR_OK, &err);
    int64_t len = get_wanted(trial->through, &wanted, trial->back, LARGE + 1, &err);
    check_outcome(trial, len < 0 ? err.code : ERR_OK, &err);
    if (len >= 0)
        CHECK_ROW(trial->label,
                  len == (int64_t)trial->content.len &&
                      memcmp(trial->back, trial->content.data, trial->content.len) == 0);
}

static void remove_one(struct trial *trial)
{
    struct err err;
    struct storage_stat stat;
    CHECK_INT_ROW(trial->label,
                  put_object(trial->direct, KEY, trial->content.data, trial->content.len), ERR_OK);
    enum err_code code = storage_remove(trial->through, KEY, &err);
    check_outcome(trial, code, &err);
    if (code == ERR_OK)
        CHECK_ERR_ROW(trial->label, storage_stat_object(trial->direct, KEY, &stat, &err),
                      ERR_NOT_FOUND, &err);
}

static void look(struct trial *trial)
{
    struct err err;
    struct storage_stat stat;
    int objects = 0;
    CHECK_INT_ROW(trial->label,
                  put_object(trial->direct, KEY, trial->content.data, trial->content.len), ERR_OK);
    enum err_code code = storage_stat_object(trial->through, KEY, &stat, &err);
    check_outcome(trial, code, &err);
    if (code == ERR_OK)
        CHECK_INT_ROW(trial->label, stat.size, (int64_t)trial->content.len);
    objects = count_objects(trial->through);
    CHECK_ROW(trial->label, objects == 1 || (objects == -1 && !trial->must_succeed));
}

static const struct {
    const char *name;
    operation *run;
    size_t len;
} operations[] = {
    {"small upload", upload, 1000},
    {"large upload", upload, LARGE},
    {"download", download, MIB},
    {"remove", remove_one, 10},
    {"look", look, 10},
};

/* Spoils each request of the operation in turn, until it makes fewer. */
static void spoil_each(struct trial *trial, size_t index, enum s3_fault fault, bool and_all_later)
{
    for (int number = 1; number <= REQUESTS_MAX; number++) {
        snprintf(trial->label, sizeof trial->label, "%s, %s, %s at request %d%s", trial->store,
                 operations[index].name, s3_fault_names[fault], number,
                 and_all_later ? " and later" : "");
        trial->content.len = operations[index].len;
        s3_proxy_set(trial->proxy, fault, number, and_all_later);
        operations[index].run(trial);
        int requests = s3_proxy_requests(trial->proxy);
        clean(trial);
        if (requests < number)
            break;
        CHECK_ROW(trial->label, number < REQUESTS_MAX);
    }
}

static void spoil_all(struct storage *storage, const struct config *config, const char *label,
                      bool and_all_later)
{
    struct config through;
    struct s3_proxy *proxy = s3_proxy_open(config, &through);
    char *content = make_content(LARGE, 11);
    char *back = malloc(LARGE + 1);
    struct trial trial = {.direct = storage,
                          .through = s3_contract_open(&through, label),
                          .proxy = proxy,
                          .store = label,
                          .content = {content, LARGE},
                          .back = back,
                          .must_succeed = !and_all_later && through.s3_attempts > 1};
    /* When nothing works any more, only what the store has seen makes a difference. */
    int faults = and_all_later ? S3_FAULT_LOST_REPLY + 1 : S3_FAULT_SILENT;
    if (trial.through && back)
        for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
            for (int fault = 0; fault < faults; fault++)
                spoil_each(&trial, i, (enum s3_fault)fault, and_all_later);
    storage_close(trial.through);
    s3_proxy_close(proxy);
    free(content);
    free(back);
}

S3_CONTRACT(one_fault_is_overcome_whichever_request_it_hits)
{
    spoil_all(storage, config, label, false);
}

S3_CONTRACT(what_is_sent_once_fails_clean)
{
    struct config once = *config;
    once.s3_attempts = 1;
    spoil_all(storage, &once, label, false);
}

S3_CONTRACT(a_store_that_goes_away_leaves_nothing_half_known)
{
    spoil_all(storage, config, label, true);
}

/* ---- time ---- */

S3_CONTRACT(a_silent_store_is_given_up_within_the_deadline)
{
    struct err err;
    struct config through;
    struct s3_proxy *proxy = s3_proxy_open(config, &through);
    through.s3_stall_seconds = 1;
    through.s3_deadline_seconds = 1;
    char *content = make_content(LARGE, 11);
    char *back = malloc(LARGE + 1);
    struct trial trial = {.direct = storage,
                          .through = s3_contract_open(&through, label),
                          .proxy = proxy,
                          .store = label,
                          .content = {content, LARGE},
                          .back = back};
    for (size_t i = 0; trial.through && back && i < sizeof operations / sizeof operations[0]; i++) {
        snprintf(trial.label, sizeof trial.label, "%s, %s, silent", label, operations[i].name);
        trial.content.len = operations[i].len;
        s3_proxy_set(proxy, S3_FAULT_SILENT, 1, true);
        int64_t start_ms = http_test_now_ms();
        operations[i].run(&trial);
        /* Two calls at most: of a listing and a look, of an upload and its close. */
        CHECK_ROW(trial.label, http_test_now_ms() - start_ms < 5000);
        clean(&trial);
    }
    s3_proxy_set(proxy, S3_FAULT_SILENT, 1, true);
    CHECK_ERR_ROW(label, storage_ping(trial.through, &err), ERR_UPSTREAM_TIMEOUT, &err);
    storage_close(trial.through);
    s3_proxy_close(proxy);
    free(content);
    free(back);
}

S3_CONTRACT(a_store_that_refuses_is_told_of_within_two_seconds)
{
    struct config through;
    struct err err;
    struct storage_stat stat;
    struct storage_put *put = NULL;
    char tag[STORAGE_TAG_SIZE];
    s3_proxy_close(s3_proxy_open(config, &through)); /* nobody listens there any more */
    struct storage *away = s3_contract_open(&through, label);
    REQUIRE(away);
    int64_t start_ms = http_test_now_ms();
    CHECK_ERR_ROW(label, storage_ping(away, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_ERR_ROW(label, storage_stat_object(away, KEY, &stat, &err), ERR_STORAGE_UNAVAILABLE,
                  &err);
    CHECK_ROW(label, http_test_now_ms() - start_ms < 2000);
    start_ms = http_test_now_ms();
    CHECK_ERR_ROW(label, storage_put_begin(away, KEY, 5, &put, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, storage_put_write(put, "hello", 5, &err), ERR_OK, &err);
    CHECK_ERR_ROW(label, commit_content(put, STR("hello"), tag, &err), ERR_STORAGE_UNAVAILABLE,
                  &err);
    storage_put_close(put);
    CHECK_ROW(label, http_test_now_ms() - start_ms < 2000);
    storage_close(away);
    (void)storage;
}

/* ---- settings ---- */

S3_CONTRACT(wrong_settings_are_told_apart)
{
    struct err err;
    struct storage_stat stat;
    struct config wrong = *config;
    snprintf(wrong.s3_secret_key, CONFIG_TEXT_SIZE, "wrong-secret-key");
    struct storage *other = s3_contract_open(&wrong, label);
    CHECK_INT_ROW(label, put_object(other, KEY, "x", 1), ERR_STORAGE);
    const struct storage_wanted wanted = {.key = KEY, .size = -1, .length = -1};
    struct storage_get *get = NULL;
    CHECK_ERR_ROW(label, storage_get_open(other, &wanted, &get, &err), ERR_STORAGE, &err);
    CHECK_INT_ROW(label, err.remote_status, 403);
    CHECK_ROW(label, strstr(err.message, "SignatureDoesNotMatch") != NULL);
    CHECK_ROW(label, err.internal && !strstr(err.message, "wrong-secret-key"));
    storage_close(other);

    wrong = *config;
    snprintf(wrong.s3_bucket, CONFIG_TEXT_SIZE, "contract-missing");
    other = s3_contract_open(&wrong, label);
    CHECK_ERR_ROW(label, storage_ping(other, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_ROW(label, strstr(err.message, "the bucket does not exist") != NULL);
    CHECK_ERR_ROW(label, storage_stat_object(other, KEY, &stat, &err), ERR_STORAGE_UNAVAILABLE,
                  &err);
    CHECK_ERR_ROW(label, storage_get_open(other, &wanted, &get, &err), ERR_STORAGE_UNAVAILABLE,
                  &err);
    CHECK_ROW(label, strstr(err.message, "NoSuchBucket") != NULL);
    CHECK_INT_ROW(label, count_objects(other), -1);
    storage_close(other);
    (void)storage;
}
