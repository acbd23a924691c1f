#include "files/files_list.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "access/principal.h"
#include "base/crash.h"
#include "base/text.h"
#include "files/file_json.h"
#include "http/jsonio.h"

#define MAC_BYTES 16
#define NUMBER_BYTES 8
#define PAYLOAD_MAX (NUMBER_BYTES + ID_LENGTH + LIMIT_NAME_BYTES)
#define CURSOR_MAX (PAYLOAD_MAX + MAC_BYTES)

static void append_sized(struct buf *out, struct str part)
{
    uint32_t len = (uint32_t)part.len;
    buf_append(out, &len, sizeof len);
    buf_append_str(out, part);
}

/* The MAC covers the query too: a cursor fits no other. False when memory ran out. */
static bool make_mac(const unsigned char secret[CURSOR_SECRET_BYTES],
                     const struct file_query *query, struct str payload,
                     unsigned char mac[MAC_BYTES])
{
    struct buf text;
    unsigned char full[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    buf_init(&text, 64 * 1024);
    buf_append_char(&text, (char)('0' + (int)query->sort));
    append_sized(&text, query->owner);
    append_sized(&text, query->prefix);
    append_sized(&text, query->mime);
    buf_append_str(&text, payload);
    bool made = !text.failed && HMAC(EVP_sha256(), secret, CURSOR_SECRET_BYTES,
                                     (const unsigned char *)text.data, text.len, full, &len);
    if (made)
        memcpy(mac, full, MAC_BYTES);
    buf_release(&text);
    return made;
}

void files_cursor_encode(const unsigned char secret[CURSOR_SECRET_BYTES],
                         const struct file_query *query, const struct file_position *position,
                         struct buf *out)
{
    unsigned char bytes[CURSOR_MAX];
    size_t len = 0;
    uint64_t number = (uint64_t)position->number;
    for (int shift = 56; shift >= 0; shift -= 8)
        bytes[len++] = (unsigned char)(number >> shift);
    memcpy(bytes + len, position->id, ID_LENGTH);
    len += ID_LENGTH;
    size_t name_len = query->sort == SORT_NAME ? strlen(position->name) : 0;
    memcpy(bytes + len, position->name, name_len);
    len += name_len;
    if (!make_mac(secret, query, (struct str){(const char *)bytes, len}, bytes + len))
        out->failed = true;
    text_base64url(bytes, len + MAC_BYTES, out);
}

static enum err_code refuse(struct err *err)
{
    return err_set(err, ERR_BAD_CURSOR, "cursor", "The cursor is not one of this list.");
}

enum err_code files_cursor_decode(const unsigned char secret[CURSOR_SECRET_BYTES],
                                  const struct file_query *query, struct str cursor,
                                  struct file_position *ret_position, struct err *err)
{
    unsigned char bytes[CURSOR_MAX];
    unsigned char mac[MAC_BYTES];
    size_t len = 0;
    if (!text_unbase64url(cursor, bytes, sizeof bytes, &len) ||
        len < NUMBER_BYTES + ID_LENGTH + MAC_BYTES)
        return refuse(err);
    len -= MAC_BYTES;
    if (!make_mac(secret, query, (struct str){(const char *)bytes, len}, mac))
        return err_set_internal(err, ERR_NO_MEMORY, 0, "cursor", "cannot compute the signature");
    if (CRYPTO_memcmp(mac, bytes + len, MAC_BYTES) != 0)
        return refuse(err);

    struct file_position position = {0};
    uint64_t number = 0;
    for (int i = 0; i < NUMBER_BYTES; i++)
        number = number << 8 | bytes[i];
    position.number = (int64_t)number;
    const char *text = (const char *)bytes + NUMBER_BYTES;
    struct str name = {text + ID_LENGTH, len - NUMBER_BYTES - ID_LENGTH};
    if (!id_is_valid((struct str){text, ID_LENGTH}) ||
        !str_copy(position.id, sizeof position.id, (struct str){text, ID_LENGTH}) ||
        !str_copy(position.name, sizeof position.name, name))
        return refuse(err);
    *ret_position = position;
    return ERR_OK;
}

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
