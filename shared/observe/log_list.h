/*
 * The fields of one log line, gathered one by one. Names are static text, values are borrowed until the
 * line is written; what finds no room is left out.
 */
#ifndef COFFER_OBSERVE_LOG_LIST_H
#define COFFER_OBSERVE_LOG_LIST_H

#include "observe/log.h"

#define LOG_LIST_MAX 20

struct log_list {
    struct log_field fields[LOG_LIST_MAX];
    size_t count;
};

/* Left out when it is empty. */
void log_list_text(struct log_list *list, const char *name, struct str value);
/* There also when it is empty. */
void log_list_required(struct log_list *list, const char *name, struct str value);
void log_list_number(struct log_list *list, const char *name, int64_t value);
/* Borrowed from the list. */
struct log_fields log_list_all(const struct log_list *list);

#endif
