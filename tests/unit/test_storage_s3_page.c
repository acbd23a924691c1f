#include "storage/s3/storage_s3.h"

#include <stdio.h>
#include <string.h>

#include "check.h"

#define KEY_A "ab/0123"
#define KEY_B "cd/4567"
#define TIME "2026-11-21T10:00:00.123Z"
#define OBJECT(key, size)                                               \
    "<Contents><Key>" key "</Key><LastModified>" TIME "</LastModified>" \
    "<ETag>&#34;e&#34;</ETag><Size>" size "</Size></Contents>"
#define LISTING(content)                                                           \
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">" content \
    "</ListBucketResult>"
#define UPLOAD(key, id)                                                                    \
    "<Upload><Key>" key "</Key><UploadId>" id "</UploadId><Initiated>" TIME "</Initiated>" \
    "</Upload>"
#define UPLOADS(content) "<ListMultipartUploadsResult>" content "</ListMultipartUploadsResult>"

static enum err_code note_object(void *context, const char *key, const struct storage_stat *stat,
                                 struct err *err)
{
    (void)err;
    buf_printf(context, "%s %lld %lld %s;", key, (long long)stat->size,
               (long long)stat->modified_ms, stat->tag);
    return ERR_OK;
}

static enum err_code note_upload(void *context, const struct s3_upload *upload, struct err *err)
{
    (void)err;
    buf_printf(context, "%s %s %lld;", upload->key, upload->upload_id, (long long)upload->begun_ms);
    return ERR_OK;
}

#define SEEN(key, size) key " " size " 1795255200123 \"e\";"

/* A document, what is told of it and where the next page begins. */
struct page_row {
    const char *name;
    const char *in;
    const char *want;
    const char *token;
    const char *upload_id;
    enum err_code code;
};

static void check_page(const struct page_row *row, bool is_uploads)
{
    struct err err;
    struct buf out;
    struct s3_page page;
    buf_init(&out, 4096);
    s3_page_init(&page);
    enum err_code code = is_uploads
                             ? s3_page_uploads(&page, str_of(row->in), note_upload, &out, &err)
                             : s3_page_objects(&page, str_of(row->in), note_object, &out, &err);
    const char *name = row->name;
    CHECK_ERR_ROW(name, code, row->code, &err);
    CHECK_STR_ROW(name, buf_str(&out), row->want);
    if (code == ERR_OK) {
        CHECK_STR_ROW(name, buf_str(&page.token), row->token);
        CHECK_STR_ROW(name, buf_str(&page.upload_id), row->upload_id);
    }
    s3_page_release(&page);
    buf_release(&out);
}

static void check_unreadable(const char *listing)
{
    const struct page_row row = {listing, listing, "", "", "", ERR_STORAGE};
    check_page(&row, false);
}

TEST(storage_s3_page, tells_of_our_objects_and_the_next_page)
{
    static const struct page_row rows[] = {
        {"none", LISTING("<IsTruncated>false</IsTruncated>"), "", "", "", ERR_OK},
        {"two", LISTING(OBJECT(KEY_A, "0") OBJECT(KEY_B, "17")), SEEN(KEY_A, "0") SEEN(KEY_B, "17"),
         "", "", ERR_OK},
        {"foreign keys",
         LISTING(OBJECT("readme", "1") OBJECT("ab/c/d", "1") OBJECT(KEY_A, "2") OBJECT("../x", "1")
                     OBJECT("AB/x", "3") OBJECT("", "1")),
         SEEN(KEY_A, "2"), "", "", ERR_OK},
        {"a foreign key may lack anything", LISTING("<Contents><Key>x</Key></Contents>"), "", "",
         "", ERR_OK},
        {"next",
         LISTING("<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b=="
                 "</NextContinuationToken>" OBJECT(KEY_A, "1")),
         SEEN(KEY_A, "1"), "a&b==", "", ERR_OK},
        {"a token without more", LISTING("<NextContinuationToken>x</NextContinuationToken>"), "",
         "", "", ERR_OK},
        {"encoded",
         LISTING(OBJECT("ab%2F0123", "1") OBJECT("%61b/4%20", "1")
                     OBJECT("ab/%zz", "1") "<EncodingType>url</EncodingType>"),
         SEEN(KEY_A, "1"), "", "", ERR_OK},
        {"not encoded, so the percent is its own", LISTING(OBJECT("ab%2F0123", "1")), "", "", "",
         ERR_OK},
        {"unquoted tag, no fraction of a second",
         LISTING("<Contents><Key>ab/c</Key><LastModified>2026-11-21T10:00:00Z</LastModified>"
                 "<ETag>e-2</ETag><Size>5</Size><StorageClass>X</StorageClass></Contents>"),
         "ab/c 5 1795255200000 \"e-2\";", "", "", ERR_OK},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_page(&rows[i], false);
}

TEST(storage_s3_page, tells_nothing_of_a_document_that_can_not_be_read)
{
    static const char *const rows[] = {
        "",
        "<html>busy</html>",
        "<ListBucketResult>" OBJECT(KEY_A, "1"),
        "<Error><Code>InternalError</Code></Error>",
        LISTING(OBJECT(KEY_A, "1") "<IsTruncated>true</IsTruncated>"),
        UPLOADS(UPLOAD(KEY_A, "u")),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_unreadable(rows[i]);
}

TEST(storage_s3_page, an_object_of_ours_that_is_not_described_is_an_error)
{
    static const char *const rows[] = {
        LISTING("<Contents><Key>ab/c</Key></Contents>"),
        LISTING(OBJECT(KEY_A, "-1")),
        LISTING(OBJECT(KEY_A, "")),
        LISTING(OBJECT(KEY_A, "9223372036854775808")),
        LISTING("<Contents><Key>ab/c</Key><LastModified>yesterday</LastModified>"
                "<ETag>e</ETag><Size>5</Size></Contents>"),
        LISTING("<Contents><Key>ab/c</Key><LastModified>" TIME "</LastModified>"
                "<ETag></ETag><Size>5</Size></Contents>"),
        /* What is known of one object is not taken for the next one's. */
        LISTING(OBJECT("x", "1") "<Contents><Key>ab/c</Key></Contents>"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_unreadable(rows[i]);
}

TEST(storage_s3_page, tells_of_unfinished_uploads)
{
    static const struct page_row rows[] = {
        {"none", UPLOADS(""), "", "", "", ERR_OK},
        {"some", UPLOADS(UPLOAD(KEY_A, "u1") UPLOAD("foreign", "u2") UPLOAD(KEY_A, "u3")),
         KEY_A " u1 1795255200123;" KEY_A " u3 1795255200123;", "", "", ERR_OK},
        {"next",
         UPLOADS("<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
                 "<NextUploadIdMarker>u</NextUploadIdMarker>"),
         "", "k", "u", ERR_OK},
        {"markers of the last page",
         UPLOADS("<IsTruncated>false</IsTruncated><NextKeyMarker>k</NextKeyMarker>"), "", "", "",
         ERR_OK},
        {"no id", UPLOADS(UPLOAD(KEY_A, "")), "", "", "", ERR_STORAGE},
        {"no time", UPLOADS("<Upload><Key>" KEY_A "</Key><UploadId>u</UploadId></Upload>"), "", "",
         "", ERR_STORAGE},
        {"another document", LISTING(""), "", "", "", ERR_STORAGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_page(&rows[i], true);
}
