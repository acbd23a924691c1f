/* What tests of the HTTP client share: a client with short limits, and calls with plain arguments. */
#ifndef COFFER_TESTS_HTTP_TOOLS_H
#define COFFER_TESTS_HTTP_TOOLS_H

#include "http_server.h"
#include "net/http_client.h"

#define HTTP_TEST_DEADLINE_MS 20000

/* Options for tests: nothing takes long unless it hangs. */
struct http_client_options http_test_options(void);
/* Ends the program when it can't be made. */
struct http_client *http_test_client(const struct http_client_options *options);

/* A GET, sent once, of at most 64 MiB. */
struct http_request http_test_get(const char *url);

/* A server of that behaviour, a client, and room for what comes. */
struct http_fixture {
    struct http_server *server;
    struct http_client *client;
    struct http_reply reply;
    struct err err;
    char url[HTTP_URL_SIZE]; /* of "/" there */
    _Atomic int retries;
};
/* `options` may be NULL; its `retried` is the fixture's. */
void http_fixture_open(struct http_fixture *fixture, http_serve *serve, void *context,
                       const struct http_client_options *options);
void http_fixture_close(struct http_fixture *fixture);
/* An exchange into the fixture's reply and err. */
enum err_code http_fixture_send(struct http_fixture *fixture, const struct http_request *request);

/* One exchange with a server of that behaviour, and what it came to. */
struct http_trial {
    http_serve *serve;
    void *context;
    const char *method;        /* NULL: GET */
    const struct clock *clock; /* NULL: the system's */
    int64_t stall_ms;          /* 0: as in all tests; so for the others */
    int64_t deadline_ms;
    unsigned attempts;
    size_t max_body;
    struct str body;
    /* What came. */
    enum err_code code;
    struct err err;
    int status;
    int64_t took_ms;
    int connections;
    int requests;
    int sends;
    int retries;
};
/* Path, query and a header hold the word "secret". */
void http_trial_run(struct http_trial *trial);

/* A source that gives the pattern of http_server.h in pieces of `step` bytes; after `fail_at` of
 * them (when `code` is set) it fails. */
struct pattern_source {
    struct source source;
    int64_t len;
    int64_t step;
    enum err_code code;
    int64_t fail_at;
    int64_t pause_ms; /* before each piece */
    int64_t at;
    char *piece;
};
void pattern_source_init(struct pattern_source *source, int64_t len, int64_t step);
void pattern_source_release(struct pattern_source *source);

/* Whether the bytes are the pattern from `offset` on. */
bool http_is_pattern(struct str bytes, int64_t offset);

int64_t http_test_now_ms(void); /* steady */
/* How many descriptors the process has open. */
int http_test_open_files(void);
/* The most memory the process has held since it was reset; of all tests, so its growth says more. */
void http_test_reset_peak_memory(void);
long http_test_peak_memory_kib(void);

#endif
