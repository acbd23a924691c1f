/* The use cases' world for tests: a real folder and a real database, one principal. */
#ifndef COFFER_TESTS_WORLD_H
#define COFFER_TESTS_WORLD_H

#include "files/files.h"

struct world {
    struct config config;
    struct files files;
    struct principal alice;
    struct idempotency idempotency;
};

/* fs and sqlite under a temporary folder. */
bool open_world(struct world *world);
/* The same with a store that has neither files for the gateway nor claims, as a remote one. */
bool open_remote_world(struct world *world);
void close_world(struct world *world);
/* Uploads `content` and copies the new id. */
enum err_code upload(struct world *world, const char *name, struct str content, int64_t expires_in,
                     char ret_id[ID_SIZE], struct err *err);
enum err_code open_file(struct world *world, const char *id, struct file *file, struct err *err);

#endif
