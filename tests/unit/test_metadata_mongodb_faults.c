/* Connections that break at every command, and processes that die between two writes (ABUSE F1,
 * F2, F13, F15). Each case leaves one of two legal states, and a retry makes one record. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "metadata/metadata_drivers.h"
#include "metadata/mongodb/metadata_mongodb.h"
#include "mongodb_database.h"
#include "mongodb_proxy.h"
#include "store.h"

#define NOW STORE_NOW_MS
#define LATER (NOW + 5000) /* leases have run out */

/* ---- steps ---- */

/* One case: its number is in the ids, keys and owner of what it makes. */
struct trial {
    struct metadata *direct;
    struct metadata *proxied;
    int number;
    char owner[32];
    char key[32];
    char label[96];
};

static struct metadata *open_metadata(const struct config *config)
{
    struct err err;
    struct metadata *metadata = NULL;
    CHECK_ERR(metadata_open(&metadata, config, &clock_system, NULL, &err), ERR_OK, &err);
    return metadata;
}

static void file_of(const struct trial *trial, int part, struct file *ret_file)
{
    store_file(ret_file, trial->number * 8 + part, trial->owner);
    ret_file->created_ms = ret_file->updated_ms = NOW;
}

static struct idempotency_answer answer_of(const struct trial *trial, const char *nonce)
{
    return (struct idempotency_answer){.owner = str_of(trial->owner),
                                       .key = str_of(trial->key),
                                       .nonce = str_of(nonce),
                                       .fingerprint = STR("f00d"),
                                       .status = 201,
                                       .location = STR("/api/files/x"),
                                       .body = STR("{}")};
}

static enum err_code begin(const struct trial *trial, struct metadata *metadata, const char *nonce,
                           int64_t now_ms, int *ret_state, struct err *err)
{
    struct idempotency_record record;
    idempotency_record_init(&record);
    enum err_code code = store_begin(metadata, str_of(trial->owner), str_of(trial->key),
                                     str_of(nonce), now_ms, now_ms + 1000, &record, err);
    *ret_state = (int)record.state;
    idempotency_record_release(&record);
    return code;
}

static int begin_state(const struct trial *trial, const char *nonce, int64_t now_ms)
{
    struct err err;
    int state = -1;
    CHECK_ERR_ROW(trial->label, begin(trial, trial->direct, nonce, now_ms, &state, &err), ERR_OK,
                  &err);
    return state;
}

/* The row as it is, or ERR_NOT_FOUND. */
static enum err_code look(const struct trial *trial, int part, struct file *ret_file)
{
    struct err err;
    char id[ID_SIZE];
    store_id(id, trial->number * 8 + part);
    enum err_code code = metadata_file_get(trial->direct, id, NOW, ret_file, &err);
    CHECK_ROW(trial->label, code == ERR_OK || code == ERR_NOT_FOUND);
    return code;
}

static void make_row(const struct trial *trial, int part, const struct idempotency_answer *answer)
{
    struct err err;
    struct file file;
    file_of(trial, part, &file);
    CHECK_ERR_ROW(trial->label, metadata_file_insert(trial->direct, &file, answer, &err), ERR_OK,
                  &err);
}

static enum err_code mark(struct metadata *metadata, const struct trial *trial,
                          enum err_code results[3], struct err *err)
{
    char ids[3][ID_SIZE];
    const char *const pointers[3] = {ids[0], ids[1], ids[2]};
    for (int i = 0; i < 3; i++)
        store_id(ids[i], trial->number * 8 + i);
    return store_mark_deleted(metadata, pointers, NULL, 3, str_of(trial->owner), NOW, results, err);
}

/* ---- operations: what is there before, the call, what must be there after ---- */

static void prepare_nothing(const struct trial *trial)
{
    (void)trial;
}

static enum err_code run_insert(const struct trial *trial, struct err *err)
{
    struct file file;
    file_of(trial, 0, &file);
    return metadata_file_insert(trial->proxied, &file, NULL, err);
}

static bool verify_insert(const struct trial *trial, enum err_code code)
{
    struct err err;
    struct file file;
    bool done = look(trial, 0, &file) == ERR_OK;
    CHECK_ROW(trial->label, done || code != ERR_OK);
    file_of(trial, 0, &file);
    CHECK_ERR_ROW(trial->label, metadata_file_insert(trial->direct, &file, NULL, &err),
                  done ? ERR_EXISTS : ERR_OK, &err);
    CHECK_INT_ROW(trial->label, look(trial, 0, &file), ERR_OK);
    return done;
}

static void prepare_lease(const struct trial *trial)
{
    CHECK_INT_ROW(trial->label, begin_state(trial, "one", NOW), IDEMPOTENCY_STARTED);
}

static enum err_code run_insert_answer(const struct trial *trial, struct err *err)
{
    struct file file;
    struct idempotency_answer answer = answer_of(trial, "one");
    file_of(trial, 0, &file);
    return metadata_file_insert(trial->proxied, &file, &answer, err);
}

/* The client tries again, under another nonce: one file either way. */
static bool verify_insert_answer(const struct trial *trial, enum err_code code)
{
    struct err err;
    struct file file;
    bool done = look(trial, 0, &file) == ERR_OK;
    CHECK_ROW(trial->label, done || code != ERR_OK);
    int state = begin_state(trial, "two", LATER);
    CHECK_INT_ROW(trial->label, state, done ? IDEMPOTENCY_DONE : IDEMPOTENCY_STARTED);
    struct idempotency_answer answer = answer_of(trial, "two");
    file_of(trial, 1, &file);
    CHECK_ERR_ROW(trial->label, metadata_file_insert(trial->direct, &file, &answer, &err),
                  done ? ERR_CONFLICT : ERR_OK, &err);
    CHECK_INT_ROW(trial->label, begin_state(trial, "three", LATER), IDEMPOTENCY_DONE);
    return done;
}

static void prepare_update(const struct trial *trial)
{
    make_row(trial, 0, NULL);
    prepare_lease(trial);
}

static enum err_code run_update(const struct trial *trial, struct err *err)
{
    struct file file;
    struct idempotency_answer answer = answer_of(trial, "one");
    file_of(trial, 0, &file);
    snprintf(file.name, sizeof file.name, "renamed");
    file.version = 2;
    return metadata_file_update(trial->proxied, &file, 1, &answer, err);
}

static bool verify_update(const struct trial *trial, enum err_code code)
{
    struct file file;
    CHECK_INT_ROW(trial->label, look(trial, 0, &file), ERR_OK);
    bool done = file.version == 2;
    CHECK_ROW(trial->label, done || (code != ERR_OK && file.version == 1));
    CHECK_STR_ROW(trial->label, str_of(file.name + strlen(file.name) - 7),
                  done ? "renamed" : file.name + strlen(file.name) - 7);
    CHECK_INT_ROW(trial->label, begin_state(trial, "two", LATER),
                  done ? IDEMPOTENCY_DONE : IDEMPOTENCY_STARTED);
    return done;
}

static void prepare_mark(const struct trial *trial)
{
    for (int i = 0; i < 3; i++)
        make_row(trial, i, NULL);
}

static enum err_code run_mark(const struct trial *trial, struct err *err)
{
    enum err_code results[3] = {ERR_INTERNAL, ERR_INTERNAL, ERR_INTERNAL};
    enum err_code code = mark(trial->proxied, trial, results, err);
    for (int i = 0; code == ERR_OK && i < 3; i++)
        CHECK_INT_ROW(trial->label, results[i], ERR_OK);
    return code;
}

static bool verify_mark(const struct trial *trial, enum err_code code)
{
    struct err err;
    struct file file;
    bool gone[3];
    bool any = false;
    enum err_code results[3];
    for (int i = 0; i < 3; i++) {
        gone[i] = look(trial, i, &file) == ERR_NOT_FOUND;
        any |= gone[i];
        CHECK_ROW(trial->label, gone[i] || code != ERR_OK);
    }
    CHECK_ERR_ROW(trial->label, mark(trial->direct, trial, results, &err), ERR_OK, &err);
    for (int i = 0; i < 3; i++)
        CHECK_INT_ROW(trial->label, results[i], gone[i] ? ERR_NOT_FOUND : ERR_OK);
    return any;
}

static void prepare_mark_answer(const struct trial *trial)
{
    prepare_mark(trial);
    prepare_lease(trial);
}

static enum err_code give_answer(void *context, const enum err_code *results,
                                 struct idempotency_answer *ret_answer, struct err *err)
{
    (void)results;
    (void)err;
    *ret_answer = answer_of(context, "one");
    return ERR_OK;
}

static enum err_code run_mark_answer(const struct trial *trial, struct err *err)
{
    char ids[3][ID_SIZE];
    const char *const pointers[3] = {ids[0], ids[1], ids[2]};
    enum err_code results[3] = {ERR_INTERNAL, ERR_INTERNAL, ERR_INTERNAL};
    struct trial own = *trial;
    const struct file_marking marking = {.ids = pointers,
                                         .count = 3,
                                         .now_ms = NOW,
                                         .results = results,
                                         .answer = give_answer,
                                         .context = &own};
    for (int i = 0; i < 3; i++)
        store_id(ids[i], trial->number * 8 + i);
    enum err_code code = metadata_file_mark_deleted(trial->proxied, &marking, err);
    for (int i = 0; code == ERR_OK && i < 3; i++)
        CHECK_INT_ROW(trial->label, results[i], ERR_OK);
    return code;
}

/* Where a row is marked the key's next request is told of it: as its answer, or as the plan. */
static bool verify_mark_answer(const struct trial *trial, enum err_code code)
{
    struct err err;
    struct file file;
    struct idempotency_record record;
    bool any = false;
    idempotency_record_init(&record);
    for (int i = 0; i < 3; i++)
        any |= look(trial, i, &file) == ERR_NOT_FOUND;
    CHECK_ERR_ROW(trial->label,
                  store_begin(trial->direct, str_of(trial->owner), str_of(trial->key), STR("two"),
                              LATER, LATER + 1000, &record, &err),
                  ERR_OK, &err);
    CHECK_ROW(trial->label, code != ERR_OK || record.state == IDEMPOTENCY_DONE);
    CHECK_ROW(trial->label, !any || strcmp(record.fingerprint, "f00d") == 0);
    idempotency_record_release(&record);
    return verify_mark(trial, code);
}

static void prepare_remove(const struct trial *trial)
{
    struct err err;
    enum err_code results[3];
    struct idempotency_answer answer = answer_of(trial, "one");
    prepare_lease(trial);
    make_row(trial, 0, &answer);
    CHECK_ERR_ROW(trial->label, mark(trial->direct, trial, results, &err), ERR_OK, &err);
}

static enum err_code run_remove(const struct trial *trial, struct err *err)
{
    char id[ID_SIZE];
    store_id(id, trial->number * 8);
    return metadata_file_remove(trial->proxied, id, err);
}

static bool verify_remove(const struct trial *trial, enum err_code code)
{
    struct err err;
    struct file file;
    bool known = true;
    file_of(trial, 0, &file);
    const char *const keys[1] = {file.key};
    CHECK_ERR_ROW(trial->label, metadata_keys_known(trial->direct, keys, 1, &known, &err), ERR_OK,
                  &err);
    CHECK_ROW(trial->label, !known || code != ERR_OK);
    CHECK_ERR_ROW(trial->label, metadata_file_remove(trial->direct, file.id, &err),
                  known ? ERR_OK : ERR_NOT_FOUND, &err);
    CHECK_INT_ROW(trial->label, begin_state(trial, "two", LATER), IDEMPOTENCY_DONE);
    return !known;
}

static enum err_code run_begin(const struct trial *trial, struct err *err)
{
    int state = -1;
    enum err_code code = begin(trial, trial->proxied, "one", NOW, &state, err);
    CHECK_ROW(trial->label, code != ERR_OK || state == IDEMPOTENCY_STARTED);
    return code;
}

static bool verify_begin(const struct trial *trial, enum err_code code)
{
    int state = begin_state(trial, "two", NOW);
    CHECK_ROW(trial->label, code != ERR_OK || state == IDEMPOTENCY_RUNNING);
    CHECK_INT_ROW(trial->label, begin_state(trial, "three", LATER), IDEMPOTENCY_STARTED);
    return state == IDEMPOTENCY_RUNNING;
}

static enum err_code run_finish(const struct trial *trial, struct err *err)
{
    struct idempotency_answer answer = answer_of(trial, "one");
    return metadata_idempotency_finish(trial->proxied, &answer, NOW, err);
}

static bool verify_finish(const struct trial *trial, enum err_code code)
{
    int state = begin_state(trial, "two", LATER);
    CHECK_ROW(trial->label, state == IDEMPOTENCY_DONE || code != ERR_OK);
    CHECK_ROW(trial->label, state == IDEMPOTENCY_DONE || state == IDEMPOTENCY_STARTED);
    return state == IDEMPOTENCY_DONE;
}

static const struct operation {
    const char *name;
    void (*prepare)(const struct trial *trial);
    enum err_code (*run)(const struct trial *trial, struct err *err);
    /* Was the change made? Then tries it again. */
    bool (*verify)(const struct trial *trial, enum err_code code);
} operations[] = {
    {"insert", prepare_nothing, run_insert, verify_insert},
    {"insert with answer", prepare_lease, run_insert_answer, verify_insert_answer},
    {"update", prepare_update, run_update, verify_update},
    {"mark", prepare_mark, run_mark, verify_mark},
    {"remove", prepare_remove, run_remove, verify_remove},
    {"begin", prepare_nothing, run_begin, verify_begin},
    {"finish", prepare_lease, run_finish, verify_finish},
    {"mark with answer", prepare_mark_answer, run_mark_answer, verify_mark_answer},
};
#define OPERATIONS ((int)(sizeof operations / sizeof operations[0]))

/* ---- every command of every operation breaks ---- */

#define COMMANDS_MAX 12

struct breaking {
    const struct config *config;
    struct metadata *direct;
};

static void set_up(struct trial *trial, int number, const char *label)
{
    trial->number = number;
    snprintf(trial->owner, sizeof trial->owner, "owner-%d", number);
    snprintf(trial->key, sizeof trial->key, "key-%d", number);
    snprintf(trial->label, sizeof trial->label, "%s", label);
}

/* One case; false when the operation has fewer commands. A connection that breaks once is made up
 * for; twice in a row is a failure, and outcome_unknown says that it may have been made. */
static bool break_at(const struct operation *operation, struct trial *trial,
                     struct mongodb_proxy *proxy, enum mongodb_cut cut, const int at[2])
{
    struct err err = {.code = ERR_OK};
    operation->prepare(trial);
    mongodb_proxy_cut(proxy, cut, at[0], at[1]);
    enum err_code code = operation->run(trial, &err);
    bool broken = mongodb_proxy_broken(proxy) > 0;
    mongodb_proxy_cut(proxy, cut, 0, 0);
    if (at[1] == 1)
        CHECK_ERR_ROW(trial->label, code, ERR_OK, &err);
    CHECK_ROW(trial->label, code == ERR_OK || code == ERR_METADATA_UNAVAILABLE);
    bool done = operation->verify(trial, code);
    if (code != ERR_OK && done)
        CHECK_ROW(trial->label, err.outcome_unknown);
    return broken;
}

static void break_operation(void *context, int index)
{
    const struct breaking *breaking = context;
    const struct operation *operation = &operations[index];
    struct config config = *breaking->config;
    struct mongodb_proxy *proxy = mongodb_proxy_open(breaking->config->mongodb_uri,
                                                     config.mongodb_uri, sizeof config.mongodb_uri);
    CHECK(proxy);
    if (!proxy)
        return;
    struct trial trial = {.direct = breaking->direct, .proxied = open_metadata(&config)};
    for (int kind = 0; trial.proxied && kind < 4; kind++) {
        bool broken = true;
        for (int nth = 1; broken && nth <= COMMANDS_MAX; nth++) {
            char label[96];
            const int at[2] = {nth, kind / 2 + 1};
            snprintf(label, sizeof label, "%s, command %d, %s lost, %d times", operation->name, nth,
                     kind % 2 ? "reply" : "request", at[1]);
            set_up(&trial, (index * 4 + kind) * COMMANDS_MAX + nth, label);
            broken = break_at(operation, &trial, proxy, kind % 2 ? CUT_REPLY : CUT_REQUEST, at);
            CHECK_ROW(label, nth < COMMANDS_MAX);
        }
    }
    metadata_close(trial.proxied);
    mongodb_proxy_close(proxy);
}

TEST(metadata_mongodb_faults, a_connection_may_break_at_every_command)
{
    struct config config;
    struct err err;
    REQUIRE(mongodb_database_make(&config));
    struct breaking breaking = {&config, open_metadata(&config)};
    if (breaking.direct) {
        store_threads(OPERATIONS, break_operation, &breaking);
        CHECK_ERR(metadata_check(breaking.direct, false, &err), ERR_OK, &err);
    }
    metadata_close(breaking.direct);
    mongodb_database_drop(&config);
}

/* ---- processes that die ---- */

#ifdef COFFER_CRASH_POINTS

/* Runs the operation in a process of its own, which dies at the point. */
static void die_at(const struct config *config, const struct operation *operation,
                   const struct trial *trial, const char *point)
{
    pid_t child = fork();
    if (child == 0) {
        struct err err;
        struct trial own = *trial;
        setenv("CRASH_AT", point, 1);
        if (metadata_open(&own.proxied, config, &clock_system, NULL, &err) == ERR_OK)
            (void)!operation->run(&own, &err);
        _exit(0);
    }
    int status = 0;
    CHECK_INT_ROW(trial->label, waitpid(child, &status, 0), child);
    CHECK_ROW(trial->label, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Afterwards the change is made or not, a retry makes one record, and check finds nothing. */
TEST(metadata_mongodb_faults, a_process_may_die_at_every_point)
{
    static const struct {
        int operation;
        const char *point;
        bool done;
    } deaths[] = {
        {0, "insert.before_commit", false}, {0, "insert.committed", true},
        {0, "insert.counted", true},        {1, "insert.before_commit", false},
        {1, "insert.committed", true},      {1, "insert.counted", true},
        {2, "update.before_commit", false}, {2, "update.committed", true},
        {2, "update.settled", true},        {3, "delete.before_commit", false},
        {3, "delete.committed", true},      {3, "delete.counted", true},
        {4, "remove.before_commit", false}, {4, "remove.committed", true},
        {7, "delete.before_commit", false}, {7, "delete.some_marked", true},
        {7, "delete.committed", true},      {7, "delete.counted", true},
    };
    struct config config;
    struct err err;
    REQUIRE(mongodb_database_make(&config));
    for (int i = 0; i < (int)(sizeof deaths / sizeof deaths[0]); i++) {
        struct trial trial;
        const struct operation *operation = &operations[deaths[i].operation];
        set_up(&trial, i, deaths[i].point);
        trial.direct = open_metadata(&config);
        operation->prepare(&trial);
        metadata_close(trial.direct); /* its threads are not for the child */
        die_at(&config, operation, &trial, deaths[i].point);
        trial.direct = open_metadata(&config);
        CHECK_INT_ROW(trial.label, operation->verify(&trial, ERR_INTERNAL), deaths[i].done);
        CHECK_ERR_ROW(trial.label, metadata_check(trial.direct, false, &err), ERR_OK, &err);
        metadata_close(trial.direct);
    }
    mongodb_database_drop(&config);
}

#endif
