/* The S3 driver's parts that need no store: addresses, keys, tags, what failures mean. */
#include "storage/s3/storage_s3.h"

#include <stdio.h>
#include <string.h>

#include "check.h"

TEST(storage_s3, endpoints_give_hosts_and_paths)
{
    static const struct {
        const char *endpoint;
        enum s3_addressing addressing;
        const char *scheme;
        const char *host;
        const char *bucket_path;
        const char *object_path;
    } rows[] = {
        {"http://127.0.0.1:9000", S3_ADDRESSING_PATH, "http", "127.0.0.1:9000", "/files",
         "/files/ab/c"},
        {"https://s3.example.org/", S3_ADDRESSING_PATH, "https", "s3.example.org", "/files",
         "/files/ab/c"},
        {"https://s3.example.org", S3_ADDRESSING_VIRTUAL, "https", "files.s3.example.org", "/",
         "/ab/c"},
        {"http://s3.example.org:8333", S3_ADDRESSING_VIRTUAL, "http", "files.s3.example.org:8333",
         "/", "/ab/c"},
        {"http://h:80", S3_ADDRESSING_PATH, "http", "h", "/files", "/files/ab/c"},
        {"https://h:443", S3_ADDRESSING_PATH, "https", "h", "/files", "/files/ab/c"},
        {"http://h:443", S3_ADDRESSING_PATH, "http", "h:443", "/files", "/files/ab/c"},
        {"https://h:80", S3_ADDRESSING_PATH, "https", "h:80", "/files", "/files/ab/c"},
        {"http://[::1]:9000", S3_ADDRESSING_PATH, "http", "[::1]:9000", "/files", "/files/ab/c"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct s3_endpoint endpoint;
        struct buf path;
        const char *name = rows[i].endpoint;
        buf_init(&path, 256);
        CHECK_ERR_ROW(name, s3_endpoint_parse(&endpoint, name, "files", rows[i].addressing, &err),
                      ERR_OK, &err);
        CHECK_STR_ROW(name, str_of(endpoint.scheme), rows[i].scheme);
        CHECK_STR_ROW(name, str_of(endpoint.host), rows[i].host);
        s3_path(&endpoint, "files", NULL, &path);
        CHECK_STR_ROW(name, buf_str(&path), rows[i].bucket_path);
        buf_reset(&path);
        s3_path(&endpoint, "files", "ab/c", &path);
        CHECK_STR_ROW(name, buf_str(&path), rows[i].object_path);
        buf_release(&path);
    }
}

TEST(storage_s3, an_endpoint_is_a_scheme_a_host_and_a_port)
{
    static const char *const rows[] = {
        "", "h", "ftp://h", "http://", "https:///", "http://h/path", "HTTP://h"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct s3_endpoint endpoint;
        CHECK_ERR_ROW(rows[i],
                      s3_endpoint_parse(&endpoint, rows[i], "files", S3_ADDRESSING_PATH, &err),
                      ERR_CONFIG, &err);
    }
}

TEST(storage_s3, tags_have_quotes)
{
    static const struct {
        const char *in;
        const char *want; /* NULL: refused */
    } rows[] = {
        {"\"abc\"", "\"abc\""},
        {"abc-2", "\"abc-2\""},
        {"", NULL},
        {"\"\"", NULL},
        {"\"", NULL},
        {"a\"b", NULL},
        {"a b", NULL},
        {"a<b", NULL},
        {"a&b", NULL},
        {"a\xc3\xa4", NULL},
        {"0123456789012345678901234567890123456789012345678901234567890123456789012345",
         "\"0123456789012345678901234567890123456789012345678901234567890123456789012345\""},
        {"012345678901234567890123456789012345678901234567890123456789012345678901234567", NULL},
        {"01234567890123456789012345678901234567890123456789012345678901234567890123456789012345",
         NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        char tag[STORAGE_TAG_SIZE] = "";
        enum err_code code = s3_copy_tag(tag, str_of(rows[i].in), &err);
        CHECK_ERR_ROW(rows[i].in, code, rows[i].want ? ERR_OK : ERR_STORAGE, &err);
        CHECK_STR_ROW(rows[i].in, str_of(tag), rows[i].want ? rows[i].want : "");
    }
}

#define ERROR(code) \
    "<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>secret</Message></Error>"

TEST(storage_s3, failures_are_told_apart)
{
    static const struct {
        int status;
        const char *body;
        enum err_code want;
        const char *says;
    } rows[] = {
        {404, ERROR("NoSuchKey"), ERR_NOT_FOUND, "404 NoSuchKey"},
        {404, ERROR("NoSuchBucket"), ERR_STORAGE_UNAVAILABLE, "the bucket does not exist"},
        {404, "", ERR_NOT_FOUND, "404"},
        {403, ERROR("AccessDenied"), ERR_STORAGE, "403 AccessDenied"},
        {403, "", ERR_STORAGE, "403"},
        {403, ERROR("SignatureDoesNotMatch"), ERR_STORAGE, "S3_SECRET_KEY"},
        {403, ERROR("RequestTimeTooSkewed"), ERR_STORAGE_UNAVAILABLE, "clock"},
        {400, ERROR("AuthorizationHeaderMalformed"), ERR_STORAGE, "S3_REGION"},
        {400, ERROR("BadDigest"), ERR_STORAGE, "400 BadDigest"},
        {400, ERROR("RequestTimeout"), ERR_STORAGE_UNAVAILABLE, "RequestTimeout"},
        {301, ERROR("PermanentRedirect"), ERR_STORAGE, "redirect"},
        {307, "", ERR_STORAGE, "redirect"},
        {412, ERROR("PreconditionFailed"), ERR_STORAGE, "not the one that was written"},
        {416, ERROR("InvalidRange"), ERR_STORAGE, "416"},
        {429, "", ERR_STORAGE_UNAVAILABLE, "429"},
        {500, ERROR("InternalError"), ERR_STORAGE_UNAVAILABLE, "500 InternalError"},
        {502, "<html>", ERR_STORAGE_UNAVAILABLE, "502"},
        {503, ERROR("SlowDown"), ERR_STORAGE_UNAVAILABLE, "fewer calls"},
        {504, "", ERR_STORAGE_UNAVAILABLE, "504"},
        {501, ERROR("NotImplemented"), ERR_STORAGE, "501 NotImplemented"},
        {507, "", ERR_DISK_FULL, "full"},
        {507, ERROR("XMinioStorageFull"), ERR_DISK_FULL, "full"},
        {400, ERROR("XMinioAdminBucketQuotaExceeded"), ERR_DISK_FULL, "full"},
        {403, ERROR("QuotaExceeded"), ERR_DISK_FULL, "full"},
        {200, ERROR("InternalError"), ERR_STORAGE_UNAVAILABLE, "200 InternalError"},
        {200, ERROR("SomethingElse"), ERR_STORAGE, "200 SomethingElse"},
        {400, ERROR("a\nb{\"c\"}"), ERR_STORAGE, "400 abc:"},
        {100, "", ERR_STORAGE, "100"},
    };
    const struct s3_call call = {.operation = "put object"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct http_reply reply;
        char name[32];
        snprintf(name, sizeof name, "row %zu", i);
        http_reply_init(&reply);
        reply.status = rows[i].status;
        reply.body.max = S3_REPLY_BYTES;
        buf_append_text(&reply.body, rows[i].body);
        CHECK_ERR_ROW(name, s3_failure(&call, &reply, &err), rows[i].want, &err);
        CHECK_INT_ROW(name, err.remote_status, rows[i].status);
        CHECK_ROW(name, err.internal && strstr(err.message, rows[i].says) != NULL);
        CHECK_ROW(name, strstr(err.message, "secret") == NULL);
        http_reply_release(&reply);
    }
}

TEST(storage_s3, two_hundreds_are_no_failures)
{
    const struct s3_call call = {.operation = "put object"};
    static const int statuses[] = {200, 201, 204, 206};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct err err;
        const struct http_reply reply = {.status = statuses[i]};
        CHECK_ERR(s3_check(&call, &reply, &err), ERR_OK, &err);
    }
}

TEST(storage_s3, a_connection_that_failed_is_the_store_that_failed)
{
    static const struct {
        enum err_code in;
        enum err_code want;
    } rows[] = {
        {ERR_OK, ERR_OK},
        {ERR_UPSTREAM_UNAVAILABLE, ERR_STORAGE_UNAVAILABLE},
        {ERR_UPSTREAM_TIMEOUT, ERR_UPSTREAM_TIMEOUT},
        {ERR_UPSTREAM, ERR_STORAGE},
        {ERR_NO_MEMORY, ERR_NO_MEMORY},
        {ERR_INTERNAL, ERR_INTERNAL},
    };
    const struct s3_call call = {.operation = "put object"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {.code = rows[i].in};
        CHECK_ERR(s3_sent(&call, rows[i].in, &err), rows[i].want, &err);
        CHECK_INT(err.code, rows[i].want);
    }
}
