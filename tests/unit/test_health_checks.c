/* Health checks: cached, and patient for so long only. */
#include <stdatomic.h>
#include <unistd.h>

#include "check.h"
#include "health/health_checks.h"
#include "storage/storage_drivers.h"
#include "store.h"

static atomic_int pings;
static atomic_int ping_ms;
static atomic_bool is_down;

static enum err_code slow_ping(void *state, struct err *err)
{
    (void)state;
    atomic_fetch_add(&pings, 1);
    usleep((useconds_t)atomic_load(&ping_ms) * 1000);
    return atomic_load(&is_down)
               ? err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "ping", "it is down")
               : ERR_OK;
}

struct probed {
    struct config config;
    struct storage *storage;
    struct metadata *metadata;
    struct health *health;
};

static bool open_probed(struct probed *probed)
{
    static struct storage_driver driver;
    struct err err;
    driver = storage_fs_driver;
    driver.ping = slow_ping;
    atomic_store(&pings, 0);
    atomic_store(&ping_ms, 0);
    atomic_store(&is_down, false);
    *probed = (struct probed){.health = NULL};
    return store_make(&probed->config) &&
           storage_open_driver(&probed->storage, &driver, &probed->config, &clock_system, &err) ==
               ERR_OK &&
           metadata_open(&probed->metadata, &probed->config, &clock_system, NULL, &err) == ERR_OK &&
           health_open(&probed->health, probed->storage, probed->metadata, &clock_system, &err) ==
               ERR_OK;
}

static void close_probed(struct probed *probed)
{
    health_close(probed->health);
    metadata_close(probed->metadata);
    storage_close(probed->storage);
}

static void storm(void *context, int index)
{
    struct probed *probed = context;
    struct health_result result;
    (void)index;
    for (int i = 0; i < 100; i++)
        health_check(probed->health, HEALTH_STORAGE, &result);
    CHECK_INT(result.code, ERR_OK);
}

TEST(health, a_storm_of_probes_costs_one_check)
{
    struct probed probed;
    REQUIRE(open_probed(&probed));
    atomic_store(&ping_ms, 50);
    store_threads(16, storm, &probed);
    CHECK(atomic_load(&pings) >= 1 && atomic_load(&pings) <= 3);
    close_probed(&probed);
}

TEST(health, what_is_known_grows_old)
{
    struct probed probed;
    struct health_result result;
    REQUIRE(open_probed(&probed));
    health_check(probed.health, HEALTH_STORAGE, &result);
    CHECK_INT(result.code, ERR_OK);
    atomic_store(&is_down, true);
    usleep((HEALTH_FRESH_MS + 100) * 1000);
    health_check(probed.health, HEALTH_STORAGE, &result);
    CHECK_INT(result.code, ERR_STORAGE_UNAVAILABLE);
    CHECK_TEXT(result.err.message, "it is down");
    health_check(probed.health, HEALTH_METADATA, &result);
    CHECK_INT(result.code, ERR_OK);
    close_probed(&probed);
}

TEST(health, a_silent_part_is_down_after_a_while_and_holds_nobody)
{
    struct probed probed;
    struct health_result result;
    REQUIRE(open_probed(&probed));
    atomic_store(&ping_ms, HEALTH_PATIENCE_MS + 1000);
    health_check(probed.health, HEALTH_STORAGE, &result);
    CHECK_INT(result.code, ERR_UPSTREAM_TIMEOUT);
    int64_t started_ns = clock_steady_ns(&clock_system);
    health_check(probed.health, HEALTH_STORAGE, &result); /* it is known to be silent */
    CHECK_INT(result.code, ERR_UPSTREAM_TIMEOUT);
    CHECK((clock_steady_ns(&clock_system) - started_ns) / 1000000 < HEALTH_PATIENCE_MS / 2);
    CHECK_INT(atomic_load(&pings), 1);
    health_check(probed.health, HEALTH_METADATA, &result);
    CHECK_INT(result.code, ERR_OK);
    close_probed(&probed);
}
