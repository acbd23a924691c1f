#include "app/app.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "app/serve.h"
#include "app/sweeper.h"
#include "app/workers.h"
#include "base/thread.h"
#include "base/work_queue.h"
#include "files/files_installation.h"
#include "files/object_cache.h"
#include "files/upload_sink.h"
#include "observe/span.h"

struct installation_watch;

static void installation_watch_close(struct installation_watch *watch);

static enum err_code refuse_length(struct err *err)
{
    err_set(err, ERR_BAD_JSON, "body", "The body is larger than %d bytes.", LIMIT_JSON_BODY_BYTES);
    err_detail(err, "limit", LIMIT_JSON_BODY_BYTES);
    return ERR_BAD_JSON;
}

static enum err_code read_body(struct app_ctx *ctx, struct buf *json, struct err *err)
{
    struct str piece;
    for (;;) {
        enum err_code code = source_next(ctx->body, &piece, err);
        if (code != ERR_OK || piece.len == 0)
            return code;
        buf_append_str(json, piece);
        if (json->failed)
            return refuse_length(err);
    }
}

enum err_code app_read_json(struct app_ctx *ctx, const char *other_type, struct buf *json,
                            struct err *err)
{
    char type[LIMIT_MIME_BYTES + 1];
    bool known =
        media_type_parse(ctx->request.content_type, type, sizeof type) &&
        (strcmp(type, "application/json") == 0 || (other_type && strcmp(type, other_type) == 0));
    if (!known)
        return err_set(err, ERR_UNSUPPORTED_MEDIA_TYPE, "body", "The body must be %s%s%s.",
                       "application/json", other_type ? " or " : "", other_type ? other_type : "");
    enum err_code code = request_check_coding(&ctx->request, err);
    if (code != ERR_OK)
        return code;
    if (ctx->request.content_length > LIMIT_JSON_BODY_BYTES)
        return refuse_length(err);
    code = read_body(ctx, json, err);
    if (code == ERR_OK && json->len == 0)
        return err_set(err, ERR_BAD_JSON, "body", "The body is empty.");
    return code;
}

static void write_json_headers(struct app_ctx *ctx)
{
    response_header_text(&ctx->response, "Content-Type", "application/json");
    response_header_text(&ctx->response, "Cache-Control", "private, no-cache");
    response_header_text(&ctx->response, "X-Content-Type-Options", "nosniff");
    response_header_text(&ctx->response, "Accept-Ranges", "none");
}

void app_answer_json(struct app_ctx *ctx, int status)
{
    ctx->response.status = status;
    write_json_headers(ctx);
}

void app_answer_replay(struct app_ctx *ctx)
{
    const struct idempotency_record *record = &ctx->idempotency.record;
    buf_append_str(&ctx->response.body, buf_str(&record->body));
    if (record->location.len > 0)
        response_header(&ctx->response, "Location", buf_str(&record->location));
    if (record->etag.len > 0)
        response_header(&ctx->response, "ETag", buf_str(&record->etag));
    response_header_text(&ctx->response, "Idempotency-Replayed", "true");
    app_answer_json(ctx, record->status);
}

#define PATIENCE_MS 1000
#define AGAIN_MS 2000

/*
 * At the start of a program: do its store and its database belong together (files_installation.h)?
 * The launcher asked before, but a store may have been away then. So a thread asks, and asks again
 * until it gets an answer. The start waits for its first one, a second at most; when a later one is
 * no, the program stops in order, and its next start is refused.
 */

struct installation_watch {
    const struct service *service;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* guarded by mutex */
    bool is_closing;
    bool is_started; /* nobody waits for the outcome any more */
    bool has_outcome;
    enum err_code outcome;
    struct err err;
};

static void stop_program(const struct installation_watch *watch)
{
    const struct log_field fields[] = {
        LOG_FIELD_STR("error.message", str_of(watch->err.message)),
        LOG_FIELD_STR("error.operation", str_of(watch->err.operation)),
    };
    log_write(watch->service->log, ERR_LEVEL_ERROR, NULL,
              "store and database do not belong together", (struct log_fields){fields, 2});
    kill(getpid(), SIGTERM);
}

/* Sets the outcome; false when there is nothing more to ask. */
static bool ask(struct installation_watch *watch)
{
    struct err err = {.code = ERR_OK};
    enum err_code code = files_installation_look(&watch->service->files, &err);
    pthread_mutex_lock(&watch->mutex);
    watch->outcome = code;
    watch->err = err;
    watch->has_outcome = true;
    if (code == ERR_CONFIG && watch->is_started)
        stop_program(watch);
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->mutex);
    return code != ERR_OK && code != ERR_CONFIG;
}

/* False when it is to end. */
static bool rest(struct installation_watch *watch)
{
    const struct timespec until = condition_deadline(AGAIN_MS);
    bool in_time = true;
    pthread_mutex_lock(&watch->mutex);
    while (!watch->is_closing && in_time)
        in_time = condition_wait(&watch->changed, &watch->mutex, &until);
    bool go_on = !watch->is_closing;
    pthread_mutex_unlock(&watch->mutex);
    return go_on;
}

static void *run(void *argument)
{
    struct installation_watch *watch = argument;
    while (ask(watch) && rest(watch))
        continue;
    return NULL;
}

static enum err_code wait_for_outcome(struct installation_watch *watch, struct err *err)
{
    const struct timespec until = condition_deadline(PATIENCE_MS);
    bool in_time = true;
    pthread_mutex_lock(&watch->mutex);
    while (!watch->has_outcome && in_time)
        in_time = condition_wait(&watch->changed, &watch->mutex, &until);
    bool is_refused = watch->has_outcome && watch->outcome == ERR_CONFIG;
    if (is_refused)
        *err = watch->err;
    watch->is_started = true;
    pthread_mutex_unlock(&watch->mutex);
    return is_refused ? ERR_CONFIG : ERR_OK;
}

static void release(struct installation_watch *watch)
{
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}

/* ERR_CONFIG when they don't belong together. `service` is borrowed. Caller frees with
 * installation_watch_close. */
static enum err_code installation_watch_open(struct installation_watch **ret_watch,
                                             const struct service *service, struct err *err)
{
    struct installation_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "installation", "out of memory");
    watch->service = service;
    pthread_mutex_init(&watch->mutex, NULL);
    condition_init(&watch->changed);
    if (!thread_start(&watch->thread, 0, run, watch)) {
        release(watch);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "installation", "cannot start a thread");
    }
    enum err_code code = wait_for_outcome(watch, err);
    if (code != ERR_OK)
        installation_watch_close(watch);
    else
        *ret_watch = watch;
    return code;
}

/* Waits for a question under way. NULL is allowed. */
static void installation_watch_close(struct installation_watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->mutex);
    watch->is_closing = true;
    pthread_cond_broadcast(&watch->changed);
    pthread_mutex_unlock(&watch->mutex);
    pthread_join(watch->thread, NULL);
    release(watch);
}

#define LISTEN_FD 0
#define EXIT_CANNOT_START 2
#define LOG_LAST_WORDS_MS 500
#define WORK_STACK_BYTES (128 * 1024)

/* Everything a process holds, in the order it is opened. */
struct process {
    const struct app *app;
    struct config config;
    struct program_sandbox *sandbox;
    struct log *log;
    struct metrics *metrics;
    struct sender *sender;
    struct report *report;
    struct spans *spans;
    struct storage *storage;
    struct metadata *metadata;
    struct work_queue *queue;
    struct object_cache *object_cache;
    struct slots *slots;
    struct service service;
    struct installation_watch *installation_watch;
    struct workers *workers;
    struct sweeper *sweeper;
    void *own; /* what app->open made */
};

static unsigned outcome_of(enum err_code code)
{
    if (code == ERR_OK)
        return OUTCOME_OK;
    return err_info(code)->status < 500 || code == ERR_EXISTS || code == ERR_BUSY ? OUTCOME_REFUSED
                                                                                  : OUTCOME_ERROR;
}

struct observed {
    enum metric operations;
    enum metric duration;
};

static void observe(const struct process *process, const struct observed *observed,
                    const unsigned labels[3], enum err_code outcome, int64_t duration_ns)
{
    const struct trace_context *trace = trace_context_get();
    metrics_add(process->metrics, observed->operations, labels, 1);
    metrics_observe_traced(process->metrics, observed->duration, labels, (double)duration_ns / 1e9,
                           trace ? trace->trace_id : NULL);
    if (!process->report)
        return;
    struct report_crumb crumb = report_crumb_of(observed->operations, labels);
    crumb.outcome = outcome;
    crumb.time_ms = clock_wall_ms(&clock_system);
    crumb.duration_ns = duration_ns;
    report_crumb_add(&crumb);
}

static void observe_storage(void *context, unsigned driver, enum storage_operation operation,
                            enum err_code outcome, int64_t duration_ns)
{
    static const struct observed observed = {METRIC_STORAGE_OPERATIONS, METRIC_STORAGE_DURATION};
    const unsigned labels[] = {driver, (unsigned)operation, outcome_of(outcome)};
    observe(context, &observed, labels, outcome, duration_ns);
    if (operation != STORAGE_RETRY) /* within an operation that is told of at its end */
        span_step(METRIC_STORAGE_OPERATIONS, labels, outcome, duration_ns);
}

static void observe_metadata(void *context, unsigned driver, enum metadata_operation operation,
                             enum err_code outcome, int64_t duration_ns)
{
    static const struct observed observed = {METRIC_METADATA_OPERATIONS, METRIC_METADATA_DURATION};
    const unsigned labels[] = {driver, (unsigned)operation, outcome_of(outcome)};
    observe(context, &observed, labels, outcome, duration_ns);
    span_step(METRIC_METADATA_OPERATIONS, labels, outcome, duration_ns);
}

/* What lighttpd was given for a port below 1024 (capabilities(7)); nothing here listens on one. */
static void give_up_port_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{0}};
    const uint32_t mask = ~(UINT32_C(1) << CAP_NET_BIND_SERVICE);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capget, &header, sets) != 0)
        return;
    sets[0].effective &= mask;
    sets[0].permitted &= mask;
    sets[0].inheritable &= mask;
    syscall(SYS_capset, &header, sets);
}

/* Nothing a crash leaves behind may hold a client's bytes or a secret. */
void app_harden(void)
{
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    give_up_port_capability();
    umask(077);
    unsetenv("http_proxy");
    unsetenv("HTTP_PROXY");
}

static struct report_options report_options(const struct process *process)
{
    return (struct report_options){.config = &process->config,
                                   .program = process->app->name,
                                   .clock = &clock_system,
                                   .metrics = process->metrics,
                                   .sender = process->sender};
}

static enum err_code open_report(struct process *process, struct err *err)
{
    enum err_code code = sender_open(&process->sender, &clock_system, err);
    if (code != ERR_OK)
        return code;
    const struct report_options options = report_options(process);
    code = report_open(&process->report, &options, err);
    if (code == ERR_OK)
        report_watch(process->report);
    return code;
}

static enum err_code open_spans(struct process *process, struct err *err)
{
    const struct spans_options options = {.config = &process->config,
                                          .program = process->app->name,
                                          .clock = &clock_system,
                                          .metrics = process->metrics,
                                          .sender = process->sender,
                                          .has_gateway = process->config.access_log};
    return spans_open(&process->spans, &options, err);
}

/* The sandbox before the first thread, which is the log's; the metrics before the sandbox, which
 * leaves nothing of RUNTIME_DIR. */
static enum err_code enter_sandbox(struct process *process, struct err *err)
{
    enum err_code code = metrics_open_configured(&process->metrics, &process->config,
                                                 METRICS_OF_PROGRAMS, process->app->name, err);
    if (code == ERR_OK)
        code = program_sandbox_enter(&process->sandbox, &process->config, process->app->needs, err);
    return code;
}

static enum err_code open_observers(struct process *process, struct err *err)
{
    struct err log_err = {0};
    enum err_code code = config_load(&process->config, err);
    if (code != ERR_OK)
        return code;
    code = enter_sandbox(process, err);
    /* Also when that failed, which is logged. */
    enum err_code log_code =
        log_open(&process->log, &process->config, process->app->name, &clock_system, &log_err);
    if (log_code != ERR_OK) {
        *err = log_err;
        return log_code;
    }
    if (code == ERR_OK)
        code = program_sandbox_watch(process->sandbox, process->log, err);
    if (code == ERR_OK)
        log_count_drops(process->log, process->metrics);
    if (code == ERR_OK)
        code = open_report(process, err);
    return code == ERR_OK ? open_spans(process, err) : code;
}

static void wake_sweeper(void *context)
{
    const struct process *process = context;
    sweeper_wake(process->sweeper);
}

static bool has_sweeper(const struct process *process)
{
    return process->app->sweeps && process->config.sweep_interval_seconds > 0;
}

static bool waits_for_network(const struct process *process)
{
    return (storage_capabilities(process->storage) & STORAGE_WAITS) ||
           metadata_waits(process->metadata);
}

static int work_threads(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 2 ? 2 : (int)cores;
}

/* Does the program send the bytes of files, and not the gateway? */
static bool sends_files(const struct process *process)
{
    return process->app->workers == APP_WORKERS_DOWNLOAD &&
           !(storage_capabilities(process->storage) & STORAGE_CAN_SENDFILE);
}

/* Where the gateway sends files itself, the system keeps them in memory. */
static bool keeps_objects(const struct process *process)
{
    return sends_files(process) && process->config.object_cache > 0;
}

static enum err_code open_drivers(struct process *process, struct err *err)
{
    const struct storage_observer storage_observer = {observe_storage, process};
    const struct metadata_observer metadata_observer = {observe_metadata, process};
    enum err_code code =
        storage_open(&process->storage, &process->config, &clock_system, &storage_observer, err);
    if (code == ERR_OK)
        code = metadata_open(&process->metadata, &process->config, &clock_system,
                             &metadata_observer, err);
    if (code == ERR_OK && process->app->takes_uploads)
        code = work_queue_open(&process->queue, work_threads(), WORK_STACK_BYTES, err);
    if (code == ERR_OK && keeps_objects(process))
        code = object_cache_open(&process->object_cache, (size_t)process->config.object_cache, err);
    process->service = (struct service){
        .app = process->app,
        .log = process->log,
        .report = process->report,
        .spans = process->spans,
        .started_ns = clock_steady_ns(&clock_system),
        .files = {.config = &process->config,
                  .clock = &clock_system,
                  .storage = process->storage,
                  .metadata = process->metadata,
                  .metrics = process->metrics,
                  .queue = process->queue,
                  .object_cache = process->object_cache,
                  .bytes_left = has_sweeper(process) ? wake_sweeper : NULL,
                  .context = process},
    };
    if (code == ERR_OK && sends_files(process))
        code = slots_open(&process->slots, (size_t)process->config.download_workers,
                          LIMIT_DOWNLOADS_WAITING, err);
    process->service.slots = process->slots;
    if (code == ERR_OK)
        process->service.takes_turns = process->app->short_requests && !waits_for_network(process);
    return code;
}

/* With slots, WORKERS more than downloads can hold: they are for requests that need no bytes. */
static int64_t worker_count(const struct process *process)
{
    const struct config *config = &process->config;
    switch (process->app->workers) {
    case APP_WORKERS_UPLOAD:
        return config->upload_workers;
    case APP_WORKERS_DOWNLOAD:
        return config->download_workers +
               (process->slots ? LIMIT_DOWNLOADS_WAITING + config->workers : 0);
    case APP_WORKERS_OTHER:
        break;
    }
    return config->workers;
}

static enum err_code open_process(struct process *process, struct err *err)
{
    enum err_code code = open_observers(process, err);
    if (code == ERR_OK)
        code = open_drivers(process, err);
    if (code == ERR_OK && process->app->open)
        code = process->app->open(&process->service.files, &process->own, err);
    process->service.own = process->own;
    if (code == ERR_OK && process->app->uses_stores)
        code = installation_watch_open(&process->installation_watch, &process->service, err);
    if (code == ERR_OK && has_sweeper(process)) /* before the workers, who wake it */
        code = sweeper_open(&process->sweeper, &process->service, err);
    if (code == ERR_OK)
        code = workers_open(&process->workers, &process->service, LISTEN_FD,
                            (size_t)worker_count(process), err);
    return code;
}

static void close_process(struct process *process)
{
    workers_close(process->workers);
    sweeper_close(process->sweeper);
    installation_watch_close(process->installation_watch);
    if (process->app->close)
        process->app->close(process->own);
    slots_close(process->slots);
    work_queue_close(process->queue);
    object_cache_close(process->object_cache);
    metadata_close(process->metadata);
    storage_close(process->storage);
    sender_close(process->sender);
    spans_close(process->spans);
    report_close(process->report);
    program_sandbox_close(process->sandbox);
    log_close(process->log);
    metrics_close(process->metrics);
}

static void say(const struct process *process, enum err_level level, const char *message,
                const struct err *err)
{
    struct log_field fields[3];
    size_t count = 0;
    fields[count++] = LOG_FIELD_INT("process.user.id", (int64_t)geteuid());
    if (err) {
        fields[count++] = LOG_FIELD_STR("error.message", str_of(err->message));
        fields[count++] = LOG_FIELD_STR("error.operation", str_of(err->operation));
    }
    if (process->log)
        log_write(process->log, level, NULL, message, (struct log_fields){fields, count});
}

static int refuse_to_start(struct process *process, const struct err *err)
{
    fprintf(stderr, "%s: cannot start: %s\n", process->app->name, err->message);
    say(process, ERR_LEVEL_ERROR, "cannot start", err);
    if (!*process->config.data_dir)
        config_load_what_is_good(&process->config);
    const struct report_options options = report_options(process);
    report_failed_start(&options, err);
    return EXIT_CANNOT_START;
}

static void wait_for_stop(struct process *process, const sigset_t *signals)
{
    for (;;) {
        int signal_number = 0;
        if (sigwait(signals, &signal_number) != 0)
            continue;
        if (signal_number == SIGTERM)
            return;
        if (signal_number == SIGHUP)
            log_reopen(process->log);
    }
}

int64_t app_uptime_seconds(const struct app_ctx *ctx)
{
    return (clock_steady_ns(ctx->files->clock) - ctx->process_started_ns) / 1000000000;
}

int app_run(const struct app *app)
{
    struct process process = {.app = app};
    struct err err = {0};
    sigset_t signals;
    int exit_code = 0;
    workers_prepare_signals(&signals); /* first: a SIGHUP may come at once */
    app_harden();
    enum err_code code = fcgi_listen(LISTEN_FD, &err);
    if (code == ERR_OK)
        code = open_process(&process, &err);
    if (code == ERR_OK) {
        report_crashes(process.report);
        say(&process, ERR_LEVEL_INFO, "started", NULL);
        wait_for_stop(&process, &signals);
        if (!workers_stop(process.workers, process.config.stop_grace_seconds)) {
            say(&process, ERR_LEVEL_ERROR, "stopped with requests still running", NULL);
            sender_stop(process.sender); /* requests still running may offer, and are refused */
            log_flush(process.log, LOG_LAST_WORDS_MS);
            _exit(1);
        }
        say(&process, ERR_LEVEL_INFO, "stopped", NULL);
    } else {
        exit_code = refuse_to_start(&process, &err);
    }
    close_process(&process);
    return exit_code;
}
