/*
 * What the parts of reports share. Private to observe/report*.c and their tests.
 *
 * Threads: limits, backoff and spool are used by the sender's thread alone (before it runs, by the
 * opening one); storm has a mutex.
 */
#ifndef COFFER_OBSERVE_REPORT_PARTS_H
#define COFFER_OBSERVE_REPORT_PARTS_H

#include <pthread.h>

#include "base/dsn.h"
#include "observe/crash_handler.h"
#include "observe/report.h"

#define REPORT_EVENT_MAX (256 * 1024) /* bytes; trackers take 1 MB */
#define REPORT_QUEUE_BYTES (512 * 1024)
#define REPORT_ID_SIZE 33

/* What may be shown of a request's path. */
struct str report_path(const char *route, struct str path);

struct report_source {
    const char *program;
    const char *environment;
    const char *server_name;
    char event_id[REPORT_ID_SIZE];
    int64_t time_ms;
    int64_t suppressed; /* equal ones that were not sent before this one */
};

/* The event's JSON up to where the stack is to stand. */
void report_write_event(const struct report_source *source, const struct report_event *event,
                        struct buf *out);
/* The rest: the stack (NULL: none) and all that is still open. */
void report_finish_event(const struct stack_trace *stack, struct buf *out);
/* The envelope's two heads, the event and a newline. */
void report_write_envelope(const char *event_id, struct str event, struct buf *out);

struct report_limits {
    int64_t until_ns; /* steady; nothing is sent before */
};

/* Takes X-Sentry-Rate-Limits; on 429, where that says nothing of errors, Retry-After (60 s when
 * there is none). */
void report_limits_take(struct report_limits *limits, const struct http_reply *reply,
                        const struct clock *clock);
/* Seconds that errors are not wanted for by a header's value; 0: they are. */
int64_t report_limits_parse(struct str header);

#define REPORT_STORM_SLOTS 64

struct report_storm {
    pthread_mutex_t mutex;
    struct report_storm_slot {
        uint64_t hash; /* of the fingerprint; 0: free */
        int64_t since_ns;
        int64_t count;      /* sent since then */
        int64_t suppressed; /* not sent since the last that was */
    } slots[REPORT_STORM_SLOTS];
};

uint64_t report_fingerprint_hash(const char *program, const struct report_event *event);
/* May this one be sent? Tells how many equal ones were not before it. */
bool report_storm_admit(struct report_storm *storm, uint64_t hash, int64_t now_ns,
                        int64_t *ret_suppressed);

/* Files of whole envelopes named by time and event id, mode 0600, in one folder for all programs. A
 * file is sent by who holds its lock (flock), and removed then. */
struct report_spool {
    char folder[CONFIG_TEXT_SIZE + 16];
    int64_t max_bytes;
    int held_fd; /* of the one that was taken, -1: none */
    char held_name[64];
};

void report_spool_init(struct report_spool *spool, const struct config *config);
bool report_spool_is_empty(const struct report_spool *spool);
/* Keeps it; false when it can't be. The oldest go when there is no room: their number in
 * *ret_dropped (also on failure). */
bool report_spool_put(const struct report_spool *spool, const struct clock *clock, struct str body,
                      unsigned *ret_dropped);
/* The oldest that nobody else holds, which is then held; false when there is none. */
bool report_spool_take(struct report_spool *spool, struct buf *body);
/* Ends the holding, and the file when `is_done`. */
void report_spool_release(struct report_spool *spool, bool is_done);

/* Records of crashes (crash_handler.h) stand in the spool's folder. The next start of the program
 * takes them one by one, at most one in some seconds, so that one that crashes at each start does
 * not flood the tracker. What can't be read is removed. */
struct report_crashes {
    char folder[CONFIG_TEXT_SIZE + 16];
    const char *program; /* static text */
    char taken[160];     /* the record that was taken */
    unsigned dropped;    /* records that were no good, since it was set to 0 */
    bool is_unfinished;  /* one was taken and not finished: naming it may be what crashes */
};

unsigned report_crashes_waiting(const struct report_crashes *crashes);
/* True with the next one; else the time after which to ask again, negative: there are none. */
bool report_crashes_take(struct report_crashes *crashes, struct crash_record *ret_record,
                         int64_t *ret_wait_ms);
/* The one that was taken is reported. */
void report_crashes_finish(struct report_crashes *crashes);

#define REPORT_CRASH_TEXT_SIZE 128
#define REPORT_CRASH_PLACE_SIZE 128

struct report_crash_texts {
    char type[24];
    char value[REPORT_CRASH_TEXT_SIZE];
    char place[REPORT_CRASH_PLACE_SIZE];
};

/* *ret_event borrows from all the others. */
void report_crash_describe(const struct crash_record *record, const struct stack_trace *stack,
                           struct report_crash_texts *texts, struct report_event *ret_event);

#endif
