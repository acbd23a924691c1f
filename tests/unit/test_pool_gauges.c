/* Connections to store and metadata, as their gauges show them. */
#include "app/workers.h"

#include <stdio.h>

#include "check.h"
#include "http_tools.h"
#include "metrics_file.h"
#include "scrape.h"
#include "world.h"

#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

struct busy_server {
    struct http_client *client;
    struct pool_usage seen; /* while the request was under way */
};

static void look_then_answer(struct http_peer *peer)
{
    struct busy_server *busy = peer->context;
    while (http_peer_read(peer)) {
        http_client_usage(busy->client, &busy->seen);
        http_peer_write_text(peer, OK_EMPTY);
    }
}

static void cut_off(struct http_peer *peer)
{
    (void)http_peer_read(peer);
}

static void check_usage(struct http_client *client, unsigned busy, unsigned idle)
{
    struct pool_usage usage;
    http_client_usage(client, &usage);
    CHECK_INT(usage.busy, busy);
    CHECK_INT(usage.idle, idle);
}

TEST(pool_gauges, a_connection_is_busy_for_an_exchange_and_idle_afterwards)
{
    struct busy_server busy = {.seen = {.busy = 77}};
    struct http_fixture fixture;
    http_fixture_open(&fixture, look_then_answer, &busy, NULL);
    busy.client = fixture.client;
    const struct http_request request = http_test_get(fixture.url);
    check_usage(fixture.client, 0, 0);
    for (int i = 0; i < 3; i++) {
        CHECK_ERR(http_fixture_send(&fixture, &request), ERR_OK, &fixture.err);
        CHECK(busy.seen.busy == 1 && busy.seen.idle == 0);
        check_usage(fixture.client, 0, 1);
    }
    http_fixture_close(&fixture);
}

TEST(pool_gauges, a_connection_that_broke_is_neither)
{
    struct http_fixture fixture;
    http_fixture_open(&fixture, cut_off, NULL, NULL);
    const struct http_request request = http_test_get(fixture.url);
    for (int i = 0; i < 3; i++) {
        CHECK(http_fixture_send(&fixture, &request) != ERR_OK);
        check_usage(fixture.client, 0, 0);
    }
    http_fixture_close(&fixture);
}

TEST(pool_gauges, show_the_database_and_no_store_that_has_none)
{
    struct world world;
    char path[METRICS_FILE_PATH_SIZE];
    char id[ID_SIZE];
    struct file file;
    struct err err;
    metrics_file_path(path);
    REQUIRE(open_world(&world));
    CHECK_ERR(upload(&world, "a", STR("content"), 0, id, &err), ERR_OK, &err);
    CHECK_ERR(open_file(&world, id, &file, &err), ERR_OK, &err);
    struct service service = {.files = world.files};
    service.files.metrics = NULL;
    pool_gauges_set(&service); /* nothing is counted here */
    service.files.metrics = metrics_file_open(path, "test");
    REQUIRE(service.files.metrics != NULL);
    pool_gauges_set(&service);
#define DATABASE "metadata_connections{driver=\"sqlite\",state="
    CHECK_INT((int64_t)scrape_value(service.files.metrics, DATABASE "\"busy\"}"), 0);
    CHECK_INT((int64_t)scrape_value(service.files.metrics, DATABASE "\"idle\"}"), 1);
    CHECK_INT((int64_t)scrape_value(service.files.metrics,
                                    "storage_connections{driver=\"s3\",state=\"idle\"}"),
              0);
    struct pool_usage usage;
    CHECK(!storage_connections(world.files.storage, &usage));
    metrics_close(service.files.metrics);
    close_world(&world);
}
