/* The pool, the attempts and whole exchanges. */
#include "net/http_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "net/http_client_connection.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 1000
#define RETRY_AFTER_MAX_MS 5000
/* Servers close what was idle for longer, and such a connection is of no use. */
#define IDLE_MAX_NS (60 * 1000 * HTTP_NS_PER_MS)

struct http_client {
    struct http_client_options options;
    char *ca_file;
    pthread_mutex_t lock;
    struct http_connection *idle; /* the last used first */
    size_t idle_count;
    size_t busy_count;
};

static CURLcode global_code;

static void init_curl(void)
{
    global_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

enum err_code http_client_open(struct http_client **ret_client,
                               const struct http_client_options *options, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    if (global_code != CURLE_OK)
        return err_set_internal(err, ERR_INTERNAL, 0, "curl", "%s",
                                curl_easy_strerror(global_code));
    struct http_client *client = calloc(1, sizeof *client);
    if (!client)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "http client", "out of memory");
    client->options = *options;
    client->ca_file = strdup(options->ca_file ? options->ca_file : "");
    client->options.ca_file = client->ca_file;
    int failed = pthread_mutex_init(&client->lock, NULL);
    if (!client->ca_file || failed) {
        if (!failed)
            pthread_mutex_destroy(&client->lock);
        free(client->ca_file);
        free(client);
        return err_set_internal(err, ERR_NO_MEMORY, failed, "http client", "out of memory");
    }
    *ret_client = client;
    return ERR_OK;
}

static void close_all(struct http_connection *connection)
{
    while (connection) {
        struct http_connection *next = connection->next;
        http_connection_close(connection);
        connection = next;
    }
}

void http_client_close(struct http_client *client)
{
    if (!client)
        return;
    close_all(client->idle);
    pthread_mutex_destroy(&client->lock);
    free(client->ca_file);
    free(client);
}

const struct http_client_options *http_client_settings(const struct http_client *client)
{
    return &client->options;
}

void http_client_usage(struct http_client *client, struct pool_usage *ret_usage)
{
    pthread_mutex_lock(&client->lock);
    ret_usage->busy = (unsigned)client->busy_count;
    ret_usage->idle = (unsigned)client->idle_count;
    pthread_mutex_unlock(&client->lock);
}

static void count_busy(struct http_client *client, bool begins)
{
    pthread_mutex_lock(&client->lock);
    client->busy_count += begins ? 1 : (size_t)-1;
    pthread_mutex_unlock(&client->lock);
}

static struct http_connection *take_idle(struct http_client *client)
{
    pthread_mutex_lock(&client->lock);
    struct http_connection *connection = client->idle;
    if (connection) {
        client->idle = connection->next;
        client->idle_count--;
        connection->next = NULL;
    }
    pthread_mutex_unlock(&client->lock);
    return connection;
}

struct http_connection *http_client_take(struct http_client *client, struct err *err)
{
    struct http_connection *connection = NULL;
    while ((connection = take_idle(client)) && !http_connection_is_quiet(connection))
        http_connection_close(connection);
    if (!connection && http_connection_open(&connection, &client->options, err) != ERR_OK)
        return NULL;
    count_busy(client, true);
    return connection;
}

/* Takes out what nobody has used for long; the caller holds the lock and closes it afterwards. */
static struct http_connection *take_stale(struct http_client *client, int64_t now_ns)
{
    struct http_connection **at = &client->idle;
    while (*at && now_ns - (*at)->idle_since_ns < IDLE_MAX_NS)
        at = &(*at)->next;
    struct http_connection *stale = *at;
    *at = NULL;
    for (const struct http_connection *one = stale; one; one = one->next)
        client->idle_count--;
    return stale;
}

void http_client_give(struct http_client *client, struct http_connection *connection, bool reusable)
{
    struct http_connection *stale = connection;
    connection->next = NULL;
    count_busy(client, false);
    if (reusable) {
        connection->idle_since_ns = clock_steady_ns(client->options.clock);
        pthread_mutex_lock(&client->lock);
        stale = take_stale(client, connection->idle_since_ns);
        if (client->idle_count >= client->options.idle_connections) {
            connection->next = stale;
            stale = connection;
        } else {
            connection->next = client->idle;
            client->idle = connection;
            client->idle_count++;
        }
        pthread_mutex_unlock(&client->lock);
    }
    close_all(stale);
}

static void sleep_ms(int64_t duration_ms)
{
    struct timespec left = {.tv_sec = duration_ms / 1000,
                            .tv_nsec = (long)(duration_ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

/* Full jitter: anything up to the ceiling, so that many clients don't come back at once. */
static int64_t backoff_ms(const struct clock *clock, unsigned attempt)
{
    uint32_t random = 0;
    uint32_t ceiling = BACKOFF_MIN_MS;
    for (unsigned i = 0; i < attempt && ceiling < BACKOFF_MAX_MS; i++)
        ceiling *= 2;
    if (ceiling > BACKOFF_MAX_MS)
        ceiling = BACKOFF_MAX_MS;
    clock_random(clock, &random, sizeof random);
    return random % (ceiling + 1);
}

/* How long to wait before the next attempt; false when there is none that the deadline allows. */
static bool next_attempt(const struct http_client *client, const struct http_reply *reply,
                         unsigned attempt, int64_t deadline_ns, int64_t *ret_wait_ms)
{
    const struct clock *clock = client->options.clock;
    int64_t wait_ms = backoff_ms(clock, attempt);
    int64_t asked_ms =
        reply->status != 0 ? http_reply_retry_after_ms(reply, clock_wall_ms(clock)) : -1;
    if (asked_ms >= 0)
        wait_ms = asked_ms < RETRY_AFTER_MAX_MS ? asked_ms : RETRY_AFTER_MAX_MS;
    if (clock_steady_ns(clock) + wait_ms * HTTP_NS_PER_MS >= deadline_ns)
        return false;
    *ret_wait_ms = wait_ms;
    return true;
}

static bool is_worth_repeating(enum err_code code, const struct http_attempts *attempts)
{
    const struct http_request *request = attempts->request;
    const struct http_reply *reply = attempts->reply;
    if (code == ERR_OK)
        return http_reply_is_temporary(reply->status) ||
               (request->hides_failure && request->hides_failure(reply));
    return code == ERR_UPSTREAM_UNAVAILABLE || code == ERR_UPSTREAM_TIMEOUT;
}

enum err_code http_client_attempts(struct http_client *client, const struct http_attempts *attempts,
                                   int64_t deadline_ns, struct err *err)
{
    const struct http_request *request = attempts->request;
    const unsigned most = request->source ? 1 : request->attempts;
    for (unsigned i = 0;; i++) {
        int64_t wait_ms = 0;
        enum err_code code = attempts->attempt(attempts->context, deadline_ns, err);
        if (i + 1 >= most || !is_worth_repeating(code, attempts) ||
            !next_attempt(client, attempts->reply, i, deadline_ns, &wait_ms))
            return code;
        sleep_ms(wait_ms);
        if (client->options.retried)
            client->options.retried(client->options.context);
    }
}

struct exchange {
    struct http_client *client;
    const struct http_request *request;
    struct http_reply *reply;
};

static enum err_code exchange_once(void *context, int64_t deadline_ns, struct err *err)
{
    struct exchange *exchange = context;
    struct http_reply *reply = exchange->reply;
    reply->status = 0;
    buf_reset(&reply->headers);
    buf_reset(&reply->body);
    struct http_connection *connection = http_client_take(exchange->client, err);
    if (!connection)
        return err->code;
    enum err_code code = http_connection_start(connection, exchange->request, reply, true, err);
    if (code == ERR_OK)
        code = http_connection_run(connection, HTTP_UNTIL_END, deadline_ns, err);
    if (code == ERR_OK)
        http_connection_finish(connection);
    http_client_give(exchange->client, connection, code == ERR_OK);
    return code;
}

enum err_code http_exchange(struct http_client *client, const struct http_request *request,
                            struct http_reply *reply, struct err *err)
{
    struct exchange exchange = {client, request, reply};
    const struct http_attempts attempts = {request, reply, exchange_once, &exchange};
    const int64_t deadline_ns =
        clock_steady_ns(client->options.clock) + request->deadline_ms * HTTP_NS_PER_MS;
    reply->body.max = request->max_body;
    reply->sends = 0;
    return http_client_attempts(client, &attempts, deadline_ns, err);
}
