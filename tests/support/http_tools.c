#include "http_tools.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

struct http_client_options http_test_options(void)
{
    return (struct http_client_options){
        .clock = &clock_system, .connect_ms = 10000, .stall_ms = 10000, .idle_connections = 8};
}

struct http_client *http_test_client(const struct http_client_options *options)
{
    struct http_client *client = NULL;
    struct err err = {0};
    if (http_client_open(&client, options, &err) != ERR_OK) {
        fprintf(stderr, "http_client_open: %s\n", err.message);
        abort();
    }
    return client;
}

struct http_request http_test_get(const char *url)
{
    return (struct http_request){.method = "GET",
                                 .url = url,
                                 .deadline_ms = HTTP_TEST_DEADLINE_MS,
                                 .attempts = 1,
                                 .max_body = 64 * 1024 * 1024};
}

static void count_retry(void *context)
{
    struct http_fixture *fixture = context;
    fixture->retries++;
}

void http_fixture_open(struct http_fixture *fixture, http_serve *serve, void *context,
                       const struct http_client_options *options)
{
    struct http_client_options own = options ? *options : http_test_options();
    *fixture = (struct http_fixture){.server = http_server_open(serve, context)};
    own.retried = count_retry;
    own.context = fixture;
    http_reply_init(&fixture->reply);
    fixture->client = http_test_client(&own);
    http_server_url(fixture->server, "/", fixture->url);
}

void http_fixture_close(struct http_fixture *fixture)
{
    http_client_close(fixture->client);
    http_server_close(fixture->server);
    http_reply_release(&fixture->reply);
}

enum err_code http_fixture_send(struct http_fixture *fixture, const struct http_request *request)
{
    return http_exchange(fixture->client, request, &fixture->reply, &fixture->err);
}

void http_trial_run(struct http_trial *trial)
{
    struct http_client_options options = http_test_options();
    struct http_fixture fixture;
    char url[HTTP_URL_SIZE];
    if (trial->clock)
        options.clock = trial->clock;
    if (trial->stall_ms)
        options.stall_ms = trial->stall_ms;
    http_fixture_open(&fixture, trial->serve, trial->context, &options);
    struct http_request request =
        http_test_get(http_server_url(fixture.server, "/secret-path?secret-query", url));
    if (trial->deadline_ms)
        request.deadline_ms = trial->deadline_ms;
    if (trial->attempts)
        request.attempts = trial->attempts;
    if (trial->max_body)
        request.max_body = trial->max_body;
    if (trial->method)
        request.method = trial->method;
    request.headers = STR("X-Key: secret-header\r\n");
    request.body = trial->body;
    const int64_t start_ms = http_test_now_ms();
    trial->code = http_fixture_send(&fixture, &request);
    trial->took_ms = http_test_now_ms() - start_ms;
    trial->status = fixture.reply.status;
    trial->sends = (int)fixture.reply.sends;
    trial->err = fixture.err;
    trial->connections = http_server_connections(fixture.server);
    trial->requests = http_server_requests(fixture.server);
    trial->retries = fixture.retries;
    http_fixture_close(&fixture);
}

static enum err_code next_piece(struct source *base, struct str *ret_piece, struct err *err)
{
    struct pattern_source *source = (struct pattern_source *)base;
    /* The last one is given up, so that a use after its time is seen. */
    free(source->piece);
    source->piece = NULL;
    if (source->pause_ms > 0)
        nanosleep(&(struct timespec){.tv_nsec = source->pause_ms * 1000000}, NULL);
    if (source->code != ERR_OK && source->at >= source->fail_at)
        return err_set_internal(err, source->code, 0, "source", "as the test wants it");
    int64_t len = source->len - source->at < source->step ? source->len - source->at : source->step;
    if (len > 0) {
        source->piece = malloc((size_t)len);
        if (!source->piece)
            abort();
        for (int64_t i = 0; i < len; i++)
            source->piece[i] = http_pattern(source->at + i);
    }
    source->at += len;
    *ret_piece = (struct str){source->piece, (size_t)len};
    return ERR_OK;
}

void pattern_source_init(struct pattern_source *source, int64_t len, int64_t step)
{
    *source = (struct pattern_source){.source = {next_piece}, .len = len, .step = step};
}

void pattern_source_release(struct pattern_source *source)
{
    free(source->piece);
    source->piece = NULL;
}

bool http_is_pattern(struct str bytes, int64_t offset)
{
    while (bytes.len > 0) {
        size_t step = bytes.len < HTTP_PATTERN_PERIOD ? bytes.len : HTTP_PATTERN_PERIOD;
        if (memcmp(bytes.data, http_pattern_at(offset), step) != 0)
            return false;
        bytes.data += step;
        bytes.len -= step;
        offset += (int64_t)step;
    }
    return true;
}

int64_t http_test_now_ms(void)
{
    return clock_steady_ns(&clock_system) / 1000000;
}

int http_test_open_files(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        abort();
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

long http_test_peak_memory_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    if (!file)
        abort();
    while (fgets(line, sizeof line, file))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    fclose(file);
    return kib;
}

void http_test_reset_peak_memory(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (!file || fputs("5", file) < 0)
        abort();
    fclose(file);
}
