/*
 * An empty MongoDB database for one test, on the server that MONGODB_TEST_URI (a user's own) or
 * FERRETDB_URI (tests/servers/serve ferretdb) names. Without either the test fails: nothing is
 * skipped.
 */
#ifndef COFFER_TESTS_MONGODB_DATABASE_H
#define COFFER_TESTS_MONGODB_DATABASE_H

#include <mongoc/mongoc.h>

#include "base/config.h"

/* Settings of a database of its own, where nothing has been made; false (and a message) when no
 * server is named. */
bool mongodb_database_config(struct config *ret_config);
/* The same, made by init. */
bool mongodb_database_make(struct config *ret_config);
/* A collection as anybody may change it, past the driver. */
struct mongodb_raw {
    mongoc_client_t *client;
    mongoc_collection_t *collection;
};
struct mongodb_raw mongodb_raw_open(const struct config *config, const char *collection);
void mongodb_raw_close(struct mongodb_raw *raw);
/* The document as JSON; NULL: there is none. Caller frees with bson_free. */
char *mongodb_raw_document(const struct config *config, const char *collection, const char *id);
/* Changes the document, made if there is none, by an update in JSON: {"$set": {…}}. */
void mongodb_raw_change(const struct config *config, const char *collection, const char *id,
                        const char *update);
/* Removes the database. */
void mongodb_database_drop(const struct config *config);
/* Is the server one of MongoDB itself, which has TTL indexes and explains its plans? */
bool mongodb_database_is_real(const struct config *config);

#endif
