#include "files/files_installation.h"

#include "check.h"

#define ID "01a22e4a-debe-7000-a046-e3fa1df205c2"
#define OTHER "01a22e48-be28-7000-886c-8bf7f98ee03d"
#define FIRST "coffer installation 1\n"

TEST(installation_mark, reads_what_it_prints)
{
    static const struct {
        struct installation_mark mark;
        const char *text;
    } rows[] = {
        {{ID, "", false}, FIRST "id " ID "\n"},
        {{ID, OTHER, false}, FIRST "id " ID "\nreplaces " OTHER "\n"},
        {{ID, "", true}, FIRST "id " ID "\nincomplete\n"},
        {{ID, OTHER, true}, FIRST "id " ID "\nreplaces " OTHER "\nincomplete\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[INSTALLATION_MARK_SIZE];
        struct installation_mark mark;
        struct err err;
        installation_mark_print(&rows[i].mark, text);
        CHECK_TEXT(text, rows[i].text);
        CHECK_ERR_ROW(text, installation_mark_parse(text, &mark, &err), ERR_OK, &err);
        CHECK_STR_ROW(text, str_of(mark.id), rows[i].mark.id);
        CHECK_STR_ROW(text, str_of(mark.replaces), rows[i].mark.replaces);
        CHECK_ROW(text, mark.is_incomplete == rows[i].mark.is_incomplete);
    }
}

TEST(installation_mark, refuses_what_it_did_not_print)
{
    static const char *const rows[] = {
        "",
        "\n",
        FIRST,
        "id " ID "\n",
        "coffer installation 2\nid " ID "\n",
        " " FIRST "id " ID "\n",
        FIRST "id \n",
        FIRST "id " ID "x\n",
        FIRST "id 01A22E4A-DEBE-7000-A046-E3FA1DF205C2\n",
        FIRST "id " ID "\n\n",
        FIRST "id " ID "\nreplaces\n",
        FIRST "id " ID "\nreplaces x\n",
        FIRST "id " ID "\nincomplete \n",
        FIRST "id " ID "\nowner x\n",
        FIRST "replaces " OTHER "\n",
        FIRST "incomplete\n",
        "<html><body>Forbidden</body></html>",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct installation_mark mark = {.id = "unset"};
        struct err err;
        CHECK_ERR_ROW(rows[i], installation_mark_parse(rows[i], &mark, &err), ERR_CONFIG, &err);
        CHECK_STR_ROW(rows[i], str_of(mark.id), "unset");
    }
}
