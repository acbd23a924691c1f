#include "base/thread.h"

#include <signal.h>

#include "check.h"

static void *note_mask(void *argument)
{
    pthread_sigmask(SIG_SETMASK, NULL, argument);
    return NULL;
}

TEST(thread, takes_no_signals_but_faults)
{
    sigset_t before;
    sigset_t inside;
    sigset_t after;
    pthread_t thread;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    REQUIRE(thread_start(&thread, 0, note_mask, &inside));
    pthread_join(thread, NULL);
    CHECK(sigismember(&inside, SIGTERM) == 1 && sigismember(&inside, SIGUSR1) == 1);
    for (size_t i = 0; i < FAULT_SIGNALS; i++)
        CHECK_INT(sigismember(&inside, fault_signals[i]), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int signal = 1; signal < SIGRTMIN; signal++)
        CHECK_INT(sigismember(&after, signal), sigismember(&before, signal));
}

static void *note_stack(void *argument)
{
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, argument);
    pthread_attr_destroy(&attributes);
    return NULL;
}

TEST(thread, has_the_stack_that_was_asked_for)
{
    size_t size = 0;
    pthread_t thread;
    REQUIRE(thread_start(&thread, (size_t)1024 * 1024, note_stack, &size));
    pthread_join(thread, NULL);
    CHECK(size == (size_t)1024 * 1024);
}
