#include "log_file.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "check.h"

static int64_t fixed_wall(const struct clock *clock)
{
    (void)clock;
    return 1795255200123; /* 2026-11-21T10:00:00.123Z */
}

static void fixed_random(const struct clock *clock, void *target, size_t len)
{
    (void)clock;
    memset(target, 0xab, len);
}

static const struct clock fixed_clock = {.wall_ms = fixed_wall, .random = fixed_random};

enum err_code log_file_open_target(struct log **ret_log, const char *target, enum err_level level,
                                   struct err *err)
{
    static struct config config = {.environment = "test"};
    snprintf(config.log_file, sizeof config.log_file, "%s", target);
    config.log_level = level;
    return log_open(ret_log, &config, "files_get", &fixed_clock, err);
}

struct log_file log_file_open(void)
{
    struct log_file file = {.log = NULL};
    struct err err;
    snprintf(file.path, sizeof file.path, "%s/test.log", check_temp_dir());
    CHECK_ERR(log_file_open_target(&file.log, file.path, ERR_LEVEL_DEBUG, &err), ERR_OK, &err);
    return file;
}

struct buf log_file_read(const char *path)
{
    struct buf text;
    char piece[4096];
    buf_init(&text, 1 << 26);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t len = read(fd, piece, sizeof piece); len > 0; len = read(fd, piece, sizeof piece))
        buf_append(&text, piece, (size_t)len);
    close(fd);
    return text;
}

int log_file_check_lines(const char *label, struct str text)
{
    int count = 0;
    CHECK_ROW(label, text.len == 0 || text.data[text.len - 1] == '\n');
    while (text.len) {
        struct str line = str_cut(&text, '\n');
        const char *end = NULL;
        cJSON *object = cJSON_ParseWithLengthOpts(line.data, line.len, &end, false);
        CHECK_ROW(label, cJSON_IsObject(object) && end == line.data + line.len);
        CHECK_ROW(label, line.len < LOG_LINE_MAX);
        CHECK_ROW(label, text_is_utf8(line));
        cJSON_Delete(object);
        count++;
    }
    return count;
}
