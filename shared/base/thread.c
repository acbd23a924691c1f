#include "base/thread.h"

#include "base/signal_stack.h"

static void block_signals(sigset_t *ret_before)
{
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < FAULT_SIGNALS; i++)
        sigdelset(&blocked, fault_signals[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, ret_before);
}

bool thread_start(pthread_t *ret_thread, size_t stack_bytes, void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    sigset_t before;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    if (stack_bytes > 0)
        pthread_attr_setstacksize(&attributes, stack_bytes);
    block_signals(&before);
    bool is_started = pthread_create(ret_thread, &attributes, run, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return is_started;
}
