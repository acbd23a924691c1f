#include "observe/report.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/config_table.h"
#include "base/text.h"
#include "observe/crash_handler.h"
#include "observe/report_parts.h"
#include "observe/stack.h"

#define NS_PER_MS 1000000LL
#define MS_PER_S 1000LL
#define DEFAULT_S 60
#define LONGEST_S (24 * 3600) /* so that a slip of the tracker is not for ever */

/* Whole seconds, a fraction counts as one more; false when it is no number. */
static bool parse_seconds(struct str text, int64_t *ret_seconds)
{
    text = str_trim(text);
    bool has_fraction = str_find(text, '.') < text.len;
    int64_t seconds;
    int64_t fraction = 0;
    struct str whole = str_cut(&text, '.');
    if (!text_parse_int(whole, 0, INT64_MAX, &seconds))
        return false;
    if (has_fraction && !text_parse_int(text, 0, INT64_MAX, &fraction))
        return false;
    if (seconds >= LONGEST_S)
        seconds = LONGEST_S;
    else if (fraction > 0)
        seconds++;
    *ret_seconds = seconds;
    return true;
}

/* "error;transaction", or nothing for all; "default" is what has no name of its own. */
static bool is_for_errors(struct str categories)
{
    if (str_trim(categories).len == 0)
        return true;
    while (categories.len > 0)
        if (str_equal(str_trim(str_cut(&categories, ';')), STR("error")))
            return true;
    return false;
}

/* https://develop.sentry.dev/sdk/expected-features/rate-limiting/: limits and commas, each
 * "seconds:categories:scope:reason"; what can't be read is passed over. */
int64_t report_limits_parse(struct str header)
{
    int64_t longest = 0;
    while (header.len > 0) {
        struct str limit = str_cut(&header, ',');
        bool has_categories = str_find(limit, ':') < limit.len;
        int64_t seconds;
        if (!parse_seconds(str_cut(&limit, ':'), &seconds) || !has_categories)
            continue;
        if (is_for_errors(str_cut(&limit, ':')) && seconds > longest)
            longest = seconds;
    }
    return longest;
}

static int64_t retry_after(const struct http_reply *reply, const struct clock *clock)
{
    struct str value;
    int64_t seconds;
    if (!http_reply_header(reply, "Retry-After", &value))
        return DEFAULT_S;
    if (parse_seconds(value, &seconds))
        return seconds;
    if (!text_parse_http_date(value, &seconds))
        return DEFAULT_S;
    seconds -= clock_wall_ms(clock) / MS_PER_S;
    if (seconds < 0)
        return 0;
    return seconds < LONGEST_S ? seconds : LONGEST_S;
}

void report_limits_take(struct report_limits *limits, const struct http_reply *reply,
                        const struct clock *clock)
{
    struct str value;
    int64_t seconds = 0;
    if (http_reply_header(reply, "X-Sentry-Rate-Limits", &value))
        seconds = report_limits_parse(value);
    if (seconds == 0 && reply->status == 429)
        seconds = retry_after(reply, clock);
    int64_t until_ns = clock_steady_ns(clock) + seconds * MS_PER_S * NS_PER_MS;
    if (seconds > 0 && until_ns > limits->until_ns)
        limits->until_ns = until_ns;
}

static const struct backoff backoff = {1000, 5 * 60 * 1000, BACKOFF_HALF_JITTER};

struct report {
    struct report_options options;
    struct dsn dsn;
    char header[DSN_KEY_SIZE + 160];
    char server_name[256];
    struct sender_lane *lane;
    struct report_storm storm;
    bool is_watching;
    atomic_bool wants_crashes; /* to be looked for */
    /* the sender's thread: */
    struct report_limits limits;
    unsigned failures; /* in a row */
    int64_t paused_until_ns;
    struct report_spool spool;
    struct report_crashes crashes;
    struct stack_names *names; /* NULL until something is to be named */
    struct buf event;
};

/* What is offered to the sender: this, then the event's JSON up to the stack, or all of it. */
struct pending {
    char event_id[REPORT_ID_SIZE];
    bool is_finished;
    size_t address_count;
    uintptr_t addresses[STACK_DEPTH];
};

static int64_t now_ns(const struct report *report)
{
    return clock_steady_ns(report->options.clock);
}

static void count(const struct report *report, enum metric_sentry outcome, unsigned amount)
{
    const unsigned label = outcome;
    metrics_add(report->options.metrics, METRIC_SENTRY_EVENTS, &label, amount);
}

/* ---- on the sender's thread ---- */

static bool is_limited(const struct report *report)
{
    return now_ns(report) < report->limits.until_ns;
}

static bool is_backing_off(const struct report *report)
{
    return now_ns(report) < report->paused_until_ns;
}

static void back_off(struct report *report)
{
    int64_t wait_ms = backoff_ms(&backoff, report->failures, report->options.clock);
    report->failures++;
    report->paused_until_ns = now_ns(report) + wait_ms * NS_PER_MS;
}

static void keep(struct report *report, struct str envelope)
{
    unsigned dropped;
    bool is_kept = report_spool_put(&report->spool, report->options.clock, envelope, &dropped);
    count(report, is_kept ? METRIC_SENTRY_SPOOLED : METRIC_SENTRY_DROPPED_FAILED, 1);
    if (dropped > 0)
        count(report, METRIC_SENTRY_DROPPED_FAILED, dropped);
    if (is_kept)
        sender_wake(report->options.sender); /* to be told when to look at the spool */
}

/* NULL when out of memory. */
static struct stack_names *names(struct report *report)
{
    if (!report->names)
        report->names = stack_names_new(!report->crashes.is_unfinished);
    return report->names;
}

static bool resolve(struct report *report, const struct pending *pending,
                    struct stack_trace *ret_trace)
{
    const struct report_options *options = &report->options;
    if (pending->address_count == 0)
        return false;
    if (options->resolve)
        return options->resolve(options->resolve_context, pending->addresses,
                                pending->address_count, ret_trace);
    return stack_names_resolve(names(report), pending->addresses, pending->address_count,
                               ret_trace);
}

static void finish(struct report *report, const struct pending *pending, struct str json)
{
    struct stack_trace stack = {.frame_count = 0};
    buf_reset(&report->event);
    buf_append_str(&report->event, json);
    if (pending->is_finished)
        return;
    report_finish_event(resolve(report, pending, &stack) ? &stack : NULL, &report->event);
}

static bool prepare(void *context, struct str offered, struct buf *body)
{
    struct report *report = context;
    struct pending pending;
    if (is_limited(report)) {
        count(report, METRIC_SENTRY_DROPPED_LIMIT, 1);
        return false;
    }
    memcpy(&pending, offered.data, sizeof pending);
    finish(report, &pending,
           (struct str){offered.data + sizeof pending, offered.len - sizeof pending});
    report_write_envelope(pending.event_id, buf_str(&report->event), body);
    if (body->failed || report->event.failed) {
        count(report, METRIC_SENTRY_DROPPED_FAILED, 1);
        return false;
    }
    if (!is_backing_off(report))
        return true;
    keep(report, buf_str(body));
    return false;
}

static void make_id(const struct clock *clock, char target[REPORT_ID_SIZE])
{
    unsigned char bytes[16];
    clock_random(clock, bytes, sizeof bytes);
    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40); /* UUID version 4 */
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
    text_hex(bytes, sizeof bytes, target);
}

/* The event's JSON, without what follows the stack when that is not known yet. */
static void write_event(const struct report *report, const struct report_event *event,
                        int64_t suppressed, char ret_id[REPORT_ID_SIZE], struct buf *out)
{
    const struct report_options *options = &report->options;
    struct report_source source = {.program = options->program,
                                   .environment = options->config->environment,
                                   .server_name = report->server_name,
                                   .time_ms = event->time_ms,
                                   .suppressed = suppressed};
    if (source.time_ms == 0)
        source.time_ms = clock_wall_ms(options->clock);
    make_id(options->clock, source.event_id);
    memcpy(ret_id, source.event_id, sizeof source.event_id);
    report_write_event(&source, event, out);
    if (event->stack)
        report_finish_event(event->stack, out);
}

/* Into the spool first: what is sent from there is not lost when the program ends meanwhile. */
static void keep_crash(struct report *report, const struct crash_record *record)
{
    struct report_crash_texts texts;
    struct stack_trace stack;
    struct report_event event;
    struct buf envelope;
    char id[REPORT_ID_SIZE];
    if (!names(report))
        return;
    stack_names_crash(names(report), record, &stack);
    report_crash_describe(record, &stack, &texts, &event);
    buf_init(&envelope, REPORT_EVENT_MAX + 1024);
    buf_reset(&report->event);
    write_event(report, &event, 0, id, &report->event);
    report_write_envelope(id, buf_str(&report->event), &envelope);
    if (envelope.failed || report->event.failed)
        count(report, METRIC_SENTRY_DROPPED_FAILED, 1);
    else
        keep(report, buf_str(&envelope));
    buf_release(&envelope);
}

/* Returns when to look again, negative: never. */
static int64_t take_crashes(struct report *report)
{
    int64_t wait_ms = -1;
    struct crash_record *record = malloc(sizeof *record);
    if (!record)
        return -1;
    report->crashes.dropped = 0;
    while (report_crashes_take(&report->crashes, record, &wait_ms)) {
        keep_crash(report, record);
        report_crashes_finish(&report->crashes);
    }
    if (report->crashes.dropped > 0)
        count(report, METRIC_SENTRY_DROPPED_FAILED, report->crashes.dropped);
    free(record);
    return wait_ms;
}

static bool pull(void *context, bool stopping, struct buf *body, int64_t *ret_wait_ms)
{
    struct report *report = context;
    int64_t until_ns = report->limits.until_ns > report->paused_until_ns ? report->limits.until_ns
                                                                         : report->paused_until_ns;
    int64_t left_ns = until_ns - now_ns(report);
    *ret_wait_ms = -1;
    if (stopping)
        return false;
    if (atomic_load(&report->wants_crashes))
        *ret_wait_ms = take_crashes(report);
    if (*ret_wait_ms < 0)
        atomic_store(&report->wants_crashes, false);
    if (left_ns <= 0)
        return report_spool_take(&report->spool, body);
    int64_t left_ms = left_ns / NS_PER_MS + 1;
    if ((*ret_wait_ms < 0 || *ret_wait_ms > left_ms) && !report_spool_is_empty(&report->spool))
        *ret_wait_ms = left_ms;
    return false;
}

static void judge(void *context, struct str body, const struct http_reply *reply,
                  const struct err *err)
{
    struct report *report = context;
    bool is_from_spool = report->spool.held_fd >= 0;
    /* No answer, or one that another try may change. */
    bool is_temporary = !reply || reply->status >= 500 || reply->status == 408;
    (void)err;
    if (reply)
        report_limits_take(&report->limits, reply, report->options.clock);
    if (is_from_spool)
        report_spool_release(&report->spool, !is_temporary);
    if (is_temporary) {
        back_off(report);
        if (!is_from_spool)
            keep(report, body);
        return;
    }
    report->failures = 0;
    report->paused_until_ns = 0;
    enum metric_sentry outcome = METRIC_SENTRY_DROPPED_FAILED;
    if (reply->status >= 200 && reply->status < 300)
        outcome = METRIC_SENTRY_SENT;
    else if (reply->status == 429)
        outcome = METRIC_SENTRY_DROPPED_LIMIT;
    count(report, outcome, 1);
}

/* ---- open and close ---- */

static enum err_code add_receiver(struct report *report, struct err *err)
{
    int len =
        snprintf(report->header, sizeof report->header,
                 "X-Sentry-Auth: Sentry sentry_version=7, sentry_client=coffer/" COFFER_VERSION
                 ", sentry_key=%s\r\nContent-Type: application/x-sentry-envelope\r\n",
                 report->dsn.public_key);
    const struct sender_receiver receiver = {.url = report->dsn.envelope_url,
                                             .header = report->header,
                                             .queue_bytes = REPORT_QUEUE_BYTES,
                                             .prepare = prepare,
                                             .pull = pull,
                                             .judge = judge,
                                             .context = report};
    if (len < 0 || (size_t)len >= sizeof report->header)
        return err_set_internal(err, ERR_INTERNAL, 0, "report", "no room for the header");
    return sender_add(report->options.sender, &receiver, &report->lane, err);
}

static enum err_code bad_dsn(struct err *err)
{
    return err_set(err, ERR_CONFIG, "read settings",
                   "SENTRY_DSN must be http(s)://KEY@HOST/PROJECT.");
}

enum err_code report_open(struct report **ret_report, const struct report_options *options,
                          struct err *err)
{
    struct dsn dsn;
    *ret_report = NULL;
    if (!*options->config->sentry_dsn)
        return ERR_OK;
    if (!dsn_parse(str_of(options->config->sentry_dsn), &dsn))
        return bad_dsn(err);
    struct report *report = calloc(1, sizeof *report);
    if (!report)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "report", "out of memory");
    report->options = *options;
    report->dsn = dsn;
    if (gethostname(report->server_name, sizeof report->server_name - 1) != 0)
        report->server_name[0] = '\0';
    pthread_mutex_init(&report->storm.mutex, NULL);
    report_spool_init(&report->spool, options->config);
    report->crashes.program = options->program;
    memcpy(report->crashes.folder, report->spool.folder, sizeof report->crashes.folder);
    buf_init(&report->event, REPORT_EVENT_MAX);
    enum err_code code = add_receiver(report, err);
    if (code != ERR_OK) {
        report_close(report);
        return code;
    }
    /* More than one: maybe it crashes before it gets to report_crashes. */
    if (report->spool.max_bytes > 0 && report_crashes_waiting(&report->crashes) > 1)
        take_crashes(report);
    if (!report_spool_is_empty(&report->spool))
        sender_wake(options->sender);
    *ret_report = report;
    return ERR_OK;
}

void report_close(struct report *report)
{
    if (!report)
        return;
    if (report->is_watching) {
        stack_watch_errors(false);
        crash_handler_remove();
    }
    pthread_mutex_destroy(&report->storm.mutex);
    stack_names_free(report->names);
    buf_release(&report->event);
    free(report);
}

void report_watch(struct report *report)
{
    if (!report)
        return;
    const struct crash_options options = {.program = report->options.program,
                                          .folder = report->spool.folder,
                                          .metrics = report->options.metrics};
    report->is_watching = true;
    stack_watch_errors(true);
    if (report->spool.max_bytes > 0)
        crash_handler_install(&options);
}

void report_crashes(struct report *report)
{
    if (!report || report_crashes_waiting(&report->crashes) == 0)
        return;
    atomic_store(&report->wants_crashes, true);
    sender_wake(report->options.sender);
}

void report_request_begin(struct report *report, const struct trace *trace, const char *route)
{
    if (!report)
        return;
    report_trail_begin();
    crash_request_begin(trace, route);
}

void report_request_end(struct report *report)
{
    if (report)
        crash_request_end();
}

/* ---- on the thread that failed ---- */

void report_event_error(struct report_event *event, const struct err *err)
{
    event->type = err_info(err->code)->code;
    event->value = str_of(err->message);
    event->operation = err->operation;
    event->os_errno = err->os_errno;
    event->remote_status = err->remote_status;
    event->error_stack = err->stack;
}

static void copy_addresses(const struct report_event *event, struct pending *pending)
{
    if (!event->addresses) {
        pending->address_count = stack_of_error(event->error_stack, pending->addresses);
        return;
    }
    pending->address_count =
        event->address_count < STACK_DEPTH ? event->address_count : STACK_DEPTH;
    for (size_t i = 0; i < pending->address_count; i++)
        pending->addresses[i] = event->addresses[i];
}

static void make_pending(const struct report *report, const struct report_event *event,
                         int64_t suppressed, struct buf *out)
{
    struct pending pending = {.is_finished = event->stack != NULL};
    struct buf json;
    copy_addresses(event, &pending);
    buf_init(&json, REPORT_EVENT_MAX);
    write_event(report, event, suppressed, pending.event_id, &json);
    buf_append(out, &pending, sizeof pending);
    buf_append_str(out, buf_str(&json));
    out->failed = out->failed || json.failed;
    buf_release(&json);
}

void report_send(struct report *report, const struct report_event *event)
{
    struct buf pending;
    int64_t suppressed = 0;
    if (!report)
        return;
    uint64_t hash = report_fingerprint_hash(report->options.program, event);
    if (!report_storm_admit(&report->storm, hash, now_ns(report), &suppressed)) {
        count(report, METRIC_SENTRY_DROPPED_LIMIT, 1);
        return;
    }
    buf_init(&pending, sizeof(struct pending) + REPORT_EVENT_MAX);
    make_pending(report, event, suppressed, &pending);
    if (pending.failed)
        count(report, METRIC_SENTRY_DROPPED_FAILED, 1);
    else if (!sender_offer(report->lane, buf_str(&pending)))
        count(report, METRIC_SENTRY_DROPPED_QUEUE, 1);
    buf_release(&pending);
}

void report_failed_start(const struct report_options *options, const struct err *err)
{
    struct report_options own = *options;
    struct report *report = NULL;
    struct report_event event = {.level = REPORT_FATAL, .is_unhandled = true, .mechanism = "start"};
    struct err ignored;
    own.sender = NULL;
    if (!*own.config->sentry_dsn || sender_open(&own.sender, own.clock, &ignored) != ERR_OK)
        return;
    if (report_open(&report, &own, &ignored) == ERR_OK) {
        report_event_error(&event, err);
        report_send(report, &event);
    }
    sender_close(own.sender);
    report_close(report);
}

#define WINDOW_NS (60 * 1000000000LL)

static void hash_text(uint64_t *hash, const char *text) /* FNV-1a */
{
    for (const char *at = text ? text : "";; at++) {
        *hash = (*hash ^ (unsigned char)*at) * 0x100000001b3U;
        if (!*at)
            return;
    }
}

uint64_t report_fingerprint_hash(const char *program, const struct report_event *event)
{
    uint64_t hash = 0xcbf29ce484222325U;
    hash_text(&hash, program);
    hash_text(&hash, event->type);
    hash_text(&hash, event->operation);
    hash_text(&hash, event->route);
    return hash ? hash : 1;
}

/* The fingerprint's slot, else a free one, else the one that began its minute first. */
static struct report_storm_slot *find_slot(struct report_storm *storm, uint64_t hash)
{
    struct report_storm_slot *found = &storm->slots[0];
    for (size_t i = 0; i < REPORT_STORM_SLOTS; i++) {
        struct report_storm_slot *slot = &storm->slots[i];
        if (slot->hash == hash)
            return slot;
        if (found->hash != 0 && (slot->hash == 0 || slot->since_ns < found->since_ns))
            found = slot;
    }
    *found = (struct report_storm_slot){.hash = hash};
    return found;
}

bool report_storm_admit(struct report_storm *storm, uint64_t hash, int64_t now_ns,
                        int64_t *ret_suppressed)
{
    pthread_mutex_lock(&storm->mutex);
    struct report_storm_slot *slot = find_slot(storm, hash);
    if (slot->count == 0 || now_ns - slot->since_ns >= WINDOW_NS) {
        slot->since_ns = now_ns;
        slot->count = 0;
    }
    bool is_admitted = slot->count < REPORT_SAME_MAX;
    if (is_admitted) {
        *ret_suppressed = slot->suppressed;
        slot->suppressed = 0;
        slot->count++;
    } else {
        slot->suppressed++;
    }
    pthread_mutex_unlock(&storm->mutex);
    return is_admitted;
}
