/* The file of metrics: one that is not ours, its memory, one that can't be made. */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "metrics_file.h"
#include "observe/metrics_table.h"
#include "scrape.h"

#define UPLOADED "files_uploaded_total"

static void fill_file(const char *path, size_t size, int byte)
{
    char piece[4096];
    memset(piece, byte, sizeof piece);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (size_t at = 0; at < size; at += sizeof piece)
        CHECK(write(fd, piece, size - at < sizeof piece ? size - at : sizeof piece) > 0);
    close(fd);
}

enum damage { EMPTY, SHORT, GARBAGE, SAME_SIZE, OTHER_LAYOUT, CUT, LONGER, SYMLINK, DAMAGES };

static void damage_file(const char *path, enum damage damage)
{
    struct metrics_layout layout;
    CHECK(metrics_layout_make(&layout, &(struct metrics_options){0}));
    char other[METRICS_FILE_PATH_SIZE + 8];
    snprintf(other, sizeof other, "%s.other", path);
    if (damage == EMPTY || damage == SHORT || damage == GARBAGE)
        fill_file(path, damage == EMPTY ? 0 : damage == SHORT ? 20 : 100000, 'x');
    else if (damage == SAME_SIZE)
        fill_file(path, layout.file_size, 'x');
    else if (damage == CUT)
        CHECK_INT(truncate(path, 4096), 0);
    else if (damage == LONGER)
        CHECK_INT(truncate(path, (off_t)layout.file_size + 4096), 0);
    else if (damage == SYMLINK)
        CHECK(rename(path, other) == 0 && symlink(other, path) == 0);
    if (damage != OTHER_LAYOUT)
        return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint64_t hash = layout.hash + 1;
    CHECK(pwrite(fd, &hash, sizeof hash, offsetof(struct metrics_header, layout_hash)) ==
          (ssize_t)sizeof hash);
    close(fd);
}

TEST(metrics_process, a_file_that_is_not_ours_is_replaced)
{
    static const char *const names[DAMAGES] = {"empty",        "short", "garbage", "same size",
                                               "other layout", "cut",   "longer",  "symlink"};
    for (int damage = 0; damage < DAMAGES; damage++) {
        char path[METRICS_FILE_PATH_SIZE];
        metrics_file_path(path);
        struct metrics *first = metrics_file_open(path, "writer");
        REQUIRE(first != NULL);
        metrics_add(first, METRIC_FILES_UPLOADED, NULL, 41);
        metrics_close(first);
        damage_file(path, (enum damage)damage);
        struct metrics *metrics = metrics_file_open(path, "writer");
        CHECK_ROW(names[damage], metrics != NULL);
        if (!metrics)
            continue;
        metrics_add(metrics, METRIC_FILES_UPLOADED, NULL, 1);
        CHECK_INT_ROW(names[damage], (int64_t)scrape_value(metrics, UPLOADED), 1);
        struct stat stat;
        CHECK_ROW(names[damage], lstat(path, &stat) == 0 && S_ISREG(stat.st_mode) &&
                                     (stat.st_mode & 0777) == 0600 &&
                                     (size_t)stat.st_size == metrics->layout.file_size);
        metrics_close(metrics);
    }
}

TEST(metrics_process, a_running_program_keeps_the_file_that_is_replaced)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct metrics *old = metrics_file_open(path, "writer");
    REQUIRE(old != NULL);
    damage_file(path, OTHER_LAYOUT);
    struct metrics *new = metrics_file_open(path, "writer");
    REQUIRE(new != NULL);
    metrics_add(old, METRIC_FILES_UPLOADED, NULL, 2);
    metrics_add(new, METRIC_FILES_UPLOADED, NULL, 3);
    CHECK_INT((int64_t)scrape_value(old, UPLOADED), 2);
    CHECK_INT((int64_t)scrape_value(new, UPLOADED), 3);
    metrics_close(old);
    metrics_close(new);
}

static size_t memory_of(const char *path)
{
    struct stat stat_file;
    return stat(path, &stat_file) == 0 ? (size_t)stat_file.st_blocks * 512 : 0;
}

/* A page without memory would be a SIGBUS at the first count on a full disk. */
TEST(metrics_process, every_page_of_a_slot_has_its_memory_when_it_is_taken)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct metrics *first = metrics_file_open(path, "one");
    REQUIRE(first != NULL);
    size_t memory = memory_of(path);
    CHECK(memory >= first->layout.slot_size);
    CHECK(memory < first->layout.file_size); /* and slots that nobody needs have none */
    struct metrics *second = metrics_file_open(path, "two");
    REQUIRE(second != NULL);
    CHECK(memory_of(path) >= memory + first->layout.slot_size - 8192);
    metrics_close(first);
    metrics_close(second);
}

TEST(metrics_process, a_file_that_cant_be_made_is_an_error_and_leaves_nothing)
{
    char path[METRICS_FILE_PATH_SIZE];
    char temporary[METRICS_FILE_PATH_SIZE + 8];
    struct err err;
    struct metrics *metrics = NULL;
    metrics_file_path(path);
    snprintf(temporary, sizeof temporary, "%s/deeper", path);
    CHECK_ERR(metrics_open(&metrics,
                           &(struct metrics_options){.path = temporary, .program = "writer"}, &err),
              ERR_INTERNAL, &err);
    struct rlimit limit;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;
    struct rlimit small = {4096, RLIM_INFINITY};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0 && sigaction(SIGXFSZ, &ignore, &before) == 0);
    small.rlim_max = limit.rlim_max;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    enum err_code code =
        metrics_open(&metrics, &(struct metrics_options){.path = path, .program = "writer"}, &err);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    sigaction(SIGXFSZ, &before, NULL);
    CHECK_ERR(code, ERR_INTERNAL, &err);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    CHECK(access(path, F_OK) != 0 && access(temporary, F_OK) != 0);
    REQUIRE(mkdir(path, 0700) == 0);
    CHECK_ERR(
        metrics_open(&metrics, &(struct metrics_options){.path = path, .program = "writer"}, &err),
        ERR_INTERNAL, &err);
    CHECK(metrics == NULL);
}
