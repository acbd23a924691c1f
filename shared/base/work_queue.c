#include "base/work_queue.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/thread.h"

#define THREADS_MAX 64

struct work_queue {
    pthread_mutex_t mutex;
    pthread_cond_t queued;
    pthread_cond_t done;
    struct work *first;
    struct work **last;
    bool closing;
    int thread_count;
    pthread_t threads[THREADS_MAX];
};

/* With the mutex held; NULL when the queue closes and is empty. */
static struct work *take(struct work_queue *queue)
{
    while (!queue->first && !queue->closing)
        pthread_cond_wait(&queue->queued, &queue->mutex);
    struct work *work = queue->first;
    if (work) {
        queue->first = work->next;
        if (!queue->first)
            queue->last = &queue->first;
    }
    return work;
}

static void *run_works(void *argument)
{
    struct work_queue *queue = argument;
    struct work *work;
    pthread_mutex_lock(&queue->mutex);
    while ((work = take(queue)) != NULL) {
        pthread_mutex_unlock(&queue->mutex);
        trace_context_set(work->trace_context);
        work->run(work);
        trace_context_set(NULL);
        pthread_mutex_lock(&queue->mutex);
        work->pending = false;
        pthread_cond_broadcast(&queue->done);
    }
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

static bool start_thread(struct work_queue *queue, size_t stack_bytes)
{
    if (!thread_start(&queue->threads[queue->thread_count], stack_bytes, run_works, queue))
        return false;
    queue->thread_count++;
    return true;
}

enum err_code work_queue_open(struct work_queue **ret_queue, int threads, size_t stack_bytes,
                              struct err *err)
{
    struct work_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "work queue", "out of memory");
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->queued, NULL);
    pthread_cond_init(&queue->done, NULL);
    queue->last = &queue->first;
    for (int i = 0; i < threads && i < THREADS_MAX; i++) {
        if (start_thread(queue, stack_bytes))
            continue;
        work_queue_close(queue);
        return err_set_internal(err, ERR_NO_MEMORY, 0, "work queue", "cannot start a thread");
    }
    *ret_queue = queue;
    return ERR_OK;
}

void work_queue_close(struct work_queue *queue)
{
    if (!queue)
        return;
    pthread_mutex_lock(&queue->mutex);
    queue->closing = true;
    pthread_cond_broadcast(&queue->queued);
    pthread_mutex_unlock(&queue->mutex);
    for (int i = 0; i < queue->thread_count; i++)
        pthread_join(queue->threads[i], NULL);
    pthread_cond_destroy(&queue->done);
    pthread_cond_destroy(&queue->queued);
    pthread_mutex_destroy(&queue->mutex);
    free(queue);
}

void work_queue_submit(struct work_queue *queue, struct work *work)
{
    work->trace_context = trace_context_get();
    pthread_mutex_lock(&queue->mutex);
    work->next = NULL;
    work->pending = true;
    *queue->last = work;
    queue->last = &work->next;
    pthread_cond_signal(&queue->queued);
    pthread_mutex_unlock(&queue->mutex);
}

void work_queue_wait(struct work_queue *queue, struct work *work)
{
    pthread_mutex_lock(&queue->mutex);
    while (work->pending)
        pthread_cond_wait(&queue->done, &queue->mutex);
    pthread_mutex_unlock(&queue->mutex);
}
