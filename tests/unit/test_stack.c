#include "observe/stack.h"

#include <pthread.h>
#include <string.h>

#include "check.h"
#include "observe/crash_handler.h"

/* The failing code: each is to be found again by its name. Not inlined, so that lines differ. */
__attribute__((noinline)) static enum err_code fail_deep(struct err *err)
{
    return err_set_internal(err, ERR_INTERNAL, 0, "test", "it failed");
}

__attribute__((noinline)) static enum err_code fail_by_tail_call(struct err *err)
{
    return fail_deep(err);
}

static inline enum err_code fail_inlined(struct err *err)
{
    return err_set(err, ERR_STORAGE, "test", "it failed");
}

__attribute__((noinline)) static enum err_code disk_failed(struct err *err)
{
    return err_set_internal(err, ERR_DISK_FULL, 28, "test", "it failed");
}

__attribute__((noinline)) static enum err_code write_to_disk(struct err *err)
{
    return disk_failed(err);
}

struct named {
    struct stack_names *names;
    struct stack_trace trace;
};

static void name(struct named *named, unsigned stack)
{
    uintptr_t addresses[STACK_DEPTH];
    size_t count = stack_of_error(stack, addresses);
    named->trace = (struct stack_trace){.frame_count = 0};
    named->names = stack_names_new(true);
    CHECK(count > 0);
    CHECK(stack_names_resolve(named->names, addresses, count, &named->trace));
}

static const char *top(const struct named *named)
{
    const struct stack_frame *frame = stack_top_in_app(&named->trace);
    return frame && frame->function ? frame->function : "";
}

static const struct stack_frame *find(const struct named *named, const char *function)
{
    for (size_t i = 0; i < named->trace.frame_count; i++)
        if (named->trace.frames[i].function &&
            strcmp(named->trace.frames[i].function, function) == 0)
            return &named->trace.frames[i];
    return NULL;
}

TEST(stack, of_an_error_begins_where_it_was_made)
{
    struct err err = {0};
    struct named named;
    stack_watch_errors(true);
    (void)fail_by_tail_call(&err);
    stack_watch_errors(false);
    CHECK(err.stack != 0);
    name(&named, err.stack);
    CHECK_TEXT(top(&named), "fail_deep");
    const struct stack_frame *frame = stack_top_in_app(&named.trace);
    REQUIRE(frame);
    CHECK_TEXT(frame->file, "tests/unit/test_stack.c");
    CHECK(frame->line > 10 && frame->line < 20);
    CHECK(frame == &named.trace.frames[named.trace.frame_count - 1]); /* the oldest come first */
    CHECK(find(&named, "fail_by_tail_call"));
    CHECK(find(&named, "main") && find(&named, "main")->in_app);
    CHECK(!find(&named, "err_set_internal"));
    stack_names_free(named.names);
}

TEST(stack, names_functions_that_were_inlined)
{
    struct err err = {0};
    struct named named;
    stack_watch_errors(true);
    (void)fail_inlined(&err);
    stack_watch_errors(false);
    name(&named, err.stack);
    CHECK_TEXT(top(&named), "fail_inlined");
    stack_names_free(named.names);
}

TEST(stack, who_words_an_error_is_not_who_failed)
{
    struct err err = {0};
    struct named named;
    stack_watch_errors(true);
    (void)write_to_disk(&err);
    stack_watch_errors(false);
    name(&named, err.stack);
    CHECK_TEXT(top(&named), "write_to_disk");
    CHECK(find(&named, "disk_failed") && !find(&named, "disk_failed")->in_app);
    stack_names_free(named.names);
}

TEST(stack, is_kept_only_when_asked_for_and_reported)
{
    struct err err = {0};
    uintptr_t addresses[STACK_DEPTH];
    (void)fail_deep(&err);
    CHECK_INT(err.stack, 0);
    stack_watch_errors(true);
    (void)err_set(&err, ERR_NOT_FOUND, "test", "the client's doing");
    CHECK_INT(err.stack, 0);
    stack_watch_errors(false);
    CHECK_INT((int64_t)stack_of_error(0, addresses), 0);
}

TEST(stack, that_was_overwritten_is_not_told)
{
    struct err first = {0};
    struct err err = {0};
    uintptr_t addresses[STACK_DEPTH];
    stack_watch_errors(true);
    (void)fail_deep(&first);
    CHECK(stack_of_error(first.stack, addresses) > 0);
    for (int i = 0; i < 1000; i++)
        (void)fail_deep(&err);
    stack_watch_errors(false);
    CHECK_INT((int64_t)stack_of_error(first.stack, addresses), 0);
    CHECK(stack_of_error(err.stack, addresses) > 0);
}

static void *fail_often(void *argument)
{
    struct err err = {0};
    uintptr_t addresses[STACK_DEPTH];
    size_t *wrong = argument;
    for (int i = 0; i < 2000; i++) {
        (void)fail_deep(&err);
        size_t count = stack_of_error(err.stack, addresses);
        if (count > STACK_DEPTH || (count > 0 && addresses[0] == 0))
            ++*wrong;
    }
    return NULL;
}

TEST(stack, of_many_threads_at_once)
{
    pthread_t threads[4];
    size_t wrong[4] = {0};
    stack_watch_errors(true);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, fail_often, &wrong[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT((int64_t)wrong[i], 0);
    }
    stack_watch_errors(false);
}

TEST(stack, tells_the_images_by_build_id)
{
    struct err err = {0};
    struct named named;
    stack_watch_errors(true);
    (void)fail_deep(&err);
    stack_watch_errors(false);
    name(&named, err.stack);
    CHECK(named.trace.image_count >= 2); /* the program and libc */
    for (size_t i = 0; i < named.trace.image_count; i++) {
        const struct stack_image *image = &named.trace.images[i];
        struct image same;
        CHECK(image->file[0] == '/' && image->size > 0);
        CHECK_INT((int64_t)strlen(image->build_id), 40);
        CHECK(image_with_build_id(image->build_id, &same) && same.start == image->start);
    }
    stack_names_free(named.names);
}
