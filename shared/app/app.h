/*
 * The frame of a FastCGI program: configuration, drivers, worker threads, and for each request
 * parse → authorize → handler → answer, one log line, metrics. A program is a const table of
 * endpoints and `int main(void) { return app_run(&...); }`.
 *
 * A worker thread owns one struct app_ctx and serves one request at a time, so handlers have no
 * locks. Handlers only fill ctx->response or return an error; app writes either.
 */
#ifndef COFFER_APP_APP_H
#define COFFER_APP_APP_H

#include "access/idempotency.h"
#include "access/principal.h"
#include "app/program_sandbox.h"
#include "app/slots.h"
#include "base/source.h"
#include "files/files.h"
#include "files/files_open.h"
#include "http/request.h"
#include "http/response.h"
#include "observe/log.h"
#include "observe/report.h"
#include "observe/trace.h"

struct app;

struct app_ctx {
    const struct app *app;
    const struct files *files; /* config, clock, storage, metadata, metrics */
    struct log *log;
    struct report *report; /* or NULL: nothing is reported */
    void *own;             /* what app->open made, or NULL */
    struct slots *slots;   /* of downloads from a store, or NULL */
    struct request request;
    struct response response;
    struct trace trace;
    struct principal principal;
    struct idempotency idempotency;
    struct download *download; /* what response.source reads, or NULL; serve closes it */
    struct source *body;       /* the request's body; ends verified at Content-Length */
    int64_t received_bytes;    /* of the body */
    int64_t started_ns;        /* steady time of the request */
    int64_t process_started_ns;
    bool has_slot;  /* of slots; serve gives it back */
    bool is_cut;    /* the body of the answer ended early */
    bool measured;  /* the request is in the metrics */
    struct err err; /* why the request failed, for the log line */
};

typedef enum err_code app_handler(struct app_ctx *ctx, struct err *err);

enum endpoint_flags {
    ENDPOINT_OPEN = 1,       /* no credentials are read: health, metrics, gateway errors */
    ENDPOINT_IDEMPOTENT = 2, /* honours Idempotency-Key; needs credentials */
    ENDPOINT_QUERY = 4,      /* reads the query by itself; elsewhere any parameter is refused */
};

struct endpoint {
    enum route route;
    unsigned methods; /* METHOD_BIT()s; GET serves HEAD too */
    unsigned flags;   /* enum endpoint_flags */
    app_handler *handle;
};

enum app_workers { APP_WORKERS_UPLOAD, APP_WORKERS_DOWNLOAD, APP_WORKERS_OTHER };

struct app {
    const char *name; /* "files_get" */
    enum app_workers workers;
    bool short_requests; /* no handler waits for a client or a sync: workers take turns */
    bool takes_uploads;  /* has a step pool, reads bodies in large steps */
    bool uses_stores;    /* of files: starts only where both belong together */
    bool sweeps;         /* runs the periodic sweep */
    unsigned needs;      /* enum program_needs: what its sandbox leaves it */
    /* Opens what this program alone holds, after its stores; closed before them. Both or neither. */
    enum err_code (*open)(const struct files *files, void **ret_own, struct err *err);
    void (*close)(void *own); /* NULL is allowed */
    const struct endpoint *endpoints;
    size_t endpoint_count;
};

/* Runs the program on the listening socket on descriptor 0 until SIGTERM. Returns the exit code:
 * 0 after a clean stop, 2 when it could not start (one clear line on standard error). */
int app_run(const struct app *app);

/* What app_run does first: nothing a crash leaves behind may hold a client's bytes or a secret. */
void app_harden(void);

/* May the caller see what is for operators: an address in METRICS_ALLOW, or an admin's token? Where
 * the endpoint read no credentials, they are read now. */
bool app_is_operator(const struct app_ctx *ctx);

/* Whole seconds since the program started. */
int64_t app_uptime_seconds(const struct app_ctx *ctx);

/* Reads a JSON body of at most LIMIT_JSON_BODY_BYTES into `json` when its media type is
 * application/json or `other_type` (may be NULL). ERR_UNSUPPORTED_MEDIA_TYPE, ERR_BAD_JSON (too
 * large, empty), and what the body says. */
enum err_code app_read_json(struct app_ctx *ctx, const char *other_type, struct buf *json,
                            struct err *err) ERR_MUST_CHECK;
/* Answers with the JSON in ctx->response.body: type, caching and range headers. */
void app_answer_json(struct app_ctx *ctx, int status);
/* Answers with what the Idempotency-Key's first request was answered. */
void app_answer_replay(struct app_ctx *ctx);

#endif
