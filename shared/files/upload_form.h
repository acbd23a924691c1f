/*
 * The multipart form of POST /api/files/upload: text parts `metadata`, `visibility`, `expiresIn`,
 * then one file part `file`, and nothing else (API.md; ABUSE rows 15–20). Used by one thread.
 */
#ifndef COFFER_FILES_UPLOAD_FORM_H
#define COFFER_FILES_UPLOAD_FORM_H

#include "files/files_create.h"
#include "http/multipart.h"

struct upload_form {
    struct source file; /* the file part's bytes; its end is the verified end of the whole form */
    struct multipart *multipart;
    struct multipart_part *part;
};

/* Reads the text parts into *request and stops where the file's bytes begin; form->file then gives
 * them. ERR_UNSUPPORTED_MEDIA_TYPE, ERR_BAD_MULTIPART, ERR_BAD_NAME, ERR_BAD_PARAMETER,
 * ERR_BAD_JSON. Caller frees with upload_form_close, also on failure. */
enum err_code upload_form_open(struct upload_form *form, struct str content_type,
                               struct source *body, struct create_request *request, struct err *err)
    ERR_MUST_CHECK;
/* The same fields as parameters of a PUT, and no others. ERR_BAD_PARAMETER, ERR_BAD_JSON. */
enum err_code upload_query_read(struct create_request *request, struct str raw, struct err *err)
    ERR_MUST_CHECK;
void upload_form_close(struct upload_form *form);

/* The values a text part or a PATCH member may have. */
enum err_code visibility_parse(struct str text, enum visibility *ret_visibility, struct err *err)
    ERR_MUST_CHECK;

#endif
