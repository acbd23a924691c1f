/* The S3 driver and stores that don't do all that AWS does, or do it in another way. */
#include <stdlib.h>

#include "s3_scene.h"

#define HIDDEN(code) OK ETAG "Connection: close\r\n\r\n<Error><Code>" code "</Code></Error>"
#define COPY "PUT /files/" OTHER_KEY " "
#define COPIED \
    OK "Connection: close\r\n\r\n<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>"
#define FOUND(len) OK ETAG MODIFIED "Content-Length: " len "\r\n\r\n"

/* What the status hides is repeated as what it tells: once where the failure may pass, and not
 * where the store refuses. */
TEST(storage_s3_quirks, a_failure_under_200_is_repeated_where_it_may_pass)
{
    static const struct {
        const char *name;
        size_t len;
        struct scripted steps[8];
        enum err_code want;
    } rows[] = {
        {"a put", 5, {{PUT, HIDDEN("InternalError"), NULL}, {PUT, OK ETAG EMPTY, NULL}}, ERR_OK},
        {"a put that is refused",
         5,
         {{PUT, HIDDEN("InvalidDigest"), NULL},
          {HEAD, NOT_FOUND, NULL},
          {HEAD_BUCKET, OK EMPTY, NULL}},
         ERR_STORAGE},
        {"the end of parts",
         6 * MIB,
         {{CREATE, CREATED, NULL},
          {"PUT /files/" KEY "?partNumber=", OK ETAG EMPTY, NULL},
          {"PUT /files/" KEY "?partNumber=", OK ETAG EMPTY, NULL},
          {COMPLETE, COMPLETE_FAILED, NULL},
          {COMPLETE, COMPLETE_FAILED, NULL},
          {COMPLETE, COMPLETED, NULL},
          {TAGGING, OK EMPTY, NULL}},
         ERR_OK},
        {"the beginning of parts",
         6 * MIB,
         {{CREATE, HIDDEN("SlowDown"), NULL},
          {CREATE, CREATED, NULL},
          {"GET /files?", HIDDEN("AccessDenied"), NULL},
          {"PUT /files/" KEY "?partNumber=", OK ETAG EMPTY, NULL},
          {"PUT /files/" KEY "?partNumber=", OK ETAG EMPTY, NULL},
          {COMPLETE, COMPLETED, NULL},
          {TAGGING, OK EMPTY, NULL}},
         ERR_OK},
    };
    char *content = calloc(1, 6 * MIB);
    REQUIRE(content);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct scene scene;
        struct scripted steps[ANSWERS_MAX] = {{NULL, NULL, NULL}};
        for (size_t j = 0; j < 8; j++)
            steps[j] = rows[i].steps[j];
        scene_open(&scene, steps, 3);
        CHECK_ERR_ROW(rows[i].name, scene_put(scene.storage, content, rows[i].len, &err),
                      rows[i].want, &err);
        scene_close(&scene, steps, rows[i].name);
    }
    free(content);
}

TEST(storage_s3_quirks, a_copy_that_fails_under_200_is_repeated)
{
    static const struct scripted steps[] = {
        {"HEAD /files/" OTHER_KEY " ", NOT_FOUND, NULL},
        {HEAD_BUCKET, OK EMPTY, NULL},
        {COPY, HIDDEN("InternalError"), NULL},
        {COPY, COPIED, NULL},
        {"HEAD /files/" OTHER_KEY " ", FOUND("5"), NULL},
        {NULL, NULL, NULL},
    };
    const struct storage_wanted from = {.key = KEY, .size = 5, .tag = "\"e\"", .length = -1};
    char tag[STORAGE_TAG_SIZE];
    struct err err;
    struct scene scene;
    scene_open(&scene, steps, 3);
    CHECK_ERR(storage_copy(scene.storage, &from, OTHER_KEY, tag, &err), ERR_OK, &err);
    scene_close(&scene, steps, "copy");
}
