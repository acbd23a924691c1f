#include "base/id.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/text.h"
#include "check.h"

#define THREADS 8
#define IDS_PER_THREAD 10000

static _Atomic int64_t fake_now_ms;

static int64_t fake_wall_ms(const struct clock *clock)
{
    (void)clock;
    return fake_now_ms;
}

static int64_t fake_steady_ns(const struct clock *clock)
{
    (void)clock;
    return 0;
}

static void fake_random(const struct clock *clock, void *target, size_t len)
{
    (void)clock;
    memset(target, 0xFF, len);
}

static const struct clock fake_clock = {fake_wall_ms, fake_steady_ns, fake_random};

/* Ids never go back within a process, so each test takes a time after those before it. */
static int64_t next_free_ms(void)
{
    static int64_t ms = INT64_C(4102444800000); /* 2100-01-01 */
    return ms += 1000000;
}

static int64_t id_ms(const char *id)
{
    unsigned char bytes[6];
    char digits[13] = {0};
    memcpy(digits, id, 8);
    memcpy(digits + 8, id + 9, 4);
    if (!text_unhex(str_of(digits), bytes, sizeof bytes))
        return -1;
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | bytes[i];
    return ms;
}

TEST(id, has_the_layout_of_rfc_9562)
{
    fake_now_ms = next_free_ms();
    char id[ID_SIZE];
    id_new(&fake_clock, id);
    CHECK_INT((int64_t)strlen(id), ID_LENGTH);
    CHECK(id_is_valid(str_of(id)));
    CHECK_INT(id_ms(id), fake_now_ms);
    CHECK_TEXT(id + 14, "7000-bfff-ffffffffffff");
}

TEST(id, counts_on_within_a_millisecond_and_beyond_4096)
{
    fake_now_ms = next_free_ms();
    char before[ID_SIZE];
    char id[ID_SIZE];
    id_new(&fake_clock, before);
    for (int i = 1; i <= 10000; i++) {
        id_new(&fake_clock, id);
        REQUIRE(strcmp(before, id) < 0);
        memcpy(before, id, sizeof id);
    }
    CHECK_INT(id_ms(id), fake_now_ms + 2); /* 10000 = 2 * 4096 + 1808 */
}

TEST(id, never_goes_back_with_the_clock)
{
    fake_now_ms = next_free_ms();
    char before[ID_SIZE];
    char after[ID_SIZE];
    id_new(&fake_clock, before);
    fake_now_ms -= 86400000;
    id_new(&fake_clock, after);
    CHECK(strcmp(before, after) < 0);
    fake_now_ms = -5;
    id_new(&fake_clock, before);
    CHECK(strcmp(after, before) < 0);
}

static char thread_ids[THREADS][IDS_PER_THREAD][ID_SIZE];

static void *make_ids(void *argument)
{
    char(*ids)[ID_SIZE] = argument;
    for (int i = 0; i < IDS_PER_THREAD; i++)
        id_new(&fake_clock, ids[i]);
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, ID_SIZE);
}

TEST(id, eight_threads_make_no_id_twice_and_each_in_order)
{
    fake_now_ms = next_free_ms();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, make_ids, thread_ids[i]) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    int disorder = 0;
    for (int i = 0; i < THREADS; i++)
        for (int k = 1; k < IDS_PER_THREAD; k++)
            disorder += strcmp(thread_ids[i][k - 1], thread_ids[i][k]) >= 0;
    CHECK_INT(disorder, 0);
    char(*all)[ID_SIZE] = thread_ids[0];
    qsort(all, THREADS * IDS_PER_THREAD, ID_SIZE, compare_ids);
    int doubles = 0;
    for (int i = 1; i < THREADS * IDS_PER_THREAD; i++)
        doubles += strcmp(all[i - 1], all[i]) == 0;
    CHECK_INT(doubles, 0);
}

TEST(id, real_clock_makes_valid_and_differing_tails)
{
    char a[ID_SIZE];
    char b[ID_SIZE];
    id_new(&clock_system, a);
    id_new(&clock_system, b);
    CHECK(id_is_valid(str_of(a)));
    CHECK(strcmp(a + 19, b + 19) != 0);
}

TEST(id, only_the_one_spelling_is_an_id)
{
    static const struct {
        const char *name, *in;
        bool want;
    } rows[] = {
        {"good", "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77", true},
        {"variant 8", "0199c0de-7d1a-7c3e-8a55-5b1f6a1d2e77", true},
        {"variant b", "0199c0de-7d1a-7c3e-ba55-5b1f6a1d2e77", true},
        {"variant c", "0199c0de-7d1a-7c3e-ca55-5b1f6a1d2e77", false},
        {"variant 7", "0199c0de-7d1a-7c3e-7a55-5b1f6a1d2e77", false},
        {"version 4", "0199c0de-7d1a-4c3e-9a55-5b1f6a1d2e77", false},
        {"upper case", "0199C0DE-7d1a-7c3e-9a55-5b1f6a1d2e77", false},
        {"no hyphens", "0199c0de7d1a7c3e9a555b1f6a1d2e77", false},
        {"hyphen moved", "0199c0d-e7d1a-7c3e-9a55-5b1f6a1d2e77", false},
        {"short", "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e7", false},
        {"long", "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e777", false},
        {"letter g", "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e7g", false},
        {"braces", "{199c0de-7d1a-7c3e-9a55-5b1f6a1d2e7}", false},
        {"line end", "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e7\n", false},
        {"empty", "", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_ROW(rows[i].name, id_is_valid(str_of(rows[i].in)) == rows[i].want);
    CHECK(!id_is_valid((struct str){NULL, 0}));
    CHECK(!id_is_valid(STR("0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e7\0")));
}
