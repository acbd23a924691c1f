#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/watchdog.h"
#include "check.h"

/* Waits until the watched connection ends, feeding `rate` bytes per 100 ms to the counter; returns
 * the seconds it took, or -1 when it is still open after `seconds`. */
static double ends_after(struct watch *watch, int fd, int rate, int seconds)
{
    int64_t started_ns = clock_steady_ns(&clock_system);
    for (int i = 0; i < seconds * 10; i++) {
        char byte;
        const struct timeval tenth = {.tv_usec = 100000};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tenth, sizeof tenth);
        recv(fd, &byte, 1, 0); /* a tenth of a second, or until it is interrupted */
        if (atomic_load(&watch->timed_out))
            return (double)(clock_steady_ns(&clock_system) - started_ns) / 1e9;
        atomic_fetch_add(&watch->received, rate);
    }
    return -1;
}

TEST(watchdog, ends_the_silent_and_the_slow_but_not_the_steady_or_our_own_slowness)
{
    static const struct {
        const char *name;
        int rate; /* bytes per 100 ms */
        bool waiting;
        bool ends;
    } rows[] = {
        {"silent", 0, true, true},
        {"too slow", 50, true, true},
        {"steady", 500, true, false},
        {"our own slowness", 0, false, false},
    };
    const struct config config = {.body_idle_seconds = 1, .body_min_rate = 1024};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct watch watches[2];
        struct watchdog *watchdog = NULL;
        struct err err = {0};
        int fds[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        const struct watchdog_options options = {
            .config = &config, .clock = &clock_system, .watches = watches, .count = 2};
        REQUIRE(watchdog_open(&watchdog, &options, &err) == ERR_OK);
        watch_begin(&watches[1], &clock_system, fds[0]);
        atomic_store(&watches[1].waiting, rows[i].waiting);
        double seconds = ends_after(&watches[1], fds[0], rows[i].rate, 3);
        CHECK_INT_ROW(rows[i].name, seconds >= 0, rows[i].ends);
        CHECK_INT_ROW(rows[i].name, atomic_load(&watches[1].timed_out), rows[i].ends);
        CHECK_ROW(rows[i].name, seconds < 0 || seconds >= 0.9);
        watch_end(&watches[1]);
        watchdog_close(watchdog);
        close(fds[0]);
        close(fds[1]);
    }
}

/* How one who sends goes on: the bytes the gateway takes in each tenth of a second. */
static bool is_ended(const struct config *config, int64_t taken, bool writing, int tenths)
{
    struct watch watch;
    struct watchdog *watchdog = NULL;
    struct err err = {0};
    const struct timespec tenth = {.tv_nsec = 100000000};
    const struct watchdog_options options = {
        .config = config, .clock = &clock_system, .watches = &watch, .count = 1};
    CHECK_ERR(watchdog_open(&watchdog, &options, &err), ERR_OK, &err);
    watch_begin(&watch, &clock_system, 0);
    atomic_store(&watch.writing, writing);
    for (int i = 0; i < tenths && !atomic_load(&watch.timed_out); i++) {
        nanosleep(&tenth, NULL);
        atomic_fetch_add(&watch.sent, taken);
    }
    bool ended = atomic_load(&watch.timed_out);
    watch_end(&watch);
    watchdog_close(watchdog);
    return ended;
}

TEST(watchdog, ends_who_takes_an_answer_more_slowly_than_the_minimum_rate)
{
    static const struct {
        const char *name;
        int64_t rate;
        int64_t taken; /* in a tenth of a second */
        bool writing;
        int tenths; /* at most */
        bool ends;
    } rows[] = {
        {"nothing", 512 * 1024, 0, true, 100, true},
        {"hardly anything", 512 * 1024, 1024, true, 100, true},
        {"steady", 512 * 1024, 200 * 1024, true, 15, false},
        {"our own slowness", 512 * 1024, 0, false, 15, false},
        {"off", 0, 0, true, 15, false},
        /* A step of the gateway would take so long at this rate. */
        {"too early to tell", 32 * 1024, 0, true, 15, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct config config = {
            .body_idle_seconds = 30, .download_rate_seconds = 1, .download_min_rate = rows[i].rate};
        CHECK_INT_ROW(rows[i].name,
                      is_ended(&config, rows[i].taken, rows[i].writing, rows[i].tenths),
                      rows[i].ends);
    }
}
