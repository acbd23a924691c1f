/* Where lines go: targets, full disks, rotation, sockets and pipes that nobody reads. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "log_file.h"
#include "observe/log.h"

TEST(log, a_target_that_cant_be_opened_is_a_configuration_error)
{
    static const struct {
        const char *name;
        const char *format;
    } rows[] = {
        {"no folder", "%s/missing/test.log"},
        {"a folder", "%s"},
        {"no socket", "unix:%s/missing.sock"},
        {"socket name too long",
         "unix:%s/012345678901234567890123456789012345678901234567890123456789012345678901234567890"
         "12345678901234567890123456789"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char target[256];
        struct err err = {.code = ERR_OK};
        struct log *log = NULL;
        const char *const dir = check_temp_dir();
        struct buf text;
        buf_init(&text, sizeof target);
        const char *rest = rows[i].format;
        const char *mark = strstr(rest, "%s");
        buf_append(&text, rest, (size_t)(mark - rest));
        buf_append_text(&text, dir);
        buf_append_text(&text, mark + 2);
        snprintf(target, sizeof target, "%s", buf_text(&text));
        buf_release(&text);
        CHECK_ERR_ROW(rows[i].name, log_file_open_target(&log, target, ERR_LEVEL_INFO, &err),
                      ERR_CONFIG, &err);
        CHECK_ROW(rows[i].name, log == NULL && strstr(err.message, "LOG_FILE") != NULL);
    }
}

/* The kernel cuts the write that crosses RLIMIT_FSIZE, as a disk does that is nearly full. */
TEST(log, a_line_cut_by_a_full_disk_is_written_again_when_there_is_room)
{
    struct log_file file = log_file_open();
    struct rlimit limit;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0 && sigaction(SIGXFSZ, &ignore, &before) == 0);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "whole", LOG_NO_FIELDS);
    CHECK(log_flush(file.log, 10000));
    struct stat stat_before = {0};
    REQUIRE(stat(file.path, &stat_before) == 0);
    struct rlimit small = {(rlim_t)stat_before.st_size + 50, limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "cut", LOG_NO_FIELDS);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "late", LOG_NO_FIELDS);
    CHECK(!log_flush(file.log, 50));
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "last", LOG_NO_FIELDS);
    struct buf text = log_file_written(&file);
    sigaction(SIGXFSZ, &before, NULL);
    struct str rest = buf_str(&text);
    struct str whole = str_cut(&rest, '\n');
    struct str cut = str_cut(&rest, '\n');
    CHECK(memmem(whole.data, whole.len, "\"whole\"", 7) != NULL);
    CHECK_INT((int64_t)cut.len, 50);
    CHECK_INT(log_file_check_lines("after", rest), 3);
    CHECK_INT((int64_t)log_dropped(file.log), 0);
    buf_release(&text);
    log_close(file.log);
}

TEST(log, half_a_line_of_another_process_is_ended_first)
{
    struct err err;
    struct log *log = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/test.log", check_temp_dir());
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, "{\"half", 6) == 6);
    close(fd);
    REQUIRE(log_file_open_target(&log, path, ERR_LEVEL_INFO, &err) == ERR_OK);
    log_write(log, ERR_LEVEL_INFO, NULL, "x", LOG_NO_FIELDS);
    CHECK(log_flush(log, 10000));
    struct buf text = log_file_read(path);
    struct str rest = buf_str(&text);
    CHECK_STR(str_cut(&rest, '\n'), "{\"half");
    CHECK_INT(log_file_check_lines("next", rest), 1);
    buf_release(&text);
    log_close(log);
}

TEST(log, reopen_goes_on_in_a_new_file)
{
    struct log_file file = log_file_open();
    char rotated[160];
    snprintf(rotated, sizeof rotated, "%s.1", file.path);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "one", LOG_NO_FIELDS);
    REQUIRE(rename(file.path, rotated) == 0);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "two", LOG_NO_FIELDS);
    CHECK(log_flush(file.log, 10000));
    log_reopen(file.log);
    CHECK(log_flush(file.log, 10000));
    log_write(file.log, ERR_LEVEL_INFO, NULL, "three", LOG_NO_FIELDS);
    struct buf new_text = log_file_written(&file);
    struct buf old_text = log_file_read(rotated);
    CHECK_INT(log_file_check_lines("old", buf_str(&old_text)), 2);
    CHECK_INT(log_file_check_lines("new", buf_str(&new_text)), 1);
    buf_release(&old_text);
    buf_release(&new_text);
    log_close(file.log);
}

TEST(log, reopen_keeps_the_old_file_when_there_is_no_new_one)
{
    struct log_file file = log_file_open();
    char moved[160];
    char *slash = strrchr(file.path, '/');
    *slash = '\0';
    snprintf(moved, sizeof moved, "%s.moved", file.path);
    REQUIRE(rename(file.path, moved) == 0);
    log_reopen(file.log);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "x", LOG_NO_FIELDS);
    CHECK(log_flush(file.log, 10000));
    REQUIRE(rename(moved, file.path) == 0);
    *slash = '/';
    struct buf text = log_file_read(file.path);
    CHECK_INT(log_file_check_lines("kept", buf_str(&text)), 1);
    buf_release(&text);
    log_close(file.log);
}

#define LINES_MAX 20000
#define WRITERS 8
#define LINES_EACH 1000

static void *write_lines(void *context)
{
    struct log *log = context;
    struct log_field fields[] = {LOG_FIELD_STR("filler", STR("0123456789"))};
    for (int i = 0; i < LINES_EACH; i++)
        log_write(log, ERR_LEVEL_INFO, NULL, "x", (struct log_fields){fields, 1});
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

static size_t collect_ids(struct str text, char (*ids)[32], size_t count)
{
    static const char name[] = "\"event.id\":\"";
    while (text.len) {
        const char *at = memmem(text.data, text.len, name, sizeof name - 1);
        if (!at)
            break;
        memcpy(ids[count++], at + sizeof name - 1, 32);
        size_t skip = (size_t)(at - text.data) + sizeof name - 1;
        text = (struct str){text.data + skip, text.len - skip};
    }
    return count;
}

TEST(log, threads_and_rotation_lose_no_line_and_repeat_no_id)
{
    static char ids[LINES_MAX][32];
    struct log_file file = log_file_open();
    pthread_t threads[WRITERS];
    const int rotations = 20;
    for (int i = 0; i < WRITERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, write_lines, file.log) == 0);
    for (int i = 0; i < rotations; i++) {
        char rotated[160];
        snprintf(rotated, sizeof rotated, "%s.%d", file.path, i);
        CHECK_INT(rename(file.path, rotated), 0);
        log_reopen(file.log);
        CHECK(log_flush(file.log, 10000));
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(log_flush(file.log, 10000));
    int lines = 0;
    size_t count = 0;
    for (int i = 0; i <= rotations; i++) {
        char name[160];
        snprintf(name, sizeof name, i < rotations ? "%s.%d" : "%s", file.path, i);
        struct buf text = log_file_read(name);
        lines += log_file_check_lines("rotated", buf_str(&text));
        count = collect_ids(buf_str(&text), ids, count);
        buf_release(&text);
    }
    CHECK_INT(lines, WRITERS * LINES_EACH);
    CHECK_INT((int64_t)count, WRITERS * LINES_EACH);
    CHECK_INT((int64_t)log_dropped(file.log), 0);
    qsort(ids, count, sizeof ids[0], compare_ids);
    int repeated = 0;
    for (size_t i = 1; i < count; i++)
        repeated += memcmp(ids[i - 1], ids[i], 32) == 0;
    CHECK_INT(repeated, 0);
    log_close(file.log);
}
