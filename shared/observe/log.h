/*
 * Log lines: ECS NDJSON, one object a line, to a file (O_APPEND, reopened on SIGHUP) or
 * a Unix datagram socket. Who logs copies its line into a bounded queue and goes on; a thread writes
 * it a moment later (log_queue.h). A line that the queue has no room for is dropped and counted, never
 * waited for; no call here fails a request. Strings are made valid UTF-8 and escaped, so no line can
 * be forged; what looks like a secret is masked (log_redact.h); a line is at most LOG_LINE_MAX bytes:
 * long strings are cut, and of more than about fifty fields the last are left out. Thread-safe.
 *
 * Order of members: @timestamp, log.level, message, ecs.version, service.name, service.environment,
 * level, service, host.name, process.pid, event.id (unique in every line), trace.id and trace_id when
 * there is one, then the fields given.
 */
#ifndef COFFER_OBSERVE_LOG_H
#define COFFER_OBSERVE_LOG_H

#include <stdint.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/str.h"
#include "observe/metrics.h"
#include "observe/trace.h"

#define LOG_LINE_MAX 8192

struct log;

enum log_field_type { LOG_STRING, LOG_INT };

struct log_field {
    const char *name; /* ECS name, e.g. "http.request.method" */
    enum log_field_type type;
    struct str text;
    int64_t number;
};

#define LOG_FIELD_STR(field, value) ((struct log_field){(field), LOG_STRING, (value), 0})
#define LOG_FIELD_INT(field, value) ((struct log_field){(field), LOG_INT, {NULL, 0}, (value)})

struct log_fields {
    const struct log_field *all; /* borrowed for the call */
    size_t count;
};

#define LOG_NO_FIELDS ((struct log_fields){NULL, 0})

/* Opens the sink named by config->log_file and starts the thread. ERR_CONFIG when the target can't be
 * opened at start. `program` is static text: service.name is "coffer-<program>". Caller frees with
 * log_close, which writes what waits. */
enum err_code log_open(struct log **ret_log, const struct config *config, const char *program,
                       const struct clock *clock, struct err *err) ERR_MUST_CHECK;
/* Takes about a second at most, however the sink is. */
void log_close(struct log *log);
/* Opens the file again by its name (after rotation), soon; keeps the old one when that fails. */
void log_reopen(struct log *log);
/* Waits until everything logged before is written and the file reopened; false when that takes longer
 * than `ms`. Not for requests. */
bool log_flush(struct log *log, int64_t ms);
bool log_enabled(const struct log *log, enum err_level level);
/* Is a request that went well among those to be logged (LOG_SUCCESS_SAMPLE)? The same in every program
 * for the same trace. */
bool log_keeps_success(const struct log *log, const char *trace_id);
/* Writes one line when the level is enabled. `trace` may be NULL. */
void log_write(struct log *log, enum err_level level, const struct trace *trace,
               const char *message, struct log_fields fields);
/* Every line dropped so far and from now on is also counted in METRIC_LOG_LINES_DROPPED. `metrics` is
 * borrowed until log_close. Once. */
void log_count_drops(struct log *log, struct metrics *metrics);
/* Lines that were dropped since the start. */
uint64_t log_dropped(const struct log *log);

/*
 * The fields of one log line, gathered one by one. Names are static text, values are borrowed until the
 * line is written; what finds no room is left out.
 */

#define LOG_LIST_MAX 20

struct log_list {
    struct log_field fields[LOG_LIST_MAX];
    size_t count;
};

/* Left out when it is empty. */
void log_list_text(struct log_list *list, const char *name, struct str value);
/* There also when it is empty. */
void log_list_required(struct log_list *list, const char *name, struct str value);
void log_list_number(struct log_list *list, const char *name, int64_t value);
/* Borrowed from the list. */
struct log_fields log_list_all(const struct log_list *list);

#endif
