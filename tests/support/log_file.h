/* What tests of the log share: logs at a fixed time with known ids, and what every line keeps to. */
#ifndef COFFER_TESTS_LOG_FILE_H
#define COFFER_TESTS_LOG_FILE_H

#include "base/str.h"
#include "observe/log.h"

struct log_file {
    char path[128];
    struct log *log;
};

/* `target` as in LOG_FILE. */
enum err_code log_file_open_target(struct log **ret_log, const char *target, enum err_level level,
                                   struct err *err);
/* With the smallest queue; one in `sample` successes. */
struct log *log_file_open_small(const char *target, int64_t sample);
/* A log in a new folder; every level is enabled. */
struct log_file log_file_open(void);
/* The whole file, empty when there is none; caller releases it. */
struct buf log_file_read(const char *path);
/* The same, once what was logged is written. */
struct buf log_file_written(const struct log_file *file);
/* Every line ends in a newline, is at most LOG_LINE_MAX long, UTF-8 and one JSON object; returns
 * how many there are. */
int log_file_check_lines(const char *label, struct str text);
/* The numbers in the event ids of these lines, in their order, up to `max` of them. */
size_t log_file_numbers(struct str text, uint64_t *numbers, size_t max);

#endif
