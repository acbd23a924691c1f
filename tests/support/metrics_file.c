#include "metrics_file.h"

#include <stdio.h>

#include "check.h"

void metrics_file_path(char target[METRICS_FILE_PATH_SIZE])
{
    snprintf(target, METRICS_FILE_PATH_SIZE, "%s/metrics", check_temp_dir());
}

struct metrics *metrics_file_open(const char *path, const char *program)
{
    struct metrics *metrics = NULL;
    struct err err;
    const struct metrics_options options = {.path = path, .program = program};
    return metrics_open(&metrics, &options, &err) == ERR_OK ? metrics : NULL;
}
