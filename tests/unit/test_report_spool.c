#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "observe/report_parts.h"

struct fixture {
    struct config config;
    struct report_spool spool;
    struct buf body;
};

static void setup(struct fixture *fixture, int64_t max_bytes)
{
    static int number;
    char path[CONFIG_TEXT_SIZE + 8];
    *fixture = (struct fixture){.config.sentry_spool_bytes = max_bytes};
    struct config *config = &fixture->config;
    snprintf(config->data_dir, sizeof config->data_dir, "%s/spool%d", check_temp_dir(), number++);
    snprintf(config->runtime_dir, sizeof config->runtime_dir, "%s/run%d", check_temp_dir(),
             number++);
    snprintf(path, sizeof path, "%s/log", config->data_dir);
    mkdir(config->data_dir, 0700);
    mkdir(config->runtime_dir, 0700);
    mkdir(path, 0700);
    report_spool_init(&fixture->spool, config);
    buf_init(&fixture->body, 4096);
}

static void teardown(struct fixture *fixture)
{
    buf_release(&fixture->body);
}

static bool put(struct fixture *fixture, const char *body, unsigned *ret_dropped)
{
    const struct timespec pause = {.tv_nsec = 2000000}; /* names are in milliseconds */
    nanosleep(&pause, NULL);
    return report_spool_put(&fixture->spool, &clock_system, str_of(body), ret_dropped);
}

static unsigned file_count(const struct fixture *fixture, mode_t *ret_mode)
{
    unsigned count = 0;
    struct stat stat;
    DIR *dir = opendir(fixture->spool.folder);
    if (!dir)
        return 0;
    for (struct dirent *entry = NULL; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &stat, 0) != 0)
            continue;
        count++;
        *ret_mode = stat.st_mode & 07777;
    }
    closedir(dir);
    return count;
}

TEST(report_spool, gives_back_what_was_put_the_oldest_first)
{
    struct fixture f;
    unsigned dropped = 9;
    mode_t mode = 0;
    setup(&f, 1000);
    CHECK(report_spool_is_empty(&f.spool));
    CHECK(!report_spool_take(&f.spool, &f.body));
    CHECK(put(&f, "first", &dropped));
    CHECK(put(&f, "second", &dropped));
    CHECK_INT(dropped, 0);
    CHECK(!report_spool_is_empty(&f.spool));
    CHECK_INT(file_count(&f, &mode), 2);
    CHECK_INT(mode, 0600);
    REQUIRE(report_spool_take(&f.spool, &f.body));
    CHECK_STR(buf_str(&f.body), "first");
    report_spool_release(&f.spool, true);
    REQUIRE(report_spool_take(&f.spool, &f.body));
    CHECK_STR(buf_str(&f.body), "second");
    report_spool_release(&f.spool, false);
    REQUIRE(report_spool_take(&f.spool, &f.body));
    CHECK_STR(buf_str(&f.body), "second");
    report_spool_release(&f.spool, true);
    CHECK(report_spool_is_empty(&f.spool));
    teardown(&f);
}

TEST(report_spool, what_one_holds_another_passes_over)
{
    struct fixture f;
    struct report_spool other;
    struct buf body;
    unsigned dropped;
    setup(&f, 1000);
    buf_init(&body, 4096);
    report_spool_init(&other, &f.config);
    put(&f, "first", &dropped);
    put(&f, "second", &dropped);
    REQUIRE(report_spool_take(&f.spool, &f.body));
    REQUIRE(report_spool_take(&other, &body));
    CHECK_STR(buf_str(&body), "second");
    report_spool_release(&other, true);
    CHECK(!report_spool_take(&other, &body));
    report_spool_release(&f.spool, false);
    REQUIRE(report_spool_take(&other, &body));
    CHECK_STR(buf_str(&body), "first");
    report_spool_release(&other, true);
    CHECK(report_spool_is_empty(&f.spool));
    buf_release(&body);
    teardown(&f);
}

TEST(report_spool, is_bounded_and_drops_the_oldest)
{
    struct fixture f;
    unsigned dropped;
    mode_t mode;
    setup(&f, 10);
    CHECK(put(&f, "aaaa", &dropped));
    CHECK(put(&f, "bbbb", &dropped));
    CHECK_INT(dropped, 0);
    CHECK(put(&f, "cccc", &dropped));
    CHECK_INT(dropped, 1);
    CHECK(!put(&f, "larger than all", &dropped));
    CHECK_INT(dropped, 0);
    CHECK_INT(file_count(&f, &mode), 2);
    REQUIRE(report_spool_take(&f.spool, &f.body));
    CHECK_STR(buf_str(&f.body), "bbbb");
    report_spool_release(&f.spool, true);
    CHECK(put(&f, "0123456789", &dropped));
    CHECK_INT(dropped, 1);
    REQUIRE(report_spool_take(&f.spool, &f.body));
    CHECK_STR(buf_str(&f.body), "0123456789");
    report_spool_release(&f.spool, true);
    teardown(&f);
}

TEST(report_spool, of_no_bytes_makes_no_folder)
{
    struct fixture f;
    unsigned dropped;
    setup(&f, 0);
    CHECK(!put(&f, "x", &dropped));
    CHECK(access(f.spool.folder, F_OK) != 0);
    teardown(&f);
}

TEST(report_spool, lies_in_the_runtime_folder_where_there_is_no_log_folder)
{
    struct fixture f;
    char path[CONFIG_TEXT_SIZE + 8];
    unsigned dropped;
    setup(&f, 1000);
    CHECK(strncmp(f.spool.folder, f.config.data_dir, strlen(f.config.data_dir)) == 0);
    snprintf(path, sizeof path, "%s/log", f.config.data_dir);
    rmdir(path);
    report_spool_init(&f.spool, &f.config);
    CHECK(strncmp(f.spool.folder, f.config.runtime_dir, strlen(f.config.runtime_dir)) == 0);
    CHECK(put(&f, "x", &dropped));
    rmdir(f.config.runtime_dir);
    teardown(&f);
}

TEST(report_spool, what_can_not_be_written_is_not_kept)
{
    struct fixture f;
    unsigned dropped;
    setup(&f, 1000);
    int fd = open(f.spool.folder, O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* a file in its place */
    REQUIRE(fd >= 0);
    close(fd);
    CHECK(!put(&f, "x", &dropped));
    CHECK(!report_spool_take(&f.spool, &f.body));
    CHECK(report_spool_is_empty(&f.spool));
    teardown(&f);
}

static void make_file(const struct fixture *fixture, const char *name, const char *content,
                      time_t age)
{
    char path[2 * CONFIG_TEXT_SIZE];
    snprintf(path, sizeof path, "%s/%s", fixture->spool.folder, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content));
    const struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    CHECK(futimens(fd, times) == 0);
    close(fd);
}

TEST(report_spool, passes_over_what_is_no_whole_report)
{
    struct fixture f;
    struct stat stat;
    char path[2 * CONFIG_TEXT_SIZE];
    unsigned dropped;
    setup(&f, 1000);
    put(&f, "whole", &dropped);
    make_file(&f, "0000000000000001-a.envelope.new", "being written", 0);
    make_file(&f, "0000000000000002-b.envelope.new", "left behind", 3600);
    make_file(&f, "0000000000000003-c.envelope", "", 0);
    make_file(&f, "0000000000000000-of-somebody-else", "kept", 3600);
    REQUIRE(report_spool_take(&f.spool, &f.body));
    CHECK_STR(buf_str(&f.body), "whole");
    report_spool_release(&f.spool, true);
    snprintf(path, sizeof path, "%s/0000000000000001-a.envelope.new", f.spool.folder);
    CHECK(lstat(path, &stat) == 0);
    snprintf(path, sizeof path, "%s/0000000000000002-b.envelope.new", f.spool.folder);
    CHECK(lstat(path, &stat) != 0);
    snprintf(path, sizeof path, "%s/0000000000000003-c.envelope", f.spool.folder);
    CHECK(lstat(path, &stat) != 0);
    snprintf(path, sizeof path, "%s/0000000000000000-of-somebody-else", f.spool.folder);
    CHECK(lstat(path, &stat) == 0);
    teardown(&f);
}

TEST(report_spool, one_too_long_to_be_sent_is_removed)
{
    struct fixture f;
    unsigned dropped;
    setup(&f, 100000);
    buf_init(&f.body, 4);
    CHECK(put(&f, "12345", &dropped));
    CHECK(put(&f, "1234", &dropped));
    REQUIRE(report_spool_take(&f.spool, &f.body));
    CHECK_STR(buf_str(&f.body), "1234");
    report_spool_release(&f.spool, true);
    CHECK(report_spool_is_empty(&f.spool));
    teardown(&f);
}
