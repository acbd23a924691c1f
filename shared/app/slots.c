#include "app/slots.h"

#include <stdlib.h>

#include "base/thread.h"

struct slots {
    pthread_mutex_t mutex;
    pthread_cond_t given;
    size_t free; /* guarded by mutex, as is what follows */
    size_t waiting;
    size_t waiting_max;
};

enum err_code slots_open(struct slots **ret_slots, size_t count, size_t waiting_max,
                         struct err *err)
{
    struct slots *slots = calloc(1, sizeof *slots);
    if (!slots)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "slots", "out of memory");
    pthread_mutex_init(&slots->mutex, NULL);
    condition_init(&slots->given);
    slots->free = count;
    slots->waiting_max = waiting_max;
    *ret_slots = slots;
    return ERR_OK;
}

void slots_close(struct slots *slots)
{
    if (!slots)
        return;
    pthread_cond_destroy(&slots->given);
    pthread_mutex_destroy(&slots->mutex);
    free(slots);
}

/* With the mutex held. */
static void wait_for_slot(struct slots *slots, int64_t wait_ms)
{
    const struct timespec until = condition_deadline(wait_ms);
    slots->waiting++;
    while (slots->free == 0 && condition_wait(&slots->given, &slots->mutex, &until))
        continue;
    slots->waiting--;
}

enum err_code slots_take(struct slots *slots, int64_t wait_ms, struct err *err)
{
    pthread_mutex_lock(&slots->mutex);
    if (slots->free == 0 && slots->waiting < slots->waiting_max)
        wait_for_slot(slots, wait_ms);
    bool is_taken = slots->free > 0;
    if (is_taken)
        slots->free--;
    pthread_mutex_unlock(&slots->mutex);
    return is_taken ? ERR_OK
                    : err_set(err, ERR_STORAGE_UNAVAILABLE, "download",
                              "Too many downloads are under way. Please try again.");
}

void slots_give(struct slots *slots)
{
    pthread_mutex_lock(&slots->mutex);
    slots->free++;
    pthread_cond_signal(&slots->given);
    pthread_mutex_unlock(&slots->mutex);
}
