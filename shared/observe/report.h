/*
 * Error reports to a tracker that speaks Sentry's protocol (SENTRY_DSN): failed requests, failed
 * starts, crashes.
 *
 * A report is made on the thread that failed (bytes are copied, nothing is waited for) and sent by
 * the sender's. What can't be sent now is kept on disk (SENTRY_SPOOL_BYTES, in DATA_DIR/log/reports,
 * or RUNTIME_DIR/reports where DATA_DIR has no log folder) and sent when the tracker is back, by
 * whichever program of the installation looks first. The tracker's rate limits are obeyed on every
 * answer; of equal reports at most REPORT_SAME_MAX a minute are sent.
 *
 * What became of each is counted in METRIC_SENTRY_EVENTS: sent, or one of the dropped ones; spooled
 * is counted besides, when it happens.
 *
 * A report holds no credentials, cookies, queries, bodies or names of files: of a request only
 * method, route, path (where that has no name in it) and user agent.
 *
 * Reports of errors have the stack of the code that made the error (stack.h). A crash is recorded
 * on disk by the process that dies (crash_handler.h) and reported by the program's next start.
 *
 * Every function takes a NULL `report` (no SENTRY_DSN) and does nothing then. Thread-safe.
 */
#ifndef COFFER_OBSERVE_REPORT_H
#define COFFER_OBSERVE_REPORT_H

#include <stdint.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/str.h"
#include "observe/metrics.h"
#include "observe/sender.h"
#include "observe/stack.h"
#include "observe/trace.h"

#define REPORT_SAME_MAX 10 /* equal ones in a minute, of one program */
#define REPORT_TRAIL_MAX 20

struct report;

/* Names the code at `addresses` (the innermost first); called by the sender's thread. What it gives
 * is borrowed until its next call. */
typedef bool report_resolve(void *context, const uintptr_t *addresses, size_t count,
                            struct stack_trace *ret_trace);

struct report_options {
    const struct config *config; /* borrowed, as is all here */
    const char *program;         /* static text */
    const struct clock *clock;
    struct metrics *metrics; /* or NULL */
    struct sender *sender;   /* closed before the report is */
    report_resolve *resolve; /* or NULL: names are looked up in this process (stack.h) */
    void *resolve_context;
};

/* *ret_report is NULL when SENTRY_DSN is empty. ERR_CONFIG when it is wrong. Caller frees with
 * report_close. */
enum err_code report_open(struct report **ret_report, const struct report_options *options,
                          struct err *err) ERR_MUST_CHECK;
/* After sender_close, which sends or keeps what is left. */
void report_close(struct report *report);

/* Makes the folder where reports wait, for a process that can make none later. False when SENTRY_DSN is
 * empty, or none can be kept. */
bool report_folder_make(const struct config *config, char *ret_path, size_t size);

/* From now on errors have stacks and crashes are recorded. Before other threads start; report_close
 * ends it. */
void report_watch(struct report *report);
/* Has crashes of earlier processes of this program reported. When the drivers are open, so that
 * their code has names. */
void report_crashes(struct report *report);

enum report_level { REPORT_ERROR, REPORT_FATAL };

/* All borrowed for the call; what is empty or NULL is left out. */
struct report_event {
    enum report_level level;
    bool is_unhandled;     /* the program did not survive it */
    const char *mechanism; /* "generic" unless given, e.g. "signalhandler" */
    const char *type;      /* problem code, or a signal's name */
    struct str value;      /* the message */
    const char *operation; /* what was tried */
    int os_errno;
    int remote_status;
    int64_t time_ms;     /* since 1970; 0: now */
    int signal;          /* 0: none */
    int signal_code;     /* si_code */
    const char *release; /* NULL: this one */
    const struct trace *trace;
    struct str method;
    const char *route; /* the template */
    struct str path;
    struct str user_agent;
    int status;                 /* of the answer, 0: none */
    bool has_trail;             /* with what this thread left by report_crumb_add */
    unsigned error_stack;       /* of struct err: instead of addresses */
    const uintptr_t *addresses; /* of the failing code, the innermost first, at most STACK_DEPTH */
    size_t address_count;
    const struct stack_trace *stack; /* instead of addresses: named already */
};

/* Fills type, value, operation, os_errno, remote_status and error_stack. `err` is borrowed as above. */
void report_event_error(struct report_event *event, const struct err *err);
/* Makes the report and gives it to the sender. */
void report_send(struct report *report, const struct report_event *event);

/* A start that failed: opens what is needed, sends or keeps the report, and closes it, within about
 * two seconds. For a program that ends now; `options->sender` is not used. Nothing to do without a
 * good SENTRY_DSN. */
void report_failed_start(const struct report_options *options, const struct err *err);

/* One step on the way of a request. */
struct report_crumb {
    const char *category;  /* static text, as the next two: "storage" */
    const char *driver;    /* "fs" */
    const char *operation; /* "put" */
    enum err_code outcome;
    int64_t time_ms; /* since 1970 */
    int64_t duration_ns;
};

/* This thread serves a request from now on until report_request_end; what is given is borrowed till
 * then. A crash names it. Its trail begins anew. */
void report_request_begin(struct report *report, const struct trace *trace, const char *route);
void report_request_end(struct report *report);

/* The trail belongs to the thread: the last REPORT_TRAIL_MAX stay. */
void report_trail_begin(void);
void report_crumb_add(const struct report_crumb *crumb);
/* The names for METRIC_STORAGE_OPERATIONS or METRIC_METADATA_OPERATIONS and its labels. */
struct report_crumb report_crumb_of(enum metric operations, const unsigned *labels);

#endif
