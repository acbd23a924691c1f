/*
 * One page of a listing, read from the store's document: of objects (ListObjectsV2), or of uploads
 * that were begun and never ended (ListMultipartUploads). Keys that are none of ours are passed
 * over: they are somebody else's. Pure functions, thread-safe.
 */
#ifndef COFFER_STORAGE_STORAGE_S3_PAGE_H
#define COFFER_STORAGE_STORAGE_S3_PAGE_H

#include "storage/storage.h"

#define S3_TOKEN_BYTES 4096 /* where the next page begins */
#define S3_UPLOAD_ID_BYTES 2048

/* What leads to the next page; "" on the last one. Used again for the next page. */
struct s3_page {
    struct buf token; /* of objects; of uploads: the key */
    struct buf upload_id;
};

void s3_page_init(struct s3_page *page);
void s3_page_release(struct s3_page *page);

/* Tells of each object of the page; nothing is told of a document that can't be read. ERR_STORAGE,
 * and what the callback returns. */
enum err_code s3_page_objects(struct s3_page *page, struct str document,
                              storage_list_callback *callback, void *context, struct err *err)
    ERR_MUST_CHECK;

/* Borrowed for the call. */
struct s3_upload {
    const char *key;
    const char *upload_id;
    int64_t begun_ms; /* since 1970 */
};
typedef enum err_code s3_upload_callback(void *context, const struct s3_upload *upload,
                                         struct err *err);
enum err_code s3_page_uploads(struct s3_page *page, struct str document,
                              s3_upload_callback *callback, void *context, struct err *err)
    ERR_MUST_CHECK;

#endif
