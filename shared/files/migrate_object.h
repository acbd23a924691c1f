/*
 * Private to migrate_file.c and migrate_object.c: one file's bytes on their way from store to store.
 */
#ifndef COFFER_FILES_MIGRATE_OBJECT_H
#define COFFER_FILES_MIGRATE_OBJECT_H

#include "files/migrate_file.h"

struct transfer {
    struct migration *migration;
    const struct migrate_options *options;
    const struct file *row;  /* the source's */
    struct storage_put *put; /* open until the row is recorded, so that its claim holds */
    int64_t counted;         /* bytes told of as progress */
    int64_t size;            /* of the object that was placed */
    char tag[STORAGE_TAG_SIZE];
    unsigned char *buffer; /* LIMIT_IO_BUFFER bytes */
};

/* Quarantined: its bytes contradict its row's size and hash, or are missing. */
static inline bool transfer_is_damaged(const struct transfer *transfer)
{
    return transfer->row->status == FILE_DAMAGED;
}

/* Is the target's object what the row says: its size, its tag where both have one, and its bytes
 * when by_hash? Missing is not right. */
enum err_code transfer_judge_object(struct transfer *transfer, const char *tag, bool by_hash,
                                    bool *ret_right, struct err *err) ERR_MUST_CHECK;
/* Brings the object into the target's store, verified, and sets transfer->tag; where both sides read
 * the same objects it only looks. ERR_NOT_FOUND and ERR_STORAGE for the source's bytes,
 * ERR_DIGEST_MISMATCH, ERR_EXISTS (the key is another file's). */
enum err_code transfer_place(struct transfer *transfer, struct err *err) ERR_MUST_CHECK;
/* Ends the put, after the row is recorded or the file given up. */
void transfer_close_put(struct transfer *transfer);

#endif
