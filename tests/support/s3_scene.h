/* The S3 driver and a server of raw answers that plays a script: what is expected of each request, and
 * what it is answered. For answers that a real store gives rarely, or never should. */
#ifndef COFFER_TESTS_S3_SCENE_H
#define COFFER_TESTS_S3_SCENE_H

#include <stdio.h>
#include <string.h>

#include "check.h"
#include "http_server.h"
#include "storage/storage_drivers.h"
#include "store.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"
#define OTHER_KEY "cd/0123456789abcdef0123456789abcdef"
#define MIB (1024 * 1024)
#define ANSWERS_MAX 24
#define ETAG "ETag: \"e\"\r\n"
#define MODIFIED "Last-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\n"

/* One request that is expected and what it is answered; "" ends the connection without an answer. */
struct scripted {
    const char *request; /* the head holds it */
    const char *answer;
    const char *without; /* neither head nor body hold it; NULL: anything */
};

struct script {
    struct scripted steps[ANSWERS_MAX];
    _Atomic int at;
    _Atomic int unexpected;
};

struct scene {
    struct script script;
    struct http_server *server;
    struct config config;
    struct storage *storage;
};

/* `steps` ends with a request of NULL. */
void scene_open(struct scene *scene, const struct scripted *steps, unsigned attempts);
/* Every step was played, and no other request came. */
void scene_close(struct scene *scene, const struct scripted *steps, const char *label);
/* An upload to KEY, whose tag is "e". */
enum err_code scene_put(struct storage *storage, const char *data, size_t len, struct err *err);

#define PUT "PUT /files/" KEY " "
#define HEAD "HEAD /files/" KEY " "
#define HEAD_BUCKET "HEAD /files "
#define OK "HTTP/1.1 200 OK\r\n"
#define EMPTY "Content-Length: 0\r\n\r\n"
#define NOT_FOUND "HTTP/1.1 404 Not Found\r\n" EMPTY
#define CREATE "POST /files/" KEY "?uploads="
#define COMPLETE "POST /files/" KEY "?uploadId=u1 "
#define ABORT "DELETE /files/" KEY "?uploadId=u1 "
#define PART(number) "PUT /files/" KEY "?partNumber=" number "&uploadId=u1 "
#define TAGGING "PUT /files/" KEY "?tagging= "
#define CREATED                                                                           \
    OK "Content-Length: 89\r\n\r\n<InitiateMultipartUploadResult><UploadId>u1</UploadId>" \
       "</InitiateMultipartUploadResult>    "
#define COMPLETED                                                                            \
    OK "Transfer-Encoding: chunked\r\n\r\n2\r\n \n\r\n59\r\n<CompleteMultipartUploadResult>" \
       "<ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>\r\n0\r\n\r\n"
#define COMPLETE_FAILED \
    OK "Content-Length: 53\r\n\r\n<Error><Code>InternalError</Code></Error>            "

#endif
