/*
 * The metadata contract: what is known about files, tokens and repeated requests. Drivers:
 * metadata_sqlite, metadata_mongodb. Nothing here knows HTTP or storage. A handle is made once per process (after
 * fork) and is thread-safe; each call borrows a connection for its own time only.
 *
 * A call that returns ERR_OK after a change is durable (DURABILITY=full). A call that failed
 * changed nothing, unless err->outcome_unknown says that it may have, whatever the code: the caller
 * leaves the bytes to the sweep.
 * Errors of every call: ERR_METADATA_UNAVAILABLE, ERR_INTERNAL, ERR_DISK_FULL; others are named.
 *
 * Rows that have expired (expires_ms <= now) or are marked deleted are not found by file_get and
 * file_list; totals don't count them.
 */
#ifndef COFFER_METADATA_METADATA_H
#define COFFER_METADATA_METADATA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/pool.h"
#include "base/str.h"
#include "metadata/file.h"

#define METADATA_SECRET_BYTES 32
#define METADATA_MARK_SIZE (LIMIT_MARK_BYTES + 1)

struct metadata;

enum metadata_operation {
    METADATA_FILE_INSERT,
    METADATA_FILE_GET,
    METADATA_FILE_LIST,
    METADATA_FILE_UPDATE,
    METADATA_FILE_MARK_DELETED,
    METADATA_FILE_REMOVE,
    METADATA_TOKEN,
    METADATA_IDEMPOTENCY,
    METADATA_SWEEP,
    METADATA_PING,
    METADATA_OPERATION_COUNT
};

/* Who is told of each call, for metrics: on the call's thread, with its duration. */
struct metadata_observer {
    void (*told)(void *context, unsigned driver, enum metadata_operation operation,
                 enum err_code outcome, int64_t duration_ns);
    void *context;
};

/* ---- files ---- */

enum file_sort { SORT_CREATED, SORT_CREATED_DESC, SORT_NAME, SORT_SIZE };

/* Where the page after this one begins: the sort value of the last row and its id. */
struct file_position {
    char id[ID_SIZE]; /* "" = from the start */
    int64_t number;   /* created_ms or size */
    char name[LIMIT_NAME_BYTES + 1];
};

struct file_query {
    struct str owner;    /* empty: every owner (admin) */
    struct str prefix;   /* of the name; empty: no filter */
    struct str mime;     /* exact; empty: no filter */
    enum file_sort sort; /* ties are ordered by id; SORT_NAME compares UTF-8 bytes */
    int limit;           /* 1…LIMIT_PAGE rows */
    int offset;          /* 0…LIMIT_OFFSET, only without `after` */
    struct file_position after;
};

struct file_page {
    int64_t total; /* kept without a filter; else counted to LIMIT_COUNT, -1 above */
    bool more;     /* rows follow; `last` says where */
    struct file_position last;
};

/* The row is borrowed for the call; a code other than ERR_OK ends the listing with it. */
typedef enum err_code file_callback(void *context, const struct file *file, struct err *err);

/* A page on its way: who gets the rows, and what is known of the page afterwards. */
struct file_listing {
    file_callback *callback;
    void *context;
    struct file_page page; /* set on success */
};

/* The answer to a request with an Idempotency-Key, stored in the same transaction as the change
 * it belongs to. */
struct idempotency_answer {
    struct str owner;
    struct str key;
    struct str nonce;       /* of the lease this request holds */
    struct str fingerprint; /* hex SHA-256 of "the same request" (API.md) */
    int status;
    struct str location; /* Location header, or empty */
    struct str etag;     /* ETag header with its quotes, or empty */
    struct str body;     /* JSON */
};

/* Files to be marked deleted, each judged by itself. */
struct file_marking {
    const char *const *ids;
    const int64_t *expected_versions; /* one an id; 0: any. NULL: any for all */
    size_t count;
    struct str owner; /* rows of others are ERR_NOT_FOUND; empty: any owner */
    int64_t now_ms;
    enum err_code *results; /* set on success, one an id: ERR_OK, ERR_NOT_FOUND, ERR_CONFLICT */
    /* Makes the answer that these `results` give, to be stored with the change; it is borrowed until
     * the next call. Called again when they turn out otherwise. NULL: there is none. */
    enum err_code (*answer)(void *context, const enum err_code *results,
                            struct idempotency_answer *ret_answer, struct err *err);
    void *context;
};

struct metadata_files {
    /* New row with the status it is given: FILE_READY; FILE_DAMAGED; FILE_DELETED, which only fences
     * its key, so that no other row can take it. ERR_EXISTS for a known id or key; ERR_CONFLICT when `answer` (may be NULL) is
     * given and its lease is held by another. */
    enum err_code (*insert)(void *state, const struct file *file,
                            const struct idempotency_answer *answer, struct err *err);
    /* A live row at wall time `now_ms` (FILE_READY or FILE_DAMAGED), else ERR_NOT_FOUND. */
    enum err_code (*get)(void *state, const char *id, int64_t now_ms, struct file *ret_file,
                         struct err *err);
    enum err_code (*list)(void *state, const struct file_query *query, int64_t now_ms,
                          struct file_listing *listing, struct err *err);
    /* Writes name, metadata, visibility, expires_ms, updated_ms, status, where the row is live and
     * has `expected_version`; its version becomes file->version (expected_version + 1).
     * ERR_NOT_FOUND, ERR_CONFLICT (another version, or the lease). */
    enum err_code (*update)(void *state, const struct file *file, int64_t expected_version,
                            const struct idempotency_answer *answer, struct err *err);
    /* Marks live rows deleted; one winner per id. All in one transaction, with their answer, where the
     * driver has transactions; else the answer is planned first, and whoever takes the key after a
     * crash gets the plan (idempotency_record). ERR_CONFLICT when the answer's lease is held by
     * another: nothing is marked. */
    enum err_code (*mark_deleted)(void *state, const struct file_marking *marking, struct err *err);
    /* Removes a row that is marked deleted; ERR_NOT_FOUND when there is none. */
    enum err_code (*remove)(void *state, const char *id, struct err *err);
};

/* ---- access ---- */

enum token_scope { SCOPE_READ = 1, SCOPE_WRITE = 2, SCOPE_ADMIN = 4 };

#define TOKEN_ID_LENGTH 12

struct token {
    char id[TOKEN_ID_LENGTH + 1]; /* public part, [a-z0-9] */
    char owner[LIMIT_OWNER_BYTES + 1];
    unsigned char digest[32]; /* SHA-256 of the secret token text */
    unsigned scopes;          /* enum token_scope bits */
    int64_t created_ms;
    int64_t expires_ms; /* 0: never */
    int64_t revoked_ms; /* 0: in force */
};

typedef enum err_code token_callback(void *context, const struct token *token, struct err *err);

struct metadata_access {
    enum err_code (*token_insert)(void *state, const struct token *token, struct err *err);
    /* The row by its public id, also when expired or revoked; else ERR_NOT_FOUND. */
    enum err_code (*token_get)(void *state, const char *id, struct token *ret_token,
                               struct err *err);
    enum err_code (*token_list)(void *state, token_callback *callback, void *context,
                                struct err *err);
    /* ERR_NOT_FOUND for an unknown id; revoking twice is fine. */
    enum err_code (*token_revoke)(void *state, const char *id, int64_t now_ms, struct err *err);
};

/* ---- requests: Idempotency-Key ---- */

enum idempotency_state { IDEMPOTENCY_STARTED, IDEMPOTENCY_RUNNING, IDEMPOTENCY_DONE };

struct idempotency_record {
    enum idempotency_state state;
    /* DONE: of the stored answer. STARTED: of the answer that an interrupted mark_deleted had planned
     * and may have begun to carry out; an empty fingerprint: there is none. */
    char fingerprint[65];
    int status;
    struct buf location; /* owned: idempotency_record_release */
    struct buf etag;
    struct buf body;
};

/* One request's hold on a key. */
struct idempotency_claim {
    struct str owner;
    struct str key;
    struct str nonce;       /* of the request that holds or wants the key */
    int64_t now_ms;         /* begin only */
    int64_t lease_until_ms; /* begin and renew */
};

/* Does a lease that ends at until_ms hold at now_ms, for who would take it until wanted_until_ms? */
static inline bool lease_holds(int64_t until_ms, int64_t now_ms, int64_t wanted_until_ms)
{
    return until_ms > now_ms && until_ms <= wanted_until_ms + LIMIT_CLOCK_SKEW_MS;
}

/* What is kept of an owner's answers. */
struct idempotency_bounds {
    struct str owner;
    int64_t keys;
    int64_t bytes;
};

struct metadata_requests {
    /* Takes the key for the claim's nonce until lease_until_ms when it is free (unknown, older than
     * LIMIT_IDEMPOTENCY_KEEP_MS, or its lease does not hold any more): STARTED. Held by a running
     * request: RUNNING. Finished: DONE with the stored answer. */
    enum err_code (*idempotency_begin)(void *state, const struct idempotency_claim *claim,
                                       struct idempotency_record *ret_record, struct err *err);
    /* Prolongs the lease; ERR_CONFLICT when it is no longer ours. */
    enum err_code (*idempotency_renew)(void *state, const struct idempotency_claim *claim,
                                       struct err *err);
    /* Stores an answer that belongs to no other change. ERR_CONFLICT as above. */
    enum err_code (*idempotency_finish)(void *state, const struct idempotency_answer *answer,
                                        int64_t now_ms, struct err *err);
    /* Frees an unfinished key that is ours, so that the client may try again at once. A plan stays. */
    enum err_code (*idempotency_release)(void *state, const struct idempotency_claim *claim,
                                         struct err *err);
    /* Drops stored answers of the owner, the oldest first, until they are within the bounds. Never a key
     * without an answer, however old: its request may run. */
    enum err_code (*idempotency_trim)(void *state, const struct idempotency_bounds *bounds,
                                      struct err *err);
};

/* ---- upkeep ---- */

/* A lease by name over all processes. */
struct named_lease {
    const char *name;
    const char *holder;
    int64_t now_ms;
    int64_t until_ms;
};

#define METADATA_PAGE_ROWS 64

/* One page of rows, and where it begins. */
struct file_rows {
    /* Rows marked deleted, oldest first; else of any status, in id order. What is marked deleted may
     * have lost its expires_ms. */
    bool is_deleted;
    int limit;              /* 1…METADATA_PAGE_ROWS */
    char after_id[ID_SIZE]; /* of the row before; "": from the start */
    int64_t after_ms;       /* with is_deleted: its updated_ms; INT64_MIN: from the start */
    int count;              /* set on success; less than `limit`: there are no more */
    struct file files[METADATA_PAGE_ROWS];
};

struct metadata_upkeep {
    enum err_code (*read_rows)(void *state, struct file_rows *rows, struct err *err);
    /* Marks up to `limit` rows with expires_ms <= now_ms deleted. */
    enum err_code (*mark_expired)(void *state, int64_t now_ms, int limit, int *ret_marked,
                                  struct err *err);
    /* Which of these storage keys have a row, of any status? ret_known: one an entry of keys, at
     * most LIMIT_KEYS_ASKED. */
    enum err_code (*keys_known)(void *state, const char *const *keys, size_t count, bool *ret_known,
                                struct err *err);
    /* Sets a row's status (fsck) whatever its version. */
    enum err_code (*set_status)(void *state, const char *id, enum file_status status,
                                struct err *err);
    /* Removes idempotency rows that are too old. */
    enum err_code (*purge_requests)(void *state, int64_t now_ms, int *ret_purged, struct err *err);
    /* Takes the lease when it is free or does not hold (lease_holds); *ret_held says whether the
     * holder has it. */
    enum err_code (*lease)(void *state, const struct named_lease *lease, bool *ret_held,
                           struct err *err);
    /* The installation's secret (cursors), made at init and never changed. */
    enum err_code (*secret)(void *state, unsigned char ret_secret[METADATA_SECRET_BYTES],
                            struct err *err);
    /* The mark that says which store belongs to this database (files_installation.h).
     * ERR_NOT_FOUND when there is none. */
    enum err_code (*read_mark)(void *state, char ret_text[METADATA_MARK_SIZE], struct err *err);
    /* Writes it where it is still `expected` ("": there is none), else ERR_CONFLICT. */
    enum err_code (*write_mark)(void *state, const char *expected, const char *text,
                                struct err *err);
    /* Checks the driver's own consistency (PRAGMA integrity_check, kept totals); the first finding
     * is the error's message, ERR_INTERNAL. repair: recounts the kept totals. */
    enum err_code (*check)(void *state, bool repair, struct err *err);
    enum err_code (*ping)(void *state, struct err *err);
};

struct metadata_driver {
    const char *name;
    unsigned metric_index;
    bool waits; /* calls wait for a network: not for threads that others need */
    /* Makes an empty database (first start), or migrates an older schema where the driver can;
     * ERR_EXISTS when it is there and current, ERR_CONFIG when it is newer, foreign or too old. */
    enum err_code (*init)(const struct config *config, const struct clock *clock, struct err *err);
    enum err_code (*open)(void **ret_state, const struct config *config, const struct clock *clock,
                          struct err *err);
    void (*close)(void *state);
    void (*connections)(void *state, struct pool_usage *ret_usage);
    const struct metadata_files *files;
    const struct metadata_access *access;
    const struct metadata_requests *requests;
    const struct metadata_upkeep *upkeep;
};

/* Opens the driver config->metadata_driver. A database that is away is no failure here: each call
 * tries again. A schema of another version is ERR_CONFIG. `observer` may be NULL; it is copied. */
enum err_code metadata_open(struct metadata **ret_metadata, const struct config *config,
                            const struct clock *clock, const struct metadata_observer *observer,
                            struct err *err) ERR_MUST_CHECK;
void metadata_close(struct metadata *metadata);
enum err_code metadata_init(const struct config *config, const struct clock *clock, struct err *err)
    ERR_MUST_CHECK;
/* Do calls wait for a network? */
bool metadata_waits(const struct metadata *metadata);
/* Connections to the database; false while it is not open. */
bool metadata_connections(const struct metadata *metadata, struct pool_usage *ret_usage);

/* Wrappers, one per slot, same contract; they time the call and tell the observer. */
enum err_code metadata_file_insert(struct metadata *metadata, const struct file *file,
                                   const struct idempotency_answer *answer, struct err *err)
    ERR_MUST_CHECK;
enum err_code metadata_file_get(struct metadata *metadata, const char *id, int64_t now_ms,
                                struct file *ret_file, struct err *err) ERR_MUST_CHECK;
enum err_code metadata_file_list(struct metadata *metadata, const struct file_query *query,
                                 int64_t now_ms, struct file_listing *listing, struct err *err)
    ERR_MUST_CHECK;
enum err_code metadata_file_update(struct metadata *metadata, const struct file *file,
                                   int64_t expected_version,
                                   const struct idempotency_answer *answer, struct err *err)
    ERR_MUST_CHECK;
enum err_code metadata_file_mark_deleted(struct metadata *metadata,
                                         const struct file_marking *marking, struct err *err)
    ERR_MUST_CHECK;
enum err_code metadata_file_remove(struct metadata *metadata, const char *id, struct err *err)
    ERR_MUST_CHECK;

enum err_code metadata_token_insert(struct metadata *metadata, const struct token *token,
                                    struct err *err) ERR_MUST_CHECK;
enum err_code metadata_token_get(struct metadata *metadata, const char *id, struct token *ret_token,
                                 struct err *err) ERR_MUST_CHECK;
enum err_code metadata_token_list(struct metadata *metadata, token_callback *callback,
                                  void *context, struct err *err) ERR_MUST_CHECK;
enum err_code metadata_token_revoke(struct metadata *metadata, const char *id, int64_t now_ms,
                                    struct err *err) ERR_MUST_CHECK;

void idempotency_record_init(struct idempotency_record *record);
void idempotency_record_release(struct idempotency_record *record);
enum err_code metadata_idempotency_begin(struct metadata *metadata,
                                         const struct idempotency_claim *claim,
                                         struct idempotency_record *ret_record, struct err *err)
    ERR_MUST_CHECK;
enum err_code metadata_idempotency_renew(struct metadata *metadata,
                                         const struct idempotency_claim *claim, struct err *err)
    ERR_MUST_CHECK;
enum err_code metadata_idempotency_finish(struct metadata *metadata,
                                          const struct idempotency_answer *answer, int64_t now_ms,
                                          struct err *err) ERR_MUST_CHECK;
enum err_code metadata_idempotency_release(struct metadata *metadata,
                                           const struct idempotency_claim *claim, struct err *err)
    ERR_MUST_CHECK;

enum err_code metadata_idempotency_trim(struct metadata *metadata,
                                        const struct idempotency_bounds *bounds, struct err *err)
    ERR_MUST_CHECK;
/* Notes that an answer of so many bytes was stored for the owner, and drops older ones when they may be
 * more than IDEMPOTENCY_KEYS and IDEMPOTENCY_BYTES allow: a sixteenth of either after the last look, so
 * that few requests pay for it. */
enum err_code metadata_idempotency_stored(struct metadata *metadata, struct str owner,
                                          int64_t bytes, struct err *err) ERR_MUST_CHECK;

/* Up to `limit` rows marked deleted, oldest first. */
enum err_code metadata_list_deleted(struct metadata *metadata, int limit, file_callback *callback,
                                    void *context, struct err *err) ERR_MUST_CHECK;
enum err_code metadata_mark_expired(struct metadata *metadata, int64_t now_ms, int limit,
                                    int *ret_marked, struct err *err) ERR_MUST_CHECK;
enum err_code metadata_keys_known(struct metadata *metadata, const char *const *keys, size_t count,
                                  bool *ret_known, struct err *err) ERR_MUST_CHECK;
/* Every row of any status in id order. Like the one before it reads pages, so that no long read blocks
 * checkpoints, and the callback runs without a connection. */
enum err_code metadata_scan(struct metadata *metadata, file_callback *callback, void *context,
                            struct err *err) ERR_MUST_CHECK;
enum err_code metadata_set_status(struct metadata *metadata, const char *id,
                                  enum file_status status, struct err *err) ERR_MUST_CHECK;
enum err_code metadata_purge_requests(struct metadata *metadata, int64_t now_ms, int *ret_purged,
                                      struct err *err) ERR_MUST_CHECK;
enum err_code metadata_lease(struct metadata *metadata, const struct named_lease *lease,
                             bool *ret_held, struct err *err) ERR_MUST_CHECK;
enum err_code metadata_secret(struct metadata *metadata,
                              unsigned char ret_secret[METADATA_SECRET_BYTES], struct err *err)
    ERR_MUST_CHECK;
enum err_code metadata_read_mark(struct metadata *metadata, char ret_text[METADATA_MARK_SIZE],
                                 struct err *err) ERR_MUST_CHECK;
enum err_code metadata_write_mark(struct metadata *metadata, const char *expected, const char *text,
                                  struct err *err) ERR_MUST_CHECK;
enum err_code metadata_check(struct metadata *metadata, bool repair, struct err *err)
    ERR_MUST_CHECK;
enum err_code metadata_ping(struct metadata *metadata, struct err *err) ERR_MUST_CHECK;

#endif
