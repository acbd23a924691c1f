#include <stdlib.h>
#include <string.h>

#include "metadata/mongodb/metadata_mongodb.h"

#define SETTINGS_ID "coffer" /* the one document of settings: schema and secret */

/*
 * As in SQLite each order has an index with and without the owner, ending in the id that breaks ties
 * and in untilMs (names also in the type), so that rows are passed over without being read. "until"
 * has what has expired, and at 0 what is marked deleted, oldest first. Only a sparse index of one
 * field leaves rows out: of several, one that a row has is enough to be in it.
 */
const struct mongodb_index mongodb_indexes[] = {
    {COLLECTION_FILES, "key", INDEX_UNIQUE, {"key"}},
    {COLLECTION_FILES, "answer_key", INDEX_UNIQUE_SPARSE, {"answerKey"}},
    {COLLECTION_FILES, "answer_ms", INDEX_SPARSE, {"answerMs"}},
    {COLLECTION_FILES, "change_key", INDEX_SPARSE, {"changeKey"}},
    {COLLECTION_FILES, "created", INDEX_PLAIN, {"createdMs", "_id", "untilMs"}},
    {COLLECTION_FILES, "name", INDEX_PLAIN, {"name", "_id", "untilMs", "mime"}},
    {COLLECTION_FILES, "size", INDEX_PLAIN, {"size", "_id", "untilMs"}},
    {COLLECTION_FILES, "mime", INDEX_PLAIN, {"mime", "createdMs", "_id", "untilMs"}},
    {COLLECTION_FILES, "owner_created", INDEX_PLAIN, {"owner", "createdMs", "_id", "untilMs"}},
    {COLLECTION_FILES, "owner_name", INDEX_PLAIN, {"owner", "name", "_id", "untilMs", "mime"}},
    {COLLECTION_FILES, "owner_size", INDEX_PLAIN, {"owner", "size", "_id", "untilMs"}},
    {COLLECTION_FILES, "owner_mime", INDEX_PLAIN, {"owner", "mime", "createdMs", "_id", "untilMs"}},
    {COLLECTION_FILES, "until", INDEX_PLAIN, {"untilMs", "updatedMs", "_id"}},
    {COLLECTION_FILES, "owner_until", INDEX_PLAIN, {"owner", "untilMs"}},
    {COLLECTION_REQUESTS, "touched", INDEX_PLAIN, {"touchedMs"}},
    {COLLECTION_REQUESTS, "ends", INDEX_ENDS_ROWS, {"endsAt"}},
};
const size_t mongodb_index_count = sizeof mongodb_indexes / sizeof mongodb_indexes[0];

/* ---- looking ---- */

struct settings {
    bool found;
    int64_t schema;
    bool has_secret;
    unsigned char secret[METADATA_SECRET_BYTES];
};

static enum err_code read_settings(void *context, const bson_t *document, struct err *err)
{
    struct settings *settings = context;
    bson_iter_t at;
    bson_subtype_t kind = BSON_SUBTYPE_BINARY;
    uint32_t len = 0;
    const uint8_t *bytes = NULL;
    (void)err;
    settings->found = true;
    settings->schema = mongodb_read_number(document, "schema");
    if (bson_iter_init_find(&at, document, "secret") && BSON_ITER_HOLDS_BINARY(&at))
        bson_iter_binary(&at, &kind, &len, &bytes);
    settings->has_secret = len == sizeof settings->secret;
    if (settings->has_secret)
        memcpy(settings->secret, bytes, len);
    return ERR_OK;
}

static enum err_code judge_settings(const struct settings *settings, struct err *err)
{
    if (!settings->found)
        return err_set_internal(err, ERR_METADATA_UNAVAILABLE, 0, "check schema",
                                "The MongoDB database is empty: set MONGODB_DATABASE to the one in "
                                "use, restore it, or run `coffer init` for a first start.");
    if (settings->schema > MONGODB_SCHEMA)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "The MongoDB database was written by a newer version of coffer "
                                "(schema %d, this one knows %d).",
                                (int)settings->schema, MONGODB_SCHEMA);
    if (settings->schema < MONGODB_SCHEMA)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "The MongoDB database has schema %d, this version reads %d only: "
                                "copy its files to SQLite by `coffer migrate` of the version "
                                "that wrote it, and from there to an empty database by this one.",
                                (int)settings->schema, MONGODB_SCHEMA);
    if (!settings->has_secret)
        return err_set_internal(err, ERR_CONFIG, 0, "check schema",
                                "The MongoDB database has lost its secret: restore it from a "
                                "backup.");
    return ERR_OK;
}

enum err_code mongodb_check_schema(struct mongodb_session *session,
                                   unsigned char ret_secret[METADATA_SECRET_BYTES], struct err *err)
{
    struct settings settings = {.found = false};
    bson_t filter = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_SETTINGS,
                                              .filter = &filter,
                                              .told = read_settings,
                                              .context = &settings};
    mongodb_put_text(&filter, "_id", SETTINGS_ID);
    enum err_code code = mongodb_find(session, &question, err);
    if (code == ERR_OK)
        code = judge_settings(&settings, err);
    if (code == ERR_OK && ret_secret)
        memcpy(ret_secret, settings.secret, sizeof settings.secret);
    explicit_bzero(&settings, sizeof settings);
    atomic_store_explicit(&session->db->ready, code == ERR_OK, memory_order_release);
    bson_destroy(&filter);
    return code;
}

enum err_code mongodb_missing_index(struct mongodb_session *session,
                                    const struct mongodb_index **ret_index, struct err *err)
{
    bson_error_t error = {0};
    bool found[sizeof mongodb_indexes / sizeof mongodb_indexes[0]] = {false};
    *ret_index = NULL;
    for (int i = 0; i < COLLECTION_COUNT; i++) {
        const bson_t *index = NULL;
        mongoc_collection_t *target = mongodb_collection(session, (enum mongodb_collection)i);
        mongoc_cursor_t *cursor = mongoc_collection_find_indexes_with_opts(target, NULL);
        while (mongoc_cursor_next(cursor, &index))
            for (size_t j = 0; j < mongodb_index_count; j++)
                found[j] |=
                    mongodb_indexes[j].collection == (enum mongodb_collection)i &&
                    str_equal(mongodb_read_str(index, "name"), str_of(mongodb_indexes[j].name));
        bool failed = mongoc_cursor_error(cursor, &error);
        mongoc_cursor_destroy(cursor);
        mongoc_collection_destroy(target);
        if (failed)
            return mongodb_failed(session, false, &error, "check indexes", err);
    }
    for (size_t j = mongodb_index_count; j-- > 0;)
        if (!found[j] && mongodb_indexes[j].kind != INDEX_ENDS_ROWS)
            *ret_index = &mongodb_indexes[j];
    return ERR_OK;
}

/* ---- init ---- */

static void describe(const struct mongodb_index *index, bson_t *command)
{
    bson_t list;
    bson_t one;
    bson_t fields;
    mongodb_put_text(command, "createIndexes", mongodb_collection_name(index->collection));
    bson_append_array_begin(command, "indexes", -1, &list);
    bson_append_document_begin(&list, "0", -1, &one);
    bson_append_document_begin(&one, "key", -1, &fields);
    for (size_t i = 0; i < sizeof index->fields / sizeof index->fields[0] && index->fields[i]; i++)
        bson_append_int32(&fields, index->fields[i], -1, 1);
    bson_append_document_end(&one, &fields);
    mongodb_put_text(&one, "name", index->name);
    if (index->kind == INDEX_UNIQUE || index->kind == INDEX_UNIQUE_SPARSE)
        bson_append_bool(&one, "unique", -1, true);
    if (index->kind == INDEX_SPARSE || index->kind == INDEX_UNIQUE_SPARSE)
        bson_append_bool(&one, "sparse", -1, true);
    if (index->kind == INDEX_ENDS_ROWS)
        bson_append_int32(&one, "expireAfterSeconds", -1, 0);
    bson_append_document_end(&list, &one);
    bson_append_array_end(command, &list);
}

/* One index a command: making what is there already is nothing. */
static enum err_code make_index(struct mongodb_session *session, const struct mongodb_index *index,
                                struct err *err)
{
    bson_error_t error = {0};
    bson_t command = BSON_INITIALIZER;
    enum err_code code = ERR_OK;
    describe(index, &command);
    mongoc_database_t *database =
        mongoc_client_get_database(session->client, session->db->database);
    if (!mongoc_database_write_command_with_opts(database, &command, NULL, NULL, &error))
        code = mongodb_failed(session, true, &error, "make index", err);
    mongoc_database_destroy(database);
    bson_destroy(&command);
    return code == ERR_INTERNAL && index->kind == INDEX_ENDS_ROWS ? ERR_OK : code;
}

static enum err_code note_document(void *context, const bson_t *document, struct err *err)
{
    (void)document;
    (void)err;
    *(bool *)context = true;
    return ERR_OK;
}

/* Files without settings: another program's database, or one that lost its settings. */
static enum err_code refuse_foreign(struct mongodb_session *session, struct err *err)
{
    bool has_files = false;
    bson_t all = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_FILES,
                                              .filter = &all,
                                              .options = &options,
                                              .told = note_document,
                                              .context = &has_files};
    mongodb_put_number(&options, "limit", 1);
    enum err_code code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&all);
    if (code == ERR_OK && has_files)
        code = err_set_internal(err, ERR_CONFIG, 0, "init",
                                "The MongoDB database holds files but no settings of coffer: it "
                                "is another program's, or must be restored from a backup.");
    return code;
}

static enum err_code write_settings(struct mongodb_session *session, struct err *err)
{
    unsigned char secret[METADATA_SECRET_BYTES];
    bson_t document = BSON_INITIALIZER;
    clock_random(session->db->clock, secret, sizeof secret);
    mongodb_put_text(&document, "_id", SETTINGS_ID);
    mongodb_put_number(&document, "schema", MONGODB_SCHEMA);
    bson_append_binary(&document, "secret", -1, BSON_SUBTYPE_BINARY, secret, sizeof secret);
    explicit_bzero(secret, sizeof secret);
    enum err_code code = mongodb_insert(session, COLLECTION_SETTINGS, &document, err);
    bson_destroy(&document);
    if (code == ERR_EXISTS && session->repeated)
        return ERR_OK;
    return code;
}

/* The settings come last: until then it is no database of ours, and init begins again. */
static enum err_code init(struct mongodb_session *session, void *args, struct err *err)
{
    (void)args;
    enum err_code code = mongodb_check_schema(session, NULL, err);
    bool is_current = code == ERR_OK;
    if (!is_current && (code != ERR_METADATA_UNAVAILABLE || session->again))
        return code;
    code = is_current ? ERR_OK : refuse_foreign(session, err);
    for (size_t i = 0; code == ERR_OK && i < mongodb_index_count; i++)
        code = make_index(session, &mongodb_indexes[i], err);
    if (code == ERR_OK && is_current)
        code = err_set_internal(err, ERR_EXISTS, 0, "init", "The database is there already.");
    else if (code == ERR_OK)
        code = write_settings(session, err);
    return code;
}

enum err_code mongodb_init(const struct config *config, const struct clock *clock, struct err *err)
{
    struct metadata_mongodb db = {.clock = clock};
    enum err_code code = mongodb_pool_open(&db, config, err);
    if (code == ERR_OK)
        code = mongodb_run_any(&db, init, NULL, err);
    if (db.pool)
        mongoc_client_pool_destroy(db.pool);
    return code;
}
