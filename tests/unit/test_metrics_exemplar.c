/* Exemplars: what OpenMetrics shows of them, and that none is ever half one, half another. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "metrics_file.h"
#include "observe/metrics_table.h"
#include "scrape.h"
#include "storage/storage.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define FAMILY "storage_operation_duration_seconds"

static int64_t fixed_wall_ms(const struct clock *clock)
{
    (void)clock;
    return 1700000000045;
}

static const struct clock fixed_clock = {.wall_ms = fixed_wall_ms};

static struct metrics *open_fixed(const struct clock *clock)
{
    char path[METRICS_FILE_PATH_SIZE];
    struct metrics *metrics = NULL;
    struct err err;
    metrics_file_path(path);
    const struct metrics_options options = {.path = path, .program = "test", .clock = clock};
    CHECK_ERR(metrics_open(&metrics, &options, &err), ERR_OK, &err);
    return metrics;
}

static const unsigned fs_get[] = {METRIC_STORAGE_FS, STORAGE_GET};

/* What stands behind the count of the line of fs, get and `le`; "" for nothing. */
static void exemplar_text(struct metrics *metrics, enum metrics_format format, const char *le,
                          char target[200])
{
    char start[160];
    snprintf(start, sizeof start, "\n" FAMILY "_bucket{driver=\"fs\",operation=\"get\",le=\"%s\"} ",
             le);
    struct buf text = scrape_text(metrics, format);
    const char *line = strstr(buf_text(&text), start);
    const char *value = line ? line + strlen(start) : "no line";
    snprintf(target, 200, "%.*s", (int)strcspn(value, "\n"), value);
    const char *rest = strstr(target, " #");
    memmove(target, rest ? rest : "", rest ? strlen(rest) + 1 : 1);
    buf_release(&text);
}

TEST(metrics_exemplar, stands_behind_its_bucket_in_openmetrics_only)
{
    struct metrics *metrics = open_fixed(&fixed_clock);
    char text[200];
    metrics_observe_traced(metrics, METRIC_STORAGE_DURATION, fs_get, 0.25, TRACE);
    metrics_observe_traced(metrics, METRIC_STORAGE_DURATION, fs_get, 0.0123, TRACE);
    exemplar_text(metrics, METRICS_OPENMETRICS, "0.25", text);
    CHECK_STR(str_of(text), " # {trace_id=\"" TRACE "\"} 0.25 1700000000.045");
    exemplar_text(metrics, METRICS_OPENMETRICS, "0.025", text);
    CHECK_STR(str_of(text), " # {trace_id=\"" TRACE "\"} 0.0123 1700000000.045");
    exemplar_text(metrics, METRICS_OPENMETRICS, "0.5", text);
    CHECK_STR(str_of(text), "");
    exemplar_text(metrics, METRICS_OPENMETRICS, "+Inf", text);
    CHECK_STR(str_of(text), "");
    exemplar_text(metrics, METRICS_TEXT, "0.25", text);
    CHECK_STR(str_of(text), "");
    metrics_close(metrics);
}

TEST(metrics_exemplar, is_the_last_traced_value)
{
    struct metrics *metrics = open_fixed(&fixed_clock);
    char text[200];
    metrics_observe_traced(metrics, METRIC_STORAGE_DURATION, fs_get, 100, TRACE);
    metrics_observe_traced(metrics, METRIC_STORAGE_DURATION, fs_get, 200,
                           "00000000000000000000000000000001");
    metrics_observe(metrics, METRIC_STORAGE_DURATION, fs_get, 300);
    exemplar_text(metrics, METRICS_OPENMETRICS, "+Inf", text);
    CHECK_STR(str_of(text),
              " # {trace_id=\"00000000000000000000000000000001\"} 200 1700000000.045");
    metrics_close(metrics);
}

TEST(metrics_exemplar, needs_a_trace_id)
{
    static const char *const rows[] = {
        NULL,
        "",
        "0",
        "00000000000000000000000000000000",
        "0af7651916cd43dd8448eb211c80319",
        "0af7651916cd43dd8448eb211c80319c0",
        "0AF7651916CD43DD8448EB211C80319C",
        "0af7651916cd43dd8448eb211c80319g",
        "0af7651916cd43dd\"} 1 \n48eb211c80319",
    };
    struct metrics *metrics = open_fixed(&fixed_clock);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[200];
        metrics_observe_traced(metrics, METRIC_STORAGE_DURATION, fs_get, 1, rows[i]);
        exemplar_text(metrics, METRICS_OPENMETRICS, "1.0", text);
        CHECK_STR_ROW(rows[i] ? rows[i] : "NULL", str_of(text), "");
    }
    CHECK_INT((int64_t)scrape_value(metrics, FAMILY "_count{driver=\"fs\",operation=\"get\"}"),
              sizeof rows / sizeof rows[0]);
    metrics_close(metrics);
}

TEST(metrics_exemplar, of_several_processes_the_youngest_is_shown_the_dead_ones_too)
{
    char path[METRICS_FILE_PATH_SIZE];
    char text[200];
    metrics_file_path(path);
    struct metrics *first = metrics_file_open(path, "one");
    struct metrics *second = metrics_file_open(path, "two");
    REQUIRE(first != NULL && second != NULL);
    metrics_observe_traced(second, METRIC_STORAGE_DURATION, fs_get, 1,
                           "00000000000000000000000000000002");
    usleep(3000);
    metrics_observe_traced(first, METRIC_STORAGE_DURATION, fs_get, 1,
                           "00000000000000000000000000000001");
    metrics_close(first);
    exemplar_text(second, METRICS_OPENMETRICS, "1.0", text);
    CHECK(strstr(text, "\"00000000000000000000000000000001\"") != NULL);
    usleep(3000);
    metrics_observe_traced(second, METRIC_STORAGE_DURATION, fs_get, 1,
                           "00000000000000000000000000000003");
    exemplar_text(second, METRICS_OPENMETRICS, "1.0", text);
    CHECK(strstr(text, "\"00000000000000000000000000000003\"") != NULL);
    metrics_close(second);
}

/* ---- many at once ---- */

#define WRITERS 4
#define READ_SECONDS_MAX 10

struct storm {
    struct metrics *metrics;
    atomic_uint next;
    atomic_bool stop;
};

/* A value and a trace id that belong together: nobody else writes this pair. */
static void write_pair(struct metrics *metrics, unsigned number)
{
    char trace_id[33];
    snprintf(trace_id, sizeof trace_id, "%016x%016x", number, ~number);
    metrics_observe_traced(metrics, METRIC_STORAGE_DURATION, fs_get, 100 + (double)number,
                           trace_id);
}

static void *write_pairs(void *context)
{
    struct storm *storm = context;
    while (!atomic_load(&storm->stop))
        write_pair(storm->metrics, 1 + atomic_fetch_add(&storm->next, 1) % 1000000);
    return NULL;
}

static bool is_whole(const struct exemplar *exemplar)
{
    unsigned number = (unsigned)exemplar->trace_high;
    return exemplar->trace_high == number && exemplar->trace_low == (unsigned)~number &&
           exemplar->value == 100 + (double)number;
}

static struct exemplar_place last_bucket(const struct metrics *metrics)
{
    return (struct exemplar_place){
        .metric = METRIC_STORAGE_DURATION,
        .series = METRIC_STORAGE_FS * STORAGE_OPERATION_COUNT + STORAGE_GET,
        .bucket = metrics->layout.duration_bound_count,
    };
}

TEST(metrics_exemplar, no_reader_sees_half_of_one)
{
    struct storm storm = {.metrics = open_fixed(NULL)};
    pthread_t threads[WRITERS];
    const struct exemplar_place place = last_bucket(storm.metrics);
    for (int i = 0; i < WRITERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, write_pairs, &storm) == 0);
    int seen = 0;
    int broken = 0;
    unsigned last = 0;
    int changes = 0;
    int64_t end_ns = clock_steady_ns(&clock_system) + READ_SECONDS_MAX * INT64_C(1000000000);
    while (changes < 2000 && clock_steady_ns(&clock_system) < end_ns) {
        struct exemplar exemplar;
        if (!exemplar_read(&storm.metrics->layout, storm.metrics->own, &place, &exemplar))
            continue;
        seen++;
        broken += !is_whole(&exemplar);
        changes += (unsigned)exemplar.trace_high != last;
        last = (unsigned)exemplar.trace_high;
    }
    atomic_store(&storm.stop, true);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(seen >= changes && changes >= 100);
    CHECK_INT(broken, 0);
    metrics_close(storm.metrics);
}

static void storm_until_killed(const char *path, int to_parent)
{
    struct storm storm = {.metrics = metrics_file_open(path, "writer")};
    pthread_t threads[WRITERS];
    if (!storm.metrics || write(to_parent, "x", 1) != 1)
        _exit(1);
    for (int i = 0; i < WRITERS; i++)
        if (pthread_create(&threads[i], NULL, write_pairs, &storm) != 0)
            _exit(1);
    pause();
    _exit(1);
}

/* A kill in the middle of a write must neither show half of it nor close the place for ever. */
TEST(metrics_exemplar, a_kill_in_the_middle_leaves_nothing_half_and_nothing_closed)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct metrics *reader = metrics_file_open(path, "reader");
    REQUIRE(reader != NULL);
    const struct exemplar_place place = last_bucket(reader);
    struct exemplar exemplar;
    for (int i = 0; i < 30; i++) {
        int up[2];
        char byte;
        REQUIRE(pipe(up) == 0);
        pid_t pid = fork();
        if (pid == 0)
            storm_until_killed(path, up[1]);
        close(up[1]);
        REQUIRE(read(up[0], &byte, 1) == 1);
        usleep(2000 + (unsigned)i * 100);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(up[0]);
        struct metrics_slot *slot = metrics_slot_at(reader, 1);
        if (exemplar_read(&reader->layout, slot, &place, &exemplar))
            CHECK(is_whole(&exemplar));
        struct metrics *next = metrics_file_open(path, "writer");
        REQUIRE(next != NULL && next->own == metrics_slot_at(next, 1));
        write_pair(next, 7);
        REQUIRE(exemplar_read(&reader->layout, slot, &place, &exemplar));
        CHECK(is_whole(&exemplar) && exemplar.trace_high == 7);
        metrics_close(next);
    }
    metrics_close(reader);
}

/* The same, provoked: as a kill between the first and the last store leaves it. */
TEST(metrics_exemplar, the_next_owner_opens_what_the_last_one_left_closed)
{
    char path[METRICS_FILE_PATH_SIZE];
    metrics_file_path(path);
    struct metrics *metrics = metrics_file_open(path, "writer");
    REQUIRE(metrics != NULL);
    const struct exemplar_place place = last_bucket(metrics);
    struct exemplar exemplar;
    write_pair(metrics, 1);
    size_t first = metrics->layout.exemplar_offset[METRIC_STORAGE_DURATION] +
                   (place.series * (place.bucket + 1) + place.bucket) * EXEMPLAR_WORDS;
    atomic_fetch_or(&metrics->own->cells[first], 1);
    CHECK(!exemplar_read(&metrics->layout, metrics->own, &place, &exemplar));
    write_pair(metrics, 2); /* somebody is writing, as it seems */
    CHECK(!exemplar_read(&metrics->layout, metrics->own, &place, &exemplar));
    metrics_close(metrics);
    metrics = metrics_file_open(path, "writer");
    REQUIRE(metrics != NULL);
    CHECK(!exemplar_read(&metrics->layout, metrics->own, &place, &exemplar));
    write_pair(metrics, 3);
    REQUIRE(exemplar_read(&metrics->layout, metrics->own, &place, &exemplar));
    CHECK(is_whole(&exemplar) && exemplar.trace_high == 3);
    metrics_close(metrics);
}
