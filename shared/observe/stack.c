#include "observe/stack.h"

#include <stdatomic.h>
#include <unwind.h>

#include "base/errors.h"

#define KEPT 128

struct walk {
    uintptr_t from;
    uintptr_t *addresses;
    size_t count;
};

static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *argument)
{
    struct walk *walk = argument;
    uintptr_t address = _Unwind_GetIP(context);
    if (walk->count == 0 && address != walk->from)
        return _URC_NO_REASON;
    if (address == 0) /* behind the thread's first function */
        return _URC_NORMAL_STOP;
    walk->addresses[walk->count++] = address;
    return walk->count < STACK_DEPTH ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

size_t stack_walk(uintptr_t from, uintptr_t addresses[STACK_DEPTH])
{
    struct walk walk = {.from = from, .addresses = addresses};
    _Unwind_Backtrace(visit, &walk);
    return walk.count;
}

/* A place is written by who drew its number: its id is 0 while that lasts, so that a reader sees
 * whether it changed below it. */
struct kept {
    atomic_uint id;
    atomic_size_t count;
    _Atomic uintptr_t addresses[STACK_DEPTH];
};

static struct kept ring[KEPT];
static atomic_uint last_id;

static unsigned keep(const void *caller)
{
    uintptr_t addresses[STACK_DEPTH];
    size_t count = stack_walk((uintptr_t)caller, addresses);
    unsigned id = atomic_fetch_add(&last_id, 1) + 1;
    if (id == 0 || count == 0)
        return 0;
    struct kept *kept = &ring[id % KEPT];
    atomic_exchange(&kept->id, 0);
    atomic_store_explicit(&kept->count, count, memory_order_relaxed);
    for (size_t i = 0; i < count; i++)
        atomic_store_explicit(&kept->addresses[i], addresses[i], memory_order_relaxed);
    atomic_store(&kept->id, id);
    return id;
}

void stack_watch_errors(bool is_on)
{
    uintptr_t addresses[STACK_DEPTH];
    if (is_on)
        stack_walk(0, addresses); /* what it makes at its first call is made now */
    err_watch(is_on ? keep : NULL);
}

size_t stack_of_error(unsigned stack, uintptr_t addresses[STACK_DEPTH])
{
    struct kept *kept = &ring[stack % KEPT];
    if (stack == 0 || atomic_load(&kept->id) != stack)
        return 0;
    size_t count = atomic_load_explicit(&kept->count, memory_order_relaxed);
    if (count > STACK_DEPTH)
        return 0;
    for (size_t i = 0; i < count; i++)
        addresses[i] = atomic_load_explicit(&kept->addresses[i], memory_order_relaxed);
    /* A change, so that what was read can't have been read later. */
    return atomic_fetch_add(&kept->id, 0) == stack ? count : 0;
}
