#include "storage/s3/storage_s3.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define OPERATION "take upload memory"

struct waiter {
    struct waiter *next;
    pthread_cond_t granted;
    size_t size; /* bytes; taken for it by whoever sets is_granted */
    bool is_granted;
};

struct part_memory {
    pthread_mutex_t lock;
    size_t max;
    size_t used;
    struct waiter *first; /* in the order of asking */
    struct waiter **end;
};

enum err_code part_memory_open(struct part_memory **ret_memory, size_t max, struct err *err)
{
    struct part_memory *memory = calloc(1, sizeof *memory);
    if (!memory || pthread_mutex_init(&memory->lock, NULL) != 0) {
        free(memory);
        return err_set_internal(err, ERR_NO_MEMORY, 0, OPERATION, "Out of memory.");
    }
    memory->max = max;
    memory->end = &memory->first;
    *ret_memory = memory;
    return ERR_OK;
}

void part_memory_close(struct part_memory *memory)
{
    if (!memory)
        return;
    pthread_mutex_destroy(&memory->lock);
    free(memory);
}

static bool fits(const struct part_memory *memory, size_t size)
{
    return size <= memory->max - memory->used;
}

/* Serves those who wait, in order: a large wish is not overtaken by small ones. */
static void grant(struct part_memory *memory)
{
    while (memory->first && fits(memory, memory->first->size)) {
        struct waiter *waiter = memory->first;
        memory->first = waiter->next;
        if (!memory->first)
            memory->end = &memory->first;
        memory->used += waiter->size;
        waiter->is_granted = true;
        pthread_cond_signal(&waiter->granted);
    }
}

static void leave_queue(struct part_memory *memory, const struct waiter *waiter)
{
    struct waiter **at = &memory->first;
    while (*at && *at != waiter)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = waiter->next;
    if (!*at)
        memory->end = at;
    grant(memory); /* those behind it may fit */
}

static bool steady_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return false;
    bool made = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                pthread_cond_init(condition, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return made;
}

static struct timespec after_ms(int64_t wait_ms)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += (time_t)(wait_ms / 1000);
    time.tv_nsec += (long)(wait_ms % 1000) * 1000000L;
    if (time.tv_nsec >= 1000000000L) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000L;
    }
    return time;
}

/* With the lock held. */
static bool wait_in_queue(struct part_memory *memory, size_t size, int64_t wait_ms)
{
    const struct timespec until = after_ms(wait_ms);
    struct waiter waiter = {.size = size};
    if (!steady_condition(&waiter.granted))
        return false;
    *memory->end = &waiter;
    memory->end = &waiter.next;
    int result = 0;
    while (!waiter.is_granted && result != ETIMEDOUT)
        result = pthread_cond_timedwait(&waiter.granted, &memory->lock, &until);
    if (!waiter.is_granted)
        leave_queue(memory, &waiter);
    pthread_cond_destroy(&waiter.granted);
    return waiter.is_granted;
}

static bool reserve(struct part_memory *memory, size_t size, int64_t wait_ms)
{
    bool granted = true;
    pthread_mutex_lock(&memory->lock);
    if (!memory->first && fits(memory, size))
        memory->used += size;
    else
        granted = wait_ms > 0 && size <= memory->max && wait_in_queue(memory, size, wait_ms);
    pthread_mutex_unlock(&memory->lock);
    return granted;
}

static void unreserve(struct part_memory *memory, size_t size)
{
    pthread_mutex_lock(&memory->lock);
    memory->used -= size;
    grant(memory);
    pthread_mutex_unlock(&memory->lock);
}

static bool map_buffer(struct part_memory *memory, size_t size, struct part_buffer *ret_buffer)
{
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        unreserve(memory, size);
        return false;
    }
    *ret_buffer = (struct part_buffer){data, size, 0};
    return true;
}

static enum err_code none_came_free(struct err *err)
{
    return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, OPERATION,
                            "UPLOAD_MEMORY is in use by other uploads.");
}

enum err_code part_memory_take(struct part_memory *memory, size_t size, int64_t wait_ms,
                               struct part_buffer *ret_buffer, struct err *err)
{
    if (!reserve(memory, size, wait_ms))
        return none_came_free(err);
    if (!map_buffer(memory, size, ret_buffer))
        return err_set_internal(err, ERR_NO_MEMORY, ENOMEM, OPERATION, "Out of memory.");
    return ERR_OK;
}

bool part_memory_try(struct part_memory *memory, size_t size, struct part_buffer *ret_buffer)
{
    return reserve(memory, size, 0) && map_buffer(memory, size, ret_buffer);
}

enum err_code part_memory_grow(struct part_memory *memory, struct part_buffer *buffer, size_t size,
                               int64_t wait_ms, struct err *err)
{
    if (!reserve(memory, size - buffer->size, wait_ms))
        return none_came_free(err);
    void *data = mremap(buffer->data, buffer->size, size, MREMAP_MAYMOVE);
    if (data == MAP_FAILED) {
        unreserve(memory, size - buffer->size);
        return err_set_internal(err, ERR_NO_MEMORY, ENOMEM, OPERATION, "Out of memory.");
    }
    buffer->data = data;
    buffer->size = size;
    return ERR_OK;
}

bool part_memory_is_wanted(struct part_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    bool wanted = memory->first != NULL;
    pthread_mutex_unlock(&memory->lock);
    return wanted;
}

void part_memory_give(struct part_memory *memory, struct part_buffer *buffer)
{
    if (!buffer->data)
        return;
    munmap(buffer->data, buffer->size);
    unreserve(memory, buffer->size);
    *buffer = (struct part_buffer){NULL, 0, 0};
}
