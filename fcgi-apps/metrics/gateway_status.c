#include "metrics/gateway_status.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/text.h"
#include "net/http_client.h"
#include "observe/gateway_runs.h"

#define URL "http://localhost/-/status?auto"
#define CONNECT_MS 500
#define DEADLINE_MS 1000
#define BODY_MAX (128 * 1024) /* a letter for each connection there may be */
#define MARK_PATIENCE_NS (250LL * 1000 * 1000)
#define LOOK_NS (1L * 1000 * 1000)

struct gateway_probe {
    pthread_mutex_t mutex; /* one question at a time */
    const struct clock *clock;
    struct metrics *metrics;
    struct gateway_runs *runs;
    struct http_client *client;
    bool has_reader; /* ACCESS_LOG */
    char socket[CONFIG_TEXT_SIZE + 32];
};

/* ---- what mod_status says ---- */

/* mod_status' letter for a state; the rest of the line is free slots. */
static enum metric_gateway_state state_of(char letter)
{
    static const char letters[] = {
        [GATEWAY_CONNECT] = '.',    [GATEWAY_REQ_START] = 'q', [GATEWAY_READ] = 'r',
        [GATEWAY_REQ_END] = 'Q',    [GATEWAY_READPOST] = 'R',  [GATEWAY_HANDLE_REQ] = 'h',
        [GATEWAY_RESP_START] = 's', [GATEWAY_WRITE] = 'W',     [GATEWAY_RESP_END] = 'S',
        [GATEWAY_ERROR] = 'E',      [GATEWAY_CLOSE] = 'C',     [GATEWAY_KEEP_ALIVE] = 'k'};
    const char *found = memchr(letters, letter, sizeof letters);
    return found ? (enum metric_gateway_state)(found - letters) : GATEWAY_OTHER;
}

static void count_states(struct str board, struct gateway_status *status)
{
    for (size_t i = 0; i < board.len; i++)
        if (board.data[i] != '_')
            status->connections[state_of(board.data[i])]++;
}

enum item { ITEM_TOTAL = 1, ITEM_UPTIME = 2, ITEM_BUSY = 4, ITEM_STATES = 8, ITEM_ALL = 15 };

/* What a line told; 0: nothing that is wanted. */
static unsigned read_item(struct str name, struct str value, struct gateway_status *status)
{
    int64_t number = 0;
    if (str_equal(name, STR("Scoreboard"))) {
        count_states(value, status);
        return ITEM_STATES;
    }
    if (!text_parse_int(value, 0, INT64_MAX, &number))
        return 0;
    if (str_equal(name, STR("Total Accesses"))) {
        status->total = (uint64_t)number;
        return ITEM_TOTAL;
    }
    if (str_equal(name, STR("Uptime"))) {
        status->uptime_seconds = number;
        return ITEM_UPTIME;
    }
    if (str_equal(name, STR("BusyServers"))) {
        status->busy = number;
        return ITEM_BUSY;
    }
    return 0;
}

bool gateway_status_parse(struct str text, struct gateway_status *ret_status)
{
    struct gateway_status status = {0};
    unsigned seen = 0;
    struct str rest = text;
    while (rest.len > 0) {
        struct str value = str_cut(&rest, '\n');
        struct str name = str_cut(&value, ':');
        seen |= read_item(name, str_trim(value), &status);
    }
    if (seen == ITEM_ALL)
        *ret_status = status;
    return seen == ITEM_ALL;
}

/* ---- the probe ---- */

static enum err_code open_parts(struct gateway_probe *probe, const struct config *config,
                                struct err *err)
{
    char runs_path[CONFIG_TEXT_SIZE + 32];
    snprintf(probe->socket, sizeof probe->socket, "%s/sockets/status", config->runtime_dir);
    snprintf(runs_path, sizeof runs_path, "%s/gateway-runs", config->runtime_dir);
    const struct http_client_options options = {.clock = probe->clock,
                                                .connect_ms = CONNECT_MS,
                                                .stall_ms = DEADLINE_MS,
                                                .unix_socket = probe->socket};
    enum err_code code =
        metrics_open_configured(&probe->metrics, config, METRICS_OF_GATEWAY, "metrics", err);
    if (code == ERR_OK && probe->metrics)
        code = gateway_runs_open(&probe->runs, runs_path, probe->metrics, err);
    return code == ERR_OK ? http_client_open(&probe->client, &options, err) : code;
}

enum err_code gateway_probe_open(struct gateway_probe **ret_probe, const struct config *config,
                                 const struct clock *clock, struct err *err)
{
    struct gateway_probe *probe = calloc(1, sizeof *probe);
    if (!probe)
        return err_set(err, ERR_NO_MEMORY, "gateway_probe_open", "Out of memory.");
    pthread_mutex_init(&probe->mutex, NULL);
    probe->clock = clock;
    probe->has_reader = config->access_log;
    enum err_code code = open_parts(probe, config, err);
    if (code != ERR_OK) {
        gateway_probe_close(probe);
        return code;
    }
    *ret_probe = probe;
    return ERR_OK;
}

void gateway_probe_close(struct gateway_probe *probe)
{
    if (!probe)
        return;
    http_client_close(probe->client);
    gateway_runs_close(probe->runs);
    metrics_close(probe->metrics);
    pthread_mutex_destroy(&probe->mutex);
    free(probe);
}

struct metrics *gateway_probe_metrics(struct gateway_probe *probe)
{
    return probe->metrics;
}

static bool ask(struct gateway_probe *probe, uint64_t mark, struct gateway_status *ret_status)
{
    struct err err;
    struct http_reply reply;
    char header[48];
    int len = snprintf(header, sizeof header, "X-Mark: %" PRIu64 "\r\n", mark);
    const struct http_request request = {.method = "GET",
                                         .url = URL,
                                         .headers = {header, (size_t)len},
                                         .deadline_ms = DEADLINE_MS,
                                         .attempts = 1,
                                         .max_body = BODY_MAX};
    http_reply_init(&reply);
    bool answered = http_exchange(probe->client, &request, &reply, &err) == ERR_OK &&
                    reply.status == 200 && gateway_status_parse(buf_str(&reply.body), ret_status);
    http_reply_release(&reply);
    return answered;
}

/* Lines come through within milliseconds, when there is a reader and it is not far behind. */
static void account(struct gateway_probe *probe, uint64_t mark, uint64_t total)
{
    const struct timespec look = {.tv_nsec = LOOK_NS};
    int64_t deadline = clock_steady_ns(probe->clock) + MARK_PATIENCE_NS;
    while (!gateway_runs_account(probe->runs, mark, total)) {
        if (clock_steady_ns(probe->clock) > deadline) {
            gateway_runs_miss(probe->runs, mark);
            return;
        }
        nanosleep(&look, NULL);
    }
}

static void set_gauges(struct metrics *metrics, const struct gateway_status *status, bool is_up)
{
    for (unsigned state = 0; state < GATEWAY_STATE_COUNT; state++)
        metrics_set(metrics, METRIC_GATEWAY_CONNECTIONS, &state, status->connections[state]);
    metrics_set(metrics, METRIC_GATEWAY_BUSY, NULL, status->busy);
    metrics_set(metrics, METRIC_GATEWAY_UPTIME, NULL, status->uptime_seconds);
    metrics_set(metrics, METRIC_GATEWAY_UP, NULL, is_up);
}

void gateway_probe_update(struct gateway_probe *probe)
{
    struct gateway_status status = {0};
    pthread_mutex_lock(&probe->mutex);
    uint64_t mark = gateway_runs_new_mark(probe->runs);
    bool is_up = ask(probe, mark, &status);
    set_gauges(probe->metrics, &status, is_up);
    if (is_up && probe->has_reader) {
        account(probe, mark, status.total);
        gateway_runs_publish(probe->runs);
    }
    pthread_mutex_unlock(&probe->mutex);
}
