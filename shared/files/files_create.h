/*
 * Create: an upload becomes a file (API.md, POST and PUT upload). Durable, verified, then
 * acknowledged: bytes written and hashed → digests compared → storage commit → metadata commit
 * (with the stored answer of an Idempotency-Key) → answer.
 */
#ifndef COFFER_FILES_FILES_CREATE_H
#define COFFER_FILES_FILES_CREATE_H

#include "base/digest.h"
#include "base/source.h"
#include "files/files.h"

struct create_request {
    const char *method; /* part of "the same request", static text */
    const char *route;  /* the route's template, static text */
    const struct principal *principal;
    char name[LIMIT_NAME_BYTES + 1];       /* checked */
    char mime[LIMIT_MIME_BYTES + 1];       /* declared; "" when none or garbage */
    char charset[LIMIT_CHARSET_BYTES + 1]; /* declared; "" when none */
    struct buf metadata;                   /* compact JSON object; empty: {} */
    enum visibility visibility;
    int64_t expires_in; /* seconds; 0: never */
    int64_t size_hint;  /* bytes of the body, or -1 */
    bool body_is_file;  /* size_hint is the file's size: too large is refused before the body */
    struct asserted_digests asserted;
    struct idempotency *idempotency;
};

/* Private, never expires, no metadata, nothing asserted. */
void create_request_init(struct create_request *request);
void create_request_release(struct create_request *request);

/* What the answer carries: the file object as JSON, its path and version tag. */
struct create_answer {
    struct buf body;
    struct buf location;
    struct buf etag; /* with quotes */
    int64_t size;    /* bytes stored; 0 for a replayed answer */
    bool replayed;
};

void create_answer_init(struct create_answer *answer);
void create_answer_release(struct create_answer *answer);

/* Reads `body` to its verified end and stores it. ERR_FILE_TOO_LARGE, ERR_DIGEST_MISMATCH,
 * ERR_IDEMPOTENCY_MISMATCH, ERR_DISK_FULL, ERR_STORAGE_UNAVAILABLE, ERR_METADATA_UNAVAILABLE, and
 * what the source says; after any of them nothing is stored (or the sweep takes it). */
enum err_code files_create(const struct files *files, struct create_request *request,
                           struct source *body, struct create_answer *ret_answer, struct err *err)
    ERR_MUST_CHECK;

/* Reads Content-Digest or Repr-Digest (RFC 9530, sha-256 only; others are ignored) and
 * Content-MD5 (RFC 1864). ERR_BAD_REQUEST when malformed. Empty slices: not sent. */
enum err_code asserted_digests_parse(struct asserted_digests *digests, struct str content_digest,
                                     struct str repr_digest, struct str content_md5,
                                     struct err *err) ERR_MUST_CHECK;

#endif
