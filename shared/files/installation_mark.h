/*
 * The text of a mark that a store and a database carry (files_installation.h): lines, for people to
 * read too. Pure functions.
 */
#ifndef COFFER_FILES_INSTALLATION_MARK_H
#define COFFER_FILES_INSTALLATION_MARK_H

#include "base/errors.h"
#include "base/id.h"
#include "base/limits.h"

#define INSTALLATION_MARK_SIZE (LIMIT_MARK_BYTES + 1)

struct installation_mark {
    char id[ID_SIZE];       /* "": there is no mark */
    char replaces[ID_SIZE]; /* only in a database: the id that the store still has; "": none */
    bool is_incomplete;     /* a migration into it has not ended */
};

void installation_mark_print(const struct installation_mark *mark,
                             char target[INSTALLATION_MARK_SIZE]);
/* ERR_CONFIG for a text that this version did not write. */
enum err_code installation_mark_parse(const char *text, struct installation_mark *ret_mark,
                                      struct err *err) ERR_MUST_CHECK;

#endif
