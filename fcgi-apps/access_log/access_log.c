/* Reads lighttpd's access log from a pipe on descriptor 0 (lighttpd/access.conf): the gateway's
 * metrics and log lines. Ends with the pipe. What lighttpd writes while nobody reads waits in the
 * pipe; what does not fit into it is lost, and known to be (observe/gateway_runs.h). */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "access_log/access_counter.h"
#include "access_log/access_reader.h"
#include "app/app.h"

#define PROGRAM "access_log"
#define PIPE_FD 0
#define PIPE_BYTES (1024 * 1024) /* what anybody may ask for, by default (pipe(7)) */
#define GATHER_NS (4L * 1000 * 1000)
#define RETRY_MS 2000
#define EXIT_CANNOT_START 2
#define EXIT_STOPPED 3 /* not by the pipe's end: to be started again while lighttpd runs */

struct process {
    struct config config;
    struct program_sandbox *sandbox;
    struct sender *sender;
    struct report *report;
    struct access_counter counter;
    struct access_reader reader;
};

static atomic_bool stopped;
static atomic_bool reopens;

static void on_signal(int number)
{
    atomic_store(number == SIGHUP ? &reopens : &stopped, true);
}

static void prepare_signals(void)
{
    const struct sigaction action = {.sa_handler = on_signal};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGINT, &ignore, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
}

static enum err_code open_counting(struct process *process, struct err *err)
{
    char path[CONFIG_TEXT_SIZE + 32];
    struct access_counter *counter = &process->counter;
    enum err_code code = metrics_open_configured(&counter->metrics, &process->config,
                                                 METRICS_OF_GATEWAY, PROGRAM, err);
    if (code != ERR_OK || !counter->metrics)
        return code;
    snprintf(path, sizeof path, "%s/gateway-runs", process->config.runtime_dir);
    return gateway_runs_open(&counter->runs, path, counter->metrics, err);
}

/* In this order for the sandbox's sake: after what it leaves nothing of, before the first thread. The
 * log is opened in any case, for what it is to be told. */
static enum err_code open_log(struct process *process, struct err *err)
{
    struct access_counter *counter = &process->counter;
    struct err log_err = {0};
    enum err_code code = open_counting(process, err);
    if (code == ERR_OK)
        code = program_sandbox_enter(&process->sandbox, &process->config, 0, err);
    enum err_code log_code =
        log_open(&counter->log, &process->config, "gateway", &clock_system, &log_err);
    if (log_code != ERR_OK) {
        *err = log_err;
        return log_code;
    }
    if (code == ERR_OK)
        code = program_sandbox_watch(process->sandbox, counter->log, err);
    if (code == ERR_OK)
        log_count_drops(counter->log, counter->metrics);
    return code;
}

static struct report_options report_options(const struct process *process)
{
    return (struct report_options){.config = &process->config,
                                   .program = PROGRAM,
                                   .clock = &clock_system,
                                   .metrics = process->counter.metrics,
                                   .sender = process->sender};
}

static enum err_code open_report(struct process *process, struct err *err)
{
    const struct report_options options = report_options(process);
    enum err_code code = report_open(&process->report, &options, err);
    if (code == ERR_OK)
        report_watch(process->report);
    return code;
}

/* Of a node the gateway in front of it tells. */
static enum err_code open_spans(struct process *process, struct err *err)
{
    if (process->config.node_mode == NODE_MODE_CLUSTER)
        return ERR_OK;
    const struct spans_options options = {.config = &process->config,
                                          .program = "gateway",
                                          .clock = &clock_system,
                                          .metrics = process->counter.metrics,
                                          .sender = process->sender};
    return spans_open(&process->counter.spans, &options, err);
}

static enum err_code open_process(struct process *process, struct err *err)
{
    access_reader_enlarge_pipe(PIPE_FD, PIPE_BYTES);
    enum err_code code = access_reader_init(&process->reader, PIPE_FD, err);
    if (code == ERR_OK)
        code = config_load(&process->config, err);
    if (code == ERR_OK)
        code = open_log(process, err);
    if (code == ERR_OK)
        code = gateway_runs_join(process->counter.runs, PIPE_FD, &stopped, err);
    if (code == ERR_OK)
        code = sender_open(&process->sender, &clock_system, err);
    if (code == ERR_OK)
        code = open_report(process, err);
    return code == ERR_OK ? open_spans(process, err) : code;
}

static void close_process(struct process *process)
{
    access_reader_release(&process->reader);
    gateway_runs_close(process->counter.runs);
    sender_close(process->sender);
    spans_close(process->counter.spans);
    report_close(process->report);
    program_sandbox_close(process->sandbox);
    log_close(process->counter.log);
    metrics_close(process->counter.metrics);
}

/* Takes all that is there; false at the end of the pipe. */
static bool take(struct process *process)
{
    char *line;
    size_t len;
    bool goes_on = access_reader_fill(&process->reader);
    while (access_reader_next(&process->reader, &line, &len))
        access_counter_take(&process->counter, line, len);
    return goes_on;
}

/* Between two reads lines gather in the pipe: so this process is not woken up for each of them, nor
 * has lighttpd to do that. Before a stop all of them are taken. */
static int run(struct process *process)
{
    sigset_t signals;
    sigset_t waiting;
    const struct timespec gather = {.tv_nsec = GATHER_NS};
    const struct timespec at_once = {0};
    struct pollfd pipe = {.fd = PIPE_FD, .events = POLLIN};
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, &waiting); /* from now on they come while it waits */
    for (;;) {
        bool ends = atomic_load(&stopped);
        int ready = ppoll(&pipe, 1, ends ? &at_once : NULL, &waiting);
        if (atomic_exchange(&reopens, false))
            log_reopen(process->counter.log);
        if (ready > 0 && !take(process))
            return 0;
        if (ready == 0 && ends)
            return EXIT_STOPPED;
        if (!ends)
            nanosleep(&gather, NULL);
    }
}

/* So that lighttpd does not write an error for each line; what is left out here is lost, too. */
static int discard_for_a_moment(void)
{
    struct pollfd pipe = {.fd = PIPE_FD, .events = POLLIN};
    char nothing[4096];
    int64_t end = clock_steady_ns(&clock_system) + RETRY_MS * 1000000LL;
    while (!atomic_load(&stopped) && clock_steady_ns(&clock_system) < end)
        if (poll(&pipe, 1, 100) > 0 && read(PIPE_FD, nothing, sizeof nothing) <= 0)
            return 0;
    return EXIT_CANNOT_START;
}

static void tell_failed_start(struct process *process, const struct err *err)
{
    const struct log_field said = LOG_FIELD_STR("error.message", str_of(err->message));
    fprintf(stderr, PROGRAM ": cannot start: %s\n", err->message);
    log_write(process->counter.log, ERR_LEVEL_ERROR, NULL, "cannot start",
              (struct log_fields){&said, 1});
    if (!*process->config.data_dir)
        config_load_what_is_good(&process->config);
    const struct report_options options = report_options(process);
    report_failed_start(&options, err);
}

int main(void)
{
    struct process process = {.counter = {.log = NULL}};
    struct err err = {0};
    prepare_signals();
    app_harden();
    int exit_code;
    if (open_process(&process, &err) == ERR_OK) {
        report_crashes(process.report);
        log_write(process.counter.log, ERR_LEVEL_INFO, NULL, "started", LOG_NO_FIELDS);
        exit_code = run(&process);
        log_write(process.counter.log, ERR_LEVEL_INFO, NULL, "stopped", LOG_NO_FIELDS);
    } else if (atomic_load(&stopped)) {
        exit_code = EXIT_STOPPED;
    } else {
        tell_failed_start(&process, &err);
        exit_code = discard_for_a_moment();
    }
    close_process(&process);
    return exit_code;
}
