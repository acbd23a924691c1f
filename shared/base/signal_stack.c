#include "base/signal_stack.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Unwinding takes about 4 KiB, the signal's frame up to 11 KiB (AMX registers). */
#define STACK_BYTES ((size_t)64 * 1024)

const int fault_signals[FAULT_SIGNALS] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

static bool is_enabled;
static pthread_key_t key; /* of the thread's mapping: guard page, then stack */

static size_t guard_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void give_back(void *mapping)
{
    const stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    munmap(mapping, guard_bytes() + STACK_BYTES);
}

static void take_stack(void)
{
    size_t guard = guard_bytes();
    char *mapping = mmap(NULL, guard + STACK_BYTES, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return;
    const stack_t stack = {.ss_sp = mapping + guard, .ss_size = STACK_BYTES};
    if (mprotect(mapping + guard, STACK_BYTES, PROT_READ | PROT_WRITE) != 0 ||
        sigaltstack(&stack, NULL) != 0 || pthread_setspecific(key, mapping) != 0)
        give_back(mapping);
}

/* A fault while its signal is blocked ends the process at once, without the handler. */
static void unblock_faults(void)
{
    sigset_t faults;
    sigemptyset(&faults);
    for (size_t i = 0; i < FAULT_SIGNALS; i++)
        sigaddset(&faults, fault_signals[i]);
    pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
}

void signal_stack_enable(void)
{
    if (!is_enabled && pthread_key_create(&key, give_back) != 0)
        return;
    is_enabled = true;
    signal_stack_take();
}

void signal_stack_take(void)
{
    if (!is_enabled)
        return;
    if (!pthread_getspecific(key))
        take_stack();
    unblock_faults();
}
