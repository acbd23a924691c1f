/* Sinks that take nothing for a while: nobody waits, what fits is kept, the rest is counted. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "log_file.h"
#include "observe/log.h"

#define LINES_MAX 20000
#define FLUSH_MS 10000

static int bind_datagram(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return -1;
    return fd;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* Reads what is there, and what comes, until the log has written everything. */
static struct buf drain(struct log *log, int fd)
{
    struct buf text;
    char piece[LOG_LINE_MAX];
    bool is_done = false;
    buf_init(&text, 1 << 26);
    for (int i = 0; i < 2000 && !is_done; i++) {
        is_done = log_flush(log, 5);
        for (ssize_t len = read(fd, piece, sizeof piece); len > 0;
             len = read(fd, piece, sizeof piece))
            buf_append(&text, piece, (size_t)len);
    }
    CHECK(is_done);
    return text;
}

/* Writes until the sink takes no more, and then more than the queue holds; returns how many. */
static int overfill(struct log *log)
{
    const int more = 2000;
    int count = 0;
    for (; log_flush(log, 30) && count < 10000; count++)
        log_write(log, ERR_LEVEL_INFO, NULL, "nobody reads", LOG_NO_FIELDS);
    CHECK_INT((int64_t)log_dropped(log), 0);
    for (int i = 0; i < more; i++)
        log_write(log, ERR_LEVEL_INFO, NULL, "nobody reads", LOG_NO_FIELDS);
    CHECK(log_dropped(log) > 0 && log_dropped(log) < (uint64_t)more - 100);
    CHECK(!log_flush(log, 20));
    return count + more;
}

/* Before the line that tells of lost ones every line is there, behind it those that came later. */
static void check_gap(struct str text, int count, uint64_t dropped)
{
    static uint64_t numbers[LINES_MAX];
    static const char name[] = "\"coffer.log.dropped\":";
    char want[64];
    struct str rest = text;
    CHECK_INT(log_file_check_lines("all", text), count - (int)dropped + 2);
    size_t found = log_file_numbers(text, numbers, LINES_MAX);
    size_t at = 0;
    while (at < found && numbers[at] == at)
        str_cut(&rest, '\n'), at++;
    CHECK_INT((int64_t)at, count - (int64_t)dropped);
    snprintf(want, sizeof want, "%s%llu}", name, (unsigned long long)dropped);
    struct str told = str_cut(&rest, '\n');
    CHECK(memmem(told.data, told.len, want, strlen(want)) != NULL);
    CHECK(memmem(told.data, told.len, "\"log.level\":\"warn\"", 18) != NULL);
    CHECK(memmem(rest.data, rest.len, "\"after\"", 7) != NULL);
}

TEST(log_queue, a_fifo_nobody_reads_is_not_waited_for_and_the_gap_is_told)
{
    char path[128];
    snprintf(path, sizeof path, "%s/fifo", check_temp_dir());
    REQUIRE(mkfifo(path, 0600) == 0);
    struct log *log = log_file_open_small(path, 1);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(log && fd >= 0);
    int count = overfill(log);
    uint64_t dropped = log_dropped(log);
    struct buf text = drain(log, fd);
    pause_ms(50);
    log_write(log, ERR_LEVEL_INFO, NULL, "after", LOG_NO_FIELDS);
    struct buf more = drain(log, fd);
    buf_append_str(&text, buf_str(&more));
    CHECK_INT((int64_t)log_dropped(log), (int64_t)dropped);
    check_gap(buf_str(&text), count, dropped);
    buf_release(&more);
    buf_release(&text);
    close(fd);
    log_close(log);
}

TEST(log_queue, a_datagram_is_a_line_and_its_reader_may_stop_and_go_on)
{
    char path[100];
    char target[128];
    snprintf(path, sizeof path, "%s/log.sock", check_temp_dir());
    snprintf(target, sizeof target, "unix:%s", path);
    int receiver = bind_datagram(path);
    REQUIRE(receiver >= 0);
    struct log *log = log_file_open_small(target, 1);
    int count = overfill(log);
    uint64_t dropped = log_dropped(log);
    struct buf text = drain(log, receiver);
    pause_ms(50);
    log_write(log, ERR_LEVEL_INFO, NULL, "after", LOG_NO_FIELDS);
    struct buf more = drain(log, receiver);
    buf_append_str(&text, buf_str(&more));
    check_gap(buf_str(&text), count, dropped);
    buf_release(&more);
    buf_release(&text);
    close(receiver);
    log_close(log);
}

TEST(log_queue, a_receiver_may_be_gone_and_come_back)
{
    char path[100];
    char target[128];
    char line[LOG_LINE_MAX];
    snprintf(path, sizeof path, "%s/log.sock", check_temp_dir());
    snprintf(target, sizeof target, "unix:%s", path);
    int receiver = bind_datagram(path);
    REQUIRE(receiver >= 0);
    struct log *log = log_file_open_small(target, 1);
    close(receiver);
    log_write(log, ERR_LEVEL_INFO, NULL, "nobody there", LOG_NO_FIELDS);
    CHECK(!log_flush(log, 20));
    receiver = bind_datagram(path);
    log_write(log, ERR_LEVEL_INFO, NULL, "again", LOG_NO_FIELDS);
    CHECK(log_flush(log, FLUSH_MS));
    for (int i = 0; i < 2; i++) {
        ssize_t len = recv(receiver, line, sizeof line, 0);
        CHECK(len > 0 && line[len - 1] == '\n');
    }
    CHECK_INT((int64_t)log_dropped(log), 0);
    close(receiver);
    log_close(log);
}

/* The number of lines that were lost, by the lines that tell of them: *ret_telling of those. */
static uint64_t count_told(struct str text, int *ret_telling)
{
    static const char name[] = "\"coffer.log.dropped\":";
    uint64_t told = 0;
    *ret_telling = 0;
    while (text.len) {
        struct str line = str_cut(&text, '\n');
        const char *at = memmem(line.data, line.len, name, sizeof name - 1);
        if (!at)
            continue;
        told += strtoull(at + sizeof name - 1, NULL, 10);
        ++*ret_telling;
    }
    return told;
}

/* All that waits is on its way to the sink when a line is lost, and none comes after it. */
TEST(log_queue, the_last_lines_lost_are_told_without_another)
{
    static char filler[LOG_LINE_MAX / 2];
    char path[100];
    char target[128];
    int unread = 0;
    int telling = 0;
    snprintf(path, sizeof path, "%s/log.sock", check_temp_dir());
    snprintf(target, sizeof target, "unix:%s", path);
    memset(filler, 'x', sizeof filler - 1);
    int receiver = bind_datagram(path);
    REQUIRE(receiver >= 0);
    struct log *log = log_file_open_small(target, 1);
    close(receiver);
    log_write(log, ERR_LEVEL_INFO, NULL, "nobody there", LOG_NO_FIELDS);
    CHECK(!log_flush(log, 50)); /* this line alone is on its way */
    overfill(log);
    receiver = bind_datagram(path);
    struct buf text = {.len = 0};
    buf_init(&text, 1 << 26);
    for (int i = 0; i < 1000 && unread == 0; i++) {
        pause_ms(5);
        CHECK(ioctl(receiver, FIONREAD, &unread) == 0);
    }
    pause_ms(50); /* now the socket is full, and the rest of the lines on their way */
    uint64_t dropped = log_dropped(log);
    log_write(log, ERR_LEVEL_INFO, NULL, filler, LOG_NO_FIELDS);
    CHECK_INT((int64_t)log_dropped(log), (int64_t)dropped + 1);
    for (int i = 0; i < 200 && count_told(buf_str(&text), &telling) <= dropped; i++) {
        struct buf more = drain(log, receiver);
        buf_append_str(&text, buf_str(&more));
        buf_release(&more);
        pause_ms(5);
    }
    CHECK_INT((int64_t)count_told(buf_str(&text), &telling), (int64_t)dropped + 1);
    buf_release(&text);
    close(receiver);
    log_close(log);
}

/* Longer than what a pipe takes in one piece. */
TEST(log_queue, a_line_that_a_pipe_takes_in_parts_stays_whole)
{
    static char filler[LOG_LINE_MAX];
    char path[128];
    memset(filler, 'x', sizeof filler - 1);
    snprintf(path, sizeof path, "%s/fifo", check_temp_dir());
    REQUIRE(mkfifo(path, 0600) == 0);
    struct log *log = log_file_open_small(path, 1);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(log && fd >= 0);
    const int count = 7; /* 56 KiB fit the queue; with the pipe that small they are cut often */
    CHECK(fcntl(fd, F_SETPIPE_SZ, 4096) >= 4096);
    for (int i = 0; i < count; i++)
        log_write(log, ERR_LEVEL_INFO, NULL, filler, LOG_NO_FIELDS);
    struct buf text = drain(log, fd);
    CHECK_INT(log_file_check_lines("long", buf_str(&text)), count);
    CHECK_INT((int64_t)log_dropped(log), 0);
    buf_release(&text);
    close(fd);
    log_close(log);
}

TEST(log_queue, a_full_disk_keeps_what_fits_and_drops_the_rest)
{
    struct log *log = log_file_open_small("/dev/full", 1);
    overfill(log);
    uint64_t dropped = log_dropped(log);
    log_write(log, ERR_LEVEL_ERROR, NULL, "x", LOG_NO_FIELDS);
    CHECK_INT((int64_t)log_dropped(log), (int64_t)dropped + 1);
    log_close(log);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

TEST(log_queue, a_stuck_sink_holds_no_stop)
{
    struct log *log = log_file_open_small("/dev/full", 1);
    overfill(log);
    int64_t before = now_ms();
    log_close(log);
    CHECK(now_ms() - before < 5000);
}

TEST(log_queue, what_waits_is_written_at_the_end)
{
    static uint64_t numbers[LINES_MAX];
    const int count = 10000;
    for (int round = 0; round < 5; round++) {
        struct log_file file = log_file_open();
        for (int i = 0; i < count; i++)
            log_write(file.log, ERR_LEVEL_INFO, NULL, "x", LOG_NO_FIELDS);
        CHECK_INT((int64_t)log_dropped(file.log), 0);
        log_close(file.log);
        struct buf text = log_file_read(file.path);
        size_t found = log_file_numbers(buf_str(&text), numbers, LINES_MAX);
        CHECK_INT((int64_t)found, count);
        bool in_order = true;
        for (size_t i = 0; i < found; i++)
            in_order = in_order && numbers[i] == i;
        CHECK(in_order);
        unlink(file.path);
        buf_release(&text);
    }
}

/* Alone, a line is written at once; the next ones soon after. */
TEST(log_queue, lines_are_written_without_being_asked_for)
{
    struct log_file file = log_file_open();
    for (int i = 1; i <= 5; i++) {
        struct buf text = {.len = 0};
        log_write(file.log, ERR_LEVEL_INFO, NULL, "x", LOG_NO_FIELDS);
        int lines = 0;
        for (int look = 0; look < 1000 && lines < i; look++) {
            text = log_file_read(file.path);
            lines = log_file_check_lines("soon", buf_str(&text));
            buf_release(&text);
            pause_ms(5);
        }
        CHECK_INT(lines, i);
    }
    log_close(file.log);
}

struct writer {
    struct log *log;
    int count;
};

static void *write_many(void *context)
{
    const struct writer *writer = context;
    for (int i = 0; i < writer->count; i++)
        log_write(writer->log, ERR_LEVEL_INFO, NULL, "x", LOG_NO_FIELDS);
    return NULL;
}

TEST(log_queue, every_line_of_many_threads_is_written_or_counted)
{
    enum { WRITERS = 8, EACH = 2000 };
    char path[128];
    pthread_t threads[WRITERS];
    snprintf(path, sizeof path, "%s/test.log", check_temp_dir());
    struct log *log = log_file_open_small(path, 1);
    REQUIRE(log != NULL);
    const struct writer writer = {log, EACH};
    for (int i = 0; i < WRITERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, write_many, (void *)(uintptr_t)&writer) == 0);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(log_flush(log, FLUSH_MS));
    uint64_t dropped = log_dropped(log);
    log_close(log);
    struct buf text = log_file_read(path);
    int telling = 0;
    uint64_t told = count_told(buf_str(&text), &telling);
    int64_t lines = log_file_check_lines("all", buf_str(&text)) - telling;
    CHECK_INT((int64_t)told, (int64_t)dropped);
    CHECK_INT(lines + (int64_t)dropped, (int64_t)WRITERS * EACH);
    buf_release(&text);
}

TEST(log_queue, successes_are_sampled_by_their_trace)
{
    char path[128];
    snprintf(path, sizeof path, "%s/test.log", check_temp_dir());
    struct log *every = log_file_open_small(path, 1);
    struct log *some = log_file_open_small(path, 10);
    struct log *same = log_file_open_small(path, 10);
    int kept = 0;
    int differing = 0;
    for (unsigned i = 0; i < 10000; i++) {
        char trace_id[33];
        snprintf(trace_id, sizeof trace_id, "%032x", i); /* counted up: not by its digits alone */
        bool keeps = log_keeps_success(some, trace_id);
        kept += keeps;
        differing += keeps != log_keeps_success(same, trace_id);
        CHECK(log_keeps_success(every, trace_id));
    }
    CHECK(kept > 850 && kept < 1150);
    CHECK_INT(differing, 0);
    CHECK(!log_keeps_success(NULL, ""));
    log_close(every);
    log_close(some);
    log_close(same);
}
