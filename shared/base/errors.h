/*
 * Errors: every expected failure has a code of its own, and one table says what the code means.
 *
 * A function that can fail returns enum err_code (ERR_OK = 0) and takes `struct err *err` last.
 * `err` is never NULL, is written only on failure, and needs no release: it owns no memory.
 * The table maps a code to HTTP status, problem code, title, log level and "report it or not"
 * (API.md, "Every answer"). Library code never logs: the failure is logged once, by app.
 */
#ifndef COFFER_BASE_ERRORS_H
#define COFFER_BASE_ERRORS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum err_code {
    ERR_OK = 0,
    /* 400 */
    ERR_BAD_REQUEST,
    ERR_BAD_MULTIPART,
    ERR_BAD_NAME,
    ERR_BAD_ID,
    ERR_BAD_PARAMETER,
    ERR_BAD_JSON,
    ERR_BAD_CURSOR,
    /* 401, 403, 404 */
    ERR_UNAUTHORIZED,
    ERR_FORBIDDEN,
    ERR_NOT_FOUND,
    /* 405 … 431 */
    ERR_METHOD_NOT_ALLOWED,
    ERR_NOT_ACCEPTABLE,
    ERR_REQUEST_TIMEOUT,
    ERR_CONFLICT,
    ERR_LENGTH_REQUIRED,
    ERR_PRECONDITION_FAILED,
    ERR_FILE_TOO_LARGE,
    ERR_UNSUPPORTED_MEDIA_TYPE,
    ERR_RANGE_NOT_SATISFIABLE,
    ERR_DIGEST_MISMATCH,
    ERR_IDEMPOTENCY_MISMATCH,
    ERR_HEADERS_TOO_LARGE,
    /* 500 … 507 */
    ERR_INTERNAL,
    ERR_NO_MEMORY,
    ERR_NOT_IMPLEMENTED,
    ERR_HTTP_VERSION,
    ERR_STORAGE,
    ERR_STORAGE_UNAVAILABLE,
    ERR_METADATA_UNAVAILABLE,
    ERR_UPSTREAM,             /* another server answered nonsense */
    ERR_UPSTREAM_UNAVAILABLE, /* another server could not be reached */
    ERR_UPSTREAM_TIMEOUT,
    ERR_DISK_FULL,
    /* 499, only in logs and metrics: nobody is there to read the answer */
    ERR_CLIENT_GONE,
    /* start-up and command line only */
    ERR_CONFIG,
    /* an object exists already, or is held by a put in progress; never leaves files/ */
    ERR_EXISTS,
    ERR_BUSY,
    ERR_CODE_COUNT
};

enum err_level { ERR_LEVEL_DEBUG, ERR_LEVEL_INFO, ERR_LEVEL_WARN, ERR_LEVEL_ERROR };

struct err_info {
    int status;           /* HTTP status */
    const char *code;     /* problem code of API.md, e.g. "file_too_large" */
    const char *title;    /* RFC 9110 reason phrase */
    enum err_level level; /* how the one log line of the request is marked */
    bool report;          /* goes to the error tracker */
};

#define ERR_MESSAGE_MAX 240
#define ERR_SUBJECT_MAX 64

struct err {
    enum err_code code;
    int os_errno;            /* errno at the failure, 0 when none */
    int remote_status;       /* HTTP status of a store, 0 when none */
    const char *operation;   /* static text: what was tried, e.g. "fsync" */
    const char *detail_name; /* static text or NULL: member of the problem's "details" */
    int64_t detail_value;
    const char *subject_kind;      /* static text or NULL: "part", "parameter" or "field" */
    char subject[ERR_SUBJECT_MAX]; /* its name, as the client sent it; member of "details" too */
    bool internal;                 /* message is for the log only; the client gets a general text */
    bool outcome_unknown;          /* the change that failed may have been made nevertheless */
    unsigned stack;                /* what err_watch's function gave for it, else 0 */
    char message[ERR_MESSAGE_MAX]; /* one sentence; no path, SQL or secret unless `internal` */
};

/* The row for a code; a code out of range gives the row of ERR_INTERNAL. Never NULL. */
const struct err_info *err_info(enum err_code code);

/* Fills *err with a message that the client may read; returns `code`. */
enum err_code err_set(struct err *err, enum err_code code, const char *operation,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Fills *err with a message for the log only, and errno `os_errno` (0: none); returns `code`. */
enum err_code err_set_internal(struct err *err, enum err_code code, int os_errno,
                               const char *operation, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#ifdef __clang_analyzer__
/* What the analyzer can't see across files: the code that comes back is the one that went in. */
#define err_set(err, code, ...) ((void)(err_set)(err, code, __VA_ARGS__), (code))
#define err_set_internal(err, code, ...) ((void)(err_set_internal)(err, code, __VA_ARGS__), (code))
#endif

/* Where an error was made: called with the address that err_set returns to. What it gives is kept in
 * err->stack. */
typedef unsigned err_watcher(const void *caller);

/* Has `watcher` (NULL: nothing) called for every error of a code that is reported. Process-wide:
 * before other threads make errors, or when they have ended. */
void err_watch(err_watcher *watcher);
err_watcher *err_watching(void);

/* Adds the one member of "details", e.g. ("limit", 52428800). `name` is static text. */
void err_detail(struct err *err, const char *name, int64_t value);

/* Says which part of a form, parameter of a query or field of a JSON text is at fault, unless that was
 * said, and puts the name before the message where the message lacks it. `kind` is static text; a long
 * name is cut. */
void err_subject(struct err *err, const char *kind, struct str name);

/* The text the client may read: the message, or a general sentence when it is internal. */
const char *err_public_message(const struct err *err);

#define ERR_MUST_CHECK __attribute__((warn_unused_result))

#endif
