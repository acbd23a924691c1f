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
    config.log_queue_bytes = 16 << 20;
    return log_open(ret_log, &config, "files_get", &fixed_clock, err);
}

struct log *log_file_open_small(const char *target, int64_t sample)
{
    static struct config config = {.environment = "test"};
    struct log *log = NULL;
    struct err err;
    snprintf(config.log_file, sizeof config.log_file, "%s", target);
    config.log_success_sample = sample;
    CHECK_ERR(log_open(&log, &config, "files_get", &fixed_clock, &err), ERR_OK, &err);
    return log;
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

struct buf log_file_written(const struct log_file *file)
{
    CHECK(log_flush(file->log, 10000));
    return log_file_read(file->path);
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

size_t log_file_numbers(struct str text, uint64_t *numbers, size_t max)
{
    static const char name[] = "\"event.id\":\"abababababababab";
    size_t count = 0;
    for (struct str line = str_cut(&text, '\n'); line.len && count < max;
         line = str_cut(&text, '\n')) {
        const char *at = memmem(line.data, line.len, name, sizeof name - 1);
        unsigned char bytes[8] = {0};
        CHECK(at && text_unhex((struct str){at + sizeof name - 1, 16}, bytes, sizeof bytes));
        uint64_t number = 0;
        for (size_t i = 0; i < sizeof bytes; i++)
            number = number << 8 | bytes[i];
        numbers[count++] = number;
    }
    return count;
}
