#include "files/files_installation.h"

#include <stdio.h>
#include <string.h>

#include "base/crash.h"
#include "base/str.h"

#define FIRST_LINE "coffer installation 1"
#define ID_LINE "id "
#define REPLACES_LINE "replaces "
#define INCOMPLETE_LINE "incomplete"

void installation_mark_print(const struct installation_mark *mark,
                             char target[INSTALLATION_MARK_SIZE])
{
    bool replaces = mark->replaces[0] != '\0';
    snprintf(target, INSTALLATION_MARK_SIZE, FIRST_LINE "\n" ID_LINE "%s\n%s%s%s%s", mark->id,
             replaces ? REPLACES_LINE : "", mark->replaces, replaces ? "\n" : "",
             mark->is_incomplete ? INCOMPLETE_LINE "\n" : "");
}

static bool read_id(struct str line, struct str name, char target[ID_SIZE])
{
    const struct str id = {line.data + name.len, line.len - name.len};
    return id_is_valid(id) && str_copy(target, ID_SIZE, id);
}

static bool read_line(struct str line, struct installation_mark *mark)
{
    if (str_equal(line, STR(INCOMPLETE_LINE))) {
        mark->is_incomplete = true;
        return true;
    }
    if (str_starts_with(line, STR(ID_LINE)))
        return read_id(line, STR(ID_LINE), mark->id);
    return str_starts_with(line, STR(REPLACES_LINE)) &&
           read_id(line, STR(REPLACES_LINE), mark->replaces);
}

enum err_code installation_mark_parse(const char *text, struct installation_mark *ret_mark,
                                      struct err *err)
{
    struct installation_mark mark = {.id = ""};
    struct str rest = str_of(text);
    bool is_whole = str_equal(str_cut(&rest, '\n'), STR(FIRST_LINE));
    while (is_whole && rest.len > 0)
        is_whole = read_line(str_cut(&rest, '\n'), &mark);
    if (!is_whole || !mark.id[0])
        return err_set(err, ERR_CONFIG, "installation",
                       "The installation id of the store or the database (coffer-installation) "
                       "can't be read: a newer version of coffer wrote it, or something else.");
    *ret_mark = mark;
    return ERR_OK;
}

#define WHAT_TO_CHECK "check DATA_DIR, S3_BUCKET and MONGODB_DATABASE"
#define ROUNDS 5 /* of reading and writing one mark; two nodes that start at once need three */

/* ---- reading both ---- */

struct reading {
    char store[STORAGE_MARK_SIZE]; /* "": there is none */
    char database[METADATA_MARK_SIZE];
    struct installation_marks marks;
};

static enum err_code read_both(const struct files *files, struct reading *reading, struct err *err)
{
    *reading = (struct reading){.store = ""};
    enum err_code code = metadata_read_mark(files->metadata, reading->database, err);
    if (code == ERR_OK)
        code = installation_mark_parse(reading->database, &reading->marks.database, err);
    if (code != ERR_OK && code != ERR_NOT_FOUND)
        return code;
    code = storage_read_mark(files->storage, reading->store, err);
    if (code == ERR_OK)
        code = installation_mark_parse(reading->store, &reading->marks.store, err);
    return code == ERR_NOT_FOUND ? ERR_OK : code;
}

enum err_code files_installation_read(const struct files *files,
                                      struct installation_marks *ret_marks, struct err *err)
{
    struct reading reading;
    enum err_code code = read_both(files, &reading, err);
    if (code == ERR_OK)
        *ret_marks = reading.marks;
    return code;
}

/* ---- what they say ---- */

enum verdict {
    PAIR_BELONGS,
    PAIR_IS_TAKEN_OVER, /* the database replaces the one whose id the store has */
    PAIR_IS_INCOMPLETE,
    PAIR_IS_FOREIGN,
    PAIR_HAS_NEW_DATABASE, /* only the store has a mark */
    PAIR_IS_UNPROVEN       /* the store has none */
};

static enum verdict judge(const struct installation_marks *marks, bool allow_incomplete)
{
    const struct installation_mark *store = &marks->store;
    const struct installation_mark *database = &marks->database;
    if ((store->is_incomplete || database->is_incomplete) && !allow_incomplete)
        return PAIR_IS_INCOMPLETE;
    if (!store->id[0])
        return PAIR_IS_UNPROVEN;
    if (!database->id[0])
        return PAIR_HAS_NEW_DATABASE;
    if (strcmp(store->id, database->id) == 0)
        return PAIR_BELONGS;
    return strcmp(store->id, database->replaces) == 0 ? PAIR_IS_TAKEN_OVER : PAIR_IS_FOREIGN;
}

static enum err_code refuse(const struct installation_marks *marks, enum verdict verdict,
                            struct err *err)
{
    if (verdict == PAIR_IS_INCOMPLETE)
        return err_set(err, ERR_CONFIG, "installation",
                       "A migration into this store or database has not ended: run the same "
                       "`coffer migrate` again, or `coffer init --adopt` to use what is there.");
    if (verdict == PAIR_HAS_NEW_DATABASE)
        return err_set(
            err, ERR_CONFIG, "installation",
            "The store belongs to installation %s and the database is new: " WHAT_TO_CHECK
            "; after a restore run `coffer init --adopt`.",
            marks->store.id);
    return err_set(err, ERR_CONFIG, "installation",
                   "The store belongs to installation %s, the database to %s: " WHAT_TO_CHECK
                   "; after a restore run `coffer init --adopt`.",
                   marks->store.id, marks->database.id);
}

/* ---- evidence: do a store and a database without a mark belong together? ---- */

struct evidence {
    const struct files *files;
    int tried;
    bool has_rows;
    bool is_known; /* an object of one of the rows is there */
};

/* A row that the sweep made to keep a key from being used stands for no file. */
static bool is_fence(const struct file *row)
{
    return row->status == FILE_DELETED && row->sha256[0] == '\0';
}

/* ERR_EXISTS ends the scan. */
static enum err_code try_row(void *context, const struct file *row, struct err *err)
{
    struct evidence *evidence = context;
    struct storage_stat stat;
    if (is_fence(row))
        return ERR_OK;
    enum err_code code = storage_stat_object(evidence->files->storage, row->key, &stat, err);
    if (code != ERR_OK && code != ERR_NOT_FOUND)
        return code;
    evidence->has_rows |= row->status != FILE_DELETED;
    evidence->is_known = code == ERR_OK;
    evidence->tried++;
    return evidence->is_known || evidence->tried == LIMIT_ROWS_TRIED ? ERR_EXISTS : ERR_OK;
}

static enum err_code try_rows(struct evidence *evidence, struct err *err)
{
    enum err_code code = metadata_scan(evidence->files->metadata, try_row, evidence, err);
    return code == ERR_EXISTS ? ERR_OK : code;
}

static enum err_code stop_at_object(void *context, const char *key, const struct storage_stat *stat,
                                    struct err *err)
{
    (void)context;
    (void)key;
    (void)stat;
    (void)err;
    return ERR_EXISTS;
}

static enum err_code look_for_object(const struct files *files, bool *ret_found, struct err *err)
{
    enum err_code code = storage_list(files->storage, stop_at_object, NULL, err);
    *ret_found = code == ERR_EXISTS;
    return code == ERR_EXISTS ? ERR_OK : code;
}

static enum err_code prove(const struct files *files, struct err *err)
{
    struct evidence evidence = {.files = files};
    bool has_objects = false;
    enum err_code code = try_rows(&evidence, err);
    if (code != ERR_OK || evidence.is_known)
        return code;
    if (evidence.has_rows)
        return err_set(
            err, ERR_CONFIG, "installation",
            "The store has no installation id and none of the database's files: " WHAT_TO_CHECK
            "; after a loss run `coffer init --adopt`.");
    code = look_for_object(files, &has_objects, err);
    if (code != ERR_OK || !has_objects)
        return code;
    return err_set(
        err, ERR_CONFIG, "installation",
        "The database is empty and the store holds files that it does not know: " WHAT_TO_CHECK
        "; after a restore run `coffer init --adopt`.");
}

enum err_code files_installation_look(const struct files *files, struct err *err)
{
    struct reading reading;
    enum err_code code = read_both(files, &reading, err);
    if (code != ERR_OK)
        return code;
    enum verdict verdict = judge(&reading.marks, false);
    return verdict == PAIR_BELONGS || verdict == PAIR_IS_TAKEN_OVER || verdict == PAIR_IS_UNPROVEN
               ? ERR_OK
               : refuse(&reading.marks, verdict, err);
}

enum err_code files_installation_check(const struct files *files, bool allow_incomplete,
                                       struct err *err)
{
    struct reading reading;
    enum err_code code = read_both(files, &reading, err);
    if (code != ERR_OK)
        return code;
    enum verdict verdict = judge(&reading.marks, allow_incomplete);
    if (verdict == PAIR_BELONGS || verdict == PAIR_IS_TAKEN_OVER)
        return ERR_OK;
    return verdict == PAIR_IS_UNPROVEN ? prove(files, err) : refuse(&reading.marks, verdict, err);
}

/* ---- writing ---- */

/* Another node may be as fast: what it wrote is read in the next round. */
static enum err_code change_database(const struct files *files, const struct reading *reading,
                                     const struct installation_mark *mark, struct err *err)
{
    char text[METADATA_MARK_SIZE];
    installation_mark_print(mark, text);
    if (strcmp(text, reading->database) == 0)
        return ERR_OK;
    enum err_code code = metadata_write_mark(files->metadata, reading->database, text, err);
    crash_point("installation.database_marked");
    return code == ERR_CONFLICT ? ERR_OK : code;
}

static enum err_code change_store(const struct files *files, const struct reading *reading,
                                  const struct installation_mark *mark, struct err *err)
{
    char text[STORAGE_MARK_SIZE];
    installation_mark_print(mark, text);
    if (strcmp(text, reading->store) == 0)
        return ERR_OK;
    enum err_code code = storage_write_mark(files->storage, text, reading->store[0] != '\0', err);
    crash_point("installation.store_marked");
    return code == ERR_EXISTS ? ERR_OK : code;
}

static struct installation_mark new_mark(const struct files *files)
{
    struct installation_mark mark = {.id = ""};
    id_new(files->clock, mark.id);
    return mark;
}

static struct installation_mark mark_of(const char id[ID_SIZE])
{
    struct installation_mark mark = {.id = ""};
    memcpy(mark.id, id, sizeof mark.id);
    return mark;
}

/* One mark that is missing: the database's first. */
static enum err_code complete(const struct files *files, const struct reading *reading,
                              struct err *err)
{
    const struct installation_mark *database = &reading->marks.database;
    if (!database->id[0]) {
        const struct installation_mark mark = new_mark(files);
        return change_database(files, reading, &mark, err);
    }
    const struct installation_mark mark = mark_of(database->id);
    return change_store(files, reading, &mark, err);
}

/* ERR_OK also when the proof failed and another node has completed the pair meanwhile: then objects
 * may have come before their rows. */
static enum err_code prove_or_see(const struct files *files, struct reading *reading,
                                  struct err *err)
{
    struct err failure;
    enum err_code code = prove(files, &failure);
    if (code != ERR_CONFIG) {
        if (code != ERR_OK)
            *err = failure;
        return code;
    }
    code = read_both(files, reading, err);
    if (code == ERR_OK && !reading->marks.store.id[0]) {
        *err = failure;
        code = ERR_CONFIG;
    }
    return code;
}

static enum err_code settle_round(const struct files *files, struct reading *reading,
                                  bool *is_proven, struct err *err)
{
    switch (judge(&reading->marks, false)) {
    case PAIR_IS_TAKEN_OVER: {
        const struct installation_mark mark = mark_of(reading->marks.database.id);
        return change_store(files, reading, &mark, err);
    }
    case PAIR_IS_UNPROVEN: {
        enum err_code code = *is_proven ? ERR_OK : prove_or_see(files, reading, err);
        *is_proven = true;
        if (code != ERR_OK || reading->marks.store.id[0])
            return code;
        return complete(files, reading, err);
    }
    case PAIR_BELONGS:
    case PAIR_IS_INCOMPLETE:
    case PAIR_IS_FOREIGN:
    case PAIR_HAS_NEW_DATABASE:
        break;
    }
    return refuse(&reading->marks, judge(&reading->marks, false), err);
}

/* Once the store has its id, a database takes it over from nobody any more. */
static enum err_code forget_replaced(const struct files *files, const struct reading *reading,
                                     struct err *err)
{
    if (!reading->marks.database.replaces[0])
        return ERR_OK;
    const struct installation_mark mark = mark_of(reading->marks.database.id);
    return change_database(files, reading, &mark, err);
}

static enum err_code changes_on(struct err *err)
{
    return err_set_internal(err, ERR_INTERNAL, 0, "installation",
                            "The installation id changes again and again.");
}

enum err_code files_installation_settle(const struct files *files, struct err *err)
{
    struct reading reading;
    bool is_proven = false;
    for (int round = 0; round < ROUNDS; round++) {
        enum err_code code = read_both(files, &reading, err);
        if (code == ERR_OK && judge(&reading.marks, false) == PAIR_BELONGS)
            return forget_replaced(files, &reading, err);
        if (code == ERR_OK)
            code = settle_round(files, &reading, &is_proven, err);
        if (code != ERR_OK)
            return code;
    }
    return changes_on(err);
}

/* Writes both marks until they are there as wanted. */
static enum err_code write_both(const struct files *files, const struct installation_marks *wanted,
                                struct err *err)
{
    char store[STORAGE_MARK_SIZE];
    char database[METADATA_MARK_SIZE];
    installation_mark_print(&wanted->store, store);
    installation_mark_print(&wanted->database, database);
    for (int round = 0; round < ROUNDS; round++) {
        struct reading reading;
        enum err_code code = read_both(files, &reading, err);
        if (code == ERR_OK && strcmp(reading.store, store) == 0 &&
            strcmp(reading.database, database) == 0)
            return ERR_OK;
        if (code == ERR_OK)
            code = change_database(files, &reading, &wanted->database, err);
        if (code == ERR_OK)
            code = change_store(files, &reading, &wanted->store, err);
        if (code != ERR_OK)
            return code;
    }
    return changes_on(err);
}

enum err_code files_installation_adopt(const struct files *files,
                                       struct installation_marks *ret_before,
                                       struct installation_mark *ret_after, struct err *err)
{
    struct installation_marks before;
    struct installation_mark after = new_mark(files);
    enum err_code code = files_installation_read(files, &before, err);
    if (code != ERR_OK)
        return code;
    if (before.store.id[0])
        after = mark_of(before.store.id);
    else if (before.database.id[0])
        after = mark_of(before.database.id);
    const struct installation_marks wanted = {after, after};
    code = write_both(files, &wanted, err);
    if (code != ERR_OK)
        return code;
    *ret_before = before;
    *ret_after = after;
    return ERR_OK;
}

/* ---- migration ---- */

/* A database beside the store of the source: one that is new, or that knows the store's objects. */
static enum err_code check_rows(const struct files *files, struct err *err)
{
    struct evidence evidence = {.files = files};
    enum err_code code = try_rows(&evidence, err);
    if (code != ERR_OK || !evidence.has_rows || evidence.is_known)
        return code;
    return err_set(
        err, ERR_CONFIG, "migrate",
        "The target's database has files and the store holds none of them: " WHAT_TO_CHECK ".");
}

static enum err_code wish_beside_store(const struct files *target,
                                       const struct installation_marks *source,
                                       struct installation_marks *marks, struct err *err)
{
    enum err_code code = ERR_OK;
    if (strcmp(marks->database.id, source->store.id) != 0 &&
        strcmp(marks->database.replaces, source->store.id) != 0)
        code = check_rows(target, err);
    if (!marks->database.id[0])
        marks->database = new_mark(target);
    if (strcmp(marks->database.id, source->store.id) != 0)
        memcpy(marks->database.replaces, source->store.id, sizeof marks->database.replaces);
    marks->database.is_incomplete = true;
    marks->store = source->store;
    return code;
}

/* A store beside the database of the source: one that is empty, or holds objects of its rows. */
static enum err_code wish_beside_database(const struct files *target,
                                          const struct installation_marks *source,
                                          struct installation_marks *marks, struct err *err)
{
    enum err_code code = ERR_OK;
    struct evidence evidence = {.files = target};
    if (marks->store.id[0] && strcmp(marks->store.id, source->database.id) != 0) {
        code = try_rows(&evidence, err);
        if (code == ERR_OK && !evidence.is_known)
            code = refuse(marks, PAIR_IS_FOREIGN, err);
    } else if (!marks->store.id[0]) {
        bool has_objects = false;
        code = try_rows(&evidence, err);
        if (code == ERR_OK && !evidence.is_known)
            code = look_for_object(target, &has_objects, err);
        if (code == ERR_OK && has_objects)
            code = err_set(
                err, ERR_CONFIG, "migrate",
                "The target's store holds files that the database does not know: " WHAT_TO_CHECK
                ".");
    }
    marks->store = mark_of(source->database.id);
    marks->store.is_incomplete = true;
    marks->database = source->database;
    return code;
}

static enum err_code wish_apart(const struct files *target, struct installation_marks *marks,
                                struct err *err)
{
    enum verdict verdict = judge(marks, true);
    enum err_code code = ERR_OK;
    if (verdict == PAIR_IS_UNPROVEN)
        code = prove(target, err);
    else if (verdict != PAIR_BELONGS && verdict != PAIR_IS_TAKEN_OVER)
        code = refuse(marks, verdict, err);
    if (!marks->database.id[0])
        marks->database = new_mark(target);
    if (!marks->store.id[0])
        marks->store = mark_of(marks->database.id);
    marks->database.is_incomplete = true;
    return code;
}

/* What the source shares with its target must carry a mark. */
static enum err_code read_source(const struct installation_move *move,
                                 struct installation_marks *ret_marks, struct err *err)
{
    enum err_code code = files_installation_check(move->source, false, err);
    if (code == ERR_OK)
        code = files_installation_read(move->source, ret_marks, err);
    bool is_marked = code == ERR_OK && ret_marks->store.id[0] && ret_marks->database.id[0];
    bool is_shared = move->is_same_storage || move->is_same_metadata;
    if (code != ERR_OK || is_marked || !is_shared || move->dry_run)
        return code;
    code = files_installation_settle(move->source, err);
    return code == ERR_OK ? files_installation_read(move->source, ret_marks, err) : code;
}

enum err_code files_installation_begin_move(const struct installation_move *move, struct err *err)
{
    struct installation_marks source;
    struct installation_marks target;
    enum err_code code = read_source(move, &source, err);
    if (code == ERR_OK)
        code = files_installation_read(move->target, &target, err);
    if (code != ERR_OK)
        return code;
    if (move->is_same_storage)
        code = wish_beside_store(move->target, &source, &target, err);
    else if (move->is_same_metadata)
        code = wish_beside_database(move->target, &source, &target, err);
    else
        code = wish_apart(move->target, &target, err);
    return code == ERR_OK && !move->dry_run ? write_both(move->target, &target, err) : code;
}

enum err_code files_installation_end_move(const struct installation_move *move, struct err *err)
{
    struct installation_marks marks;
    enum err_code code = files_installation_read(move->target, &marks, err);
    if (code != ERR_OK)
        return code;
    if (!move->is_same_metadata)
        marks.database.is_incomplete = false;
    if (!move->is_same_storage)
        marks.store.is_incomplete = false;
    return write_both(move->target, &marks, err);
}
