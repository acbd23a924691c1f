#include "base/work_queue.h"

#include <stdatomic.h>

#include "check.h"

#define PIECES 100

struct piece {
    struct work work; /* first member */
    int number;
    int position; /* when it ran */
    struct trace_context *context;
};

static atomic_int ran;

static void run_piece(struct work *work)
{
    struct piece *piece = (struct piece *)work;
    piece->position = atomic_fetch_add(&ran, 1);
    piece->context = trace_context_get();
}

static void submit_all(struct work_queue *queue, struct piece pieces[PIECES])
{
    atomic_store(&ran, 0);
    for (int i = 0; i < PIECES; i++) {
        pieces[i] = (struct piece){.work = {.run = run_piece}, .number = i, .position = -1};
        work_queue_submit(queue, &pieces[i].work);
    }
}

TEST(work_queue, runs_all_in_order_in_the_context_of_the_submitter)
{
    static struct piece pieces[PIECES];
    struct work_queue *queue = NULL;
    struct err err;
    struct trace_context context = {0};
    REQUIRE(work_queue_open(&queue, 1, 0, &err) == ERR_OK);
    trace_context_set(&context);
    submit_all(queue, pieces);
    trace_context_set(NULL);
    for (int i = 0; i < PIECES; i++) {
        work_queue_wait(queue, &pieces[i].work);
        CHECK_INT(pieces[i].position, i);
        CHECK(pieces[i].context == &context);
    }
    work_queue_close(queue);
    work_queue_close(NULL);
}

TEST(work_queue, runs_what_is_queued_before_it_closes)
{
    static struct piece pieces[PIECES];
    struct work_queue *queue = NULL;
    struct err err;
    REQUIRE(work_queue_open(&queue, 4, (size_t)128 * 1024, &err) == ERR_OK);
    submit_all(queue, pieces);
    work_queue_close(queue);
    CHECK_INT(atomic_load(&ran), PIECES);
}
