#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void block_signals(sigset_t *ret_before)
{
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < FAULT_SIGNALS; i++)
        sigdelset(&blocked, fault_signals[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, ret_before);
}

struct thread_body {
    void *(*run)(void *);
    void *argument;
};

static void *run_thread(void *argument)
{
    const struct thread_body body = *(struct thread_body *)argument;
    free(argument);
    signal_stack_take();
    return body.run(body.argument);
}

bool thread_start(pthread_t *ret_thread, size_t stack_bytes, void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    sigset_t before;
    struct thread_body *body = malloc(sizeof *body);
    if (!body || pthread_attr_init(&attributes) != 0) {
        free(body);
        return false;
    }
    *body = (struct thread_body){run, argument};
    if (stack_bytes > 0)
        pthread_attr_setstacksize(&attributes, stack_bytes);
    block_signals(&before);
    bool is_started = pthread_create(ret_thread, &attributes, run_thread, body) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!is_started)
        free(body);
    return is_started;
}

#define NS_PER_MS 1000000L
#define NS_PER_SECOND 1000000000L

void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct timespec condition_deadline(int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * NS_PER_MS;
    if (until.tv_nsec >= NS_PER_SECOND) {
        until.tv_nsec -= NS_PER_SECOND;
        until.tv_sec++;
    }
    return until;
}

bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    return pthread_cond_timedwait(condition, mutex, until) != ETIMEDOUT;
}

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
