/*
 * The file row: what metadata knows of one file. Plain values, no ownership; copied freely.
 */
#ifndef COFFER_METADATA_FILE_H
#define COFFER_METADATA_FILE_H

#include <stdint.h>

#include "base/id.h"
#include "base/limits.h"

enum visibility { VISIBILITY_PRIVATE, VISIBILITY_PUBLIC };

enum file_status {
    FILE_READY,   /* bytes are there */
    FILE_DELETED, /* nobody can read it; bytes and row are still to be removed */
    FILE_DAMAGED  /* quarantined by fsck: the bytes are missing or wrong */
};

struct file {
    char id[ID_SIZE];
    char owner[LIMIT_OWNER_BYTES + 1];
    char name[LIMIT_NAME_BYTES + 1]; /* originalName, UTF-8 */
    char mime[LIMIT_MIME_BYTES + 1];
    char charset[LIMIT_CHARSET_BYTES + 1]; /* of text/…: declared or found; "" when not known */
    char sha256[65];                       /* lower-case hex */
    char bucket[LIMIT_BUCKET_BYTES + 1];
    char key[LIMIT_KEY_BYTES + 1];           /* storage key */
    char tag[LIMIT_TAG_BYTES + 1];           /* the store's tag of the content, or "" */
    char metadata[LIMIT_METADATA_BYTES + 1]; /* compact JSON object of strings */
    int64_t size;                            /* bytes */
    int64_t created_ms;                      /* since 1970 */
    int64_t updated_ms;
    int64_t expires_ms; /* 0: never */
    int64_t version;    /* 1 at first, one more with every change */
    enum visibility visibility;
    enum file_status status;
};

#endif
