#include "access/principal.h"
#include "check.h"

TEST(access_token, is_recognised_only_whole_and_in_force)
{
    struct token token = {.owner = "alice", .scopes = SCOPE_READ, .expires_ms = 5000};
    char text[TOKEN_TEXT_SIZE];
    char id[TOKEN_ID_LENGTH + 1];
    token_make(&clock_system, &token, text);
    CHECK_TEXT(token.owner, "alice");
    CHECK(token_id_of(str_of(text), id));
    CHECK_TEXT(id, token.id);
    CHECK(token_matches(&token, str_of(text), 4999));
    CHECK(!token_matches(&token, str_of(text), 5000));
    token.revoked_ms = 1;
    CHECK(!token_matches(&token, str_of(text), 4999));
    token.revoked_ms = 0;
    for (size_t i = 0; i < strlen(text); i++) { /* one character off, anywhere */
        char other[TOKEN_TEXT_SIZE];
        memcpy(other, text, sizeof other);
        other[i] = other[i] == 'x' ? 'y' : 'x';
        CHECK(!token_id_of(str_of(other), id) || !token_matches(&token, str_of(other), 4999));
    }
    CHECK(!token_id_of((struct str){text, strlen(text) - 1}, id));
    CHECK(!token_id_of(STR(""), id));
}

TEST(access_token, two_are_never_the_same)
{
    struct token a = {.owner = "a", .scopes = SCOPE_READ};
    struct token b = a;
    char text_a[TOKEN_TEXT_SIZE];
    char text_b[TOKEN_TEXT_SIZE];
    token_make(&clock_system, &a, text_a);
    token_make(&clock_system, &b, text_b);
    CHECK(strcmp(text_a, text_b) != 0);
    CHECK(strcmp(a.id, b.id) != 0);
    CHECK(token_matches(&a, str_of(text_a), INT64_MAX)); /* no expiry */
    CHECK(!token_matches(&a, str_of(text_b), 0));
}

TEST(access_token, scopes_are_read_strictly)
{
    static const struct {
        const char *in;
        bool ok;
        unsigned want;
    } rows[] = {
        {"read", true, SCOPE_READ},
        {"read,write", true, SCOPE_READ | SCOPE_WRITE},
        {" admin , read ", true, SCOPE_ADMIN | SCOPE_READ},
        {"", false, 0},
        {"reads", false, 0},
        {"read,,write", false, 0},
        {"Read", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsigned scopes = 0;
        CHECK_INT_ROW(rows[i].in, token_parse_scopes(str_of(rows[i].in), &scopes), rows[i].ok);
        CHECK_INT_ROW(rows[i].in, scopes, rows[i].want);
    }
}

TEST(access_token, owners_are_plain_names)
{
    static const struct {
        const char *in;
        bool ok;
    } rows[] = {{"alice", true}, {"a.b_c@d-9", true}, {"", false},
                {"a b", false},  {"a/b", false},      {"ä", false}};
    char longest[LIMIT_OWNER_BYTES + 2];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_INT_ROW(rows[i].in, owner_is_valid(str_of(rows[i].in)), rows[i].ok);
    memset(longest, 'a', sizeof longest);
    CHECK(owner_is_valid((struct str){longest, LIMIT_OWNER_BYTES}));
    CHECK(!owner_is_valid((struct str){longest, LIMIT_OWNER_BYTES + 1}));
}

TEST(principal, may_read_and_write_as_the_contract_says)
{
    static const struct {
        const char *name;
        struct principal principal;
        bool exists;
        const char *owner;
        enum visibility visibility;
        enum err_code read;
        enum err_code write;
    } rows[] = {
        {"owner",
         {"a", SCOPE_READ | SCOPE_WRITE, false},
         true,
         "a",
         VISIBILITY_PRIVATE,
         ERR_OK,
         ERR_OK},
        {"stranger",
         {"b", SCOPE_READ | SCOPE_WRITE, false},
         true,
         "a",
         VISIBILITY_PRIVATE,
         ERR_NOT_FOUND,
         ERR_NOT_FOUND},
        {"stranger, public",
         {"b", SCOPE_READ | SCOPE_WRITE, false},
         true,
         "a",
         VISIBILITY_PUBLIC,
         ERR_OK,
         ERR_NOT_FOUND},
        {"anonymous",
         {"", 0, true},
         true,
         "a",
         VISIBILITY_PRIVATE,
         ERR_UNAUTHORIZED,
         ERR_UNAUTHORIZED},
        {"anonymous, public",
         {"", 0, true},
         true,
         "a",
         VISIBILITY_PUBLIC,
         ERR_OK,
         ERR_UNAUTHORIZED},
        {"anonymous, nothing",
         {"", 0, true},
         false,
         "",
         VISIBILITY_PRIVATE,
         ERR_UNAUTHORIZED,
         ERR_UNAUTHORIZED},
        {"reads only",
         {"a", SCOPE_READ, false},
         true,
         "a",
         VISIBILITY_PRIVATE,
         ERR_OK,
         ERR_FORBIDDEN},
        {"writes only",
         {"a", SCOPE_WRITE, false},
         true,
         "a",
         VISIBILITY_PRIVATE,
         ERR_FORBIDDEN,
         ERR_OK},
        {"admin",
         {"z", SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN, false},
         true,
         "a",
         VISIBILITY_PRIVATE,
         ERR_OK,
         ERR_OK},
        {"admin, nothing",
         {"z", SCOPE_READ | SCOPE_WRITE | SCOPE_ADMIN, false},
         false,
         "",
         VISIBILITY_PRIVATE,
         ERR_NOT_FOUND,
         ERR_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct file file = {.visibility = rows[i].visibility};
        REQUIRE(str_copy(file.owner, sizeof file.owner, str_of(rows[i].owner)));
        const struct file *found = rows[i].exists ? &file : NULL;
        CHECK_ERR_ROW(rows[i].name, principal_may_read(&rows[i].principal, found, &err),
                      rows[i].read, &err);
        CHECK_ERR_ROW(rows[i].name, principal_may_write(&rows[i].principal, found, &err),
                      rows[i].write, &err);
    }
}
