#include "storage/s3/storage_s3.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "store.h"

#define KIB 1024u

static struct part_memory *open_memory(size_t max)
{
    struct err err;
    struct part_memory *memory = NULL;
    CHECK_ERR(part_memory_open(&memory, max, &err), ERR_OK, &err);
    return memory;
}

TEST(part_memory, is_bounded_and_comes_back)
{
    struct err err;
    struct part_memory *memory = open_memory(100 * KIB);
    struct part_buffer first = {NULL, 0, 0};
    struct part_buffer second = {NULL, 0, 0};
    struct part_buffer third = {NULL, 0, 0};
    CHECK_ERR(part_memory_take(memory, 60 * KIB, 10, &first, &err), ERR_OK, &err);
    CHECK(first.data && first.size == 60 * KIB && first.len == 0);
    memset(first.data, 1, first.size);
    CHECK(!part_memory_try(memory, 41 * KIB, &second) && !second.data);
    CHECK(part_memory_try(memory, 40 * KIB, &second));
    memset(second.data, 2, second.size);
    CHECK_ERR(part_memory_take(memory, 1, 20, &third, &err), ERR_STORAGE_UNAVAILABLE, &err);
    part_memory_give(memory, &first);
    CHECK(!first.data && first.size == 0);
    CHECK_ERR(part_memory_take(memory, 60 * KIB, 0, &third, &err), ERR_OK, &err);
    part_memory_give(memory, &first);
    part_memory_give(memory, &second);
    part_memory_give(memory, &third);
    CHECK_ERR(part_memory_take(memory, 101 * KIB, 1000, &first, &err), ERR_STORAGE_UNAVAILABLE,
              &err);
    CHECK_ERR(part_memory_take(memory, 100 * KIB, 0, &first, &err), ERR_OK, &err);
    part_memory_give(memory, &first);
    part_memory_close(memory);
    part_memory_close(NULL);
}

TEST(part_memory, a_buffer_grows_and_keeps_what_is_in_it)
{
    struct err err;
    struct part_memory *memory = open_memory(100 * KIB);
    struct part_buffer buffer = {NULL, 0, 0};
    struct part_buffer other = {NULL, 0, 0};
    CHECK_ERR(part_memory_take(memory, 5, 10, &buffer, &err), ERR_OK, &err);
    memcpy(buffer.data, "bytes", 5);
    buffer.len = 5;
    CHECK(part_memory_try(memory, 50 * KIB, &other));
    CHECK_ERR(part_memory_grow(memory, &buffer, 51 * KIB, 20, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK(buffer.size == 5 && memcmp(buffer.data, "bytes", 5) == 0);
    part_memory_give(memory, &other);
    CHECK_ERR(part_memory_grow(memory, &buffer, 100 * KIB, 20, &err), ERR_OK, &err);
    CHECK(buffer.size == 100 * KIB && buffer.len == 5 && memcmp(buffer.data, "bytes", 5) == 0);
    memset(buffer.data + 5, 3, buffer.size - 5);
    CHECK(!part_memory_try(memory, 1, &other));
    part_memory_give(memory, &buffer);
    part_memory_close(memory);
}

/* Those who wait, in order. */
struct queue {
    struct part_memory *memory;
    atomic_int served; /* how many were, so far */
    atomic_int waiting;
    int order[3];
    size_t sizes[3];
};

static void *wait_in_turn(struct queue *queue, int index)
{
    struct err err;
    struct part_buffer buffer = {NULL, 0, 0};
    CHECK_ERR(part_memory_take(queue->memory, queue->sizes[index], 20000, &buffer, &err), ERR_OK,
              &err);
    queue->order[index] = ++queue->served;
    part_memory_give(queue->memory, &buffer);
    return NULL;
}

static void *wait_first(void *context)
{
    return wait_in_turn(context, 0);
}

static void *wait_second(void *context)
{
    return wait_in_turn(context, 1);
}

static void *wait_third(void *context)
{
    return wait_in_turn(context, 2);
}

TEST(part_memory, is_given_in_the_order_of_asking)
{
    static void *(*const waits[3])(void *) = {wait_first, wait_second, wait_third};
    struct err err;
    /* The small wish would fit at once, but a larger one was there before. */
    struct queue queue = {.memory = open_memory(100 * KIB),
                          .sizes = {100 * KIB, 100 * KIB, 1 * KIB}};
    struct part_buffer held = {NULL, 0, 0};
    struct part_buffer second = {NULL, 0, 0};
    pthread_t threads[3];
    CHECK_ERR(part_memory_take(queue.memory, 50 * KIB, 0, &held, &err), ERR_OK, &err);
    CHECK(!part_memory_is_wanted(queue.memory));
    for (int i = 0; i < 3; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, waits[i], &queue), 0);
        usleep(100000); /* so that it waits before the next one asks */
    }
    CHECK(part_memory_is_wanted(queue.memory));
    CHECK_INT(queue.served, 0);
    CHECK(!part_memory_try(queue.memory, 1, &second));
    part_memory_give(queue.memory, &held);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(queue.order[0], 1);
    CHECK_INT(queue.order[1], 2);
    CHECK_INT(queue.order[2], 3);
    CHECK(!part_memory_is_wanted(queue.memory));
    part_memory_close(queue.memory);
}

TEST(part_memory, who_gives_up_waiting_lets_those_behind_pass)
{
    struct err err;
    struct queue queue = {.memory = open_memory(100 * KIB), .sizes = {1 * KIB, 0, 0}};
    struct part_buffer held = {NULL, 0, 0};
    struct part_buffer large = {NULL, 0, 0};
    pthread_t thread;
    CHECK_ERR(part_memory_take(queue.memory, 50 * KIB, 0, &held, &err), ERR_OK, &err);
    CHECK_ERR(part_memory_take(queue.memory, 60 * KIB, 50, &large, &err), ERR_STORAGE_UNAVAILABLE,
              &err);
    CHECK(err.internal && strstr(err.message, "UPLOAD_MEMORY"));
    CHECK_INT(pthread_create(&thread, NULL, wait_first, &queue), 0);
    pthread_join(thread, NULL);
    CHECK_INT(queue.served, 1);
    part_memory_give(queue.memory, &held);
    part_memory_close(queue.memory);
}

struct crowd {
    struct part_memory *memory;
    atomic_size_t used;
    atomic_size_t highest;
    atomic_int failed;
};

static void use_some(void *context, int index)
{
    struct crowd *crowd = context;
    for (unsigned i = 0; i < 200; i++) {
        struct err err;
        struct part_buffer first = {NULL, 0, 0};
        struct part_buffer second = {NULL, 0, 0};
        size_t size = KIB * (1 + ((unsigned)index * 7 + i * 13) % 40);
        if (part_memory_take(crowd->memory, size, 20000, &first, &err) != ERR_OK) {
            crowd->failed++;
            continue;
        }
        bool has_second = part_memory_try(crowd->memory, size, &second);
        size_t taken = first.size + second.size;
        size_t now = atomic_fetch_add(&crowd->used, taken) + taken;
        first.data[0] = first.data[size - 1] = (unsigned char)index;
        if (has_second)
            second.data[size - 1] = (unsigned char)index;
        for (size_t high = crowd->highest; now > high;)
            if (atomic_compare_exchange_weak(&crowd->highest, &high, now))
                break;
        atomic_fetch_sub(&crowd->used, taken);
        part_memory_give(crowd->memory, &second);
        part_memory_give(crowd->memory, &first);
    }
}

TEST(part_memory, many_threads_stay_within_it_and_none_is_left_waiting)
{
    struct err err;
    struct part_buffer all = {NULL, 0, 0};
    struct crowd crowd = {.memory = open_memory(100 * KIB)};
    store_threads(24, use_some, &crowd);
    CHECK_INT(crowd.failed, 0);
    CHECK(crowd.highest > 0 && crowd.highest <= 100 * KIB);
    CHECK_ERR(part_memory_take(crowd.memory, 100 * KIB, 0, &all, &err), ERR_OK, &err);
    part_memory_give(crowd.memory, &all);
    part_memory_close(crowd.memory);
}
