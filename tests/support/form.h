/*
 * Multipart bodies for tests: a source that cuts its bytes as told, and a reader that writes down
 * what it saw.
 */
#ifndef COFFER_TESTS_FORM_H
#define COFFER_TESTS_FORM_H

#include "http/multipart.h"

#define FORM_TYPE "multipart/form-data; boundary=XyZ"
#define FORM_DISPOSITION "Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n"
#define FORM_OPEN "--XyZ\r\n" FORM_DISPOSITION "\r\n"
#define FORM_CLOSE "\r\n--XyZ--\r\n"

/* Gives `data` in pieces: the first of `first` bytes (when not 0), the others of `step`. A piece is
 * a copy that the next call frees, so that a use after its time is seen. */
struct pieces {
    struct source source;
    struct str data;
    size_t first;
    size_t step;
    enum err_code end; /* what comes behind the last piece */
    char *piece;
};

/* The source's function. */
enum err_code pieces_next(struct source *source, struct str *ret_piece, struct err *err);
void pieces_release(struct pieces *pieces);

/* Appends what the part holds as "[name filename (type)|bytes]". */
enum err_code form_read_part(struct multipart_part *part, struct buf *out, struct err *err)
    ERR_MUST_CHECK;
/* The same for all parts of a body; releases the pieces. */
enum err_code form_read(const char *content_type, struct pieces *pieces, struct buf *out,
                        struct err *err) ERR_MUST_CHECK;
/* The body in one piece. */
enum err_code form_read_whole(const char *content_type, struct str body, struct buf *out,
                              struct err *err) ERR_MUST_CHECK;

#endif
