/*
 * What is told of a finished request: its metrics and its one log line.
 */
#ifndef COFFER_APP_REQUEST_LOG_H
#define COFFER_APP_REQUEST_LOG_H

#include "app/app.h"
#include "observe/span.h"

/* http_* metrics of the answer in ctx->response. */
void request_log_measure(const struct app_ctx *ctx);
/* A report of what failed with a 5xx. */
void request_log_report(const struct app_ctx *ctx);
/* The request's spans; ends its trace context. */
void request_log_span(const struct app_ctx *ctx, struct span_request *span);
/* The request's log line: level of its error (info when none), ECS fields. A success that is not in
 * the sample (LOG_SUCCESS_SAMPLE) has none. */
void request_log_write(const struct app_ctx *ctx);

#endif
