/*
 * Input: CGI variables, one a line ("NAME=value"). They are read as a request; its query is parsed,
 * and so is, as a cursor, every value of it.
 */
#include "base/text.h"
#include "files/files_list.h"
#include "fuzz.h"
#include "http/request.h"

#define VARIABLES_MAX 100

static const char *const allowed[] = {"limit", "offset", "cursor", "prefix", "sort", NULL};
static const unsigned char secret[CURSOR_SECRET_BYTES] = "a secret of thirty-two bytes!!!";

static bool is_within(struct str slice, const char *start, const char *end)
{
    return slice.len == 0 || (slice.data >= start && slice.data + slice.len <= end);
}

static void check_request(const struct request *request, const char *start, const char *end)
{
    MUST(request->route >= ROUTE_FILES && request->route <= ROUTE_UNKNOWN);
    MUST(request->header_count <= LIMIT_HEADERS);
    MUST(request->content_length >= -1);
    MUST(request->redirect_status == 0 || request->route == ROUTE_ERROR);
    MUST(is_within(request->id, start, end) && is_within(request->raw_name, start, end));
    MUST(is_within(request->path, start, end) && is_within(request->query, start, end));
    MUST(str_find(request->id, '/') == request->id.len);
    MUST(str_find(request->raw_name, '/') == request->raw_name.len);
    if (request->route != ROUTE_UPLOAD_NAME && request->route != ROUTE_PIPE_NAME)
        MUST(request->raw_name.len == 0);
    for (size_t i = 0; i < request->header_count; i++)
        for (size_t j = 0; j < i; j++)
            MUST(!str_equal(request->headers[i].name, request->headers[j].name));
}

/* A cursor of ours is read back as it was, and no byte of it can be changed. */
static void check_own_cursor(const struct file_query *query, struct str name)
{
    struct file_position position = {.id = "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77",
                                     .number = (int64_t)name.len * 1000003};
    struct file_position read;
    struct buf cursor;
    struct err err;
    if (!str_copy(position.name, sizeof position.name, name))
        return;
    buf_init(&cursor, 1024);
    files_cursor_encode(secret, query, &position, &cursor);
    MUST(files_cursor_decode(secret, query, buf_str(&cursor), &read, &err) == ERR_OK);
    MUST(read.number == position.number && strcmp(read.id, position.id) == 0);
    MUST(strcmp(read.name, query->sort == SORT_NAME ? position.name : "") == 0);
    char *byte = &cursor.data[name.len % cursor.len];
    *byte = *byte == 'A' ? 'B' : 'A';
    MUST(files_cursor_decode(secret, query, buf_str(&cursor), &read, &err) == ERR_BAD_CURSOR);
    buf_release(&cursor);
}

static void check_cursor(struct str text)
{
    const struct file_query query = {.owner = STR("alice"), .sort = SORT_NAME, .limit = 10};
    const struct file_query other = {.owner = STR("alice"), .prefix = text, .limit = 10};
    struct file_position position;
    struct err err;
    /* Nobody guesses a signature. */
    MUST(files_cursor_decode(secret, &query, text, &position, &err) == ERR_BAD_CURSOR);
    check_own_cursor(&query, text);
    check_own_cursor(&other, text);
}

/* What was understood, written and parsed again, is understood the same. */
static void check_again(const struct query *query)
{
    struct buf text;
    struct query again;
    struct err err;
    buf_init(&text, 4 * LIMIT_QUERY_BYTES);
    for (size_t i = 0; i < query->count; i++) {
        text_percent_encode(query->parameters[i].name, "", &text);
        buf_append_char(&text, '=');
        text_percent_encode(query->parameters[i].value, "", &text);
        buf_append_char(&text, '&');
    }
    MUST(!text.failed);
    enum err_code code = query_parse(&again, buf_str(&text), allowed, &err);
    /* Encoded, it may have become too long. */
    MUST(code == ERR_OK || text.len > LIMIT_QUERY_BYTES);
    for (size_t i = 0; i < again.count; i++)
        MUST(str_equal(again.parameters[i].value, query->parameters[i].value));
    query_release(&again);
    buf_release(&text);
}

static void check_query(struct str raw)
{
    struct query query;
    struct err err;
    enum err_code code = query_parse(&query, raw, allowed, &err);
    MUST(code == ERR_OK || code == ERR_BAD_PARAMETER);
    MUST(query.count < sizeof allowed / sizeof *allowed);
    for (size_t i = 0; i < query.count; i++) {
        const struct str value = query.parameters[i].value;
        MUST(text_is_utf8(value) && str_find(value, '\0') == value.len);
        check_cursor(value);
    }
    if (code == ERR_OK)
        check_again(&query);
    query_release(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *variables[VARIABLES_MAX + 1] = {NULL};
    size_t count = 0;
    struct request request;
    struct err err;
    char *text = malloc(size + 1);
    MUST(text);
    if (size > 0)
        memcpy(text, bytes, size);
    text[size] = '\0';
    for (char *line = text; line && count < VARIABLES_MAX;) {
        char *end = strchr(line, '\n');
        variables[count++] = line;
        if (end)
            *end++ = '\0';
        line = end;
    }
    enum err_code code = request_from_env(&request, variables, &err);
    MUST(code == ERR_OK || code == ERR_BAD_REQUEST);
    check_request(&request, text, text + size);
    check_query(request.query);
    free(text);
    return 0;
}
