/* The S3 driver against answers that a real store gives rarely, or never should: a server of raw
 * answers plays each of them. */
#include <stdlib.h>

#include "s3_scene.h"

TEST(storage_s3_answers, a_store_without_conditional_writes_is_asked_first)
{
    static const struct scripted steps[] = {
        {PUT, "HTTP/1.1 501 Not Implemented\r\n" EMPTY, NULL},
        /* The checksum is not why. */
        {PUT, "HTTP/1.1 501 Not Implemented\r\n" EMPTY, "x-amz-checksum"},
        {HEAD, NOT_FOUND, NULL},
        {HEAD_BUCKET, OK EMPTY, NULL},
        {PUT, OK ETAG EMPTY, "if-none-match"},
        /* The second put knows it already. */
        {HEAD, OK ETAG MODIFIED "Content-Length: 5\r\n\r\n", NULL},
        {NULL, NULL, NULL},
    };
    struct err err;
    struct scene scene;
    scene_open(&scene, steps, 3);
    CHECK_ERR(scene_put(scene.storage, "hello", 5, &err), ERR_OK, &err);
    CHECK_ERR(scene_put(scene.storage, "hello", 5, &err), ERR_EXISTS, &err);
    scene_close(&scene, steps, "conditional");
}

TEST(storage_s3_answers, a_small_put_fails_as_the_store_says)
{
    static const struct {
        const char *name;
        const char *answer;
        const char *head;
        enum err_code want;
    } rows[] = {
        {"forbidden", "HTTP/1.1 403 Forbidden\r\n" EMPTY, NOT_FOUND, ERR_STORAGE},
        {"full", "HTTP/1.1 507 Insufficient Storage\r\n" EMPTY, NOT_FOUND, ERR_DISK_FULL},
        {"no tag", OK EMPTY, NOT_FOUND, ERR_STORAGE},
        {"taken", "HTTP/1.1 412 Precondition Failed\r\n" EMPTY,
         OK ETAG MODIFIED "x-amz-meta-upload: 0123\r\nContent-Length: 5\r\n\r\n", ERR_EXISTS},
        {"taken by another client", "HTTP/1.1 412 Precondition Failed\r\n" EMPTY,
         OK ETAG MODIFIED "Content-Length: 9\r\n\r\n", ERR_EXISTS},
        {"taken and gone", "HTTP/1.1 412 Precondition Failed\r\n" EMPTY, NOT_FOUND, ERR_STORAGE},
        {"two at once", "HTTP/1.1 409 Conflict\r\n" EMPTY,
         OK ETAG MODIFIED "Content-Length: 9\r\n\r\n", ERR_EXISTS},
        {"another object, but that is not why", "HTTP/1.1 500 Oops\r\n" EMPTY,
         OK ETAG MODIFIED "Content-Length: 9\r\n\r\n", ERR_STORAGE_UNAVAILABLE},
        {"no answer", "", NOT_FOUND, ERR_STORAGE_UNAVAILABLE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_missing = strcmp(rows[i].head, NOT_FOUND) == 0;
        const struct scripted steps[ANSWERS_MAX] = {
            {PUT, rows[i].answer, NULL},
            {HEAD, rows[i].head, NULL},
            {is_missing ? HEAD_BUCKET : NULL, OK EMPTY, NULL},
        };
        struct err err;
        struct scene scene;
        scene_open(&scene, steps, 1);
        CHECK_ERR_ROW(rows[i].name, scene_put(scene.storage, "hello", 5, &err), rows[i].want, &err);
        scene_close(&scene, steps, rows[i].name);
    }
}

TEST(storage_s3_answers, a_large_put_ends_with_the_document_not_with_the_status)
{
    static const struct {
        const char *name;
        struct scripted end[6];
        enum err_code want;
    } rows[] = {
        {"good", {{COMPLETE, COMPLETED, NULL}, {TAGGING, OK EMPTY, NULL}}, ERR_OK},
        {"not tagged",
         {{COMPLETE, COMPLETED, NULL}, {TAGGING, "HTTP/1.1 403 Forbidden\r\n" EMPTY, NULL}},
         ERR_OK},
        {"an error under 200",
         {{COMPLETE, COMPLETE_FAILED, NULL},
          {HEAD, NOT_FOUND, NULL},
          {HEAD_BUCKET, OK EMPTY, NULL},
          {ABORT, "HTTP/1.1 204 No Content\r\n\r\n", NULL}},
         ERR_STORAGE_UNAVAILABLE},
        {"nonsense under 200",
         {{COMPLETE, OK "Content-Length: 5\r\n\r\nready", NULL},
          {HEAD, NOT_FOUND, NULL},
          {HEAD_BUCKET, OK EMPTY, NULL},
          {ABORT, "HTTP/1.1 204 No Content\r\n\r\n", NULL}},
         ERR_STORAGE},
        {"forgotten",
         {{COMPLETE, NOT_FOUND, NULL},
          {HEAD, NOT_FOUND, NULL},
          {HEAD_BUCKET, OK EMPTY, NULL},
          {ABORT, NOT_FOUND, NULL}},
         ERR_STORAGE_UNAVAILABLE},
        {"lost, and another object is there",
         {{COMPLETE, "", NULL},
          {HEAD, OK ETAG MODIFIED "Content-Length: 6291456\r\n\r\n", NULL},
          {ABORT, "HTTP/1.1 204 No Content\r\n\r\n", NULL}},
         ERR_STORAGE_UNAVAILABLE},
    };
    char *content = calloc(1, 6 * MIB);
    REQUIRE(content);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct scene scene;
        struct scripted steps[ANSWERS_MAX] = {
            {CREATE, CREATED, NULL},
            {"PUT /files/" KEY "?partNumber=", OK ETAG EMPTY, NULL},
            {"PUT /files/" KEY "?partNumber=", OK ETAG EMPTY, NULL}};
        for (size_t j = 0; j < 6; j++)
            steps[3 + j] = rows[i].end[j];
        scene_open(&scene, steps, 1);
        CHECK_ERR_ROW(rows[i].name, scene_put(scene.storage, content, 6 * MIB, &err), rows[i].want,
                      &err);
        scene_close(&scene, steps, rows[i].name);
    }
    free(content);
}

TEST(storage_s3_answers, a_part_that_fails_ends_the_upload)
{
    static const struct scripted steps[] = {
        {CREATE, CREATED, NULL},
        {"PUT /files/" KEY "?partNumber=", "HTTP/1.1 403 Forbidden\r\n" EMPTY, NULL},
        {"PUT /files/" KEY "?partNumber=", OK ETAG EMPTY, NULL}, /* beside it */
        {ABORT, "HTTP/1.1 204 No Content\r\n\r\n", NULL},
        {NULL, NULL, NULL},
    };
    struct err err;
    struct scene scene;
    char *content = calloc(1, 6 * MIB);
    REQUIRE(content);
    scene_open(&scene, steps, 1);
    CHECK_ERR(scene_put(scene.storage, content, 6 * MIB, &err), ERR_STORAGE, &err);
    scene_close(&scene, steps, "part");
    free(content);
}

/* ---- downloads ---- */

static int64_t get(struct storage *storage, const struct storage_wanted *wanted, char *back,
                   size_t size, struct err *err)
{
    struct storage_get *handle = NULL;
    size_t len = 0;
    size_t got = 1;
    enum err_code code = storage_get_open(storage, wanted, &handle, err);
    while (code == ERR_OK && got > 0 && len < size) {
        code = storage_get_read(handle, back + len, size - len, &got, err);
        len += code == ERR_OK ? got : 0;
    }
    if (handle)
        storage_get_close(handle);
    return code == ERR_OK ? (int64_t)len : -1;
}

#define GET "GET /files/" KEY " "
#define RANGE(range, len)                                                          \
    "HTTP/1.1 206 Partial Content\r\n" ETAG MODIFIED "Content-Range: bytes " range \
    "\r\nContent-Length: " len "\r\n\r\n"

TEST(storage_s3_answers, a_head_that_is_not_what_was_wanted_is_refused)
{
    static const struct {
        const char *name;
        int64_t size;
        int64_t offset;
        int64_t length;
        const char *answer;
        enum err_code want;
    } rows[] = {
        {"good", 10, 0, -1, OK ETAG MODIFIED "Content-Length: 10\r\n\r\n0123456789", ERR_OK},
        {"good range", 10, 2, 3, RANGE("2-4/10", "3") "234", ERR_OK},
        {"other size", 10, 0, -1, OK ETAG MODIFIED "Content-Length: 9\r\n\r\n012345678",
         ERR_STORAGE},
        {"other tag", 10, 0, -1,
         OK "ETag: \"f\"\r\n" MODIFIED "Content-Length: 10\r\n\r\n0123456789", ERR_STORAGE},
        {"no tag", 10, 0, -1, OK MODIFIED "Content-Length: 10\r\n\r\n0123456789", ERR_STORAGE},
        {"no length", 10, 0, -1, OK ETAG MODIFIED "Connection: close\r\n\r\n0123456789", ERR_OK},
        {"no length, chunks", 10, 0, -1,
         OK ETAG MODIFIED "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", ERR_OK},
        {"no length, too much", 10, 0, -1,
         OK ETAG MODIFIED "Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
         ERR_STORAGE},
        {"no length, too little", 10, 0, -1,
         OK ETAG MODIFIED "Transfer-Encoding: chunked\r\n\r\n9\r\n012345678\r\n0\r\n\r\n",
         ERR_STORAGE_UNAVAILABLE},
        {"no length and no size is known", -1, 0, -1,
         OK ETAG MODIFIED "Connection: close\r\n\r\n0123456789", ERR_STORAGE},
        {"good range without length", 10, 2, 3,
         "HTTP/1.1 206 Partial Content\r\n" ETAG MODIFIED
         "Content-Range: bytes 2-4/10\r\nConnection: close\r\n\r\n234",
         ERR_OK},
        {"a range where none was asked for", 10, 0, -1, RANGE("0-9/10", "10") "0123456789",
         ERR_STORAGE},
        {"the whole where a range was asked for", 10, 2, 3,
         OK ETAG MODIFIED "Content-Length: 10\r\n\r\n0123456789", ERR_STORAGE},
        {"other range", 10, 2, 3, RANGE("3-5/10", "3") "345", ERR_STORAGE},
        {"longer range", 10, 2, 3, RANGE("2-5/10", "4") "2345", ERR_STORAGE},
        {"range of another object", 10, 2, 3, RANGE("2-4/11", "3") "234", ERR_STORAGE},
        {"range of unknown size", 10, 2, 3, RANGE("2-4/*", "3") "234", ERR_STORAGE},
        {"bad range", 10, 2, 3, RANGE("x", "3") "234", ERR_STORAGE},
        {"length against range", 10, 2, 3, RANGE("2-4/10", "2") "23", ERR_STORAGE},
        {"changed", 10, 0, -1, "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n",
         ERR_STORAGE},
        {"gone", 10, 0, -1,
         "HTTP/1.1 404 Not Found\r\nContent-Length: 41\r\n\r\n"
         "<Error><Code>NoSuchKey</Code></Error>    ",
         ERR_NOT_FOUND},
        {"no bucket", 10, 0, -1,
         "HTTP/1.1 404 Not Found\r\nContent-Length: 41\r\n\r\n"
         "<Error><Code>NoSuchBucket</Code></Error> ",
         ERR_STORAGE_UNAVAILABLE},
        {"redirect", 10, 0, -1,
         "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
         ERR_STORAGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct scene scene;
        char back[16] = "";
        const struct scripted steps[ANSWERS_MAX] = {{GET, rows[i].answer, NULL}};
        const struct storage_wanted wanted = {.key = KEY,
                                              .size = rows[i].size,
                                              .tag = "\"e\"",
                                              .offset = rows[i].offset,
                                              .length = rows[i].length};
        scene_open(&scene, steps, 1);
        int64_t len = get(scene.storage, &wanted, back, sizeof back, &err);
        CHECK_ERR_ROW(rows[i].name, len < 0 ? err.code : ERR_OK, rows[i].want, &err);
        if (rows[i].want == ERR_OK)
            CHECK_STR_ROW(rows[i].name, str_of(back), rows[i].offset ? "234" : "0123456789");
        scene_close(&scene, steps, rows[i].name);
    }
}

#define CUT OK ETAG MODIFIED "Connection: close\r\nContent-Length: 10\r\n\r\n0123"

TEST(storage_s3_answers, a_broken_download_goes_on_where_it_broke)
{
    static const struct {
        const char *name;
        struct scripted steps[5];
        unsigned attempts;
        enum err_code want;
    } rows[] = {
        {"once",
         {{GET, CUT, NULL}, {"range: bytes=4-9\r\n", RANGE("4-9/10", "6") "456789", NULL}},
         3,
         ERR_OK},
        {"twice",
         {{GET, CUT, NULL},
          {"range: bytes=4-9\r\n",
           "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n" ETAG MODIFIED
           "Content-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n45",
           NULL},
          {"range: bytes=6-9\r\n", RANGE("6-9/10", "4") "6789", NULL}},
         3,
         ERR_OK},
        {"for the same tag only",
         {{GET, CUT, NULL},
          {"if-match: \"e\"\r\n",
           "HTTP/1.1 206 Partial Content\r\nETag: \"f\"\r\n" MODIFIED
           "Content-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789",
           NULL}},
         3,
         ERR_STORAGE},
        {"not when it changed",
         {{GET, CUT, NULL}, {"if-match: \"e\"\r\n", "HTTP/1.1 412 Changed\r\n" EMPTY, NULL}},
         3,
         ERR_STORAGE},
        {"also where no length tells that it broke",
         {{GET, OK ETAG MODIFIED "Connection: close\r\n\r\n0123", NULL},
          {"range: bytes=4-9\r\n", RANGE("4-9/10", "6") "456789", NULL}},
         3,
         ERR_OK},
        {"not when calls are made once", {{GET, CUT, NULL}}, 1, ERR_STORAGE_UNAVAILABLE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct scene scene;
        char back[16] = "";
        struct scripted steps[ANSWERS_MAX] = {{NULL, NULL, NULL}};
        const struct storage_wanted wanted = {.key = KEY, .size = 10, .length = -1};
        for (size_t j = 0; j < 5; j++)
            steps[j] = rows[i].steps[j];
        scene_open(&scene, steps, rows[i].attempts);
        int64_t len = get(scene.storage, &wanted, back, sizeof back, &err);
        CHECK_ERR_ROW(rows[i].name, len < 0 ? err.code : ERR_OK, rows[i].want, &err);
        if (rows[i].want == ERR_OK)
            CHECK_STR_ROW(rows[i].name, str_of(back), "0123456789");
        scene_close(&scene, steps, rows[i].name);
    }
}

/* ---- the bucket ---- */

TEST(storage_s3_answers, a_bucket_is_made_once_and_then_left_alone)
{
    static const struct {
        const char *name;
        struct scripted steps[5];
        enum err_code want;
    } rows[] = {
        {"there", {{HEAD_BUCKET, OK EMPTY, NULL}}, ERR_EXISTS},
        {"made",
         {{HEAD_BUCKET, NOT_FOUND, NULL},
          {"PUT /files ", OK EMPTY, NULL},
          {"PUT /files?publicAccessBlock= ", "HTTP/1.1 501 No\r\n" EMPTY, NULL},
          {"PUT /files?lifecycle= ", "HTTP/1.1 400 No\r\n" EMPTY, NULL}},
         ERR_OK},
        {"made by another meanwhile",
         {{HEAD_BUCKET, NOT_FOUND, NULL},
          {"PUT /files ",
           "HTTP/1.1 409 Conflict\r\nContent-Length: 53\r\n\r\n"
           "<Error><Code>BucketAlreadyOwnedByYou</Code></Error>  ",
           NULL}},
         ERR_EXISTS},
        {"somebody else's",
         {{HEAD_BUCKET, NOT_FOUND, NULL},
          {"PUT /files ",
           "HTTP/1.1 409 Conflict\r\nContent-Length: 49\r\n\r\n"
           "<Error><Code>BucketAlreadyExists</Code></Error>  ",
           NULL}},
         ERR_CONFIG},
        {"forbidden", {{HEAD_BUCKET, "HTTP/1.1 403 Forbidden\r\n" EMPTY, NULL}}, ERR_STORAGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct scene scene;
        struct scripted steps[ANSWERS_MAX] = {{NULL, NULL, NULL}};
        for (size_t j = 0; j < 5; j++)
            steps[j] = rows[i].steps[j];
        scene_open(&scene, steps, 1);
        CHECK_ERR_ROW(rows[i].name, storage_s3_driver.init(&scene.config, &clock_system, &err),
                      rows[i].want, &err);
        scene_close(&scene, steps, rows[i].name);
    }
}
