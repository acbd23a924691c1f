/*
 * Bounds on the answers that are kept of an owner's requests. A file's own answer is on its row, and as
 * bounded as the owner's files; what is dropped here are documents of finished requests.
 */
#include <stdlib.h>
#include <string.h>

#include "metadata/mongodb/metadata_mongodb.h"

#define TRIM_ROWS 200 /* removed in one go */
#define ROW_BYTES 256 /* about what a document takes besides its answer */

struct trim_args {
    const struct idempotency_bounds *bounds;
    int64_t keys; /* seen, the newest first */
    int64_t bytes;
    size_t count; /* beyond the bounds */
    char ids[TRIM_ROWS][MONGODB_REQUEST_SIZE];
    const char *pointers[TRIM_ROWS];
};

static enum err_code note_beyond(void *context, const bson_t *document, struct err *err)
{
    struct trim_args *trim = context;
    trim->keys++;
    trim->bytes += ROW_BYTES + mongodb_read_number(document, "size");
    if ((trim->keys <= trim->bounds->keys && trim->bytes <= trim->bounds->bytes) ||
        trim->count == TRIM_ROWS)
        return ERR_OK;
    if (!mongodb_read_text(document, "_id", trim->ids[trim->count], MONGODB_REQUEST_SIZE))
        return err_set_internal(err, ERR_INTERNAL, 0, "trim", "A request's id is wrong.");
    trim->pointers[trim->count] = trim->ids[trim->count];
    trim->count++;
    return ERR_OK;
}

/* Its documents' ids begin with the owner; ';' follows ':'. */
static enum err_code put_finished_of(bson_t *filter, struct str owner, struct err *err)
{
    struct mongodb_request first;
    bson_t inner;
    enum err_code code = mongodb_request_id(owner, STR(""), &first, err);
    if (code != ERR_OK)
        return code;
    bson_append_document_begin(filter, "_id", -1, &inner);
    mongodb_put_text(&inner, "$gte", first.id);
    first.id[strlen(first.id) - 1] = ';';
    mongodb_put_text(&inner, "$lt", first.id);
    bson_append_document_end(filter, &inner);
    bson_append_bool(filter, "finished", -1, true);
    return ERR_OK;
}

static enum err_code find_beyond(struct mongodb_session *session, struct trim_args *trim,
                                 struct err *err)
{
    static const char *const members[] = {"size", "touchedMs"};
    static const char *const order[] = {"touchedMs"};
    bson_t filter = BSON_INITIALIZER;
    bson_t options = BSON_INITIALIZER;
    const struct mongodb_question question = {.collection = COLLECTION_REQUESTS,
                                              .filter = &filter,
                                              .options = &options,
                                              .told = note_beyond,
                                              .context = trim};
    mongodb_put_each(&options, "sort", order, 1, -1);
    mongodb_put_each(&options, "projection", members, 2, 1);
    trim->keys = trim->bytes = 0;
    trim->count = 0;
    enum err_code code = put_finished_of(&filter, trim->bounds->owner, err);
    if (code == ERR_OK)
        code = mongodb_find(session, &question, err);
    bson_destroy(&options);
    bson_destroy(&filter);
    return code;
}

static enum err_code trim_some(struct mongodb_session *session, void *args, struct err *err)
{
    struct trim_args *trim = args;
    int64_t removed = 0;
    bson_t filter = BSON_INITIALIZER;
    enum err_code code = find_beyond(session, trim, err);
    mongodb_put_any_of(&filter, "_id", trim->pointers, trim->count);
    bson_append_bool(&filter, "finished", -1, true);
    if (code == ERR_OK && trim->count > 0)
        code = mongodb_delete(session, COLLECTION_REQUESTS, &filter, &removed, err);
    bson_destroy(&filter);
    return code;
}

enum err_code mongodb_trim_answers(void *state, const struct idempotency_bounds *bounds,
                                   struct err *err)
{
    struct trim_args *args = calloc(1, sizeof *args);
    enum err_code code = ERR_OK;
    if (!args)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "trim", "Out of memory.");
    args->bounds = bounds;
    do {
        code = mongodb_run(state, trim_some, args, err);
    } while (code == ERR_OK && args->count == TRIM_ROWS);
    free(args);
    return code;
}
