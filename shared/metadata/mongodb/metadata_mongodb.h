/*
 * Private to metadata_mongodb*.c and their tests: one MongoDB database, made by init only. The only
 * place that includes libmongoc (1.23; what 2.x renames is changed here).
 *
 * Every change is one document's, so nothing depends on transactions, and a standalone server, a
 * replica set and what speaks their protocol are served alike (docs/decisions/0009). A row holds
 * the answer of the request that made or changed it until that answer has been copied to its
 * request; kept totals are moved after the row, and made right by check and purge_requests when a
 * process died in between.
 *
 * A call borrows a client of the process's pool for its own time. It runs once more when the
 * connection broke or the primary moved: a change recognises what its first run did by the random
 * `by` it writes, an insert by the row itself. What remains unknown after that is said by
 * err->outcome_unknown. A server that says nothing is given up within MONGODB_DEADLINE_SECONDS:
 * each answer is waited for so long that two fit in.
 */
#ifndef COFFER_METADATA_METADATA_MONGODB_H
#define COFFER_METADATA_METADATA_MONGODB_H

#include <mongoc/mongoc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/metadata.h"

#define MONGODB_SCHEMA 2
#define MONGODB_NONCE_SIZE 33 /* 32 hexadecimal digits */
#define MONGODB_NEVER INT64_MAX

/* requests._id: "<bytes of owner>:<owner>:<key>"; files.answerKey: "k:" and the same. */
#define MONGODB_REQUEST_SIZE (LIMIT_OWNER_BYTES + LIMIT_IDEMPOTENCY_KEY_BYTES + 8)
#define MONGODB_ANSWER_KEY_SIZE (MONGODB_REQUEST_SIZE + 2)

enum mongodb_collection {
    COLLECTION_FILES,
    COLLECTION_REQUESTS,
    COLLECTION_TOKENS,
    COLLECTION_TOTALS,
    COLLECTION_LEASES,
    COLLECTION_SETTINGS,
    COLLECTION_COUNT
};

struct metadata_mongodb {
    mongoc_client_pool_t *pool;
    atomic_uint busy;    /* clients that are borrowed */
    atomic_uint clients; /* that the pool has: the most that were ever borrowed at once */
    char database[CONFIG_TEXT_SIZE];
    const struct clock *clock;
    int64_t timeout_ms;           /* to find a server while some of its set answer */
    int64_t deadline_ms;          /* of a call, both its runs */
    int64_t answer_ms;            /* of that, for each answer of the server */
    atomic_bool ready;            /* the schema was seen to be ours */
    atomic_llong nobody_since_ms; /* no server has answered since, steady; 0: one does */
};

/* A call's hold on a client. */
struct mongodb_session {
    struct metadata_mongodb *db;
    mongoc_client_t *client;
    char by[MONGODB_NONCE_SIZE]; /* what this call writes into rows it changes */
    int64_t until_ms;            /* the call's deadline, steady */
    bool repeated;               /* this is the second run */
    bool again;                  /* the failure may pass with another run */
    bool unknown; /* a change may have been made though it failed; stays set over the second run */
    bool told;    /* the caller has seen rows: no second run */
};

/* One call's work; may be run twice. */
typedef enum err_code mongodb_operation(struct mongodb_session *session, void *args,
                                        struct err *err);

/* ERR_CONFIG for a URI that cannot be understood. */
enum err_code mongodb_pool_open(struct metadata_mongodb *db, const struct config *config,
                                struct err *err) ERR_MUST_CHECK;
/* Runs the operation on a borrowed client, when the schema is known to be ours. */
enum err_code mongodb_run(struct metadata_mongodb *db, mongodb_operation *run, void *args,
                          struct err *err) ERR_MUST_CHECK;
/* The same whatever the schema. */
enum err_code mongodb_run_any(struct metadata_mongodb *db, mongodb_operation *run, void *args,
                              struct err *err) ERR_MUST_CHECK;

/* Fills *err for a failure of libmongoc and notes in the session what it means. */
enum err_code mongodb_failed(struct mongodb_session *session, bool is_change,
                             const bson_error_t *error, const char *operation, struct err *err);
#ifdef __clang_analyzer__ /* which can't see across files that it never is ERR_OK */
#define mongodb_failed(session, is_change, error, operation, err) \
    ((void)(mongodb_failed)(session, is_change, error, operation, err), ERR_METADATA_UNAVAILABLE)
#endif

/* The first run of a change may have made it, and what is there doesn't show: it was undone, or a
 * majority doesn't have it yet, or others came after it. */
enum err_code mongodb_doubtful(struct err *err);

mongoc_collection_t *mongodb_collection(struct mongodb_session *session,
                                        enum mongodb_collection collection);
const char *mongodb_collection_name(enum mongodb_collection collection);

/* ERR_EXISTS when a unique index refuses the document. */
enum err_code mongodb_insert(struct mongodb_session *session, enum mongodb_collection collection,
                             const bson_t *document, struct err *err) ERR_MUST_CHECK;

struct mongodb_change {
    enum mongodb_collection collection;
    const bson_t *filter;
    const bson_t *update;
    bool upsert; /* ERR_EXISTS when another was as fast */
};

/* Changes at most one document; *ret_matched says whether there was one. */
enum err_code mongodb_update(struct mongodb_session *session, const struct mongodb_change *change,
                             bool *ret_matched, struct err *err) ERR_MUST_CHECK;
/* Removes every document the filter finds. */
enum err_code mongodb_delete(struct mongodb_session *session, enum mongodb_collection collection,
                             const bson_t *filter, int64_t *ret_removed, struct err *err)
    ERR_MUST_CHECK;

/* The document is borrowed for the call; a code other than ERR_OK ends the reading with it. */
typedef enum err_code mongodb_callback(void *context, const bson_t *document, struct err *err);

struct mongodb_question {
    enum mongodb_collection collection;
    const bson_t *filter;   /* or a pipeline, for mongodb_aggregate */
    const bson_t *options;  /* of find; NULL: none */
    mongodb_callback *told; /* of each document */
    void *context;
};

enum err_code mongodb_find(struct mongodb_session *session, const struct mongodb_question *question,
                           struct err *err) ERR_MUST_CHECK;
enum err_code mongodb_aggregate(struct mongodb_session *session,
                                const struct mongodb_question *question, struct err *err)
    ERR_MUST_CHECK;
/* How many documents the filter finds; options: limit, hint. */
enum err_code mongodb_count(struct mongodb_session *session,
                            const struct mongodb_question *question, int64_t *ret_count,
                            struct err *err) ERR_MUST_CHECK;

/* Updates of single documents, sent together: mongodb_bulk_add for each, then _run, which also
 * ends it. */
struct mongodb_bulk {
    mongoc_collection_t *collection;
    mongoc_bulk_operation_t *operation;
    int count;
    int64_t matched; /* set by _run: updates that found their document */
};
void mongodb_bulk_init(struct mongodb_session *session, enum mongodb_collection collection,
                       struct mongodb_bulk *bulk);
void mongodb_bulk_add(struct mongodb_bulk *bulk, const bson_t *filter, const bson_t *update,
                      bool upsert);
enum err_code mongodb_bulk_run(struct mongodb_session *session, struct mongodb_bulk *bulk,
                               struct err *err) ERR_MUST_CHECK;

void mongodb_put_text(bson_t *document, const char *name, const char *text);
void mongodb_put_str(bson_t *document, const char *name, struct str text);
void mongodb_put_number(bson_t *document, const char *name, int64_t value);
/* name: {operator: value} */
void mongodb_put_compared(bson_t *document, const char *name, const char *operator_name,
                          int64_t value);
/* name: {$exists: false} */
void mongodb_put_absent(bson_t *filter, const char *name);
/* name: {$in: […]} */
void mongodb_put_any_of(bson_t *document, const char *name, const char *const *values,
                        size_t count);
/* name: {each member: value}, of a sort or a projection; _put_one: {member: 1} */
void mongodb_put_each(bson_t *document, const char *name, const char *const *members, size_t count,
                      int value);
void mongodb_put_one(bson_t *document, const char *name, const char *member);
/* Values that are missing or of another kind read as "" (false: it does not fit), 0 and false. */
bool mongodb_read_text(const bson_t *document, const char *name, char *target, size_t size);
int64_t mongodb_read_number(const bson_t *document, const char *name);
bool mongodb_read_bool(const bson_t *document, const char *name);
struct str mongodb_read_str(const bson_t *document, const char *name);
bool mongodb_has(const bson_t *document, const char *name);
/* A document within; false when there is none. Borrowed from `document`. */
bool mongodb_read_document(const bson_t *document, const char *name, bson_t *ret_inner);

/* All members of a row but the answer. ERR_INTERNAL for a text that is no UTF-8. */
enum err_code mongodb_put_file(bson_t *document, const struct file *file, struct err *err)
    ERR_MUST_CHECK;
/* ERR_INTERNAL for a row that is malformed. One that is marked deleted has lost its expires_ms. */
enum err_code mongodb_read_file(const bson_t *document, struct file *ret_file, struct err *err)
    ERR_MUST_CHECK;
/* What changes of a file, without its name and updatedMs: untilMs, and of metadata, visibility, status
 * and revision what is not as in most rows. */
void mongodb_put_state(bson_t *document, const struct file *file);
int64_t mongodb_read_version(const bson_t *document);
/* Into a filter: the row has this version. */
void mongodb_put_version(bson_t *filter, int64_t version);
/* Into an update: the version is one more. */
void mongodb_count_revision(bson_t *update);

/* Into a filter: the row is neither marked deleted nor expired at now_ms; it has expired, and is not
 * marked yet; it is not marked deleted. */
void mongodb_put_visible(bson_t *filter, int64_t now_ms);
void mongodb_put_expired(bson_t *filter, int64_t now_ms);
void mongodb_put_kept(bson_t *filter);
/* Is a row visible at now_ms? */
bool mongodb_is_visible(const bson_t *document, int64_t now_ms);

enum mongodb_index_kind {
    INDEX_PLAIN,
    INDEX_UNIQUE,
    INDEX_UNIQUE_SPARSE,
    INDEX_SPARSE,
    INDEX_ENDS_ROWS /* TTL; left out where the server has none */
};

struct mongodb_index {
    enum mongodb_collection collection;
    const char *name;
    enum mongodb_index_kind kind;
    const char *fields[7]; /* all ascending, NULL ends them */
};
extern const struct mongodb_index mongodb_indexes[];
extern const size_t mongodb_index_count;

enum err_code mongodb_init(const struct config *config, const struct clock *clock, struct err *err)
    ERR_MUST_CHECK;
/* ERR_CONFIG for another schema, ERR_METADATA_UNAVAILABLE when there is none. `ret_secret` may be
 * NULL. */
enum err_code mongodb_check_schema(struct mongodb_session *session,
                                   unsigned char ret_secret[METADATA_SECRET_BYTES], struct err *err)
    ERR_MUST_CHECK;
/* The first index that is missing; NULL: none. */
enum err_code mongodb_missing_index(struct mongodb_session *session,
                                    const struct mongodb_index **ret_index, struct err *err)
    ERR_MUST_CHECK;

struct mongodb_request {
    char id[MONGODB_REQUEST_SIZE]; /* of the document in requests */
};
/* ERR_INTERNAL when owner or key are too long. */
enum err_code mongodb_request_id(struct str owner, struct str key,
                                 struct mongodb_request *ret_request, struct err *err)
    ERR_MUST_CHECK;
/* ERR_CONFLICT unless the lease of the answer's request is its nonce's. */
enum err_code mongodb_check_lease(struct mongodb_session *session,
                                  const struct idempotency_answer *answer, struct err *err)
    ERR_MUST_CHECK;
enum err_code mongodb_lease_lost(struct err *err);
/* The record that a stored answer makes. */
enum err_code mongodb_read_answer(const bson_t *answer, struct idempotency_record *record,
                                  struct err *err) ERR_MUST_CHECK;
/* A stored answer as a document of its own. */
void mongodb_make_answer(bson_t *document, const struct idempotency_answer *answer);
/* The members of a finished request, into a $set; of its end, where the server removes rows. */
void mongodb_put_finished(bson_t *set, const bson_t *answer, int64_t now_ms);
void mongodb_put_ends(bson_t *set, int64_t now_ms);
/* answerKey, answer and answerMs of a new row; none when `answer` is NULL. */
enum err_code mongodb_put_answer(bson_t *document, const struct file *file,
                                 const struct idempotency_answer *answer, struct err *err)
    ERR_MUST_CHECK;
/* changeKey, change and changeMs, into a $set. */
enum err_code mongodb_put_change(bson_t *set, const struct idempotency_answer *answer,
                                 int64_t now_ms, struct err *err) ERR_MUST_CHECK;
/* Copies a row's pending `change` to its request and takes it off the row. */
enum err_code mongodb_settle_change(struct mongodb_session *session, const bson_t *row,
                                    struct err *err) ERR_MUST_CHECK;
/* Copies both answers of a row that is about to be removed. */
enum err_code mongodb_save_answers(struct mongodb_session *session, const bson_t *row,
                                   struct err *err) ERR_MUST_CHECK;
/* metadata_mongodb_requests.c: notes the answer that a change of several rows is to have, before the
 * first of them; and finishes the request. Both ERR_CONFLICT unless the lease is its nonce's, ERR_OK
 * where this call's first run has finished it. */
enum err_code mongodb_plan_answer(struct mongodb_session *session,
                                  const struct idempotency_answer *answer, struct err *err)
    ERR_MUST_CHECK;
enum err_code mongodb_finish_request(struct mongodb_session *session,
                                     const struct idempotency_answer *answer, int64_t now_ms,
                                     struct err *err) ERR_MUST_CHECK;
/* Takes an answer that is too old off its row, so that its key is free. */
enum err_code mongodb_drop_answer(struct mongodb_session *session, const bson_t *row,
                                  struct err *err) ERR_MUST_CHECK;

/* Changes of kept totals: _add for each row, then _end, which makes them. A failure is none of the rows'
 * change that it follows: settling makes the totals right. */
struct mongodb_tally {
    struct mongodb_bulk bulk;
    char owner[LIMIT_OWNER_BYTES + 1];
    int64_t files;
    int64_t bytes;
    bool begins; /* a total that was not there is one of files that all last */
};
void mongodb_tally_init(struct mongodb_session *session, struct mongodb_tally *tally);
void mongodb_tally_add(struct mongodb_tally *tally, struct str owner, int64_t files, int64_t bytes);
void mongodb_tally_end(struct mongodb_session *session, struct mongodb_tally *tally);
/* The same for one row. */
void mongodb_add_total(struct mongodb_session *session, const char *owner, int64_t files,
                       int64_t bytes);
/* Before a row of the owner's gets a time to expire: its total may count what has expired. */
enum err_code mongodb_note_expiry(struct mongodb_session *session, const char *owner,
                                  struct err *err) ERR_MUST_CHECK;
struct mongodb_kept {
    int64_t files;
    bool lasting; /* none of them ever expires, for sure */
};
/* Corrects totals that stay wrong while they are looked at. *ret_wrong: an owner whose total
 * would not settle, or "". */
enum err_code mongodb_settle_totals(struct mongodb_session *session,
                                    char ret_wrong[LIMIT_OWNER_BYTES + 1], struct err *err)
    ERR_MUST_CHECK;

enum err_code mongodb_mark_expired(void *state, int64_t now_ms, int limit, int *ret_marked,
                                   struct err *err) ERR_MUST_CHECK;

enum err_code mongodb_trim_answers(void *state, const struct idempotency_bounds *bounds,
                                   struct err *err) ERR_MUST_CHECK;

/* ---- the slots, by purpose ---- */

extern const struct metadata_files mongodb_files;       /* _files.c */
extern const struct metadata_access mongodb_access;     /* _requests.c */
extern const struct metadata_requests mongodb_requests; /* _requests.c */
extern const struct metadata_upkeep mongodb_upkeep;     /* _upkeep.c */

/* _list.c */
enum err_code mongodb_file_list(void *state, const struct file_query *query, int64_t now_ms,
                                struct file_listing *listing, struct err *err) ERR_MUST_CHECK;

#endif
