#include "check.h"
#include "files/files_list.h"

static const unsigned char secret[CURSOR_SECRET_BYTES] = "0123456789abcdef0123456789abcde";
#define ID "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77"

static void fill(struct file_position *position, const char *name, int64_t number)
{
    *position = (struct file_position){.id = ID, .number = number};
    CHECK(str_copy(position->name, sizeof position->name, str_of(name)));
}

TEST(files_cursor, comes_back_as_it_was)
{
    static const struct {
        enum file_sort sort;
        const char *name;
        int64_t number;
    } rows[] = {
        {SORT_CREATED, "", 1763719200123},
        {SORT_CREATED_DESC, "", -5},
        {SORT_SIZE, "", INT64_MAX},
        {SORT_NAME, "größe \"x\"", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct buf text;
        struct file_position in;
        struct file_position out = {0};
        const struct file_query query = {.owner = STR("alice"), .sort = rows[i].sort};
        buf_init(&text, 1024);
        fill(&in, rows[i].name, rows[i].number);
        files_cursor_encode(secret, &query, &in, &text);
        CHECK_ERR(files_cursor_decode(secret, &query, buf_str(&text), &out, &err), ERR_OK, &err);
        CHECK_TEXT(out.id, ID);
        CHECK_TEXT(out.name, rows[i].name);
        CHECK_INT(out.number, rows[i].number);
        buf_release(&text);
    }
}

TEST(files_cursor, fits_no_other_query_and_no_change)
{
    struct err err = {0};
    struct buf text;
    struct file_position position;
    const struct file_query query = {.owner = STR("alice"), .prefix = STR("ab")};
    const struct file_query others[] = {
        {.owner = STR("bob"), .prefix = STR("ab")},
        {.owner = STR("alice"), .prefix = STR("a")},
        {.owner = STR("alicea"), .prefix = STR("b")},
        {.owner = STR("alice"), .prefix = STR("ab"), .mime = STR("x/y")},
        {.owner = STR("alice"), .prefix = STR("ab"), .sort = SORT_SIZE},
    };
    buf_init(&text, 1024);
    fill(&position, "", 7);
    files_cursor_encode(secret, &query, &position, &text);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK_ERR(files_cursor_decode(secret, &others[i], buf_str(&text), &position, &err),
                  ERR_BAD_CURSOR, &err);
    for (size_t i = 0; i < text.len; i++) {
        char kept = text.data[i];
        text.data[i] = kept == 'A' ? 'B' : 'A';
        CHECK_ERR(files_cursor_decode(secret, &query, buf_str(&text), &position, &err),
                  ERR_BAD_CURSOR, &err);
        text.data[i] = kept;
        CHECK_ERR(files_cursor_decode(secret, &query, (struct str){text.data, i}, &position, &err),
                  ERR_BAD_CURSOR, &err);
    }
    CHECK_ERR(files_cursor_decode(secret, &query, STR("!!"), &position, &err), ERR_BAD_CURSOR,
              &err);
    buf_release(&text);
}
