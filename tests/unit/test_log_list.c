#include "observe/log.h"

#include "check.h"

TEST(log_list, keeps_what_has_a_value_or_is_required)
{
    struct log_list list = {.count = 0};
    log_list_text(&list, "left out", STR(""));
    log_list_text(&list, "text", STR("a"));
    log_list_required(&list, "required", STR(""));
    log_list_number(&list, "number", -7);
    const struct log_fields fields = log_list_all(&list);
    CHECK(fields.count == 3);
    CHECK_TEXT(fields.all[0].name, "text");
    CHECK_STR(fields.all[0].text, "a");
    CHECK_TEXT(fields.all[1].name, "required");
    CHECK(fields.all[1].text.len == 0);
    CHECK_TEXT(fields.all[2].name, "number");
    CHECK_INT(fields.all[2].number, -7);
}

TEST(log_list, what_finds_no_room_is_left_out)
{
    struct log_list list = {.count = 0};
    for (int i = 0; i < LOG_LIST_MAX + 3; i++)
        log_list_number(&list, "n", i);
    CHECK(log_list_all(&list).count == LOG_LIST_MAX);
    CHECK_INT(list.fields[LOG_LIST_MAX - 1].number, LOG_LIST_MAX - 1);
}
