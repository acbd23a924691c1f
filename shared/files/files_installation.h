/*
 * Installation: which store belongs to which database. Both carry a mark with the id of one
 * installation (storage_write_mark, metadata_write_mark). A database must never sweep a store of
 * another one: every object there would be an orphan to it. So nothing starts and nothing is swept
 * before the marks were read and belong together.
 *
 * The database is marked first: its marks are compared and swapped, so of two nodes that start at
 * once on an empty pair one makes the id and both write it into the store. A crash in between
 * leaves a database with a mark and a store without one. Such a pair, and one that is older than
 * the marks, is completed only where both sides are known to belong together: the store has an
 * object of one of the database's rows, or both are empty.
 *
 * A migration marks its target as incomplete until all is there. A new database over the store of
 * another one ("replaces") gets an id of its own; its first start writes that into the store, and
 * from then on the former database is refused.
 *
 * ERR_CONFIG: they don't belong together; the message says what to do. Any other failure: a side
 * could not be read, so nothing is known.
 */
#ifndef COFFER_FILES_FILES_INSTALLATION_H
#define COFFER_FILES_FILES_INSTALLATION_H

#include "base/errors.h"
#include "base/id.h"
#include "base/limits.h"
#include "files/files.h"

/*
 * The text of a mark that a store and a database carry: lines, for people to
 * read too. Pure functions.
 */

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

struct installation_marks {
    struct installation_mark store;
    struct installation_mark database;
};

/* Reads both marks. */
enum err_code files_installation_read(const struct files *files,
                                      struct installation_marks *ret_marks, struct err *err)
    ERR_MUST_CHECK;
/* Do the marks contradict each other? Asks nothing else: where one is missing they don't. */
enum err_code files_installation_look(const struct files *files, struct err *err) ERR_MUST_CHECK;
/* Do they belong together? Reads only: a pair that is not complete yet is judged as a start would
 * judge it. With `allow_incomplete` a migration's target passes too. */
enum err_code files_installation_check(const struct files *files, bool allow_incomplete,
                                       struct err *err) ERR_MUST_CHECK;
/* The same, and writes what is missing of the marks: at each start and before each sweep. */
enum err_code files_installation_settle(const struct files *files, struct err *err) ERR_MUST_CHECK;
/* Has the database take over the store's id, or makes what is missing; an incomplete pair counts as
 * complete from then on. *ret_before: what was there; *ret_after: what both are now. */
enum err_code files_installation_adopt(const struct files *files,
                                       struct installation_marks *ret_before,
                                       struct installation_mark *ret_after, struct err *err)
    ERR_MUST_CHECK;

/* A migration; is_same_storage, is_same_metadata: the target shares that side with the source. */
struct installation_move {
    const struct files *source;
    const struct files *target;
    bool is_same_storage;
    bool is_same_metadata;
    bool dry_run; /* judge only, write nothing */
};
/* Before the first byte is copied: checks both sides and marks the target as incomplete. */
enum err_code files_installation_begin_move(const struct installation_move *move, struct err *err)
    ERR_MUST_CHECK;
/* When all is there. */
enum err_code files_installation_end_move(const struct installation_move *move, struct err *err)
    ERR_MUST_CHECK;

#endif
