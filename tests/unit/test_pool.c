#include "base/pool.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "check.h"

static int64_t now_ns;

static int64_t steady_ns(const struct clock *clock)
{
    (void)clock;
    return now_ns;
}

static const struct clock set_clock = {.steady_ns = steady_ns};

/* Items are numbers in here; `ended` holds those that were ended, in order. */
struct ended {
    int count;
    int numbers[8];
};

static void end_number(void *context, void *item)
{
    struct ended *ended = context;
    ended->numbers[ended->count++] = *(int *)item;
}

static int numbers[] = {0, 1, 2, 3};

static void *taken(struct pool *pool)
{
    void *item = NULL;
    CHECK(pool_take(pool, 0, &item));
    return item;
}

TEST(pool, gives_out_what_was_used_last_and_keeps_so_many)
{
    struct ended ended = {0};
    struct pool pool;
    struct err err;
    struct pool_usage usage;
    const struct pool_options options = {.idle_max = 2, .end = end_number, .context = &ended};
    REQUIRE(pool_init(&pool, &options, &err) == ERR_OK);
    for (int i = 0; i < 3; i++)
        CHECK(taken(&pool) == NULL);
    for (int i = 0; i < 3; i++)
        pool_give(&pool, &numbers[i]);
    CHECK(ended.count == 1 && ended.numbers[0] == 2);
    CHECK(taken(&pool) == &numbers[1]);
    pool_usage(&pool, &usage);
    CHECK(usage.busy == 1 && usage.idle == 1);
    pool_give(&pool, NULL);
    pool_usage(&pool, &usage);
    CHECK(usage.busy == 0 && usage.idle == 1);
    pool_release(&pool);
    CHECK(ended.count == 2 && ended.numbers[1] == 0);
}

TEST(pool, ends_what_was_idle_for_too_long)
{
    struct ended ended = {0};
    struct pool pool;
    struct err err;
    const struct pool_options options = {.idle_max = 4,
                                         .idle_max_ms = 1000,
                                         .clock = &set_clock,
                                         .end = end_number,
                                         .context = &ended};
    REQUIRE(pool_init(&pool, &options, &err) == ERR_OK);
    now_ns = 0;
    for (int i = 0; i < 3; i++)
        CHECK(taken(&pool) == NULL);
    pool_give(&pool, &numbers[0]);
    pool_give(&pool, &numbers[1]);
    now_ns = 999 * 1000000LL;
    pool_give(&pool, &numbers[2]);
    CHECK_INT(ended.count, 0);
    CHECK(taken(&pool) == &numbers[2]);
    now_ns = 1000 * 1000000LL;
    pool_give(&pool, &numbers[2]);
    CHECK(ended.count == 2 && ended.numbers[0] == 0 && ended.numbers[1] == 1);
    CHECK(taken(&pool) == &numbers[2]);
    pool_give(&pool, NULL);
    pool_release(&pool);
    CHECK_INT(ended.count, 2);
}

struct borrower {
    struct pool *pool;
    atomic_bool has_item;
};

static void *borrow(void *argument)
{
    struct borrower *borrower = argument;
    void *item = NULL;
    if (pool_take(borrower->pool, 60 * 1000, &item) && item == &numbers[3])
        atomic_store(&borrower->has_item, true);
    pool_give(borrower->pool, item);
    return NULL;
}

TEST(pool, makes_borrowers_wait_for_a_place)
{
    struct ended ended = {0};
    struct pool pool;
    struct err err;
    void *item = NULL;
    pthread_t thread;
    const struct pool_options options = {
        .max = 1, .idle_max = 1, .end = end_number, .context = &ended};
    REQUIRE(pool_init(&pool, &options, &err) == ERR_OK);
    CHECK(taken(&pool) == NULL);
    CHECK(!pool_take(&pool, 0, &item));
    CHECK(!pool_take(&pool, 20, &item));
    struct borrower borrower = {.pool = &pool};
    REQUIRE(thread_start(&thread, 0, borrow, &borrower));
    usleep(20 * 1000);
    CHECK(!atomic_load(&borrower.has_item));
    pool_give(&pool, &numbers[3]);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&borrower.has_item));
    pool_release(&pool);
    CHECK_INT(ended.count, 1);
    pool_release(&(struct pool){.idle = NULL});
}
