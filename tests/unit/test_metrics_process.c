/* Metrics over many processes: kills, adoption, races at the start. Files of another kind are in
 * test_metrics_segment.c. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "metrics_file.h"
#include "observe/metrics_table.h"
#include "scrape.h"

#define UPLOADED "files_uploaded_total"
#define IN_FLIGHT "http_requests_in_flight"

struct child {
    pid_t pid;
    int from; /* what it tells us */
    int to;   /* closed: it shall end */
};

typedef void child_main(struct metrics *metrics, int to_parent, int from_parent);

/* A process that opens the metrics and runs `run`; ends with 1 when they can't be opened. */
static struct child start_child(const char *path, const char *program, child_main *run)
{
    struct child child = {-1, -1, -1};
    int up[2];
    int down[2];
    if (pipe2(up, O_CLOEXEC) != 0 || pipe2(down, O_CLOEXEC) != 0)
        abort();
    child.pid = fork();
    if (child.pid == 0) {
        close(up[0]);
        close(down[1]);
        struct metrics *metrics = metrics_file_open(path, program);
        if (!metrics)
            _exit(1);
        run(metrics, up[1], down[0]);
        _exit(0);
    }
    close(up[1]);
    close(down[0]);
    child.from = up[0];
    child.to = down[1];
    return child;
}

static int wait_child(const struct child *child)
{
    int status = -1;
    waitpid(child->pid, &status, 0);
    close(child->from);
    close(child->to);
    return status;
}

static void kill_child(const struct child *child)
{
    kill(child->pid, SIGKILL);
    wait_child(child);
}

static void tell(int fd)
{
    if (write(fd, "x", 1) != 1)
        _exit(2);
}

static bool hear(int fd)
{
    char byte;
    return read(fd, &byte, 1) == 1;
}

/* ---- kills ---- */

static void count_until_killed(struct metrics *metrics, int to_parent, int from_parent)
{
    (void)from_parent;
    metrics_add(metrics, METRIC_HTTP_IN_FLIGHT, NULL, 7);
    for (;;) {
        metrics_add(metrics, METRIC_FILES_UPLOADED, NULL, 1);
        metrics_observe(metrics, METRIC_HTTP_DURATION, (unsigned[]){0, 0}, 1);
        tell(to_parent);
    }
}

/* What was acknowledged before the end; the pipe keeps what we did not read yet. */
static int64_t hear_all(int fd)
{
    char bytes[4096];
    int64_t count = 0;
    for (ssize_t len = read(fd, bytes, sizeof bytes); len > 0; len = read(fd, bytes, sizeof bytes))
        count += len;
    return count;
}

/* A count is made before it is acknowledged, so each kill may hide the acknowledgement of one. */
TEST(metrics_process, fifty_kills_lose_nothing_and_double_nothing)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct metrics *reader = metrics_file_open(path, "reader");
    REQUIRE(reader != NULL);
    const int kills = 50;
    int64_t acknowledged = 0;
    double shown = 0;
    for (int i = 0; i < kills; i++) {
        struct child child = start_child(path, "writer", count_until_killed);
        REQUIRE(hear(child.from));
        acknowledged++;
        nanosleep(&(struct timespec){.tv_nsec = i % 5 * 500000}, NULL);
        kill(child.pid, SIGKILL);
        acknowledged += hear_all(child.from);
        CHECK(WIFSIGNALED(wait_child(&child)));
        double now = scrape_value(reader, UPLOADED);
        CHECK(now >= (double)acknowledged && now <= (double)(acknowledged + i + 1));
        CHECK(now > shown);
        CHECK_INT((int64_t)scrape_value(reader, IN_FLIGHT), 0);
        shown = now;
        double count = scrape_value(
            reader, "http_request_duration_seconds_count{method=\"GET\",route=\"/api/files\"}");
        CHECK(now - count >= 0 && now - count <= i + 1);
    }
    int used = 0;
    for (unsigned i = 0; i < METRICS_SLOTS; i++)
        used += metrics_slot_was_used(metrics_slot_at(reader, i));
    CHECK_INT(used, 2);
    metrics_close(reader);
}

static void hold(struct metrics *metrics, int to_parent, int from_parent)
{
    metrics_add(metrics, METRIC_HTTP_IN_FLIGHT, NULL, 5);
    metrics_add(metrics, METRIC_FILES_UPLOADED, NULL, 1);
    tell(to_parent);
    hear(from_parent);
}

static void hold_and_close(struct metrics *metrics, int to_parent, int from_parent)
{
    hold(metrics, to_parent, from_parent);
    metrics_close(metrics);
}

TEST(metrics_process, gauges_of_the_dead_are_not_shown_and_not_inherited)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct metrics *reader = metrics_file_open(path, "reader");
    REQUIRE(reader != NULL);
    struct child first = start_child(path, "writer", hold);
    REQUIRE(hear(first.from));
    CHECK_INT((int64_t)scrape_value(reader, IN_FLIGHT), 5);
    kill(first.pid, SIGKILL);
    siginfo_t info;
    REQUIRE(waitid(P_PID, (id_t)first.pid, &info, WEXITED | WNOWAIT) == 0);
    CHECK_INT((int64_t)scrape_value(reader, IN_FLIGHT), 0); /* it is a zombie now */
    struct child second = start_child(path, "writer", hold);
    REQUIRE(hear(second.from));
    CHECK_INT((int64_t)scrape_value(reader, IN_FLIGHT), 5);
    CHECK_INT((int64_t)scrape_value(reader, UPLOADED), 2);
    wait_child(&first);
    kill_child(&second);
    metrics_close(reader);
}

TEST(metrics_process, a_slot_given_back_keeps_its_counts)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct metrics *reader = metrics_file_open(path, "reader");
    REQUIRE(reader != NULL);
    for (int i = 1; i <= 3; i++) {
        struct child child = start_child(path, "writer", hold_and_close);
        REQUIRE(hear(child.from));
        close(child.to);
        child.to = -1;
        CHECK_INT(wait_child(&child), 0);
        CHECK_INT((int64_t)scrape_value(reader, UPLOADED), i);
        CHECK_INT((int64_t)scrape_value(reader, IN_FLIGHT), 0);
    }
    metrics_close(reader);
    reader = metrics_file_open(path, "reader");
    REQUIRE(reader != NULL);
    CHECK_INT((int64_t)scrape_value(reader, UPLOADED), 3);
    metrics_close(reader);
}

/* ---- many at once ---- */

#define PROCESSES 8
#define THREADS 4
#define ROUNDS 20000

static void *count_rounds(void *context)
{
    struct metrics *metrics = context;
    unsigned labels[] = {METHOD_GET, ROUTE_FILES, 200};
    for (int i = 0; i < ROUNDS; i++) {
        metrics_add(metrics, METRIC_HTTP_IN_FLIGHT, NULL, 1);
        metrics_add(metrics, METRIC_HTTP_REQUESTS, labels, 1);
        metrics_observe(metrics, METRIC_HTTP_DURATION, labels, 0.5);
        metrics_add(metrics, METRIC_HTTP_IN_FLIGHT, NULL, -1);
    }
    return NULL;
}

static void count_in_threads(struct metrics *metrics, int to_parent, int from_parent)
{
    pthread_t threads[THREADS];
    tell(to_parent);
    hear(from_parent);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, count_rounds, metrics) != 0)
            _exit(3);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    tell(to_parent);
    hear(from_parent);
}

TEST(metrics_process, counts_of_many_processes_and_threads_are_exact)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct child children[PROCESSES];
    struct metrics *reader = metrics_file_open(path, "reader");
    REQUIRE(reader != NULL);
    for (int i = 0; i < PROCESSES; i++)
        children[i] = start_child(path, i % 2 ? "one" : "two", count_in_threads);
    for (int i = 0; i < PROCESSES; i++)
        REQUIRE(hear(children[i].from));
    for (int i = 0; i < PROCESSES; i++)
        CHECK(write(children[i].to, "x", 1) == 1);
    for (int i = 0; i < PROCESSES; i++)
        REQUIRE(hear(children[i].from));
    const int64_t want = (int64_t)PROCESSES * THREADS * ROUNDS;
    CHECK_INT((int64_t)scrape_value(reader, "http_requests_total{method=\"GET\","
                                            "route=\"/api/files\",status=\"200\"}"),
              want);
    CHECK(scrape_value(reader, "http_request_duration_seconds_sum{method=\"GET\","
                               "route=\"/api/files\"}") == (double)want / 2);
    CHECK_INT((int64_t)scrape_value(reader, "http_request_duration_seconds_bucket{method=\"GET\","
                                            "route=\"/api/files\",le=\"+Inf\"}"),
              want);
    CHECK_INT((int64_t)scrape_value(reader, IN_FLIGHT), 0);
    CHECK_INT((int64_t)scrape_value(reader, "process_max_fds{program=\"one\"}") % 4, 0);
    CHECK(scrape_value(reader, "process_threads{program=\"one\"}") >= 4);
    for (int i = 0; i < PROCESSES; i++)
        kill_child(&children[i]);
    metrics_close(reader);
}

static void count_once(struct metrics *metrics, int to_parent, int from_parent)
{
    metrics_add(metrics, METRIC_FILES_UPLOADED, NULL, 1);
    tell(to_parent);
    hear(from_parent);
}

/* No file, or one to be replaced, and all find it so at the same time. */
TEST(metrics_process, programs_that_start_together_end_in_one_file)
{
    for (int round = 0; round < 20; round++) {
        char path[METRICS_FILE_PATH_SIZE];
        metrics_file_path(path);
        struct child children[PROCESSES];
        if (round % 2) {
            int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            REQUIRE(fd >= 0 && write(fd, "garbage", 7) == 7);
            close(fd);
        }
        for (int i = 0; i < PROCESSES; i++)
            children[i] = start_child(path, i % 2 ? "one" : "two", count_once);
        for (int i = 0; i < PROCESSES; i++)
            CHECK(hear(children[i].from));
        struct metrics *reader = metrics_file_open(path, "reader");
        REQUIRE(reader != NULL);
        CHECK_INT((int64_t)scrape_value(reader, UPLOADED), PROCESSES);
        for (int i = 0; i < PROCESSES; i++)
            kill_child(&children[i]);
        metrics_close(reader);
    }
}

TEST(metrics_process, without_a_free_slot_opening_fails_until_one_dies)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct child children[METRICS_SLOTS];
    struct err err = {.code = ERR_OK};
    struct metrics *metrics = NULL;
    for (int i = 0; i < METRICS_SLOTS; i++) {
        children[i] = start_child(path, i % 2 ? "one" : "two", count_once);
        REQUIRE(hear(children[i].from));
    }
    CHECK_ERR(
        metrics_open(&metrics, &(struct metrics_options){.path = path, .program = "late"}, &err),
        ERR_INTERNAL, &err);
    CHECK(metrics == NULL && err.internal);
    kill_child(&children[0]);
    CHECK_ERR(
        metrics_open(&metrics, &(struct metrics_options){.path = path, .program = "late"}, &err),
        ERR_OK, &err);
    REQUIRE(metrics != NULL);
    CHECK_INT((int64_t)scrape_value(metrics, UPLOADED), METRICS_SLOTS);
    CHECK(scrape_value(metrics, "process_threads{program=\"late\"}") >= 1);
    for (int i = 1; i < METRICS_SLOTS; i++)
        kill_child(&children[i]);
    metrics_close(metrics);
}

/* ---- identity ---- */

TEST(metrics_process, a_recycled_process_number_is_another_process)
{
    uint64_t mine = process_identity(getpid());
    CHECK(process_is_alive(mine));
    CHECK(!process_is_alive(mine + ((uint64_t)1 << 22)));
    CHECK(!process_is_alive(0));
    struct process_usage usage;
    CHECK(process_read_usage(mine, &usage));
    CHECK(!process_read_usage(mine + ((uint64_t)1 << 22), &usage));
}

TEST(metrics_process, a_slot_of_a_recycled_number_is_adopted)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct metrics *first = metrics_file_open(path, "writer");
    REQUIRE(first != NULL);
    metrics_add(first, METRIC_FILES_UPLOADED, NULL, 1);
    struct metrics *beside = metrics_file_open(path, "writer");
    REQUIRE(beside != NULL);
    CHECK(first->own != NULL && beside->own != metrics_slot_at(beside, 0));
    uint64_t owner = atomic_load(&first->own->owner);
    atomic_store(&first->own->owner, owner - ((uint64_t)1 << 22)); /* our number, started earlier */
    struct metrics *adopter = metrics_file_open(path, "writer");
    REQUIRE(adopter != NULL);
    CHECK(adopter->own == metrics_slot_at(adopter, 0));
    metrics_add(adopter, METRIC_FILES_UPLOADED, NULL, 1);
    CHECK_INT((int64_t)scrape_value(adopter, UPLOADED), 2);
    metrics_close(beside);
    metrics_close(adopter);
    metrics_close(first);
}

TEST(metrics_process, a_process_that_died_is_not_alive_before_it_is_waited_for)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    uint64_t identity = process_identity(pid);
    siginfo_t info;
    REQUIRE(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
    CHECK(!process_is_alive(identity));
    waitpid(pid, NULL, 0);
    CHECK(!process_is_alive(identity));
}

/* ---- CPU time ---- */

static void burn_then_hold(struct metrics *metrics, int to_parent, int from_parent)
{
    volatile unsigned work = 0;
    while (clock() < CLOCKS_PER_SEC / 10)
        work = work + 1;
    count_once(metrics, to_parent, from_parent);
}

TEST(metrics_process, cpu_time_adds_up_over_the_processes_of_a_program)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    const char *const series = "process_cpu_seconds_total{program=\"writer\"}";
    struct metrics *reader = metrics_file_open(path, "reader");
    REQUIRE(reader != NULL);
    double shown = 0;
    for (int i = 0; i < 3; i++) {
        struct child child = start_child(path, "writer", burn_then_hold);
        REQUIRE(hear(child.from));
        double alive = scrape_value(reader, series);
        CHECK(alive >= shown + 0.05);
        kill_child(&child);
        double dead = scrape_value(reader, series);
        CHECK(dead >= alive);
        CHECK(scrape_value(reader, "process_threads{program=\"writer\"}") == SCRAPE_ABSENT);
        shown = dead;
    }
    metrics_close(reader);
}
