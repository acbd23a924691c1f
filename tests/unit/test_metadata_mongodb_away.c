/* Servers that go and come back, and clients of the pool that are all busy (ABUSE F9, F14). */
#include "check.h"
#include "metadata/metadata.h"
#include "mongodb_database.h"
#include "mongodb_proxy.h"
#include "store.h"

#define NOW STORE_NOW_MS

static struct metadata *open_metadata(const struct config *config)
{
    struct err err;
    struct metadata *metadata = NULL;
    CHECK_ERR(metadata_open(&metadata, config, &clock_system, NULL, &err), ERR_OK, &err);
    return metadata;
}

static enum err_code insert(struct metadata *metadata, int number)
{
    struct err err;
    struct file file;
    store_file(&file, number, "alice");
    return metadata_file_insert(metadata, &file, NULL, &err);
}

static int64_t milliseconds(void)
{
    return clock_steady_ns(&clock_system) / 1000000;
}

TEST(metadata_mongodb_away, a_server_that_is_away_fails_calls_soon_and_comes_back)
{
    struct config config;
    struct config through;
    struct err err;
    REQUIRE(mongodb_database_make(&config));
    through = config;
    through.mongodb_timeout_ms = 60000; /* nobody waits so long for a server that refuses */
    struct mongodb_proxy *proxy =
        mongodb_proxy_open(config.mongodb_uri, through.mongodb_uri, sizeof through.mongodb_uri);
    REQUIRE(proxy);
    mongodb_proxy_stop(proxy);
    struct metadata *metadata = open_metadata(&through); /* away at the start is no failure */
    REQUIRE(metadata);
    for (int round = 0; round < 2; round++) {
        int64_t start_ms = milliseconds();
        for (int call = 0; call < 20; call++) /* all of them wait no longer than one */
            CHECK_ERR(metadata_ping(metadata, &err), ERR_METADATA_UNAVAILABLE, &err);
        CHECK(milliseconds() - start_ms < 10000);
        CHECK(mongodb_proxy_start(proxy));
        start_ms = milliseconds();
        while (metadata_ping(metadata, &err) != ERR_OK && milliseconds() - start_ms < 20000)
            continue;
        CHECK(milliseconds() - start_ms < 10000);
        CHECK_INT(insert(metadata, round), ERR_OK);
        mongodb_proxy_stop(proxy);
    }
    metadata_close(metadata);
    mongodb_proxy_close(proxy);
    mongodb_database_drop(&config);
}

struct holding {
    struct metadata *metadata;
    enum err_code other;
};

static enum err_code call_within(void *context, const struct file *file, struct err *err)
{
    struct holding *holding = context;
    struct file ignored;
    struct err other;
    (void)err;
    holding->other = metadata_file_get(holding->metadata, file->id, NOW, &ignored, &other);
    return ERR_OK;
}

TEST(metadata_mongodb_away, a_call_waits_for_a_client_no_longer_than_it_may)
{
    struct config config;
    struct err err;
    struct file_page page;
    struct file_query query = {.limit = 1};
    REQUIRE(mongodb_database_make(&config));
    config.mongodb_pool_size = 1;
    config.mongodb_timeout_ms = 300;
    struct holding holding = {open_metadata(&config), ERR_OK};
    CHECK_INT(insert(holding.metadata, 1), ERR_OK);
    CHECK_ERR(store_list(holding.metadata, &query, NOW, call_within, &holding, &page, &err), ERR_OK,
              &err);
    CHECK_INT(holding.other, ERR_METADATA_UNAVAILABLE);
    CHECK_ERR(metadata_ping(holding.metadata, &err), ERR_OK, &err);
    metadata_close(holding.metadata);
    mongodb_database_drop(&config);
}
