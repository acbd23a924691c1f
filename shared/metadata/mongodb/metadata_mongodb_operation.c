#include <string.h>

#include "metadata/mongodb/metadata_mongodb.h"

/* Codes of the server: github.com/mongodb/mongo, src/mongo/base/error_codes.yml. */
enum {
    SERVER_INTERNAL_ERROR = 1,
    SERVER_UNKNOWN_ERROR = 8,
    SERVER_INTERRUPTED = 11601,
    SERVER_UNAUTHORIZED = 13,
    SERVER_AUTHENTICATION_FAILED = 18,
    SERVER_DUPLICATE_KEY = 11000,
    SERVER_OUT_OF_DISK_SPACE = 14031
};

const char *mongodb_collection_name(enum mongodb_collection collection)
{
    static const char *const names[COLLECTION_COUNT] = {
        [COLLECTION_FILES] = "files",   [COLLECTION_REQUESTS] = "requests",
        [COLLECTION_TOKENS] = "tokens", [COLLECTION_TOTALS] = "totals",
        [COLLECTION_LEASES] = "leases", [COLLECTION_SETTINGS] = "settings",
    };
    return names[collection];
}

mongoc_collection_t *mongodb_collection(struct mongodb_session *session,
                                        enum mongodb_collection collection)
{
    return mongoc_client_get_collection(session->client, session->db->database,
                                        mongodb_collection_name(collection));
}

/* Failures that pass when the primary has moved, or the server has started again. */
static bool is_passing(uint32_t code)
{
    static const uint32_t codes[] = {6,     7,     43,    89,    91,    133,   175,
                                     189,   234,   262,   9001,  10107, 11600, 11602,
                                     13388, 13435, 13436, 10058, 17405, 50};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i] == code)
            return true;
    return false;
}

static bool is_disk_full(const bson_error_t *error)
{
    return error->code == SERVER_OUT_OF_DISK_SPACE || strstr(error->message, "disk is full") ||
           strstr(error->message, "No space left");
}

/* Its code is one of the server's, not one of libmongoc's. */
static bool is_servers(const bson_error_t *error)
{
    return error->domain == MONGOC_ERROR_SERVER || error->domain == MONGOC_ERROR_COMMAND ||
           error->domain == MONGOC_ERROR_QUERY || error->domain == MONGOC_ERROR_WRITE_CONCERN;
}

/* The server failed while it was at work: that does not say how far it got. */
static bool is_interrupted(const bson_error_t *error)
{
    return is_servers(error) &&
           (error->code == SERVER_INTERNAL_ERROR || error->code == SERVER_UNKNOWN_ERROR ||
            error->code == SERVER_INTERRUPTED);
}

static bool is_refused(const bson_error_t *error)
{
    if (is_servers(error))
        return error->code == SERVER_UNAUTHORIZED || error->code == SERVER_AUTHENTICATION_FAILED;
    return error->domain == MONGOC_ERROR_SCRAM || error->domain == MONGOC_ERROR_SASL ||
           (error->domain == MONGOC_ERROR_CLIENT &&
            error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE);
}

static bool is_network(const bson_error_t *error)
{
    return error->domain == MONGOC_ERROR_STREAM || error->domain == MONGOC_ERROR_SERVER_SELECTION ||
           error->domain == MONGOC_ERROR_PROTOCOL;
}

static enum err_code network_failed(struct mongodb_session *session, bool is_change,
                                    const bson_error_t *error, const char *operation,
                                    struct err *err)
{
    /* Where no server was found or reached, nothing was sent. */
    bool was_sent = error->domain != MONGOC_ERROR_SERVER_SELECTION &&
                    error->code != MONGOC_ERROR_STREAM_CONNECT &&
                    error->code != MONGOC_ERROR_STREAM_NAME_RESOLUTION;
    session->again = error->domain != MONGOC_ERROR_SERVER_SELECTION;
    session->unknown |= is_change && was_sent;
    return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, operation,
                            "MongoDB cannot be reached: %s", error->message);
}

enum err_code(mongodb_failed)(struct mongodb_session *session, bool is_change,
                              const bson_error_t *error, const char *operation, struct err *err)
{
    if (is_network(error))
        return network_failed(session, is_change, error, operation, err);
    if (error->domain == MONGOC_ERROR_WRITE_CONCERN ||
        (is_servers(error) && is_passing(error->code))) {
        /* The primary has it, perhaps; a majority has not said so. */
        session->again = true;
        session->unknown |= is_change;
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, operation,
                                "MongoDB cannot answer now (%u): %s", error->code, error->message);
    }
    if (is_refused(error))
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, operation,
                                "MongoDB refuses the user of MONGODB_URI (%u): %s", error->code,
                                error->message);
    if (is_disk_full(error))
        return err_set_internal(err, ERR_DISK_FULL, 0, operation, "MongoDB: %s", error->message);
    session->unknown |= is_change && is_interrupted(error);
    return err_set_internal(err, ERR_INTERNAL, 0, operation, "MongoDB (%u): %s", error->code,
                            error->message);
}

enum err_code mongodb_doubtful(struct err *err)
{
    enum err_code code =
        err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "commit",
                         "A change was interrupted, and its outcome cannot be seen.");
    err->outcome_unknown = true;
    return code;
}

static bool is_duplicate(const bson_error_t *error)
{
    return error->code == SERVER_DUPLICATE_KEY;
}

static enum err_code taken(struct err *err)
{
    return err_set_internal(err, ERR_EXISTS, 0, "insert", "A unique index refuses the document.");
}

enum err_code mongodb_insert(struct mongodb_session *session, enum mongodb_collection collection,
                             const bson_t *document, struct err *err)
{
    bson_error_t error = {0};
    enum err_code code = ERR_OK;
    mongoc_collection_t *target = mongodb_collection(session, collection);
    if (!mongoc_collection_insert_one(target, document, NULL, NULL, &error))
        code = is_duplicate(&error) ? taken(err)
                                    : mongodb_failed(session, true, &error, "insert", err);
    mongoc_collection_destroy(target);
    return code;
}

enum err_code mongodb_update(struct mongodb_session *session, const struct mongodb_change *change,
                             bool *ret_matched, struct err *err)
{
    bson_error_t error = {0};
    bson_t reply; /* made by the call, also when it fails */
    bson_t options = BSON_INITIALIZER;
    enum err_code code = ERR_OK;
    mongoc_collection_t *target = mongodb_collection(session, change->collection);
    if (change->upsert)
        bson_append_bool(&options, "upsert", -1, true);
    if (!mongoc_collection_update_one(target, change->filter, change->update, &options, &reply,
                                      &error))
        code = is_duplicate(&error) ? taken(err)
                                    : mongodb_failed(session, true, &error, "update", err);
    else
        *ret_matched = mongodb_read_number(&reply, "matchedCount") > 0;
    bson_destroy(&reply);
    bson_destroy(&options);
    mongoc_collection_destroy(target);
    return code;
}

enum err_code mongodb_delete(struct mongodb_session *session, enum mongodb_collection collection,
                             const bson_t *filter, int64_t *ret_removed, struct err *err)
{
    bson_error_t error = {0};
    bson_t reply;
    enum err_code code = ERR_OK;
    mongoc_collection_t *target = mongodb_collection(session, collection);
    if (!mongoc_collection_delete_many(target, filter, NULL, &reply, &error))
        code = mongodb_failed(session, true, &error, "delete", err);
    else
        *ret_removed = mongodb_read_number(&reply, "deletedCount");
    bson_destroy(&reply);
    mongoc_collection_destroy(target);
    return code;
}

/* ---- reading ---- */

static enum err_code read_all(struct mongodb_session *session, mongoc_cursor_t *cursor,
                              const struct mongodb_question *question, struct err *err)
{
    const bson_t *document = NULL;
    bson_error_t error = {0};
    enum err_code code = ERR_OK;
    while (code == ERR_OK && mongoc_cursor_next(cursor, &document))
        code = question->told(question->context, document, err);
    if (code == ERR_OK && mongoc_cursor_error(cursor, &error))
        code = mongodb_failed(session, false, &error, "find", err);
    mongoc_cursor_destroy(cursor);
    return code;
}

enum err_code mongodb_find(struct mongodb_session *session, const struct mongodb_question *question,
                           struct err *err)
{
    mongoc_collection_t *target = mongodb_collection(session, question->collection);
    enum err_code code = read_all(
        session,
        mongoc_collection_find_with_opts(target, question->filter, question->options, NULL),
        question, err);
    mongoc_collection_destroy(target);
    return code;
}

enum err_code mongodb_aggregate(struct mongodb_session *session,
                                const struct mongodb_question *question, struct err *err)
{
    mongoc_collection_t *target = mongodb_collection(session, question->collection);
    enum err_code code =
        read_all(session,
                 mongoc_collection_aggregate(target, MONGOC_QUERY_NONE, question->filter,
                                             question->options, NULL),
                 question, err);
    mongoc_collection_destroy(target);
    return code;
}

enum err_code mongodb_count(struct mongodb_session *session,
                            const struct mongodb_question *question, int64_t *ret_count,
                            struct err *err)
{
    bson_error_t error = {0};
    mongoc_collection_t *target = mongodb_collection(session, question->collection);
    int64_t count = mongoc_collection_count_documents(target, question->filter, question->options,
                                                      NULL, NULL, &error);
    mongoc_collection_destroy(target);
    if (count < 0)
        return mongodb_failed(session, false, &error, "count", err);
    *ret_count = count;
    return ERR_OK;
}

/* ---- many at once ---- */

void mongodb_bulk_init(struct mongodb_session *session, enum mongodb_collection collection,
                       struct mongodb_bulk *bulk)
{
    bson_t options = BSON_INITIALIZER;
    bson_append_bool(&options, "ordered", -1, false);
    bulk->collection = mongodb_collection(session, collection);
    bulk->operation = mongoc_collection_create_bulk_operation_with_opts(bulk->collection, &options);
    bulk->count = 0;
    bulk->matched = 0;
    bson_destroy(&options);
}

void mongodb_bulk_add(struct mongodb_bulk *bulk, const bson_t *filter, const bson_t *update,
                      bool upsert)
{
    bson_t options = BSON_INITIALIZER;
    bson_append_bool(&options, "upsert", -1, upsert);
    /* What it refuses, it refuses again when the operation runs. */
    mongoc_bulk_operation_update_one_with_opts(bulk->operation, filter, update, &options, NULL);
    bulk->count++;
    bson_destroy(&options);
}

enum err_code mongodb_bulk_run(struct mongodb_session *session, struct mongodb_bulk *bulk,
                               struct err *err)
{
    bson_error_t error = {0};
    bson_t reply;
    enum err_code code = ERR_OK;
    if (bulk->count > 0) {
        if (!mongoc_bulk_operation_execute(bulk->operation, &reply, &error))
            code = mongodb_failed(session, true, &error, "update", err);
        else
            bulk->matched = mongodb_read_number(&reply, "nMatched");
        bson_destroy(&reply);
    }
    mongoc_bulk_operation_destroy(bulk->operation);
    mongoc_collection_destroy(bulk->collection);
    return code;
}
