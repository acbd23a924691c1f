#include "storage/s3/storage_s3.h"

#include <stdlib.h>

#include "storage/storage_drivers.h"

#define METRIC_INDEX 1
#define IDLE_CONNECTIONS 64 /* kept open */

static void copy_texts(struct storage_s3 *s3, const struct config *config)
{
    snprintf(s3->bucket, sizeof s3->bucket, "%.*s", LIMIT_BUCKET_BYTES, config->s3_bucket);
    snprintf(s3->access_key, sizeof s3->access_key, "%s", config->s3_access_key);
    snprintf(s3->secret_key, sizeof s3->secret_key, "%s", config->s3_secret_key);
    snprintf(s3->session_token, sizeof s3->session_token, "%s", config->s3_session_token);
    snprintf(s3->region, sizeof s3->region, "%s", config->s3_region);
    s3->credentials = (struct sigv4_credentials){.access_key = s3->access_key,
                                                 .secret_key = s3->secret_key,
                                                 .session_token = s3->session_token,
                                                 .region = s3->region};
}

static enum err_code find_endpoints(struct storage_s3 *s3, const struct config *config,
                                    struct err *err)
{
    const char *public =
        *config->s3_public_endpoint ? config->s3_public_endpoint : config->s3_endpoint;
    enum err_code code = s3_endpoint_parse(&s3->endpoint, config->s3_endpoint, s3->bucket,
                                           config->s3_addressing, err);
    if (code == ERR_OK)
        code =
            s3_endpoint_parse(&s3->public_endpoint, public, s3->bucket, config->s3_addressing, err);
    return code;
}

static enum err_code open_parts(struct storage_s3 *s3, const struct storage_options *options,
                                struct err *err)
{
    const struct config *config = options->config;
    const struct http_client_options client = {.clock = options->clock,
                                               .connect_ms = config->s3_connect_timeout_ms,
                                               .stall_ms = s3->stall_ms,
                                               .ca_file = config->s3_ca_file,
                                               .idle_connections = IDLE_CONNECTIONS,
                                               .retried = options->retried,
                                               .context = options->context};
    /* One part must always fit. */
    size_t memory = config->upload_memory > config->s3_part_size ? (size_t)config->upload_memory
                                                                 : s3->part_size;
    enum err_code code = find_endpoints(s3, config, err);
    if (code == ERR_OK)
        code = part_memory_open(&s3->memory, memory, err);
    if (code == ERR_OK)
        code = http_client_open(&s3->client, &client, err);
    return code;
}

enum err_code s3_open(void **ret_state, const struct storage_options *options, struct err *err)
{
    const struct config *config = options->config;
    struct storage_s3 *s3 = calloc(1, sizeof *s3);
    if (!s3)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "storage_open", "Out of memory.");
    s3->clock = options->clock;
    s3->deadline_ms = config->s3_deadline_seconds * 1000;
    s3->stall_ms = config->s3_stall_seconds * 1000;
    if (s3->stall_ms > s3->deadline_ms)
        s3->stall_ms = s3->deadline_ms;
    s3->attempts = (unsigned)config->s3_attempts;
    s3->part_size = (size_t)config->s3_part_size;
    s3->retried = options->retried;
    s3->context = options->context;
    copy_texts(s3, config);
    enum err_code code = open_parts(s3, options, err);
    if (code != ERR_OK) {
        s3_close(s3);
        return code;
    }
    *ret_state = s3;
    return ERR_OK;
}

void s3_close(void *state)
{
    struct storage_s3 *s3 = state;
    if (!s3)
        return;
    if (s3->client)
        http_client_close(s3->client);
    part_memory_close(s3->memory);
    explicit_bzero(s3->secret_key, sizeof s3->secret_key);
    explicit_bzero(s3->session_token, sizeof s3->session_token);
    free(s3);
}

/* Whether the bucket is there and we may use it: one call without a body. That it also takes writes
 * is only known from writes. */
static enum err_code s3_ping(void *state, struct err *err)
{
    return s3_head_bucket(state, "ping", err);
}

static void s3_connections(void *state, struct pool_usage *ret_usage)
{
    const struct storage_s3 *s3 = state;
    http_client_usage(s3->client, ret_usage);
}

const struct storage_driver storage_s3_driver = {
    .name = "s3",
    .metric_index = METRIC_INDEX,
    .capabilities = STORAGE_CAN_PRESIGN | STORAGE_WAITS | STORAGE_HAS_TAGS | STORAGE_MAY_LAG,
    .init = s3_init,
    .open = s3_open,
    .close = s3_close,
    .ping = s3_ping,
    .connections = s3_connections,
    .uploads = &s3_uploads,
    .downloads = &s3_downloads,
    .objects = &s3_objects,
    .presigning = &s3_presigning,
};
