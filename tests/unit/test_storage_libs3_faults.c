/* The libs3 driver before stores that real ones are not: each is a script of answers. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "storage/libs3/storage_libs3.h"
#include "storage/storage_drivers.h"

#define KEY "ab/0123456789abcdef0123456789abcdef"
#define TAG "\"5d41402abc4b2a76b9719d911017c592\""
#define FOUND "HTTP/1.1 200 OK\r\nETag: " TAG "\r\n"
#define ANSWERS 8
#define HELD 32

/* ---- the store ---- */

enum manner {
    CLOSE = 0,   /* the text, then an orderly end */
    THEN_RESET,  /* the text, then a reset */
    UNASKED,     /* the text, then an end; "Expect: 100-continue" is not answered */
    NOTHING,     /* not a byte, and the connection stays */
    OBJECT,      /* what the last PUT brought, as an answer to HEAD */
    OTHER_OBJECT /* the same but for its size */
};

struct answer {
    const char *text;
    enum manner manner;
};

/* Its answers in turn, one to each connection; the last one again and again. */
struct script {
    const struct answer *answers; /* ANSWERS of them, those not used without a text */
    int listener;
    int port;
    pthread_t thread;
    atomic_bool stop;
    atomic_int requests;
    int held[HELD];
    int held_count;
    char sha256[LIBS3_SHA256_SIZE];
    char nonce[LIBS3_NONCE_SIZE];
    long length;
};

/* The value of a header of the request, into target[size]. */
static void copy_header(const char *head, const char *name, char *target, size_t size)
{
    const char *at = strstr(head, name);
    if (!at)
        return;
    at += strlen(name);
    struct str value = {at, strcspn(at, "\r")};
    if (!str_copy(target, size, value))
        target[0] = '\0';
}

static void read_body(int fd, long left)
{
    char bytes[65536];
    while (left > 0) {
        ssize_t len = recv(fd, bytes, left < (long)sizeof bytes ? (size_t)left : sizeof bytes, 0);
        if (len <= 0)
            return;
        left -= len;
    }
}

static void read_request(struct script *script, int fd, bool is_welcome)
{
    char head[8192];
    char length[32] = "0";
    size_t len = 0;
    head[0] = '\0';
    while (len + 1 < sizeof head && !strstr(head, "\r\n\r\n")) {
        if (recv(fd, head + len, 1, 0) <= 0)
            return;
        head[++len] = '\0';
    }
    if (strncmp(head, "PUT ", 4) != 0)
        return;
    copy_header(head, "Content-Length: ", length, sizeof length);
    copy_header(head, "x-amz-meta-sha256: ", script->sha256, sizeof script->sha256);
    copy_header(head, "x-amz-meta-upload: ", script->nonce, sizeof script->nonce);
    script->length = strtol(length, NULL, 10);
    if (is_welcome && strstr(head, "Expect: 100-continue"))
        (void)!send(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
    read_body(fd, script->length);
}

static void answer_request(struct script *script, int fd)
{
    int number = atomic_fetch_add(&script->requests, 1);
    const struct answer *answer = &script->answers[0];
    for (int i = 1; i <= number && i < ANSWERS && script->answers[i].text; i++)
        answer = &script->answers[i];
    char text[1024];
    int len = snprintf(text, sizeof text, "%s", answer->text);
    read_request(script, fd, answer->manner != UNASKED);
    if (answer->manner == NOTHING && script->held_count < HELD) {
        script->held[script->held_count++] = fd;
        return;
    }
    if (answer->manner == OBJECT || answer->manner == OTHER_OBJECT)
        len = snprintf(text, sizeof text,
                       FOUND "Content-Length: %ld\r\nx-amz-meta-sha256: %s\r\n"
                             "x-amz-meta-upload: %s\r\n\r\n",
                       script->length + (answer->manner == OTHER_OBJECT), script->sha256,
                       script->nonce);
    (void)!send(fd, text, (size_t)len, MSG_NOSIGNAL);
    if (answer->manner == THEN_RESET) {
        const struct linger now = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(fd);
}

static void *serve(void *context)
{
    struct script *script = context;
    while (!script->stop) {
        struct pollfd ready = {.fd = script->listener, .events = POLLIN};
        if (poll(&ready, 1, 20) != 1)
            continue;
        int fd = accept4(script->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            answer_request(script, fd);
    }
    return NULL;
}

static bool listen_on(struct script *script, int backlog)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    script->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_bound = bind(script->listener, (struct sockaddr *)&address, sizeof address) == 0 &&
                    listen(script->listener, backlog) == 0 &&
                    getsockname(script->listener, (struct sockaddr *)&address, &len) == 0;
    script->port = ntohs(address.sin_port);
    return is_bound;
}

static void script_stop(struct script *script)
{
    script->stop = true;
    pthread_join(script->thread, NULL);
    close(script->listener);
    for (int i = 0; i < script->held_count; i++)
        close(script->held[i]);
}

/* ---- the driver before it ---- */

static atomic_int retries;
static const char *spool_dir;

static void count_retry(void *context)
{
    (void)context;
    retries++;
}

static void *open_driver(int port, struct config *config)
{
    struct storage_options options = {
        .config = config, .clock = &clock_system, .retried = count_retry};
    struct err err;
    void *state = NULL;
    memset(config, 0, sizeof *config);
    snprintf(config->s3_endpoint, sizeof config->s3_endpoint, "http://127.0.0.1:%d", port);
    snprintf(config->s3_bucket, sizeof config->s3_bucket, "uploads");
    snprintf(config->s3_region, sizeof config->s3_region, "us-east-1");
    snprintf(config->s3_access_key, sizeof config->s3_access_key, "key");
    snprintf(config->s3_secret_key, sizeof config->s3_secret_key, "secret");
    snprintf(config->runtime_dir, sizeof config->runtime_dir, "%s", spool_dir);
    config->max_file_size = 1000000;
    config->s3_attempts = 3;
    config->s3_connect_timeout_ms = 300;
    config->s3_stall_seconds = 1;
    config->s3_deadline_seconds = 2;
    retries = 0;
    return storage_libs3_driver.open(&state, &options, &err) == ERR_OK ? state : NULL;
}

static double seconds(void)
{
    return (double)clock_steady_ns(&clock_system) / 1e9;
}

static enum err_code run_stat(void *state, struct err *err)
{
    struct storage_stat stat;
    return libs3_stat(state, KEY, &stat, err);
}

static enum err_code run_get(void *state, struct err *err)
{
    const struct storage_wanted wanted = {KEY, 5, TAG, 0, -1};
    void *get = NULL;
    char bytes[8];
    size_t len = 0;
    enum err_code code = libs3_get_open(state, &wanted, &get, err);
    if (code == ERR_OK)
        code = libs3_get_read(get, bytes, sizeof bytes, &len, err);
    libs3_get_close(get);
    if (code == ERR_OK && (len != 5 || memcmp(bytes, "hello", 5) != 0))
        return err_set(err, ERR_CONFLICT, "test", "Other bytes were read.");
    return code;
}

static enum err_code run_put(void *state, struct err *err)
{
    static const unsigned char sha256[32] = {1, 2, 3};
    static const char data[400000];
    char tag[STORAGE_TAG_SIZE] = "";
    void *put = NULL;
    enum err_code code = libs3_put_begin(state, KEY, -1, &put, err);
    if (code == ERR_OK)
        code = libs3_put_write(put, data, sizeof data, err);
    if (code == ERR_OK)
        code = libs3_put_commit(put, sha256, tag, err);
    libs3_put_close(put);
    if (code == ERR_OK && strcmp(tag, TAG) != 0)
        return err_set(err, ERR_CONFLICT, "test", "Another tag was kept.");
    return code;
}

static enum err_code no_object(void *context, const char *key, const struct storage_stat *stat,
                               struct err *err)
{
    (void)context;
    (void)key;
    (void)stat;
    return err_set(err, ERR_CONFLICT, "test", "There should be nothing.");
}

static enum err_code run_list(void *state, struct err *err)
{
    return libs3_list(state, no_object, NULL, err);
}

static enum err_code run_ping(void *state, struct err *err)
{
    return storage_libs3_driver.ping(state, err);
}

struct fault {
    const char *label;
    enum err_code (*run)(void *state, struct err *err);
    struct answer answers[ANSWERS];
    enum err_code want;
    int requests;   /* that reach the store; 0: any */
    double at_most; /* seconds */
};

struct trial {
    const struct fault *fault;
    pthread_t thread;
    enum err_code code;
    struct err err;
    double took; /* seconds */
    int requests;
};

static void *run_fault(void *context)
{
    struct trial *trial = context;
    struct script script = {.answers = trial->fault->answers};
    struct config config;
    trial->err.code = trial->code = ERR_INTERNAL;
    if (!listen_on(&script, 16) || pthread_create(&script.thread, NULL, serve, &script) != 0)
        return NULL;
    void *state = open_driver(script.port, &config);
    double start = seconds();
    if (state)
        trial->code = trial->fault->run(state, &trial->err);
    trial->took = seconds() - start;
    trial->requests = script.requests;
    storage_libs3_driver.close(state);
    script_stop(&script);
    return NULL;
}

/* All at once: most of their time is waiting. */
static void run_faults(const struct fault *faults, size_t count)
{
    struct trial trials[32];
    spool_dir = check_temp_dir();
    REQUIRE(count <= 32);
    memset(trials, 0, sizeof trials);
    for (size_t i = 0; i < count; i++) {
        trials[i].fault = &faults[i];
        REQUIRE(pthread_create(&trials[i].thread, NULL, run_fault, &trials[i]) == 0);
    }
    for (size_t i = 0; i < count; i++) {
        const struct trial *trial = &trials[i];
        pthread_join(trial->thread, NULL);
        CHECK_ERR_ROW(faults[i].label, trial->code, faults[i].want, &trial->err);
        CHECK_ROW(faults[i].label, trial->took < faults[i].at_most);
        CHECK_ROW(faults[i].label, trial->code == ERR_OK || trial->err.internal);
        if (faults[i].requests > 0)
            CHECK_INT_ROW(faults[i].label, trial->requests, faults[i].requests);
    }
}

#define GOOD_GET FOUND "Content-Length: 5\r\n\r\nhello"
#define CUT FOUND "Content-Length: 5\r\n\r\nhel"
#define CUT_CHUNK FOUND "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"
#define SHORTER FOUND "Content-Length: 4\r\n\r\nhell"
#define LONGER FOUND "Content-Length: 6\r\n\r\nhello!"
#define LONGER_CHUNK FOUND "Transfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n"
#define OTHER_TAG "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\nhello"
#define NO_TAG "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
#define CHANGED "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
#define PAGE "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 14\r\n\r\n<html><hr><p>x"
#define EMPTY_LIST "HTTP/1.1 200 OK\r\n\r\n<ListBucketResult></ListBucketResult>"
#define GONE "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
#define BUSY "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
#define STORED "HTTP/1.1 200 OK\r\nETag: " TAG "\r\nContent-Length: 0\r\n\r\n"

#define UNAVAILABLE ERR_STORAGE_UNAVAILABLE
#define TIMEOUT ERR_UPSTREAM_TIMEOUT

TEST(storage_libs3_faults, reads)
{
    static const struct fault faults[] = {
        {"silent", run_stat, {{"", NOTHING}}, TIMEOUT, 2, 5},
        {"silent ping", run_ping, {{"", NOTHING}}, TIMEOUT, 0, 5},
        {"reset", run_stat, {{"", THEN_RESET}}, UNAVAILABLE, 3, 5},
        {"reset in the body", run_get, {{CUT, THEN_RESET}}, UNAVAILABLE, 3, 5},
        {"closed without a word", run_stat, {{"", CLOSE}}, UNAVAILABLE, 3, 5},
        {"no HTTP", run_stat, {{"SSH-2.0-x\r\n", CLOSE}}, UNAVAILABLE, 0, 5},
        {"503 always", run_get, {{BUSY, CLOSE}}, UNAVAILABLE, 3, 5},
        {"503 once", run_get, {{BUSY, CLOSE}, {GOOD_GET, CLOSE}}, ERR_OK, 2, 5},
        {"cut always", run_get, {{CUT, CLOSE}}, UNAVAILABLE, 3, 5},
        {"cut once", run_get, {{CUT, CLOSE}, {GOOD_GET, CLOSE}}, ERR_OK, 2, 5},
        {"cut, length unknown", run_get, {{CUT_CHUNK, CLOSE}}, UNAVAILABLE, 3, 5},
        {"longer", run_get, {{LONGER, CLOSE}}, ERR_STORAGE, 1, 5},
        {"longer, length unknown", run_get, {{LONGER_CHUNK, CLOSE}}, ERR_STORAGE, 1, 5},
        {"shorter", run_get, {{SHORTER, CLOSE}}, ERR_STORAGE, 1, 5},
        {"another tag", run_get, {{OTHER_TAG, CLOSE}}, ERR_STORAGE, 1, 5},
        {"no tag", run_stat, {{NO_TAG, CLOSE}}, ERR_STORAGE, 1, 5},
        {"412", run_get, {{CHANGED, CLOSE}}, ERR_STORAGE, 1, 5},
        {"a proxy's page", run_get, {{PAGE, CLOSE}}, UNAVAILABLE, 3, 5},
        {"an empty listing is asked for twice", run_list, {{EMPTY_LIST, CLOSE}}, ERR_OK, 2, 5},
    };
    run_faults(faults, sizeof faults / sizeof faults[0]);
}

TEST(storage_libs3_faults, writes)
{
    static const struct fault faults[] = {
        {"well", run_put, {{GONE, CLOSE}, {STORED, CLOSE}, {"", OBJECT}}, ERR_OK, 3, 5},
        {"no 100", run_put, {{GONE, CLOSE}, {STORED, UNASKED}, {"", OBJECT}}, ERR_OK, 3, 5},
        {"silent from the start", run_put, {{"", NOTHING}}, TIMEOUT, 0, 5},
        {"silent from the PUT on", run_put, {{GONE, CLOSE}, {"", NOTHING}}, TIMEOUT, 0, 8},
        {"lost answer", run_put, {{GONE, CLOSE}, {"", THEN_RESET}, {"", OBJECT}}, ERR_OK, 3, 5},
        {"lost object",
         run_put,
         {{GONE, CLOSE}, {"", THEN_RESET}, {GONE, CLOSE}, {STORED, CLOSE}, {"", OBJECT}},
         ERR_OK,
         5,
         5},
        {"503 once, without a word",
         run_put,
         {{GONE, CLOSE}, {BUSY, CLOSE}, {GONE, CLOSE}, {STORED, CLOSE}, {"", OBJECT}},
         ERR_OK,
         5,
         5},
        {"stored and gone", run_put, {{GONE, CLOSE}}, UNAVAILABLE, 7, 8},
        {"taken", run_put, {{STORED, CLOSE}}, ERR_EXISTS, 1, 5},
        {"another writer's",
         run_put,
         {{GONE, CLOSE}, {STORED, CLOSE}, {GOOD_GET, CLOSE}},
         ERR_EXISTS,
         3,
         5},
        {"another size",
         run_put,
         {{GONE, CLOSE}, {STORED, CLOSE}, {"", OTHER_OBJECT}},
         ERR_STORAGE,
         3,
         5},
    };
    run_faults(faults, sizeof faults / sizeof faults[0]);
}

/* Nobody listens on the port of a listener that was closed. */
TEST(storage_libs3_faults, a_refused_connection_is_told_at_once)
{
    struct script script = {.port = 0};
    struct config config;
    struct err err;
    spool_dir = check_temp_dir();
    REQUIRE(listen_on(&script, 1));
    close(script.listener);
    void *state = open_driver(script.port, &config);
    REQUIRE(state);
    double start = seconds();
    CHECK_ERR(run_stat(state, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK(seconds() - start < 2);
    CHECK_INT(retries, 2);
    storage_libs3_driver.close(state);
}

/* With its backlog full and nobody accepting, a listener lets nobody connect. */
TEST(storage_libs3_faults, a_store_that_takes_no_connection_is_given_up)
{
    struct script script = {.port = 0};
    struct config config;
    struct err err;
    int waiting[4];
    spool_dir = check_temp_dir();
    REQUIRE(listen_on(&script, 0));
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)script.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (size_t i = 0; i < 4; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(waiting[i], (struct sockaddr *)&address, sizeof address);
    }
    void *state = open_driver(script.port, &config);
    REQUIRE(state);
    double start = seconds();
    CHECK_ERR(run_stat(state, &err), ERR_UPSTREAM_TIMEOUT, &err);
    CHECK(strstr(err.message, "connection"));
    CHECK(seconds() - start < 4);
    CHECK_INT(retries, 2);
    storage_libs3_driver.close(state);
    close(script.listener);
    for (size_t i = 0; i < 4; i++)
        close(waiting[i]);
}
