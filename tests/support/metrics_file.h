/* What tests of metrics over several openings share: a file of their own and opening it. */
#ifndef COFFER_TESTS_METRICS_FILE_H
#define COFFER_TESTS_METRICS_FILE_H

#include "observe/metrics.h"

#define METRICS_FILE_PATH_SIZE 128

/* A path in a new folder; nothing is made there. */
void metrics_file_path(char target[METRICS_FILE_PATH_SIZE]);
/* NULL when it can't be opened; the caller checks. */
struct metrics *metrics_file_open(const char *path, const char *program);

#endif
