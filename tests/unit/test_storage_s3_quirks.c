/* The S3 driver and stores that don't do all that AWS does, or do it in another way. */
#include <stdlib.h>

#include "s3_scene.h"

#define HIDDEN(code) OK ETAG "Connection: close\r\n\r\n<Error><Code>" code "</Code></Error>"
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

/* ---- headers that not every store takes ---- */

#define REFUSED(status, code) \
    "HTTP/1.1 " status " No\r\nConnection: close\r\n\r\n<Error><Code>" code "</Code></Error>"
#define S501 REFUSED("501", "NotImplemented")
#define S400 REFUSED("400", "InvalidArgument")
#define STORED OK ETAG EMPTY
#define CHECKSUM "x-amz-checksum-"
#define MD5 "content-md5: "
#define CONDITION "if-none-match: *"
#define KEY_IS_FREE                 \
    {HEAD, NOT_FOUND, NULL},        \
    {                               \
        HEAD_BUCKET, OK EMPTY, NULL \
    }
#define PARTS_STORED                                                                           \
    {MD5, STORED, CHECKSUM}, {MD5, STORED, CHECKSUM}, {COMPLETE, COMPLETED, "ChecksumSHA256"}, \
    {                                                                                          \
        TAGGING, OK EMPTY, NULL                                                                \
    }

/* Two uploads of each kind: the first finds out what the store refuses, the second knows it. */
TEST(storage_s3_quirks, what_a_store_refuses_is_left_out_and_no_more)
{
    static const struct {
        const char *name;
        size_t len;
        struct scripted steps[16];
        enum err_code first;
        enum err_code second;
    } rows[] = {
        {"a checksum, 501",
         5,
         {{PUT, S501, NULL}, {MD5, STORED, CHECKSUM}, {CONDITION, STORED, CHECKSUM}},
         ERR_OK,
         ERR_OK},
        {"a checksum, 400",
         5,
         {{PUT, S400, NULL}, {CONDITION, STORED, CHECKSUM}, {MD5, STORED, CHECKSUM}},
         ERR_OK,
         ERR_OK},
        {"a checksum, and the key is taken",
         5,
         {{PUT, S501, NULL},
          {CONDITION, "HTTP/1.1 412 No\r\n" EMPTY, CHECKSUM},
          {HEAD, FOUND("5"), NULL},
          {MD5, STORED, CHECKSUM}},
         ERR_EXISTS,
         ERR_OK},
        {"the condition",
         5,
         {{PUT, S501, NULL},
          {PUT, S501, CHECKSUM},
          KEY_IS_FREE,
          {CHECKSUM, STORED, CONDITION},
          KEY_IS_FREE,
          {CHECKSUM, STORED, CONDITION}},
         ERR_OK,
         ERR_OK},
        {"both, each in its own way",
         5,
         {{PUT, S400, NULL},
          {PUT, S501, CHECKSUM},
          KEY_IS_FREE,
          {CHECKSUM, S400, CONDITION},
          KEY_IS_FREE,
          {MD5, STORED, CHECKSUM},
          {HEAD, FOUND("5"), NULL}},
         ERR_OK,
         ERR_EXISTS},
        {"something else, for now",
         5,
         {{PUT, S501, NULL},
          {PUT, S501, CHECKSUM},
          KEY_IS_FREE,
          {PUT, S501, CONDITION},
          KEY_IS_FREE,
          {PUT, S501, MD5 CONDITION},
          KEY_IS_FREE,
          {CONDITION, STORED, MD5}},
         ERR_STORAGE,
         ERR_OK},
        {"another bytes than were sent",
         5,
         {{PUT, REFUSED("400", "BadDigest"), NULL}, KEY_IS_FREE, {CHECKSUM, STORED, MD5}},
         ERR_STORAGE,
         ERR_OK},
        {"not known, for the second call fails",
         5,
         {{PUT, S501, NULL},
          {PUT, REFUSED("503", "SlowDown"), CHECKSUM},
          KEY_IS_FREE,
          {CHECKSUM, STORED, MD5}},
         ERR_STORAGE_UNAVAILABLE,
         ERR_OK},
        {"a checksum of parts, 400",
         6 * MIB,
         {{CREATE, S400, NULL},
          {CREATE, CREATED, CHECKSUM},
          PARTS_STORED,
          {CREATE, CREATED, CHECKSUM},
          PARTS_STORED},
         ERR_OK,
         ERR_OK},
        {"a checksum of parts, 501",
         6 * MIB,
         {{CREATE, S501, NULL},
          {CREATE, CREATED, CHECKSUM},
          PARTS_STORED,
          {CREATE, CREATED, CHECKSUM},
          PARTS_STORED},
         ERR_OK,
         ERR_OK},
        {"parts at all",
         6 * MIB,
         {{CREATE, S501, NULL},
          {CREATE, S501, CHECKSUM},
          {"GET /files?", S501, NULL}, /* for one that was begun all the same */
          {"x-amz-checksum-algorithm", S501, NULL},
          {CREATE, S501, CHECKSUM},
          {"GET /files?", S501, NULL}},
         ERR_STORAGE,
         ERR_STORAGE},
    };
    char *content = calloc(1, 6 * MIB);
    REQUIRE(content);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *name = rows[i].name;
        struct err err;
        struct scene scene;
        struct scripted steps[ANSWERS_MAX] = {{NULL, NULL, NULL}};
        memcpy(steps, rows[i].steps, sizeof rows[i].steps);
        scene_open(&scene, steps, 1);
        CHECK_ERR_ROW(name, scene_put(scene.storage, content, rows[i].len, &err), rows[i].first,
                      &err);
        CHECK_ERR_ROW(name, scene_put(scene.storage, content, rows[i].len, &err), rows[i].second,
                      &err);
        scene_close(&scene, steps, name);
    }
    free(content);
}
