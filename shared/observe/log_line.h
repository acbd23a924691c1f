/*
 * One log line while it is written: a JSON object in a fixed buffer on the stack, no allocation.
 *
 * A line is valid JSON whatever it is given: strings become valid UTF-8, are escaped, and are cut
 * on a code point when the line is full. `reserved` bytes stay free for what must still come, so
 * a long string never pushes out the members after it. Names of members are constants of the
 * program and are not escaped. Private to observe/; used by one thread.
 */
#ifndef COFFER_OBSERVE_LOG_LINE_H
#define COFFER_OBSERVE_LOG_LINE_H

#include "base/str.h"
#include "observe/log.h"

/* What a string that comes later is sure to have, in escaped bytes. */
#define LOG_STRING_RESERVE 128

struct log_line {
    size_t len;      /* bytes of the line so far */
    size_t reserved; /* bytes kept free for later members */
    char text[LOG_LINE_MAX];
};

void log_line_init(struct log_line *line);
/* Appends bytes as they are, all or nothing. */
void log_line_raw(struct log_line *line, const char *data, size_t len);
/* Appends the text of a JSON string without its quotes and secrets, cut to the room there is. */
void log_line_escaped(struct log_line *line, struct str text);
/* Keeps room for the field, which log_line_field then uses; false when there is none. */
bool log_line_reserve(struct log_line *line, const struct log_field *field);
/* Appends `,"name":value`; room for the field was reserved. */
void log_line_field(struct log_line *line, const struct log_field *field);
/* Appends "}\n", for which there is always room. */
void log_line_finish(struct log_line *line);

#endif
