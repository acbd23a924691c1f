#include "observe/log_list.h"

static void add(struct log_list *list, struct log_field field)
{
    if (list->count < LOG_LIST_MAX)
        list->fields[list->count++] = field;
}

void log_list_text(struct log_list *list, const char *name, struct str value)
{
    if (value.len > 0)
        log_list_required(list, name, value);
}

void log_list_required(struct log_list *list, const char *name, struct str value)
{
    add(list, LOG_FIELD_STR(name, value));
}

void log_list_number(struct log_list *list, const char *name, int64_t value)
{
    add(list, LOG_FIELD_INT(name, value));
}

struct log_fields log_list_all(const struct log_list *list)
{
    return (struct log_fields){list->fields, list->count};
}
