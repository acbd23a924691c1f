/*
 * The answer that carries a file's bytes (docs/API.md, GET /api/files/{id}): 200 or 206 with the
 * gateway sending the file itself or the program streaming it from the store, or a redirect to the
 * store. Conditions have been judged; the range is judged here.
 */
#ifndef COFFER_FILES_GET_FILE_ANSWER_H
#define COFFER_FILES_GET_FILE_ANSWER_H

#include "app/app.h"
#include "http/range_condition.h"

/* ERR_RANGE_NOT_SATISFIABLE, and what reading the bytes says. */
enum err_code app_answer_file(struct app_ctx *ctx, const struct file *file, bool is_inline,
                              const struct validators *validators, struct err *err) ERR_MUST_CHECK;

#endif
