#include "files/files_list.h"

#include "access/principal.h"
#include "base/crash.h"
#include "base/text.h"
#include "files/file_json.h"
#include "files/files_cursor.h"
#include "http/jsonio.h"

#define LIST_LIMIT_DEFAULT 100

static const char *const parameter_names[] = {"limit",    "offset", "cursor", "prefix",
                                              "mimeType", "owner",  "sort",   NULL};

struct sort_name {
    const char *name;
    enum file_sort sort;
};

static const struct sort_name sort_names[] = {
    {"createdAt", SORT_CREATED},
    {"-createdAt", SORT_CREATED_DESC},
    {"name", SORT_NAME},
    {"size", SORT_SIZE},
};

static enum err_code parse_sort(struct str text, enum file_sort *ret_sort, struct err *err)
{
    for (size_t i = 0; i < sizeof sort_names / sizeof *sort_names; i++)
        if (str_equal(text, str_of(sort_names[i].name))) {
            *ret_sort = sort_names[i].sort;
            return ERR_OK;
        }
    return err_set(err, ERR_BAD_PARAMETER, "sort",
                   "sort must be createdAt, -createdAt, name or size.");
}

struct number_parameter {
    const char *name;
    int min;
    int max;
};

static enum err_code parse_number(const struct query *query, struct number_parameter parameter,
                                  int *value, struct err *err)
{
    struct str text;
    int64_t number;
    if (!query_get(query, parameter.name, &text))
        return ERR_OK;
    if (!text_parse_int(text, parameter.min, parameter.max, &number))
        return err_set(err, ERR_BAD_PARAMETER, parameter.name, "%s must be a number from %d to %d.",
                       parameter.name, parameter.min, parameter.max);
    *value = (int)number;
    return ERR_OK;
}

static enum err_code parse_owner(const struct query *query, const struct principal *principal,
                                 struct file_query *list, struct err *err)
{
    struct str owner;
    bool admin = principal_is_admin(principal);
    list->owner = admin ? (struct str){0} : str_of(principal->owner);
    if (!query_get(query, "owner", &owner))
        return ERR_OK;
    if (!admin)
        return err_set(err, ERR_FORBIDDEN, "owner", "Only an admin may list by owner.");
    if (!owner_is_valid(owner))
        return err_set(err, ERR_BAD_PARAMETER, "owner", "owner is not a valid name.");
    list->owner = owner;
    return ERR_OK;
}

/* Types are stored in lower case. */
static enum err_code parse_mime(const struct query *query, char target[LIMIT_MIME_BYTES + 1],
                                struct file_query *list, struct err *err)
{
    struct str text;
    if (!query_get(query, "mimeType", &text))
        return ERR_OK;
    if (!str_copy(target, LIMIT_MIME_BYTES + 1, text))
        return err_set(err, ERR_BAD_PARAMETER, "mimeType", "mimeType is longer than %d bytes.",
                       LIMIT_MIME_BYTES);
    text_lower(target);
    list->mime = str_of(target);
    return ERR_OK;
}

static enum err_code parse_filters(const struct query *query, struct file_query *list,
                                   struct err *err)
{
    struct str sort;
    if (query_get(query, "prefix", &list->prefix) && list->prefix.len > LIMIT_NAME_BYTES)
        return err_set(err, ERR_BAD_PARAMETER, "prefix", "prefix is longer than %d bytes.",
                       LIMIT_NAME_BYTES);
    return query_get(query, "sort", &sort) ? parse_sort(sort, &list->sort, err) : ERR_OK;
}

static enum err_code parse_cursor(const struct query *query, const unsigned char *secret,
                                  struct file_query *list, struct err *err)
{
    struct str cursor;
    struct str offset;
    if (!query_get(query, "cursor", &cursor))
        return ERR_OK;
    if (query_get(query, "offset", &offset))
        return err_set(err, ERR_BAD_PARAMETER, "cursor", "cursor and offset exclude each other.");
    return files_cursor_decode(secret, list, cursor, &list->after, err);
}

static enum err_code parse_list(const struct query *query, const struct principal *principal,
                                const unsigned char *secret, struct file_query *list,
                                struct err *err)
{
    list->limit = LIST_LIMIT_DEFAULT;
    list->sort = SORT_CREATED;
    const struct number_parameter limit = {"limit", 1, LIMIT_PAGE};
    const struct number_parameter offset = {"offset", 0, LIMIT_OFFSET};
    enum err_code code = parse_number(query, limit, &list->limit, err);
    if (code == ERR_OK)
        code = parse_number(query, offset, &list->offset, err);
    if (code == ERR_OK)
        code = parse_owner(query, principal, list, err);
    if (code == ERR_OK)
        code = parse_filters(query, list, err);
    if (code == ERR_OK)
        code = parse_cursor(query, secret, list, err);
    return code;
}

static enum err_code write_row(void *context, const struct file *file, struct err *err)
{
    struct buf *out = context;
    file_json_write(out, NULL, file);
    return out->failed ? err_set_internal(err, ERR_NO_MEMORY, 0, "list", "the page is too large")
                       : ERR_OK;
}

static void write_page_end(const struct file_query *list, const struct file_page *page,
                           const unsigned char *secret, struct buf *out)
{
    struct buf cursor;
    buf_init(&cursor, 1024);
    jsonw_end_array(out);
    if (page->total >= 0)
        jsonw_int(out, "total", page->total);
    else
        jsonw_null(out, "total");
    jsonw_int(out, "limit", list->limit);
    jsonw_int(out, "offset", list->offset);
    if (page->more) {
        files_cursor_encode(secret, list, &page->last, &cursor);
        jsonw_string(out, "nextCursor", buf_str(&cursor));
    } else {
        jsonw_null(out, "nextCursor");
    }
    jsonw_end_object(out);
    out->failed |= cursor.failed;
    buf_release(&cursor);
}

static enum err_code write_page(const struct files *files, const struct file_query *list,
                                const unsigned char *secret, struct buf *out, struct err *err)
{
    struct file_listing listing = {.callback = write_row, .context = out};
    if (crash_or_fail("step.list"))
        return err_set_internal(err, ERR_INTERNAL, 0, "list", "a test has it fail");
    jsonw_begin_object(out, NULL);
    jsonw_begin_array(out, "files");
    enum err_code code =
        metadata_file_list(files->metadata, list, clock_wall_ms(files->clock), &listing, err);
    if (code != ERR_OK)
        return code;
    write_page_end(list, &listing.page, secret, out);
    return out->failed ? err_set_internal(err, ERR_NO_MEMORY, 0, "list", "the page is too large")
                       : ERR_OK;
}

/* What refuses a parameter has its name as the operation. */
static void name_parameter(enum err_code code, struct err *err)
{
    if (code != ERR_OK && err->operation)
        for (const char *const *name = parameter_names; *name; name++)
            if (strcmp(err->operation, *name) == 0)
                err_subject(err, "parameter", str_of(*name));
}

enum err_code files_list(const struct files *files, const struct principal *principal,
                         struct str raw_query, struct buf *out, struct err *err)
{
    struct query query;
    char mime[LIMIT_MIME_BYTES + 1];
    struct file_query list = {.limit = 0};
    unsigned char secret[CURSOR_SECRET_BYTES];
    enum err_code code = principal_require(principal, SCOPE_READ, err);
    if (code != ERR_OK)
        return code;
    code = query_parse(&query, raw_query, parameter_names, err);
    if (code == ERR_OK)
        code = metadata_secret(files->metadata, secret, err);
    if (code == ERR_OK)
        code = parse_mime(&query, mime, &list, err);
    if (code == ERR_OK)
        code = parse_list(&query, principal, secret, &list, err);
    if (code == ERR_OK)
        code = write_page(files, &list, secret, out, err);
    name_parameter(code, err);
    query_release(&query);
    return code;
}
