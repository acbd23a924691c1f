#include "observe/gateway_runs.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define PATH_SIZE 160
#define RUNS 16 /* as many as the file has */

struct files {
    char metrics[PATH_SIZE];
    char runs[PATH_SIZE];
};

/* A process that counts, or that scrapes. */
struct part {
    struct metrics *metrics;
    struct gateway_runs *runs;
};

static atomic_bool go_on;

static struct files make_files(void)
{
    static unsigned number;
    struct files files;
    snprintf(files.metrics, PATH_SIZE, "%s/metrics-%u", check_temp_dir(), ++number);
    snprintf(files.runs, PATH_SIZE, "%s/runs-%u", check_temp_dir(), number);
    return files;
}

static struct part open_with(const struct files *files, unsigned bound_count)
{
    static const double bounds[] = {1, 2};
    struct part part = {.runs = NULL};
    struct err err;
    const struct metrics_options options = {.path = files->metrics,
                                            .program = "access_log",
                                            .set = METRICS_OF_GATEWAY,
                                            .duration_bounds = bounds,
                                            .duration_bound_count = bound_count};
    CHECK_ERR(metrics_open(&part.metrics, &options, &err), ERR_OK, &err);
    CHECK_ERR(gateway_runs_open(&part.runs, files->runs, part.metrics, &err), ERR_OK, &err);
    return part;
}

static struct part open_part(const struct files *files)
{
    return open_with(files, 1);
}

static void close_part(struct part *part)
{
    gateway_runs_close(part->runs);
    metrics_close(part->metrics);
}

static struct part open_reader(const struct files *files, const int pipe[2])
{
    struct err err;
    struct part part = open_part(files);
    CHECK_ERR(gateway_runs_join(part.runs, pipe[0], &go_on, &err), ERR_OK, &err);
    return part;
}

static void count(const struct part *part, int answers)
{
    const unsigned labels[] = {METHOD_GET, ROUTE_LIVE, 200};
    for (int i = 0; i < answers; i++)
        metrics_add(part->metrics, METRIC_HTTP_REQUESTS, labels, 1);
}

/* A scrape whose mark the reader sees; what is known to be lost after it. */
static int64_t scrape(const struct part *reader, uint64_t total)
{
    uint64_t mark = gateway_runs_new_mark(reader->runs);
    gateway_runs_count_own(reader->runs, mark);
    CHECK(gateway_runs_account(reader->runs, mark, total));
    gateway_runs_publish(reader->runs);
    return (int64_t)metrics_total(reader->metrics, METRIC_GATEWAY_LINES_LOST);
}

TEST(gateway_runs, what_lighttpd_has_and_nobody_counted_is_lost)
{
    const struct files files = make_files();
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    struct part reader = open_reader(&files, ends);
    count(&reader, 5);
    CHECK_INT(scrape(&reader, 5), 0);
    count(&reader, 5);
    CHECK_INT(scrape(&reader, 11 + 3), 3); /* 10 answers, a scrape */
    close_part(&reader);
    close(ends[0]);
    close(ends[1]);
}

TEST(gateway_runs, a_total_of_a_moment_ago_takes_nothing_back)
{
    const struct files files = make_files();
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    struct part reader = open_reader(&files, ends);
    count(&reader, 5);
    CHECK_INT(scrape(&reader, 7), 2);
    count(&reader, 100);
    CHECK_INT(scrape(&reader, 7), 2);
    CHECK_INT(scrape(&reader, 0), 2);
    CHECK_INT(scrape(&reader, 105 + 3 + 2), 2);
    CHECK_INT(scrape(&reader, 105 + 4 + 3), 3);
    close_part(&reader);
    close(ends[0]);
    close(ends[1]);
}

TEST(gateway_runs, a_reader_goes_on_where_the_one_before_ended)
{
    const struct files files = make_files();
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    struct part reader = open_reader(&files, ends);
    count(&reader, 5);
    CHECK_INT(scrape(&reader, 6), 1);
    close_part(&reader);
    reader = open_reader(&files, ends);
    count(&reader, 5);
    CHECK_INT(scrape(&reader, 11 + 1), 1);
    CHECK_INT(scrape(&reader, 12 + 4), 4);
    close_part(&reader);
    close(ends[0]);
    close(ends[1]);
}

/* Two lighttpds at a change of nodes; their readers end and come back the other way round, so that
 * each has the slot that the other had. */
TEST(gateway_runs, slots_may_be_exchanged)
{
    const struct files files = make_files();
    int old[2];
    int new[2];
    REQUIRE(pipe(old) == 0 && pipe(new) == 0);
    struct part of_old = open_reader(&files, old);
    struct part of_new = open_reader(&files, new);
    count(&of_old, 10);
    count(&of_new, 3);
    CHECK_INT(scrape(&of_old, 12), 2);
    CHECK_INT(scrape(&of_new, 3), 2);
    close_part(&of_old);
    close_part(&of_new);
    of_new = open_reader(&files, new);
    of_old = open_reader(&files, old);
    count(&of_new, 4);
    count(&of_old, 20);
    CHECK_INT(scrape(&of_old, 30 + 1 + 2), 2);
    CHECK_INT(scrape(&of_new, 7 + 1), 2);
    CHECK_INT(scrape(&of_new, 7 + 2 + 1), 3);
    close_part(&of_old);
    close_part(&of_new);
    for (int i = 0; i < 2; i++) {
        close(old[i]);
        close(new[i]);
    }
}

TEST(gateway_runs, another_pipe_is_another_run_and_what_was_lost_stays)
{
    const struct files files = make_files();
    int64_t lost = 0;
    int pipes[RUNS + 4][2];
    for (int i = 0; i < RUNS + 4; i++) {
        REQUIRE(pipe(pipes[i]) == 0);
        struct part reader = open_reader(&files, pipes[i]);
        count(&reader, 5);
        CHECK_INT(scrape(&reader, 5), lost);
        CHECK_INT(scrape(&reader, 5 + 1 + 1), ++lost);
        close_part(&reader);
    }
    for (int i = 0; i < RUNS + 4; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

TEST(gateway_runs, a_question_that_got_lost_is_no_lost_answer)
{
    const struct files files = make_files();
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    struct part reader = open_reader(&files, ends);
    count(&reader, 5);
    uint64_t lost_mark = gateway_runs_new_mark(reader.runs);
    uint64_t late_mark = gateway_runs_new_mark(reader.runs);
    CHECK(!gateway_runs_account(reader.runs, lost_mark, 5));
    CHECK(!gateway_runs_account(reader.runs, late_mark, 6));
    gateway_runs_miss(reader.runs, lost_mark);
    gateway_runs_miss(reader.runs, late_mark);
    gateway_runs_count_own(reader.runs, late_mark);
    CHECK_INT(scrape(&reader, 7), 0);
    CHECK_INT(scrape(&reader, 8 + 1), 1);
    close_part(&reader);
    close(ends[0]);
    close(ends[1]);
}

TEST(gateway_runs, with_metrics_of_another_layout_all_begins_anew)
{
    const struct files files = make_files();
    int ends[2];
    struct err err;
    REQUIRE(pipe(ends) == 0);
    struct part reader = open_reader(&files, ends);
    count(&reader, 5);
    CHECK_INT(scrape(&reader, 50), 45);
    close_part(&reader);
    reader = open_with(&files, 2);
    CHECK_ERR(gateway_runs_join(reader.runs, ends[0], &go_on, &err), ERR_OK, &err);
    count(&reader, 5);
    CHECK_INT(scrape(&reader, 56), 0);
    CHECK_INT(scrape(&reader, 57 + 2), 2);
    close_part(&reader);
    close(ends[0]);
    close(ends[1]);
}

struct waiter {
    struct part part;
    const int *pipe;
    atomic_bool stopped;
    atomic_bool joined;
    enum err_code code;
};

static void *join(void *context)
{
    struct waiter *waiter = context;
    struct err err;
    waiter->code = gateway_runs_join(waiter->part.runs, waiter->pipe[0], &waiter->stopped, &err);
    atomic_store(&waiter->joined, true);
    return NULL;
}

static void rest(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

TEST(gateway_runs, a_second_reader_of_a_pipe_waits_for_the_end_of_the_first)
{
    const struct files files = make_files();
    int ends[2];
    pthread_t thread;
    REQUIRE(pipe(ends) == 0);
    for (int stops = 0; stops < 2; stops++) {
        struct part first = open_reader(&files, ends);
        struct waiter second = {.part = open_part(&files), .pipe = ends};
        REQUIRE(pthread_create(&thread, NULL, join, &second) == 0);
        rest(100);
        CHECK(!atomic_load(&second.joined));
        if (stops)
            atomic_store(&second.stopped, true);
        else
            close_part(&first);
        pthread_join(thread, NULL);
        CHECK_INT(second.code, stops ? ERR_INTERNAL : ERR_OK);
        if (stops)
            close_part(&first);
        close_part(&second.part);
    }
    close(ends[0]);
    close(ends[1]);
}

TEST(gateway_runs, only_a_pipe_is_a_run)
{
    const struct files files = make_files();
    struct err err;
    struct part part = open_part(&files);
    FILE *file = fopen(files.runs, "r");
    REQUIRE(file);
    CHECK_ERR(gateway_runs_join(part.runs, fileno(file), &go_on, &err), ERR_INTERNAL, &err);
    fclose(file);
    close_part(&part);
}

TEST(gateway_runs, without_metrics_there_are_none)
{
    struct err err;
    CHECK_ERR(gateway_runs_join(NULL, 0, &go_on, &err), ERR_OK, &err);
    gateway_runs_count_own(NULL, 1);
    CHECK_INT((int64_t)gateway_runs_new_mark(NULL), 0);
    CHECK(!gateway_runs_account(NULL, 1, 1));
    gateway_runs_miss(NULL, 1);
    gateway_runs_publish(NULL);
    gateway_runs_close(NULL);
}

static void count_until_killed(const struct files *files, const int pipe[2])
{
    struct part reader = open_reader(files, pipe);
    for (;;) {
        count(&reader, 50);
        gateway_runs_count_own(reader.runs, 0);
    }
}

/* At any moment: what was counted and what is known to be lost are lighttpd's total. */
TEST(gateway_runs, a_killed_reader_leaves_a_true_sum)
{
    const struct files files = make_files();
    int ends[2];
    uint64_t total = 1000000000;
    REQUIRE(pipe(ends) == 0);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0)
            count_until_killed(&files, ends);
        rest(5 + i % 7);
        kill(child, SIGKILL);
        CHECK_INT(waitpid(child, NULL, 0), child);
        struct part reader = open_reader(&files, ends);
        int64_t lost = scrape(&reader, total);
        int64_t counted = (int64_t)metrics_total(reader.metrics, METRIC_HTTP_REQUESTS);
        /* An own line after each 50, and the scrapes of the rounds before. */
        int64_t own = (int64_t)total - lost - counted - i;
        CHECK(own >= 0 && own <= counted / 50 && own >= counted / 50 - i - 1);
        total += 1000000000;
        close_part(&reader);
    }
    close(ends[0]);
    close(ends[1]);
}
